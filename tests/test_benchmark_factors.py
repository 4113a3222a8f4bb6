"""The benchmark of recipes, on a few simulated worlds."""

import json
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks import factors


@pytest.mark.parametrize("kind", list(factors.WORLDS))
def test_the_gain_of_a_world_is_the_one_that_is_asked_for(kind: str):
    score = factors.new_world(kind, 2.0, np.random.default_rng(0))
    assert score(np.zeros(3)) == 0
    assert max(score(np.array(z)) for z in product(np.linspace(-1, 1, 11), repeat=3)) == pytest.approx(2.0)


def test_almost_without_noise_the_experiment_finds_the_best_recipe():
    """Parabolas of separate factors are the model of the experiment."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        score = factors.new_world("separate", 1e3, rng)
        assert factors.experiment(score, rng) > 0.98 * 1e3


def test_results_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "factors.json"
    monkeypatch.setattr(sys, "argv", ["factors", "--seeds", "1", "--out", str(out)])
    factors.main()
    results = json.loads(out.read_text())
    assert list(results) == list(factors.WORLDS)
    assert all(set(of_search) == {"0.5", "1.0", "2.0"} for world in results.values() for of_search in world.values())
