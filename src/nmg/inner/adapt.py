"""Further pre-training of a masked LM under given masks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nmg.config import AdaptSettings, MaskingSettings, ModelSettings, OptimiserSettings
from nmg.data.corpus import Corpus
from nmg.inner.fit import FitResult, fit
from nmg.inner.lm import PretrainedLM, encoder_states, masked_lm_loss
from nmg.inner.runtime import Runtime
from nmg.masking.base import MaskingPolicy
from nmg.masking.corrupt import Vocabulary, corrupt
from nmg.masking.rules import RandomMasking
from nmg.reporter import Progress
from nmg.seeding import StreamName
from nmg.types import IGNORED_LABEL, CorruptedBlocks, IntArray, MaskPlan, StateEncoder, TokenBlocks

Masks: TypeAlias = Callable[[IntArray], CorruptedBlocks]
"""Rows [B] of the training set → the batch with its masks."""


@dataclass(frozen=True)
class AdaptResult:
    fit: FitResult
    masked_tokens: int
    """masked positions trained on, over all epochs"""
    tokens: int
    """tokens read, special tokens included, over all epochs"""


def static_masks(
    blocks: TokenBlocks, plan: MaskPlan, vocabulary: Vocabulary, settings: MaskingSettings, randomness: StreamName
) -> Masks:
    """Corrupt `blocks` once; every epoch then sees the same masks (an episode's inner loop)."""
    corrupted = corrupt(blocks, plan, vocabulary, settings, randomness.generator())
    lengths = blocks.is_token.sum(dim=1)

    def batch(rows: IntArray) -> CorruptedBlocks:
        index = torch.from_numpy(rows)
        longest = int(lengths[index].max())
        return CorruptedBlocks(
            corrupted.input_ids[index, :longest], corrupted.is_token[index, :longest], corrupted.labels[index, :longest]
        )

    return batch


def dynamic_masks(
    corpus: Corpus,
    policy: MaskingPolicy,
    encode: StateEncoder,
    vocabulary: Vocabulary,
    settings: MaskingSettings,
    randomness: StreamName,
) -> Masks:
    """Draw masks anew at every step; a learned policy sees the states of the LM as it is at that step (meta-test)."""
    choices = (randomness / "choices").generator()
    corruption = (randomness / "corruption").generator()

    def batch(rows: IntArray) -> CorruptedBlocks:
        blocks = corpus.blocks(rows)
        plan = policy.plan(blocks, settings.rate, choices, encode)
        return corrupt(blocks, plan, vocabulary, settings, corruption)

    return batch


def state_encoder(model: PreTrainedModel, runtime: Runtime) -> StateEncoder:
    """States of `model` as it is at the time of each call, in evaluation mode."""

    def encode(blocks: TokenBlocks) -> Tensor:
        with runtime.autocast():
            return encoder_states(model, blocks)

    return encode


def adapt(
    model: PreTrainedModel,
    lengths: IntArray,
    masks: Masks,
    settings: OptimiserSettings,
    runtime: Runtime,
    randomness: StreamName,
    *,
    max_steps: int | None = None,
    progress: Progress | None = None,
) -> AdaptResult:
    """Train `model` in place on the masked-LM loss of `masks(rows)`, rows of token counts `lengths` [F]."""
    masked_tokens = tokens = 0

    def loss_of(rows: IntArray) -> Tensor:
        nonlocal masked_tokens, tokens
        corrupted = masks(rows)
        masked_tokens += int((corrupted.labels != IGNORED_LABEL).sum())
        tokens += int(corrupted.is_token.sum())
        return masked_lm_loss(model, corrupted)

    result = fit(model, lengths, loss_of, settings, runtime, randomness, max_steps=max_steps, progress=progress)
    return AdaptResult(result, masked_tokens, tokens)


def warm_up_head(
    lm: PretrainedLM,
    corpus: Corpus,
    model_settings: ModelSettings,
    masking: MaskingSettings,
    settings: AdaptSettings,
    runtime: Runtime,
    randomness: StreamName,
    progress: Progress | None = None,
) -> FitResult:
    """Train the parameters the checkpoint lacked, and nothing else, on randomly masked text.

    A head fresh from its initialisation would send noise through the encoder. Only its own weights move: the output
    embeddings stay tied to the input embeddings, and the encoder stays as it was.
    """
    model = lm.model
    new = {name: parameter for name, parameter in model.named_parameters() if name in set(lm.new_parameters)}
    vocabulary = Vocabulary.from_tokenizer(lm.tokenizer)
    masks = dynamic_masks(
        corpus, RandomMasking(), state_encoder(model, runtime), vocabulary, masking, randomness / "masks"
    )
    steps_an_epoch = -(-len(corpus) // settings.batch_size)
    schedule = OptimiserSettings(
        epochs=-(-model_settings.head_warmup_steps // steps_an_epoch),
        batch_size=settings.batch_size,
        learning_rate=model_settings.head_warmup_learning_rate,
    )
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in new.values():
        parameter.requires_grad_(True)
    try:
        return fit(
            model,
            corpus.lengths,
            lambda rows: masked_lm_loss(model, masks(rows)),
            schedule,
            runtime,
            randomness,
            parameters=new.values(),
            max_steps=model_settings.head_warmup_steps,
            progress=progress,
        )
    finally:
        for parameter in model.parameters():
            parameter.requires_grad_(True)
