"""Runs the trials of the players of an episode, in this process or in others."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from transformers import PreTrainedConfig, PreTrainedModel

from nmg.base.seeding import StreamName
from nmg.base.settings import RuntimeSettings
from nmg.base.trial import TrialResult, TrialSpec
from nmg.base.types import Episode, MaskPlan, TokenBlocks
from nmg.tasks.base import Task
from nmg.training.context import TrainingContext
from nmg.training.lm import ModelState, copy_state
from nmg.training.masks import FixedMasks
from nmg.training.runtime import Runtime
from nmg.trials.trial import Encoded, Trial, mean_result, run_trials


class PlayerJob(NamedTuple):
    """The trial of one player in one episode, with the masks to adapt under."""

    spec: TrialSpec
    """The trial; its masking is the name of the player."""
    episode: Episode
    blocks: TokenBlocks
    """Blocks to adapt on."""
    plan: MaskPlan | None
    """Mask plan of the player, or None for no adaptation."""
    keep: bool
    """Whether to return the adapted LM."""


@dataclass(frozen=True)
class EpisodeRunner:
    """Runs the trial of one player; it does not change during a run."""

    context: TrainingContext
    task: Task
    train: Encoded
    """Examples to fine-tune on."""
    validation: Encoded
    """Examples to score."""
    num_replicates: int
    """Number of fine-tuning runs per trial; the score of the trial is their mean score."""

    def run(self, start: ModelState, job: PlayerJob) -> tuple[TrialResult, ModelState | None]:
        """Adapt with the plan (if any), evaluate on the episode's examples, and score on the validation set.

        Args:
            start: Weights of the LM that all jobs of the call start from.
            job: The player's job.

        Returns:
            The mean result of the replicates, and the weights of the adapted LM. The weights are None if `job.keep` is
            False or if training diverged.
        """
        times = self.num_replicates if job.spec.evaluation == "finetune" else 1
        specs = [replace(job.spec, replicate=number) for number in range(times)]
        trials = [Trial(spec, self.task, self.train, job.episode.row_ids, self.validation) for spec in specs]
        randomness = StreamName(job.spec.seed) / "episode" / job.episode.index
        masks = None if job.plan is None else FixedMasks(job.blocks, job.plan)
        result = mean_result(list(run_trials(self.context, start, masks, trials, randomness)))
        return result, copy_state(self.context.model) if job.keep and result.error is None else None

    def factory(self, settings: RuntimeSettings) -> "Callable[[int], EpisodeRunner]":
        """Return a function that creates a copy of this runner in another process.

        The copy's model has random weights, because `run` gets the weights with every call.
        """
        model = self.context.model
        bare = replace(self.context, model=None, runtime=None)  # type: ignore[arg-type]
        return partial(_reopened, replace(self, context=bare), type(model), model.config, settings)


def _reopened(
    runner: EpisodeRunner,
    model_class: type[PreTrainedModel],
    model_config: PreTrainedConfig,
    settings: RuntimeSettings,
    threads: int,
) -> EpisodeRunner:
    """Create a runner in this process, with a new model and runtime.

    Args:
        runner: A runner whose context has no model.
        model_class: Class of the model.
        model_config: Configuration of the model.
        settings: Settings of the runtime.
        threads: Number of torch threads.

    Returns:
        A copy of `runner` with the model and the runtime.
    """
    runtime = Runtime.start(settings.model_copy(update={"threads": threads}))
    model = model_class(model_config).to(runtime.device)
    return replace(runner, context=replace(runner.context, model=model, runtime=runtime))
