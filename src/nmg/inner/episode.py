"""The inner loops of the players of episodes: where they are played, in this process or in others."""

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
    """What all players share, those of episodes that are played together, too."""

    state: ModelState
    """the LM that all start from"""
    steps: int | None = None
    """each training ends after so many, as where an episode is only measured"""


class Turn(NamedTuple):
    """One player's, in its episode."""

    episode: Episode
    blocks: TokenBlocks
    plan: MaskPlan
    keep: bool
    """whether the adapted LM is wanted"""


@dataclass(frozen=True)
class Playground:
    """Everything else: the same for all episodes of a run."""

    arena: Arena
    task: Task
    train: Encoded
    validation: Encoded
    seed: int
    reward: RewardSettings

    def play(self, shared: Start, job: Turn) -> tuple[Outcome | Diverged, ModelState | None]:
        """Adapt under the plan, fine-tune on the episode's examples, score on the validation set.

        A training that diverges has no outcome, and its LM is not kept; the other players go on.
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
            return error.with_traceback(None), None  # frames would hold the training's tensors
        return outcome, copy_state(self.arena.model) if job.keep else None

    def opener(self, runtime: RuntimeSettings) -> "PlaygroundOpener":
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
    """Makes a playground in another process: with all but the weights, which come with every episode."""

    model_class: type[PreTrainedModel]
    model_config: PreTrainedConfig
    vocabulary: Vocabulary
    masking: MaskingSettings
    adapt: AdaptSettings
    finetune: FinetuneSettings
    runtime: RuntimeSettings
    playground: Playground

    def open(self, threads: int) -> Playground:
        runtime = Runtime.start(self.runtime.model_copy(update={"threads": threads}))
        model = self.model_class(self.model_config).to(runtime.device)
        arena = Arena(model, self.vocabulary, self.masking, self.adapt, self.finetune, runtime)
        return replace(self.playground, arena=arena)
