"""Decides by a comparison whether a model is adapted, and with which masking: a pure function of its record."""

from dataclasses import dataclass
from typing import Literal

from nmg.auto.records import ComparisonStage, Gain
from nmg.comparison.statistics import ALPHA
from nmg.report.numbers import count_text, difference_text, p_equals


@dataclass(frozen=True)
class Decision:
    """Whether to adapt, with which masking, and why."""

    decision: Literal["adapt", "leave"]
    masking: str | None
    """The masking to adapt with; None if the model is left as it is."""
    reason: str


def decide(compared: ComparisonStage) -> Decision:
    """Choose the masking with the highest mean score among those that beat no adaptation.

    A masking beats no adaptation if its mean gain is above 0 and p, corrected for the number of maskings, is below
    `ALPHA`. If none does, the model is left as it is.
    """
    better = [name for name, gain in compared.gains.items() if beats_none(gain)]
    if not compared.gains:
        return Decision("leave", None, "The comparison has no pair of scores, because its trials failed.")
    if not better:
        shown = "; ".join(gain_text(name, gain, compared.metric) for name, gain in compared.gains.items())
        return Decision("leave", None, f"No masking is shown to beat no adaptation: {shown}.")
    winner = max(better, key=compared.mean)
    gain = gain_text(winner, compared.gains[winner], compared.metric)
    return Decision("adapt", winner, f"Over no adaptation, {gain}.")


def beats_none(gain: Gain) -> bool:
    """Return whether the gain is above 0 and significant."""
    return gain.mean > 0 and gain.p is not None and gain.p < ALPHA


def gain_text(name: str, gain: Gain, metric: str) -> str:
    """Return a gain in words: name, difference, interval, p and number of seeds."""
    difference = difference_text(gain.mean, gain.low, gain.high, metric)
    return f"{name} {difference} {metric} ({p_equals(gain.p)}, {gain.wins} of {count_text(gain.seeds, 'seed')})"
