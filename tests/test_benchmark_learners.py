"""The benchmark of learners, on a few texts and for a few plays."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import learners
from nmg.demo.data import load_articles
from nmg.errors import UserError

KINDS = "experiment,evolution,random-search,actor-critic"


@pytest.fixture
def few_texts(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        load_articles()
    except UserError:
        pytest.skip("needs the texts of the `demo` extra")
    torch.set_num_threads(1)
    monkeypatch.setattr(learners, "NEWS", 30)
    monkeypatch.setattr(learners, "CHECKED", (2, 8))
    monkeypatch.setattr(learners, "CASES", (("rare", "", "all"), ("random", "random class, ", "0.85")))


@pytest.mark.usefixtures("few_texts")
def test_every_learner_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "learners.json"
    words = ["--seeds", "0-0", "--learners", KINDS, "--contexts", "4", "--plays", "8", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["learners", *words])
    learners.main()
    results = json.loads(out.read_text())
    assert list(results) == KINDS.split(",")
    for kind, cases in results.items():
        assert list(cases) == ["all", "random class, 0.85"]
        for found in cases.values():
            assert ("f_test_rejects" in found) == (kind == "experiment")
            for plays in ("2", "8"):
                assert found[plays]["seeds"] == 1
                (share,) = found[plays]["share"]
                assert 0 <= share <= 1
                assert found[plays]["found"] == (share >= 2 * learners.CLASS_SHARE)


@pytest.mark.usefixtures("few_texts")
def test_a_planted_class_holds_its_share(tmp_path: Path):
    """And masks at random hold as much of it."""
    world = learners.make_world(tmp_path)
    shares = []
    for kind in ("rare", "random"):
        is_class = world.plant(kind, seed=0)
        counted = world.counts[is_class.numpy()].sum() / world.counts.sum()
        assert 0.25 < counted <= learners.CLASS_SHARE
        shares.append(learners.share(world, world.linear, is_class, greedy=False) - counted)
    assert np.abs(shares).max() < 0.06
