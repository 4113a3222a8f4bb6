"""Inner loops of the players of episodes, in this process or in others."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from transformers import PreTrainedConfig, PreTrainedModel

from nmg.errors import Diverged
from nmg.inner.arena import Arena
from nmg.inner.lm import ModelState, copy_state
from nmg.inner.loop import Encoded, Trial, inner_loop, mean_outcome
from nmg.inner.masks import FixedMasks
from nmg.inner.runtime import Runtime
from nmg.masking.corrupt import Vocabulary
from nmg.seeding import StreamName
from nmg.settings import AdaptSettings, FinetuneSettings, MaskingSettings, RewardSettings, RuntimeSettings
from nmg.tasks.base import Task
from nmg.types import Episode, MaskPlan, Outcome, TokenBlocks


class Start(NamedTuple):
    """State shared by all jobs of one executor call."""

    state: ModelState
    """Weights of the LM that all jobs start from."""
    steps: int | None = None
    """Maximum number of steps per training, used to measure costs; None for no limit."""


class Turn(NamedTuple):
    """Job of one player in one episode."""

    episode: Episode
    blocks: TokenBlocks
    """Blocks to adapt on."""
    plan: MaskPlan
    """Mask plan of the player."""
    keep: bool
    """Whether to return the adapted LM."""


@dataclass(frozen=True)
class Playground:
    """Runs one player's inner loop; fixed for the whole run."""

    arena: Arena
    task: Task
    train: Encoded
    """Examples to fine-tune on."""
    validation: Encoded
    """Examples to score."""
    seed: int
    reward: RewardSettings

    def play(self, shared: Start, job: Turn) -> tuple[Outcome | Diverged, ModelState | None]:
        """Adapt with the plan, fine-tune on the episode's examples, and score on the validation set.

        Args:
            shared: State shared by all jobs of the call.
            job: The player's job.

        Returns:
            The mean outcome, and the adapted LM if `job.keep` is true, otherwise None. If training diverges, the result
            is the error and None, so that other players continue.
        """
        times = self.reward.fine_tunings if self.reward.measure == "finetune" else 1
        trials = [
            Trial(self.task, self.train, job.episode.row_ids, self.validation, self.reward.measure, again, shared.steps)
            for again in range(times)
        ]
        masks = FixedMasks(job.blocks, job.plan)
        randomness = StreamName(self.seed) / "episode" / job.episode.index
        try:
            loop = inner_loop(self.arena, shared.state, masks, trials, randomness, shared.steps)
            outcome = mean_outcome(list(loop))
        except Diverged as error:
            return error.with_traceback(None), None  # the traceback would keep the tensors of the training alive
        return outcome, copy_state(self.arena.model) if job.keep else None

    def opener(self, runtime: RuntimeSettings) -> "PlaygroundOpener":
        """Return a factory that creates a copy of this runner in another process."""
        arena = self.arena
        return PlaygroundOpener(
            type(arena.model),
            arena.model.config,
            arena.vocabulary,
            arena.masking,
            arena.adapt,
            arena.finetune,
            runtime,
            replace(self, arena=None),  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class PlaygroundOpener:
    """Factory that creates a `Playground` in another process.

    Weights are not included; they are sent with every call.
    """

    model_class: type[PreTrainedModel]
    model_config: PreTrainedConfig
    vocabulary: Vocabulary
    masking: MaskingSettings
    adapt: AdaptSettings
    finetune: FinetuneSettings
    runtime: RuntimeSettings
    playground: Playground

    def open(self, threads: int) -> Playground:
        """Create the runner with `threads` torch threads."""
        runtime = Runtime.start(self.runtime.model_copy(update={"threads": threads}))
        model = self.model_class(self.model_config).to(runtime.device)
        arena = Arena(model, self.vocabulary, self.masking, self.adapt, self.finetune, runtime)
        return replace(self.playground, arena=arena)
