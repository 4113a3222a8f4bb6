"""What a smaller validation set is worth, against simulation and by hand."""

import numpy as np
import pytest

from benchmarks.ranking import agreement, examples_needed


def made_differences(mean: float, n: int = 400) -> np.ndarray:
    values = np.random.default_rng(0).standard_t(5, n)
    return values - values.mean() + mean


@pytest.mark.parametrize("n", [20, 100, 350])
def test_agreement_is_how_often_a_sample_has_the_sign_of_all(n: int):
    differences, rng = made_differences(0.1), np.random.default_rng(1)
    signs = [rng.choice(differences, n, replace=False).mean() > 0 for _ in range(4000)]
    assert agreement(differences, n) == pytest.approx(np.mean(signs), abs=0.04)


def test_by_hand():
    differences = np.array([1.0, -1.0, 2.0, 2.0])  # mean 1, variance 2
    # s² = 2 / 2 · (1 - 2/4) = 0.5; Φ(1 / √0.5) = Φ(1.41421)
    assert agreement(differences, 2) == pytest.approx(0.92135, abs=1e-5)


def test_limits():
    differences = made_differences(0.05)
    assert agreement(differences, len(differences)) == 1.0
    assert agreement(np.full(10, -0.5), 2) == 1.0
    assert agreement(np.array([1.0, -1.0, 0.0]), 2) == 0.5
    for n in (1, 401):
        with pytest.raises(ValueError, match="sample of"):
            agreement(differences, n)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("mean", [0.02, -0.2, 3.0])
def test_examples_needed_is_the_least_number_that_agrees(confidence: float, mean: float):
    differences = made_differences(mean)
    n = examples_needed(differences, confidence)
    assert agreement(differences, n) >= confidence
    assert n == 2 or agreement(differences, n - 1) < confidence


def test_no_difference_needs_all_and_equal_differences_need_two():
    assert examples_needed(np.array([1.0, -1.0, 0.0]), 0.9) == 3
    assert examples_needed(np.full(5, 0.1), 0.9) == 2
    with pytest.raises(ValueError, match="confidence"):
        examples_needed(np.ones(5), 0.5)
