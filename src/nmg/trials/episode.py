"""Inner loops of the players of episodes, in this process or in others."""

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from transformers import PreTrainedConfig, PreTrainedModel

from nmg.base.errors import Diverged
from nmg.base.seeding import StreamName
from nmg.base.settings import RewardSettings, RuntimeSettings
from nmg.base.types import Episode, MaskPlan, Outcome, TokenBlocks
from nmg.executors.base import WorkerFactory
from nmg.tasks.base import Task
from nmg.training.context import TrainingContext
from nmg.training.lm import ModelState, copy_state
from nmg.training.masks import FixedMasks
from nmg.training.runtime import Runtime
from nmg.trials.trial import Encoded, Trial, inner_loop, mean_outcome


class InitialState(NamedTuple):
    """State shared by all jobs of one executor call."""

    state: ModelState
    """Weights of the LM that all jobs start from."""
    steps: int | None = None
    """Maximum number of steps per training, used to measure costs; None for no limit."""


class PlayerJob(NamedTuple):
    """Job of one player in one episode."""

    episode: Episode
    blocks: TokenBlocks
    """Blocks to adapt on."""
    plan: MaskPlan
    """Mask plan of the player."""
    keep: bool
    """Whether to return the adapted LM."""


@dataclass(frozen=True)
class EpisodeRunner:
    """Runs one player's inner loop; fixed for the whole run."""

    context: TrainingContext
    task: Task
    train: Encoded
    """Examples to fine-tune on."""
    validation: Encoded
    """Examples to score."""
    seed: int
    reward: RewardSettings

    def run(self, shared: InitialState, job: PlayerJob) -> tuple[Outcome | Diverged, ModelState | None]:
        """Adapt with the plan, fine-tune on the episode's examples, and score on the validation set.

        Args:
            shared: State shared by all jobs of the call.
            job: The player's job.

        Returns:
            The mean outcome, and the adapted LM if `job.keep` is true, otherwise None. If training diverges, the result
            is the error and None, so that other players continue.
        """
        times = self.reward.num_replicates if self.reward.evaluation == "finetune" else 1
        trials = [
            Trial(
                self.task, self.train, job.episode.row_ids, self.validation, self.reward.evaluation, again, shared.steps
            )
            for again in range(times)
        ]
        masks = FixedMasks(job.blocks, job.plan)
        randomness = StreamName(self.seed) / "episode" / job.episode.index
        try:
            loop = inner_loop(self.context, shared.state, masks, trials, randomness, shared.steps)
            outcome = mean_outcome(list(loop))
        except Diverged as error:
            return error.with_traceback(None), None  # the traceback would keep the tensors of the training alive
        return outcome, copy_state(self.context.model) if job.keep else None

    def factory(self, settings: RuntimeSettings) -> WorkerFactory:
        """Return what opens a copy of this runner in another process. Weights are sent with every call instead."""
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
    """Return the runner with a model and a runtime of this process, which uses `threads` torch threads."""
    runtime = Runtime.start(settings.model_copy(update={"threads": threads}))
    model = model_class(model_config).to(runtime.device)
    return replace(runner, context=replace(runner.context, model=model, runtime=runtime))
