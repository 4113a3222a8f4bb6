"""What each stage of `nmg adapt --auto` found: records that are stored in auto.json and read back."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nmg.auto.plan import LEAST_GAIN, Costs


@dataclass(frozen=True)
class AuditStage:
    """The result of the audit."""

    metric: str
    """The metric that decides: the first of the task's table."""
    pays: bool | None
    """Whether random masks beat no adaptation; None if the audit does not show it."""
    gain: float
    """Gain of random masks at the best schedule over no adaptation."""
    steps: int
    """Number of adaptation steps of the best schedule."""
    learning_rate: float
    """Learning rate of the best schedule."""
    rule: str
    """The rule with the highest mean score, besides random masks."""
    reward: str | None
    """The recommended reward; None if the audit recommends none."""
    is_sound: bool
    """Whether the data show that the reward agrees with the score."""
    plays: int
    """Number of inner loops that the audit recommends; 0 without a reward."""
    possible_gain: float | None
    """Upper limit of the gain of a learned policy over random masks; None if it is unknown."""
    examples: int
    """Number of labelled examples per trial."""
    costs: Costs

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "AuditStage":
        """Return the record that `to_json` gave."""
        return cls(**{**facts, "costs": Costs(**facts["costs"])})

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)

    def why_not_learn(self) -> str | None:
        """Return why the audit sees no room for learned masks, or None if it sees some.

        Random masks may lower the score: learned masks may still raise it. A reward that only seems to agree with the
        score is enough. The comparison on other examples decides.
        """
        if self.reward is None:
            return f"No reward that agrees with {self.metric} distinguishes the maskings."
        if self.possible_gain is not None and self.possible_gain + min(self.gain, 0.0) < LEAST_GAIN:
            lose = f", which lose {-100 * self.gain:.1f} points" if self.gain < 0 else ""
            return (
                f"A learned policy can gain at most {100 * self.possible_gain:.1f} points (95 % confidence) over "
                f"random masks{lose}."
            )
        return None


@dataclass(frozen=True)
class LearnStage:
    """The result of learning masks."""

    why_not: str | None = None
    """Why no masks were learned; None if they were."""
    selected: str | None = None
    """What the learner's gate selected: `policy`, `recipe`, `rule`, `random` or `none`."""
    rule: float = 0.0
    """Exponent of the best idf rule; 0 means random masks."""
    plays: int = 0
    """Number of inner loops."""

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "LearnStage":
        """Return the record that `to_json` gave."""
        return cls(**facts)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)

    @property
    def candidate(self) -> str | None:
        """Name under which the result takes part in the comparison; None if there is nothing to compare.

        Random masks and no adaptation are compared in any case.
        """
        if self.selected == "policy":
            return "learned"
        return "tuned-rule" if self.selected == "rule" and self.rule else None


@dataclass(frozen=True)
class Gain:
    """The gain of a masking over no adaptation, paired over seeds."""

    mean: float
    low: float | None
    """Lower bound of the 95 % interval; None if undefined."""
    high: float | None
    """Upper bound of the 95 % interval; None if undefined."""
    p: float | None
    """p value of the two-sided paired test, with Holm's correction over the maskings; None if undefined."""
    wins: int
    """Number of seeds in which the masking has the higher score."""
    seeds: int
    """Number of seeds with both scores."""


@dataclass(frozen=True)
class ComparisonStage:
    """The result of the comparison on validation examples that nothing was chosen by."""

    metric: str
    examples: int
    """Number of validation examples."""
    scores: Mapping[str, Sequence[float]]
    """Masking → score per seed."""
    gains: Mapping[str, Gain]
    """Masking → gain over no adaptation."""
    failures: Sequence[str] = ()
    """Trials that failed, with the reasons."""

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "ComparisonStage":
        """Return the record that `to_json` gave."""
        return cls(**{**facts, "gains": {name: Gain(**gain) for name, gain in facts["gains"].items()}})

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)

    def mean(self, masking: str) -> float:
        """Return the mean score of a masking over its seeds."""
        return sum(self.scores[masking]) / len(self.scores[masking])


@dataclass(frozen=True)
class AdaptationStage:
    """The result of the last stage."""

    steps: int
    """Number of adaptation steps."""
    held_out: Mapping[str, Any] | None
    """Loss on held-out text before and after, as in nmg.json; None if no text was held out."""

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "AdaptationStage":
        """Return the record that `to_json` gave."""
        return cls(**facts)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)
