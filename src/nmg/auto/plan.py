"""Plans the minutes of `nmg adapt --auto`: how long each stage may take, and what fits into that time.

What a stage leaves goes to the next ones, because each plan starts from the time that is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nmg.auditing.recommend import LEAST_PLAYS

AUDIT_SHARE = 1 / 3
"""Fraction of all minutes for the audit."""
FEWEST_SEEDS, WANTED_SEEDS, MOST_SEEDS = 6, 10, 16
"""Lower limit of the number of seeds of the comparison, the number that learning leaves time for, and upper limit.

The lower limit counts even if time is short.
"""
STARTUP_SECONDS = 30.0
"""Seconds for a stage to read data and open its processes."""
SAVING_SECONDS = 30.0
"""Seconds for the last stage to measure the held-out loss and to save the model."""
WANTED_PLAYS = 200
"""Number of inner loops of the learner, if the audit does not ask for more and time allows; its default budget."""
SHORTEST_LOOP = 0.5
"""Smallest number of adaptation steps of an inner loop, as a share of those of a trial of the audit."""
LEAST_GAIN = 0.005
"""Smallest possible gain, in the unit of the score, for which masks are learned."""
SPARE = 1.1
"""Factor by which more inner loops are planned than the smallest number, because a run may be slower than the audit."""
COMPARED = 3
"""Number of maskings of the comparison: none, random and the selected one."""


@dataclass(frozen=True)
class Costs:
    """What trials cost on this machine, in seconds of one process, as measured by the audit."""

    none: float
    """A trial of the comparison without adaptation."""
    masked: float
    """A trial of the comparison with adaptation."""
    adaptation: float
    """The adaptation of such a trial."""
    play: float
    """An inner loop with the recommended reward and as many steps as a trial; 0 without a reward."""
    processes: int
    """Number of trials that run at once."""

    @property
    def seed(self) -> float:
        """Wall time of all trials of one seed of the comparison, in seconds."""
        return (self.none + (COMPARED - 1) * self.masked) / self.processes

    def loop(self, share: float) -> float:
        """Return the seconds of an inner loop with `share` of the steps of a trial."""
        return max(self.play - self.adaptation, 0.0) + share * min(self.adaptation, self.play)

    def learning(self, plays: int, share: float) -> float:
        """Return the wall time of a meta-training with `plays` inner loops, in seconds."""
        return STARTUP_SECONDS + plays * self.loop(share) / self.processes

    def comparison(self, seeds: int) -> float:
        """Return the wall time of a comparison, in seconds."""
        return STARTUP_SECONDS + seeds * self.seed

    @property
    def final(self) -> float:
        """Wall time of the last stage, in seconds: the winner is adapted and saved."""
        return STARTUP_SECONDS + self.adaptation + SAVING_SECONDS


def audit_seconds(total: float) -> float:
    """Return the seconds for the audit, of `total` seconds for everything."""
    return AUDIT_SHARE * total


def learning_seconds(left: float, costs: Costs) -> float:
    """Return the seconds for learning masks.

    Args:
        left: Seconds that are left for learning, comparison and adaptation.
        costs: The costs of trials.

    Returns:
        What a comparison with `WANTED_SEEDS` seeds and the adaptation leave; at least 0.
    """
    return max(left - costs.comparison(WANTED_SEEDS) - costs.final, 0.0)


def comparison_seconds(left: float, costs: Costs) -> float:
    """Return the seconds for the comparison; `left` are the seconds for comparison and adaptation together."""
    return max(left - costs.final, 0.0)


def affordable_seeds(seconds: float, costs: Costs) -> int:
    """Return the number of seeds of a comparison that takes `seconds`, from `FEWEST_SEEDS` to `MOST_SEEDS`."""
    return min(max(int((seconds - STARTUP_SECONDS) / costs.seed), FEWEST_SEEDS), MOST_SEEDS)


def loop_share(seconds: float, costs: Costs) -> float:
    """Return the number of steps of an inner loop, as a share of the steps of a trial, from `SHORTEST_LOOP` to 1.

    Inner loops are shorter if otherwise too few of them fit into `seconds`. In the published method they are shorter
    than the adaptation, too.
    """
    wanted = (seconds - STARTUP_SECONDS) * costs.processes / (LEAST_PLAYS * SPARE)
    share = 1 - (costs.play - wanted) / costs.adaptation if costs.adaptation else 1.0
    return min(max(share, SHORTEST_LOOP), 1.0)


def affordable_plays(seconds: float, costs: Costs, share: float) -> int:
    """Return the number of inner loops with `share` of the steps of a trial that fit into `seconds`."""
    return max(int((seconds - STARTUP_SECONDS) * costs.processes / costs.loop(share)), 0) if costs.play else 0


def fitted_budget(seconds: float, wanted: int, forecast: float, preparing: float) -> int:
    """Fit the number of inner loops to the time, from a forecast for the wanted number.

    Args:
        seconds: Seconds for learning.
        wanted: The wanted number of inner loops.
        forecast: Seconds that a run with `wanted` inner loops is expected to take.
        preparing: Seconds of `forecast` before the first inner loop.

    Returns:
        The number of inner loops, at most `wanted`; it may be too small for a run.
    """
    a_play = max(forecast - preparing, 1e-9) / wanted
    return min(max(int((seconds - preparing) / a_play), 0), wanted)


def too_few_plays(plays: int) -> str | None:
    """Return why masks are not learned with this number of inner loops, or None if they are enough."""
    if plays >= LEAST_PLAYS:
        return None
    return f"The time allows {plays} of at least {LEAST_PLAYS} inner loops. Raise --minutes to learn masks."


def episode_size(steps: int, contexts_per_step: float, contexts: int) -> Mapping[str, int]:
    """Choose an episode whose adaptation takes as many steps as a trial of the audit.

    Args:
        steps: Number of steps of the trial.
        contexts_per_step: Mean number of contexts per step.
        contexts: Number of contexts that episodes can sample from.

    Returns:
        `epochs`, the number of passes over the contexts of an episode, and `contexts`, their number.
    """
    wanted = steps * contexts_per_step
    epochs = max(-(-wanted // contexts), 1)
    return {"epochs": int(epochs), "contexts": max(min(round(wanted / epochs), contexts), 1)}
