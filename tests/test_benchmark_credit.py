"""The simulated credit has the validity and the reliability that the benchmark says."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from benchmarks.simulated_credit import simulated_credit


@dataclass
class _World:
    counts: np.ndarray

    def plant(self, _kind: str, seed: int) -> torch.Tensor:
        return torch.from_numpy(np.random.default_rng(seed).random(len(self.counts)) < 0.35)


def test_credit_has_its_validity_and_reliability():
    """Two whole measurements agree as halves do that are twice as long: 2 r / (1 + r) (Spearman and Brown)."""
    world = _World(np.random.default_rng(0).integers(1, 9, 4000).astype(float))
    useful = world.plant("random", 0)
    measured = [simulated_credit(world, useful, *of) for of in ((0.66, 1), (0.0, 1), (1.0, 1), (1.0, 2))]
    covariance = np.cov([useful.numpy(), *measured], fweights=world.counts.astype(int))
    deviation = np.sqrt(np.diag(covariance))
    found = covariance / np.outer(deviation, deviation)
    agreement = 2 * 0.93 / 1.93
    assert found[0, 1] == pytest.approx(0.66 * agreement**0.5, abs=0.02)
    assert found[0, 2] == pytest.approx(0.0, abs=0.02)
    assert found[3, 4] == pytest.approx(agreement, abs=0.01)
