"""One player's inner loop as a function: (LM state, episode, plan, seed) → outcome and adapted LM state."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel

from nmg.config import Config
from nmg.inner.adapt import adapt, static_masks
from nmg.inner.finetune import evaluate, finetune, task_model
from nmg.inner.lm import ModelState, copy_state
from nmg.inner.runtime import Runtime
from nmg.masking.corrupt import Vocabulary
from nmg.seeding import StreamName
from nmg.tasks.base import Task, TaskFeatures
from nmg.types import Episode, Example, MaskPlan, Outcome, TokenBlocks


@dataclass(frozen=True)
class Encoded:
    """Task examples with their model inputs."""

    examples: Sequence[Example]
    features: TaskFeatures


@dataclass(frozen=True)
class Arena:
    """What the inner loops of a run share. `model` is a working copy: its weights are overwritten by every player."""

    model: PreTrainedModel
    task: Task
    train: Encoded
    validation: Encoded
    vocabulary: Vocabulary
    config: Config
    runtime: Runtime


def rollout(
    arena: Arena, start: ModelState, episode: Episode, blocks: TokenBlocks, plan: MaskPlan
) -> tuple[Outcome, ModelState]:
    """Adapt the LM from `start` under `plan`, fine-tune it on the episode's examples, score it on the validation set.

    `blocks` are those of `episode.block_ids`; `plan` has one row for each. Every random draw (corruption, batch order,
    dropout, task head) is named by the episode alone, so players differ in nothing but their plans, and equal plans
    give equal outcomes.
    """
    config, runtime = arena.config, arena.runtime
    randomness = StreamName(config.run.seed) / "episode" / episode.index
    model = arena.model
    model.load_state_dict(start)

    masks = static_masks(blocks, plan, arena.vocabulary, config.masking, randomness / "corruption")
    lengths = blocks.is_token.sum(dim=1).numpy()
    adapted = adapt(model, lengths, masks, config.adapt, runtime, randomness / "adapt")

    task = task_model(arena.task, model, randomness / "head")
    rows = np.flatnonzero(np.isin(arena.train.features.example_index, episode.example_ids))
    tuned = finetune(task, arena.train.features, rows, config.finetune, runtime, randomness / "finetune")

    began = time.perf_counter()
    evaluation = evaluate(task, arena.task, arena.validation.features, arena.validation.examples, runtime)
    outcome = Outcome(
        scores=evaluation.scores,
        example_scores=evaluation.example_scores,
        lm_loss=adapted.fit.loss,
        lm_steps=adapted.fit.steps,
        task_steps=tuned.steps,
        masked_tokens=adapted.masked_tokens,
        seconds={
            "adapt": adapted.fit.seconds,
            "finetune": tuned.seconds,
            "evaluate": time.perf_counter() - began,
        },
    )
    return outcome, copy_state(model)
