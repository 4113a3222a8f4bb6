"""The benchmark of learners, on a few texts and for a few plays."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import learners
from nmg.base.errors import UserError
from nmg.demo.data import load_articles

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
            assert ("f_test_rejects" in found) == ("whole_run" in found) == (kind == "experiment")
            if kind == "experiment":
                whole = found["whole_run"]
                assert whole["policy"] + whole["other"] == whole["seeds"] == 1
                assert whole["plays"] <= 8
            for plays in ("2", "8"):
                assert found[plays]["seeds"] == 1
                (share,), (moved,) = found[plays]["share"], found[plays]["moved"]
                assert 0 <= share <= 1
                assert 0 <= moved < 1
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


@pytest.mark.usefixtures("few_texts")
def test_displacement_by_hand(tmp_path: Path):
    """Of a policy that does not look: none. Of one that takes continuation pieces alone: the share of all others."""
    world = learners.make_world(tmp_path, "small")
    policy = world.linear
    with torch.no_grad():
        policy.weights.zero_()
    assert learners.displacement(world, policy) == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        policy.weights[learners.FEATURES.index("continuation")] = 1e3
    blocks = learners.looked_at(world)
    raw = policy.raw_features(blocks, world)[..., learners.FEATURES.index("continuation")]
    expected = []
    for row, maskable in zip(raw, blocks.is_maskable, strict=True):
        values = row[maskable]
        expected.append(1 - float((values == values.max()).double().mean()))
    assert learners.displacement(world, policy) == pytest.approx(np.mean(expected), abs=1e-4)
