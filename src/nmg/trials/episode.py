"""Inner loops of the players of episodes, in this process or in others."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from transformers import PreTrainedConfig, PreTrainedModel

from nmg.base.errors import Diverged
from nmg.base.seeding import StreamName
from nmg.base.settings import AdaptSettings, FinetuneSettings, MaskingSettings, RewardSettings, RuntimeSettings
from nmg.base.types import Episode, MaskPlan, Outcome, TokenBlocks
from nmg.masking.corrupt import Vocabulary
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

    def play(self, shared: InitialState, job: PlayerJob) -> tuple[Outcome | Diverged, ModelState | None]:
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

    def opener(self, runtime: RuntimeSettings) -> "EpisodeRunnerFactory":
        """Return a factory that creates a copy of this runner in another process."""
        context = self.context
        return EpisodeRunnerFactory(
            type(context.model),
            context.model.config,
            context.vocabulary,
            context.masking,
            context.adapt,
            context.finetune,
            runtime,
            replace(self, context=None),  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class EpisodeRunnerFactory:
    """Factory that creates a `EpisodeRunner` in another process.

    Weights are not included; they are sent with every call.
    """

    model_class: type[PreTrainedModel]
    model_config: PreTrainedConfig
    vocabulary: Vocabulary
    masking: MaskingSettings
    adapt: AdaptSettings
    finetune: FinetuneSettings
    runtime: RuntimeSettings
    runner: EpisodeRunner

    def open(self, threads: int) -> EpisodeRunner:
        """Create the runner with `threads` torch threads."""
        runtime = Runtime.start(self.runtime.model_copy(update={"threads": threads}))
        model = self.model_class(self.model_config).to(runtime.device)
        context = TrainingContext(model, self.vocabulary, self.masking, self.adapt, self.finetune, runtime)
        return replace(self.runner, context=context)
