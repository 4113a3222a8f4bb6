"""Records of stages by hand, and stages that return them without any work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nmg.auto.plan import Costs
from nmg.auto.records import AdaptationStage, AuditStage, ComparisonStage, Gain, LearnStage
from nmg.comparison.statistics import holm, paired_comparison

COSTS = Costs(none=2.0, masked=5.0, adaptation=3.0, play=4.0, processes=2)
AUDITED = AuditStage(
    metric="accuracy",
    pays=None,
    gain=-0.01,
    steps=70,
    learning_rate=1e-3,
    rule="idf",
    reward="probe: loss",
    is_sound=False,
    plays=120,
    possible_gain=0.03,
    examples=1000,
    costs=COSTS,
)


def compared(scores: Mapping[str, Sequence[float]]) -> ComparisonStage:
    """The record of a comparison with these scores per seed."""
    tests = {
        name: paired_comparison(np.array(of), np.array(scores["none"])) for name, of in scores.items() if name != "none"
    }
    corrected = holm([test.p for test in tests.values()])
    gains = {
        name: Gain(test.mean, test.low, test.high, p, test.wins, test.n)
        for (name, test), p in zip(tests.items(), corrected, strict=True)
    }
    return ComparisonStage("accuracy", 500, {name: list(of) for name, of in scores.items()}, gains)


NOTHING_WINS = compared({"none": [0.5, 0.6, 0.4], "random": [0.5, 0.5, 0.5], "learned": [0.6, 0.5, 0.4]})
LEARNED_WINS = compared(
    {"none": [0.50, 0.60, 0.40], "random": [0.54, 0.641, 0.439], "learned": [0.56, 0.661, 0.459]},
)


@dataclass
class Fakes:
    """Stages that return given records, and note what they were asked for."""

    outcome: ComparisonStage = LEARNED_WINS
    fails_in: str | None = None
    """Name of a stage that raises an error, as if the run were killed in it."""
    calls: list[tuple[str, float]] = field(default_factory=list)
    now: float = 0.0
    """The time, which each stage moves forward by 60 s."""

    def clock(self) -> float:
        return self.now

    def audit(self, seconds: float) -> AuditStage:
        self._work("audit", seconds)
        return AUDITED

    def learn(self, audited: AuditStage, seconds: float) -> LearnStage:
        assert audited == AUDITED
        self._work("learn", seconds)
        return LearnStage(selected="policy", rule=5.0, plays=80)

    def compare(self, audited: AuditStage, learned: LearnStage, seconds: float) -> ComparisonStage:
        assert (audited, learned.candidate) == (AUDITED, "learned")
        self._work("comparison", seconds)
        return self.outcome

    def adapt(self, audited: AuditStage, masking: str, seconds: float) -> AdaptationStage:
        assert (audited, masking) == (AUDITED, "learned")
        self._work("adapted", seconds)
        return AdaptationStage(70, {"before": 5.5, "after": 5.0})

    def _work(self, stage: str, seconds: float) -> None:
        if stage == self.fails_in:
            self.now += 7
            raise KeyboardInterrupt
        self.calls.append((stage, seconds))
        self.now += 60


def audited(**changes: object) -> AuditStage:
    return replace(AUDITED, **changes)  # type: ignore[arg-type]
