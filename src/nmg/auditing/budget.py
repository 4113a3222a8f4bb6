"""The time budget of an audit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nmg.auditing.trials import AuditTrial

LEAST_STEPS, LEAST_EXAMPLES = 20, 100
"""Lower limit of the number of adaptation steps, and of labelled examples per fine-tuning run, after the pilot."""
RULES = ("random", "idf-5", "whole-word", "idf-2", "idf-10")
"""Rules to compare."""
FEW_RULES = RULES[:2]
"""Rules to compare if there is not enough time for all."""
FEWEST, MOST = 4, 16
"""Lower and upper limit of the number of random directions; the time budget determines it."""


@dataclass(frozen=True)
class Budget:
    """The time budget of an audit, which limits the number and size of its trials.

    The limits depend only on recorded durations, so a resumed audit has the same size.
    """

    seconds: float
    """Total time of all processes, in seconds."""
    seeds: int
    """Number of seeds per phase."""

    @property
    def fewest(self) -> int:
        """Minimum number of trials.

        The pilot is one trial. The first phase runs `none` and four schedules per seed. The second phase runs `none`,
        the rules in `FEW_RULES` and `FEWEST` random directions per seed.
        """
        return 1 + self.seeds * (5 + 1 + len(FEW_RULES) + FEWEST)

    @property
    def share(self) -> float:
        """Time available per trial, in seconds, if the audit has the minimum number of trials."""
        return self.seconds / self.fewest

    def examples(self, pilot: AuditTrial, labelled: int) -> int:
        """Choose the number of labelled examples per fine-tuning run.

        Args:
            pilot: The pilot trial.
            labelled: Number of available examples.

        Returns:
            The number of examples that fit into half of a trial's time minus the time to score the validation set; at
            least `LEAST_EXAMPLES`, at most `labelled`.
        """
        if not any(one.finetuning.seconds for one in pilot.results):  # embeddings, for which nothing is trained
            return labelled
        fits = (self.share / 2 - pilot.seconds["scoring"]) / _an_example(pilot)
        return int(np.clip(fits, min(LEAST_EXAMPLES, labelled), labelled))

    def steps(self, pilot: AuditTrial, n_examples: int, wanted: int) -> int:
        """Choose the number of adaptation steps.

        Args:
            pilot: The pilot trial.
            n_examples: Number of labelled examples per fine-tuning run.
            wanted: Number of steps that the settings request.

        Returns:
            The number of steps that fit into the rest of a trial's time; at least `LEAST_STEPS`, at most `wanted`.
        """
        a_step = pilot.seconds["adapt"] / pilot.steps
        others = pilot.seconds["scoring"] + n_examples * _an_example(pilot)
        return int(np.clip((self.share - others) / a_step, min(LEAST_STEPS, wanted), wanted))

    def least(self, pilot: AuditTrial, n_examples: int, n_steps: int) -> float:
        """Estimate the duration of the minimum number of trials.

        Args:
            pilot: The pilot trial.
            n_examples: Number of labelled examples per fine-tuning run.
            n_steps: Number of adaptation steps.

        Returns:
            The duration in seconds.
        """
        adapting = n_steps * pilot.seconds["adapt"] / pilot.steps
        return self.fewest * (adapting + pilot.seconds["scoring"] + n_examples * _an_example(pilot))

    def maskings(self, trials: Sequence[AuditTrial], steps: int) -> list[str]:
        """Choose the maskings that fit into the time left after `trials`.

        Args:
            trials: The trials that are already done.
            steps: Number of adaptation steps per trial.

        Returns:
            `none`, then names of rules, then names of random directions.
        """
        spent = sum(map(_cost, trials))
        none = float(np.mean([_cost(trial) for trial in trials if trial.spec.masking == "none"]))
        one = float(
            np.mean([_cost(trial) for trial in trials if trial.spec.masking != "none" and trial.steps == steps])
        )
        affordable = int(((self.seconds - spent) / self.seeds - none) / one)
        rules = RULES if affordable >= len(RULES) + FEWEST else FEW_RULES
        n_directions = min(max(affordable - len(rules), FEWEST), MOST)
        return ["none", *rules, *(f"direction-{n}" for n in range(n_directions))]

    def has_time(self, trials: Sequence[AuditTrial], n: int) -> bool:
        """Return whether `n` more trials fit into the time, if each takes as long as the mean of the last `n`."""
        costs = [_cost(trial) for trial in trials]
        return sum(costs) + sum(costs[-n:]) <= 1.1 * self.seconds


def _an_example(trial: AuditTrial) -> float:
    """Return the seconds per labelled example that the probe and the fine-tuning runs of a trial take together."""
    return (_cost(trial) - trial.seconds["adapt"] - trial.seconds["scoring"]) / trial.examples


def _cost(trial: AuditTrial) -> float:
    """Return the duration of a trial, in seconds."""
    return trial.seconds["adapt"] + trial.seconds["probe"] + len(trial.finetune) * trial.seconds["finetune"]
