"""A command reads each file and loads each model once, and searches near duplicates once for each pair of sides."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import pytest
import torch

from nmg.base.progress import Silent
from nmg.base.settings import ModelSettings
from nmg.comparison.results import trial_json
from nmg.config import Config
from nmg.data import near_duplicates
from nmg.data.formats.text import Texts
from nmg.jobs.audit import audit
from nmg.jobs.compare import compare
from nmg.meta_training.run import start
from nmg.tasks import load
from nmg.training.lm import PretrainedLM, load_pretrained
from nmg.trials import inputs
from nmg.trials.inputs import SharedInputs
from support.runs import SMALL
from support.tiny import save_headless_bert, save_tiny_bert

LETTERS = ["".join(pair) for pair in product(ascii_lowercase, repeat=2)]
"""Words without digits: texts that differ in digits alone are duplicates."""
SIZES = {"train": 40, "validation": 10, "test": 20}


@dataclass
class Counts:
    """What this process has read and searched."""

    files: Counter[str] = field(default_factory=Counter)
    """Name of a file → how often a reader was asked for it."""
    searches: int = 0
    """MinHash searches with texts on both sides."""
    models: Counter[str] = field(default_factory=Counter)
    """Name of a model → how often it was loaded."""


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    counts = Counts()
    format_of, init, search = load.format_of, Texts.__init__, near_duplicates._with_near

    def counted_format(path: Path, kind: Any) -> Any:
        counts.files[path.stem] += 1
        return format_of(path, kind)

    def counted_init(self: Texts, path: Path) -> None:
        counts.files[path.stem] += 1
        init(self, path)

    def counted_search(mine: Iterable[str], theirs: Iterable[str]) -> set[str]:
        mine, theirs = list(mine), list(theirs)
        counts.searches += bool(mine and theirs)
        return search(mine, theirs)

    def counted_model(model: ModelSettings) -> Any:
        counts.models[Path(model.name).name] += 1
        return load_pretrained(model)

    monkeypatch.setattr(inputs, "load_pretrained", counted_model)
    monkeypatch.setattr(load, "format_of", counted_format)
    monkeypatch.setattr(Texts, "__init__", counted_init)
    monkeypatch.setattr(near_duplicates, "_with_near", counted_search)
    return counts


def _texts(rng: np.random.Generator, n: int) -> Iterator[str]:
    for _ in range(n):
        yield " ".join(rng.choice(LETTERS, 10, replace=False))


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Config]:
    """Settings with every file. A test text is in each other file, and a validation text in training and corpus."""
    rng = np.random.default_rng(0)
    of_side = {name: list(_texts(rng, n)) for name, n in SIZES.items()}
    corpus = [*_texts(rng, 30), of_side["test"][0], of_side["validation"][0]]
    of_side["train"][:2] = of_side["test"][0], of_side["validation"][0]
    of_side["validation"][-1] = of_side["test"][0]
    for name, texts in of_side.items():
        records = [{"text": text, "label": f"l{number % 2}"} for number, text in enumerate(texts)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (tmp_path / "corpus.txt").write_text("\n".join(corpus) + "\n")
    model = save_tiny_bert(tmp_path / "model", LETTERS, hidden=16)
    files = {name: str(tmp_path / f"{name}.jsonl") for name in SIZES} | {"corpus": str(tmp_path / "corpus.txt")}

    def settings_of(*, drop: bool, without: str | None = None, **changes: Any) -> Config:
        data = {name: file for name, file in files.items() if name != without}
        sections = {name: dict(fields) for name, fields in SMALL.items()} | changes
        return Config.model_validate(
            sections | {"model": {"name": str(model)}, "data": data | {"drop_duplicates": drop, "test_examples": 15}}
        )

    return settings_of


@pytest.mark.parametrize(("drop", "searches"), [(False, 2), (True, 3)])
def test_a_comparison(
    settings: Callable[..., Config],
    counts: Counts,
    tmp_path: Path,
    drop: bool,
    searches: int,
):
    """The overlaps are test–train and test–corpus; without duplicates validation–test is searched too."""
    results = compare(settings(drop=drop), ["none", "random"], tmp_path / "out", seeds=3, labelled=(2, 4))
    assert len(results.cells) == 2 * 3 * 2
    assert counts.files == dict.fromkeys(("train", "validation", "test", "corpus"), 1)
    assert counts.searches == searches


@pytest.mark.parametrize(("drop", "searches"), [(False, 1), (True, 3)])
def test_a_comparison_on_the_texts_of_training(
    settings: Callable[..., Config], counts: Counts, tmp_path: Path, drop: bool, searches: int
):
    """Without duplicates: validation–test, train–(test and validation that is kept), train–(validation dropped)."""
    compare(settings(drop=drop, without="corpus"), ["none"], tmp_path / "out", seeds=2)
    assert counts.files == dict.fromkeys(("train", "validation", "test"), 1)
    assert counts.searches == searches


def _without_times(cells: Iterable[Any]) -> list[Any]:
    return [trial_json(cell) | {"seconds": None} for cell in cells]


@pytest.mark.parametrize(("drop", "searches"), [pytest.param(False, 3, marks=pytest.mark.slow), (True, 6)])
def test_a_grid(settings: Callable[..., Config], counts: Counts, tmp_path: Path, drop: bool, searches: int):
    """A comparison finds the weights that a comparison alone finds, whatever was trained before with this model."""
    other = str(save_tiny_bert(tmp_path / "other", LETTERS, hidden=8))
    configs = {"corpus": settings(drop=drop), "train": settings(drop=drop, without="corpus")}
    models = {"model": configs["corpus"].model.name, "other": other}
    grid = compare(configs, ["none", "random"], tmp_path / "grid", models=models, seeds=1)
    assert grid.failures == {}
    assert grid.parts[2].part.name == "train.model"
    assert counts.files == dict.fromkeys(("train", "validation", "test", "corpus"), 1)
    assert counts.models == {"model": 1, "other": 1}
    searched = counts.searches
    alone = compare(configs["train"], ["none", "random"], tmp_path / "alone", seeds=1)
    assert _without_times(grid.parts[2].cells) == _without_times(alone.cells)
    assert searched == searches


def test_few_models_stay_in_memory(settings: Callable[..., Config], counts: Counts, tmp_path: Path):
    """A session that trains its model changes no other session's; a new head depends on the seed."""
    names = [str(save_tiny_bert(tmp_path / name, LETTERS, hidden=8)) for name in "abc"]
    configs = [settings(drop=False).model_copy(update={"model": ModelSettings(name=name)}) for name in names]
    shared = SharedInputs(max_models=2)
    first = shared.model(configs[0])
    pretrained = {name: tensor.clone() for name, tensor in first.model.state_dict().items()}
    with torch.no_grad():
        for parameter in first.model.parameters():
            parameter.zero_()
    for _ in range(2):
        for config in configs:
            for _ in range(2):
                shared.model(config)
    assert counts.models == {"a": 1, "b": 2, "c": 2}
    again = shared.model(configs[0]).model.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in pretrained.items())


def test_a_new_head_is_of_its_seed(settings: Callable[..., Config], counts: Counts, tmp_path: Path):
    save_headless_bert(tmp_path / "headless", LETTERS)
    model = {"model": ModelSettings(name=str(tmp_path / "headless"))}
    configs = [settings(drop=False, run={"seed": seed}).model_copy(update=model) for seed in (0, 1)]
    shared = SharedInputs()

    def head(lm: PretrainedLM) -> torch.Tensor:
        return torch.cat([parameter.flatten() for parameter in lm.newly_initialized()])

    heads = [head(shared.model(configs[seed])) for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert torch.equal(heads[2], head(SharedInputs(max_models=0).model(configs[1])))


@pytest.mark.parametrize(("without", "drop", "searches"), [(None, False, 5), (None, True, 3), ("validation", True, 4)])
def test_a_meta_training(
    settings: Callable[..., Config], counts: Counts, tmp_path: Path, without: str | None, drop: bool, searches: int
):
    """A validation set that is split off is searched in training, for the split, and in the corpus."""
    config = settings(drop=drop, without=without, meta=SMALL["meta"] | {"episodes": 1})
    start(config, tmp_path / "run", Silent(), lambda _record, _episodes: None)
    assert counts.files == {name: 1 for name in ("train", "validation", "test", "corpus") if name != without}
    assert counts.searches == searches


@pytest.mark.parametrize("drop", [False, True])
def test_an_audit(settings: Callable[..., Config], counts: Counts, tmp_path: Path, drop: bool):
    """It never reads the test set."""
    sections = {
        "meta": SMALL["meta"] | {"continual": False},
        "learner": {"kind": "experiment"},
        "policy": {"kind": "linear"},
    }
    audit(settings(drop=drop, **sections), tmp_path / "out", seeds=2, minutes=1e-6)
    assert counts.files == dict.fromkeys(("train", "validation", "corpus"), 1)
    assert counts.searches == 2
