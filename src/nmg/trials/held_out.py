"""Measures the masked-LM loss on text that no model was adapted on, under the same random masks for every model.

The loss of the adaptation itself cannot compare maskings: each masking hides different words, and some words are
easier to predict than others. In this measurement only the model differs.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nmg.base.seeding import StreamName
from nmg.base.settings import MaskingSettings
from nmg.base.types import IntArray
from nmg.data.corpus import EmptyCorpus
from nmg.data.near_duplicates import same
from nmg.masking.rules import RandomMasking
from nmg.training.context import TrainingContext
from nmg.training.lm_quality import mean_loss
from nmg.training.masks import Batches, FixedMasks
from nmg.trials.session import ModelSession

MAX_BLOCKS = 512
"""Maximum number of blocks of held-out text."""
RANDOMNESS = StreamName(0) / "held-out"
"""Random stream of blocks and masks; it does not depend on seed, run or masking."""


@dataclass(frozen=True)
class HeldOutText:
    """Blocks of text with their masks, which are the same for all trials of a comparison."""

    lengths: IntArray
    """int64 [F]: number of tokens of each block."""
    batches: Batches

    @classmethod
    def build(cls, session: ModelSession, texts: Sequence[str], adapted_on: Collection[str]) -> "HeldOutText | None":
        """Select and mask the held-out text, at the rate of the configuration.

        A text counts as adapted on if it equals one of `adapted_on` up to the differences that `near_duplicates.folded`
        ignores, such as line breaks. Every chosen token becomes the mask token. In training, a tenth of the chosen
        tokens stays visible; here the model could copy such a token instead of predicting it.

        Args:
            session: The open model with its tokenizer and settings.
            texts: Candidate texts.
            adapted_on: Texts to leave out.

        Returns:
            At most `MAX_BLOCKS` blocks, drawn at random, or None if no token is left.
        """
        was_seen = same(texts, adapted_on)
        held_out = [text for text, seen in zip(texts, was_seen, strict=True) if not seen]
        if not held_out:
            return None
        try:
            corpus = session.corpus(held_out)
        except EmptyCorpus:
            return None
        rate = session.config.masking.rate
        size = min(MAX_BLOCKS, len(corpus))
        chosen = np.sort((RANDOMNESS / "blocks").generator().choice(len(corpus), size, replace=False))
        blocks = corpus.blocks(chosen)
        plan = RandomMasking().plan(blocks, rate, (RANDOMNESS / "choices").generator())
        if not int(plan.budget.sum()):
            return None
        all_masked = MaskingSettings(rate=rate, mask_replace_prob=1.0, random_replace_prob=0.0)
        masks = FixedMasks(blocks, plan)
        return cls(masks.lengths, masks.start(replace(session.context, masking=all_masked), RANDOMNESS))

    def loss(self, context: TrainingContext) -> tuple[float, float]:
        """Return the mean cross-entropy of the masked tokens (nats, in evaluation mode) and the wall time (seconds)."""
        began = time.perf_counter()
        return mean_loss(context, self.batches, self.lengths), time.perf_counter() - began
