"""The rule that decides, by hand."""

import pytest

from auto.helpers import LEARNED_WINS, NOTHING_WINS
from nmg.auto.decision import decide
from nmg.auto.records import ComparisonStage, Gain, LearnStage


def record(**gains: tuple[float, float | None]) -> ComparisonStage:
    """A comparison with (mean gain, p) of each masking; `none` scores 0.5."""
    scores = {"none": [0.5], **{name: [0.5 + mean] for name, (mean, _) in gains.items()}}
    of = {name: Gain(mean, mean - 0.01, mean + 0.01, p, 3, 4) for name, (mean, p) in gains.items()}
    return ComparisonStage("accuracy", 500, scores, of)


@pytest.mark.parametrize(
    ("gains", "decision", "masking"),
    [
        ({"random": (0.02, 0.01), "learned": (0.03, 0.04)}, "adapt", "learned"),
        ({"random": (0.02, 0.01), "learned": (0.03, 0.06)}, "adapt", "random"),  # only one is shown
        ({"random": (0.02, 0.05), "learned": (0.03, 0.2)}, "leave", None),  # p must be below 5 %
        ({"random": (-0.02, 0.001), "learned": (-0.03, 0.001)}, "leave", None),  # significantly worse
        ({"random": (0.02, None)}, "leave", None),
        ({}, "leave", None),
    ],
)
def test_the_winner_must_beat_no_adaptation(gains: dict[str, tuple[float, float | None]], decision: str, masking: str):
    found = decide(record(**gains))
    assert (found.decision, found.masking) == (decision, masking)


def test_reasons_have_the_numbers():
    won, lost = decide(LEARNED_WINS), decide(NOTHING_WINS)
    assert won.reason.startswith("Over no adaptation, learned +6.0 [+5.8, +6.2] accuracy (p < 0.001, 3 of 3 seeds)")
    assert lost.reason.startswith("No masking is shown to beat no adaptation: random +0.0 [−24.8, +24.8] accuracy")
    assert "learned" in lost.reason


@pytest.mark.parametrize(
    ("learned", "candidate"),
    [
        (LearnStage("no time"), None),
        (LearnStage(selected="policy", rule=5.0), "learned"),
        (LearnStage(selected="rule", rule=5.0), "tuned-rule"),
        (LearnStage(selected="rule", rule=0.0), None),  # random masks are compared in any case
        (LearnStage(selected="random"), None),
        (LearnStage(selected="none", rule=5.0), None),
    ],
)
def test_what_of_a_learner_is_compared(learned: LearnStage, candidate: str | None):
    assert learned.candidate == candidate
