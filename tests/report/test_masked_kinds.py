"""A policy that masks mostly punctuation and function words is named as such."""

import pytest

from nmg.report.learner_parts import warnings
from nmg.report.masked_kinds import empty_word_share, empty_word_warning
from support.run_logs import episode, log_of

TEXT = {
    "block": 0,
    "tokens": ["[CLS]", "The", "pro", "fit", "rose", ".", "[SEP]"],
    "starts_word": [True, True, True, False, True, False, True],
    "is_maskable": [False, True, True, True, True, True, False],
}


def log(*probabilities: float):
    snapshot = {"episodes": 1, "probabilities": [list(probabilities)], "taken": [[1]]}
    return log_of(episode(0), texts=[TEXT], snapshots=[snapshot])


def test_shares_by_hand():
    """'The' and the full stop, which follows its word without a space, are two of five tokens."""
    assert empty_word_share(log(0.0, 0.6, 0.1, 0.1, 0.1, 0.1, 0.0)) == (pytest.approx(0.7), 0.4)


@pytest.mark.parametrize(("share", "warned"), [(0.7, True), (0.45, False)])
def test_only_a_majority_is_warned_of(share: float, warned: bool):
    found = log(0.0, share, (1 - share) / 2, 0.0, (1 - share) / 2, 0.0, 0.0)
    assert bool(empty_word_warning(found)) is warned
    assert any("masks mostly punctuation and function words" in text for text in warnings(found)) is warned


def test_without_samples_nothing_is_said():
    assert empty_word_warning(log_of(episode(0))) == []
