"""Masked-LM loss on text that no model was adapted on, under the same random masks for every model.

The loss of the adaptation itself cannot compare maskings: each has masks of its own, and some words are easier than
others. Here all that differs is the model.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from nmg.config import Config, MaskingSettings
from nmg.inner.adapt import Masks, static_masks
from nmg.inner.lm import PretrainedLM, masked_lm_loss
from nmg.inner.runtime import Runtime
from nmg.masking.corrupt import Vocabulary
from nmg.masking.rules import RandomMasking
from nmg.seeding import StreamName
from nmg.setup import build_corpus
from nmg.types import IGNORED_LABEL, IntArray

MAX_BLOCKS = 512
RANDOMNESS = StreamName(0) / "held-out"
"""knows neither the seed of a cell nor the run's, nor the masking"""


@dataclass(frozen=True)
class HeldOutText:
    """Blocks of text with their masks, the same for all cells."""

    lengths: IntArray
    """[F] tokens of each block"""
    masks: Masks

    @classmethod
    def build(
        cls, config: Config, lm: PretrainedLM, texts: Sequence[str], adapted_on: Collection[str]
    ) -> "HeldOutText | None":
        """Mask the `texts` but those `adapted_on`, at the rate of the configuration; None where none is left.

        At most `MAX_BLOCKS` blocks, drawn at random. Every chosen token becomes the mask token: what stays visible, as
        a tenth does in training, would be a word to copy and not one to predict.
        """
        seen = set(adapted_on)
        held_out = [text for text in texts if text not in seen]
        if not any(text.strip() for text in held_out):
            return None
        corpus = build_corpus(config, lm, held_out)
        size = min(MAX_BLOCKS, len(corpus))
        chosen = np.sort((RANDOMNESS / "blocks").generator().choice(len(corpus), size, replace=False))
        blocks = corpus.blocks(chosen)
        plan = RandomMasking().plan(blocks, config.masking.rate, (RANDOMNESS / "choices").generator())
        if not int(plan.budget.sum()):
            return None
        all_masked = MaskingSettings(rate=config.masking.rate, mask_share=1.0, random_share=0.0)
        vocabulary = Vocabulary.from_tokenizer(lm.tokenizer)
        return cls(
            corpus.lengths[chosen], static_masks(blocks, plan, vocabulary, all_masked, RANDOMNESS / "corruption")
        )

    def loss(self, model: PreTrainedModel, runtime: Runtime) -> float:
        """Mean cross-entropy (nats) over all masked tokens, the model in evaluation mode."""
        model.eval()
        order = np.argsort(-self.lengths, kind="stable")
        total, n_masked = 0.0, 0
        for first in range(0, len(order), runtime.evaluation_batch_size):
            corrupted = self.masks(order[first : first + runtime.evaluation_batch_size])
            n = int((corrupted.labels != IGNORED_LABEL).sum())
            with torch.inference_mode(), runtime.autocast():
                total += float(masked_lm_loss(model, corrupted)) * n
            n_masked += n
        return total / n_masked
