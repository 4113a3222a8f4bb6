"""Measures the masked-LM loss on text that no model was adapted on, under the same random masks for every model.

The loss of the adaptation itself cannot compare maskings: each masking hides different words, and some words are
easier to predict than others. In this measurement only the model differs.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from nmg.base.seeding import StreamName
from nmg.base.types import IGNORED_LABEL, IntArray
from nmg.data.corpus import EmptyCorpus
from nmg.data.near_duplicates import same
from nmg.training.context import TrainingContext
from nmg.training.lm_quality import hidden_words, mean_loss
from nmg.training.masks import Batches
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
        size = min(MAX_BLOCKS, len(corpus))
        chosen = np.sort((RANDOMNESS / "blocks").generator().choice(len(corpus), size, replace=False))
        batches, lengths = hidden_words(session.context, corpus, chosen, session.config.masking.rate, RANDOMNESS)
        if not bool((batches(np.arange(size)).labels != IGNORED_LABEL).any()):
            return None
        return cls(lengths, batches)

    def loss(self, context: TrainingContext) -> tuple[float, float]:
        """Return the mean cross-entropy of the masked tokens (nats, in evaluation mode) and the wall time (seconds)."""
        began = time.perf_counter()
        return mean_loss(context, self.batches, self.lengths), time.perf_counter() - began
