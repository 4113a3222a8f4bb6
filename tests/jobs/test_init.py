"""nmg init: guesses task and fields, measures the data, and writes a configuration that runs."""

import csv
import json
import random
import shutil
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.config import load_config
from nmg.config.draft import ModelSize, draft, parts_of
from nmg.config.facts import TextFacts
from nmg.jobs.init import init, look
from nmg.trials.session import Session
from support.command import Nmg
from support.planted import WORDS
from support.runs import Inputs

SHARED = Path(__file__).parents[3] / "shared"
N = 40


def texts(n_words: int = 8) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choice(WORDS) for _ in range(n_words)) for _ in range(N)]


def column(*values: Any) -> list[Any]:
    return [values[number % len(values)] for number in range(N)]


def write(path: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(columns))
            writer.writeheader()
            writer.writerows(rows)
    return path


def questions(path: Path) -> Path:
    paragraphs = [
        {
            "context": text,
            "qas": [{"id": str(i), "question": "who", "answers": [{"text": text[:4], "answer_start": 0}]}],
        }
        for i, text in enumerate(texts())
    ]
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    return path


def sentences(path: Path) -> Path:
    path.write_text("\n".join("".join(f"{word}\tX\tB-A\n" for word in text.split()) for text in texts()))
    return path


FILES: dict[str, tuple[dict[str, Sequence[Any]] | None, dict[str, Any]]] = {
    "reviews.csv": (
        {"idx": range(N), "review": texts(), "Sentiment": column("pos", "neg")},
        {"task": "classification", "text_field": "review", "label_field": "Sentiment"},
    ),
    "stars.csv": (
        {"text": texts(), "title": texts(2), "stars": column(1, 2, 3)},
        {"task": "classification", "label_field": "stars"},
    ),
    "pairs.csv": (
        {"sentence1": texts(), "sentence2": texts(7), "gold_label": column("e", "n", "c")},
        {"task": "classification", "text_field": "sentence1", "pair_field": "sentence2", "label_field": "gold_label"},
    ),
    "similar.csv": (
        {"sentence1": texts(), "sentence2": texts(7), "score": column(0.5, 3.25, 4)},
        {"task": "regression", "text_field": "sentence1", "pair_field": "sentence2", "label_field": "score"},
    ),
    "topics.csv": (
        {"text": texts(), "labels": column("a|b", "b", "c|a", "c")},
        {"task": "multi-label", "label_field": "labels"},
    ),
    "topics.jsonl": (
        {"text": texts(), "labels": column(["a", "b"], [], ["b"])},
        {"task": "multi-label", "label_field": "labels"},
    ),
    "names.jsonl": (
        {
            "tokens": [text.split() for text in texts()],
            "pos_tags": column(["X"] * 8),
            "ner_tags": column(["B-A"] + ["O"] * 7),
        },
        {"task": "token-classification", "text_field": "tokens", "label_field": "ner_tags"},
    ),
    "names.conll": (None, {"task": "token-classification"}),
    "squad.json": (None, {"task": "qa"}),
}


@pytest.mark.parametrize("name", FILES)
def test_the_configuration_of_small_data_runs(name: str, inputs: Inputs, tmp_path: Path):
    columns, expected = FILES[name]
    maker = {"names.conll": sentences, "squad.json": questions}.get(name)
    file = write(tmp_path / name, columns) if columns is not None else maker(tmp_path / name)  # type: ignore[misc]
    found = look(file)
    assert found.data.model_dump(exclude_defaults=True, exclude={"train"}) | {"task": found.data.task} == expected
    said = init(found, tmp_path / "nmg.yaml", str(inputs.model))
    assert said.command == f"nmg audit {tmp_path / 'nmg.yaml'} --out audit"
    text = (tmp_path / "nmg.yaml").read_text()
    assert len(text.splitlines()) <= 25
    config = load_config(tmp_path / "nmg.yaml")
    assert config.data == found.data
    assert (config.adapt.block_size, config.finetune.max_length) == (62, 64)
    assert config.meta.validation_fraction == 0.3, "there is no validation file"
    Session.prepare(config, Silent())


@pytest.mark.parametrize(
    ("hidden", "is_frozen", "expected"), [(128, True, "corpus"), (128, False, "all"), (384, True, "all")]
)
def test_a_small_model_that_stays_frozen_trains_the_words_of_the_corpus(
    hidden: int, is_frozen: bool, expected: str, tmp_path: Path
):
    found = look(write(tmp_path / "train.jsonl", {"text": texts(), "label": column("a", "b")}))
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": hidden}))
    (tmp_path / "nmg.yaml").write_text(draft(found.data, found.facts, str(tmp_path), is_frozen=is_frozen))
    assert load_config(tmp_path / "nmg.yaml").adapt.vocabulary == expected


def part_of_data_set(file: Path, folder: Path) -> Path:
    """The first lines, sentences or articles of a file, and of the files next to it."""
    for one in sorted(file.parent.iterdir()):
        with one.open() as content:
            if one.suffix == ".json":
                articles = json.load(content)["data"]
                paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]][:60]
                lines = [json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]})]
            elif one.suffix == ".jsonl" and file.parent.name != "mrqa_sample":
                first = {json.loads(line)["label"]: line for line in file.open()}
                lines = [*first.values(), *islice(content, 150)]  # every label is in the training file
            else:
                lines = list(islice(content, 4000 if one.suffix == ".conll" else 200))
        (folder / one.name).write_text("".join(lines))
    return folder / file.name


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="needs the shared data sets")
@pytest.mark.parametrize(
    "file",
    [
        *("chemprot/train.jsonl", "cr/train.jsonl", "mr/train.jsonl", "subj/train.jsonl", "qamr/train.json"),
        *("mrqa_sample/NewsQA_sample.jsonl", "ncbi_disease/train.conll", "xquad/xquad.en.json"),
    ],
)
def test_the_configuration_of_every_data_set_runs(file: str, tmp_path: Path):
    found = look(part_of_data_set(SHARED / "data" / file, tmp_path))
    assert found.facts.text.is_english
    assert (found.data.validation is None) == (file.split("/", maxsplit=1)[0] in {"mrqa_sample", "xquad"})
    init(found, tmp_path / "nmg.yaml", str(SHARED / "models" / "tiny-mlm"))
    assert len((tmp_path / "nmg.yaml").read_text().splitlines()) <= 25
    Session.prepare(load_config(tmp_path / "nmg.yaml"), Silent())


def test_the_configuration_is_scaled_to_the_data(inputs: Inputs, tmp_path: Path):
    """By hand: 40 texts of 8 words; 36 of them per inner loop, and no more than 10 epochs; 20 labels are few."""
    columns = {
        "text": [f"{text} {number:02}" for number, text in enumerate(texts())],
        "label": column("a", "b", "b", "b"),
    }
    for name in ("train", "dev", "test"):
        write(tmp_path / f"{name}.csv", columns)
    found = look(tmp_path / "train.csv")
    assert (found.data.validation, found.data.test) == (f"{tmp_path}/dev.csv", f"{tmp_path}/test.csv")
    facts = found.facts
    assert (facts.n_train, facts.n_validation, facts.n_test, facts.n_labels, facts.largest_label) == (
        40,
        40,
        40,
        2,
        0.75,
    )
    init(found, tmp_path / "nmg.yaml", str(inputs.model), is_frozen=True)
    config = load_config(tmp_path / "nmg.yaml")
    assert config.data.drop_duplicates, "all test texts are in train"
    assert (config.meta.contexts, config.meta.examples, config.adapt.epochs, config.finetune.epochs) == (36, 40, 10, 12)
    assert config.test.evaluation == "linear-probe"
    assert config.adapt.learning_rate == 1e-3, "the model is small"
    text = (tmp_path / "nmg.yaml").read_text()
    assert "2 labels; the most frequent one has 75 % of the examples" in text
    assert "40 of 40 test texts have a near duplicate in validation" in text


def test_lengths_and_languages():
    """4 characters per piece in words, 1 in scripts without spaces."""
    english = TextFacts.of(["the cat sat on the mat and it was good"] * 3)
    assert (english.language, english.median_words, english.pieces) == ("English", 10, 10)
    assert TextFacts.of(["der Hund sitzt auf der Matte"]).language == "Latin letters, not English"
    chinese = TextFacts.of(["我喜欢这部电影"])
    assert (chinese.language, chinese.pieces) == ("Cjk script", 7)


def test_the_size_of_a_model(inputs: Inputs, tmp_path: Path):
    assert ModelSize.of(str(inputs.model)) == ModelSize(hidden=16, positions=64)
    assert ModelSize.of("no/such") == ModelSize(768, 512)
    assert ModelSize(768).rates == (5e-5, 3e-5)
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 514, "hidden_size": 384}')
    assert ModelSize.of(str(tmp_path)) == ModelSize(384, 512)


def test_files_next_to_the_training_file(tmp_path: Path):
    for name in ("train_v2.csv", "dev_v2.csv", "test_v2.csv", "test.csv"):
        (tmp_path / name).touch()
    assert parts_of(tmp_path / "train_v2.csv") == {
        "validation": str(tmp_path / "dev_v2.csv"),
        "test": str(tmp_path / "test_v2.csv"),
    }
    assert parts_of(tmp_path / "reviews.csv") == {}


def test_a_corpus_needs_no_labels(nmg: Nmg, inputs: Inputs, tmp_path: Path):
    (tmp_path / "texts.txt").write_text("\n".join(texts()))
    answer = nmg("init", "texts.txt", "--model", inputs.model, "--yes")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-1] == "Next: nmg adapt --config nmg.yaml --out adapted"
    assert load_config(tmp_path / "nmg.yaml").data.corpus == "texts.txt"


@pytest.mark.parametrize(
    ("columns", "words", "message"),
    [
        ({"text": texts(), "a": column("x"), "b": column("y")}, [], "which field is the label (fields: a, b)"),
        ({"a": column("x"), "label": column("y")}, [], "there is no field of texts (found: a, label)"),
        ({"x": texts(), "z": texts(), "label": column("y", "n")}, [], "which field is the text (fields: x, z)"),
        (
            {"text": texts(), "label": column("y", "n")},
            ["--label-field", "labl"],
            "field 'labl': there is no such field",
        ),
        ({"text": texts(), "label": column("y", "n")}, ["--out", "train.csv"], "train.csv: already exists"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_init_refuses(nmg: Nmg, tmp_path: Path, columns: Any, words: list[str], message: str):
    write(tmp_path / "train.csv", columns)
    answer = nmg("init", "train.csv", *words)
    assert answer.code == 2
    assert message in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not (tmp_path / "nmg.yaml").exists()


def test_questions_are_asked_only_if_the_answer_is_not_plain(tmp_path: Path):
    asked: list[str] = []

    def choose(what: str, names: Sequence[str]) -> str:
        asked.append(what)
        return names[-1]

    write(tmp_path / "a.csv", {"text": texts(), "a": column("x"), "b": column("y", "z")})
    assert look(tmp_path / "a.csv", choose=choose).data.label_field == "b"
    assert asked == ["label"]
    with pytest.raises(UserError, match="--label-field"):
        look(tmp_path / "a.csv")
    shutil.copy(tmp_path / "a.csv", tmp_path / "b.csv")
    assert look(tmp_path / "b.csv", fields={"label_field": "b"}, choose=choose).data.label_field == "b"
    assert asked == ["label"]
