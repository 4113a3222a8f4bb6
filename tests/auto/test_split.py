"""The parts of the validation examples: disjoint, complete, reproducible."""

import json
from pathlib import Path

import pytest

from nmg.auto.split import divide
from nmg.base.errors import UserError
from nmg.config import Config
from nmg.data.near_duplicates import folded
from support.documents import documents


def write(path: Path, n: int, seed: int) -> Path:
    """Labelled texts, no two of which resemble each other."""
    rows = [
        {"id": str(number), "text": text, "label": "ab"[number % 2]} for number, text in enumerate(documents(n, seed))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(path: str | None) -> list[str]:
    assert path is not None
    return [json.loads(line)["text"] for line in Path(path).read_text().splitlines()]


def config(folder: Path, validation: Path | None = None, **data: object) -> Config:
    train = write(folder / "train.jsonl", 60, 1)
    given = {"train": str(train), "test": str(folder / "missing.jsonl"), "test_examples": 5, **data}
    if validation is not None:
        given["validation"] = str(validation)
    return Config.model_validate({"data": given, "meta": {"validation_fraction": 0.2}})


def test_the_validation_file_becomes_two_halves(tmp_path: Path):
    file = write(tmp_path / "validation.jsonl", 41, 2)
    lines = file.read_text().splitlines(keepends=True)
    twin = json.loads(lines[0])
    twin |= {"id": "twin", "text": twin["text"].upper() + "!"}
    file.write_text("".join(lines) + json.dumps(twin) + "\n")
    divided = divide(config(tmp_path, file), tmp_path / "data")
    tuning, decision = texts(divided.tuning.validation), texts(divided.decision.test)
    assert sorted([*tuning, *decision]) == sorted(texts(str(file)))
    assert not {*map(folded, tuning)} & {*map(folded, decision)}, "equal texts are on one side"
    assert divided.examples == (len(tuning), len(decision))
    assert abs(len(tuning) - len(decision)) <= 2
    assert divided.tuning.train == divided.decision.train == str(tmp_path / "train.jsonl")
    assert divided.tuning.test is divided.decision.test_examples is None


def test_without_a_file_both_parts_are_cut_from_the_training_examples(tmp_path: Path):
    divided = divide(config(tmp_path), tmp_path / "data")
    parts = [texts(path) for path in (divided.tuning.validation, divided.decision.test, divided.tuning.train)]
    assert [len(part) for part in parts] == pytest.approx([12, 12, 36], abs=2)
    assert sorted(text for part in parts for text in part) == sorted(texts(str(tmp_path / "train.jsonl")))
    assert len({folded(text) for part in parts for text in part}) == sum(len({*map(folded, part)}) for part in parts)
    assert divided.decision.train == divided.tuning.train


def test_the_parts_depend_only_on_seed_and_file(tmp_path: Path):
    first, again = (divide(config(tmp_path), tmp_path / name) for name in ("a", "b"))
    assert texts(first.decision.test) == texts(again.decision.test)
    other = config(tmp_path).model_copy(update={"run": Config().run.model_copy(update={"seed": 1})})
    assert texts(divide(other, tmp_path / "c").decision.test) != texts(first.decision.test)


def test_one_text_cannot_be_divided(tmp_path: Path):
    file = tmp_path / "validation.jsonl"
    write(file, 1, 2)
    with pytest.raises(UserError, match="too few different validation texts"):
        divide(config(tmp_path, file), tmp_path / "data")
