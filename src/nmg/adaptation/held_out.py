"""Measures the loss of an adaptation on held-out text: documents that are not trained on, under fixed masks.

Documents and masks depend only on the texts and the seed of the run, so losses can be compared between maskings, rates,
executors and batch sizes.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from nmg.base.progress import Reporter
from nmg.base.seeding import StreamName
from nmg.base.types import IGNORED_LABEL, BoolArray, CorruptedBlocks, IntArray
from nmg.data.corpus import Corpus
from nmg.data.near_duplicates import near_few
from nmg.training.context import TrainingContext
from nmg.training.lm_quality import RATE, hidden_words, mean_loss
from nmg.training.masks import Batches

MAX_BLOCKS = 512
"""Maximum number of blocks that are measured."""
MAX_CHARACTERS = 600_000
"""Approximate maximum number of characters to hold out: those of `MAX_BLOCKS` blocks of 254 tokens."""
MIN_TOKENS = 512
"""Minimum number of maskable held-out tokens; with fewer, less than 77 are masked and the loss is mostly noise."""
MIN_TRAINING_SHARE = 0.5
"""Minimum fraction of the blocks that must remain to train on."""
ROWS_PER_PASS = 16
"""Rows per forward pass, independent of the settings, because the size of a batch changes the rounding of the loss."""


@dataclass(frozen=True)
class CorpusSplit:
    """The text of an adaptation, divided by document."""

    training: Corpus
    """Blocks to train on."""
    held_out: Corpus | None
    """Blocks that are not trained on; None if no text is held out."""
    near_duplicates: int = 0
    """Number of documents that are in neither part, because they are near duplicates of held-out documents."""


def split_corpus(
    texts: Collection[str], corpus: Corpus, share: float, randomness: StreamName, reporter: Reporter
) -> CorpusSplit:
    """Divide a corpus into documents to train on and held-out documents.

    Only the held-out texts are kept in memory. If too little text would be held out or remain, all text is trained on,
    and a message says why.

    Args:
        texts: The documents; they are iterated over three times.
        corpus: The blocks of `texts`.
        share: Fraction of the characters to hold out; 0 for none.
        randomness: Random stream that selects the documents.
        reporter: Receives the message.

    Returns:
        The two parts.
    """
    if not share:
        return CorpusSplit(corpus, None)
    training, held_out, near_duplicates = divide(texts, corpus, share, randomness)
    problem = too_small(held_out, share)
    if len(training) < MIN_TRAINING_SHARE * len(corpus):
        problem = f"only {len(training)} of {len(corpus)} blocks would be left to train on"
    if problem is None:
        return CorpusSplit(training, held_out, near_duplicates)
    reporter.notify(f"adapt.held_out: {problem}. No text is held out, so no held-out loss is measured.")
    return CorpusSplit(corpus, None)


def divide(texts: Collection[str], corpus: Corpus, share: float, randomness: StreamName) -> tuple[Corpus, Corpus, int]:
    """Divide a corpus by document, however small the two parts are.

    Args:
        texts: The documents; they are iterated over three times.
        corpus: The blocks of `texts`.
        share: Fraction of the characters to hold out, more than 0.
        randomness: Random stream that selects the documents.

    Returns:
        Blocks to train on, held-out blocks, and the number of documents in neither part, because they are near
        duplicates of held-out documents.
    """
    is_held_out = _draw_documents(texts, share, randomness)
    is_near = near_few(texts, compress(texts, is_held_out)) & ~is_held_out
    held_out = corpus.subset(np.flatnonzero(is_held_out[corpus.context_ids]))
    training = corpus.subset(np.flatnonzero(~(is_held_out | is_near)[corpus.context_ids]))
    return training, held_out, int(is_near.sum())


def too_small(held_out: Corpus, share: float) -> str | None:
    """Return the reason why the loss on the held-out corpus would be mostly noise, or None if it would not.

    `share` is the fraction of the whole text that is held out.
    """
    n_tokens = _maskable_tokens(held_out)
    if n_tokens >= MIN_TOKENS:
        return None
    return f"{share:g} of this corpus is {n_tokens} tokens, and the loss of less than {MIN_TOKENS} is noise"


def _draw_documents(texts: Collection[str], share: float, randomness: StreamName) -> BoolArray:
    """Draw documents with about `share` of all characters, at least one document.

    Returns bool [number of texts], True for a drawn document.
    """
    sizes: IntArray = np.fromiter((len(text) for text in texts), dtype=np.int64)
    order = (randomness / "documents").generator().permutation(len(sizes))
    wanted = min(share * sizes.sum(), MAX_CHARACTERS)
    n = max(int(np.searchsorted(np.cumsum(sizes[order]), wanted, side="right")), 1)
    is_drawn = np.zeros(len(sizes), dtype=bool)
    is_drawn[order[:n]] = True
    return is_drawn


def _maskable_tokens(corpus: Corpus) -> int:
    """Count the maskable tokens of a corpus, but stop once the count is at least `MIN_TOKENS`."""
    n = 0
    for first in range(0, len(corpus), ROWS_PER_PASS):
        if n >= MIN_TOKENS:
            break
        rows = np.arange(first, min(first + ROWS_PER_PASS, len(corpus)))
        n += int(corpus.blocks(rows).is_maskable.sum())
    return n


@dataclass(frozen=True)
class HeldOutLoss:
    """Masked-LM loss of a model on fixed blocks with fixed masks: `RATE` of the tokens, all replaced by the mask."""

    lengths: IntArray
    """int64 [F]: number of tokens of each block."""
    documents: int
    """Number of documents that the blocks belong to."""
    masked_tokens: int
    """Number of masked tokens, over which the loss is averaged."""
    _batches: Batches

    @classmethod
    def build(cls, context: TrainingContext, corpus: Corpus, randomness: StreamName) -> "HeldOutLoss":
        """Select at most `MAX_BLOCKS` blocks of the held-out `corpus` and mask them.

        Args:
            context: Context with the vocabulary.
            corpus: Held-out blocks.
            randomness: Random stream of blocks and masks.

        Returns:
            The loss, for any model with the same vocabulary.
        """
        size = min(MAX_BLOCKS, len(corpus))
        rows = np.sort((randomness / "blocks").generator().choice(len(corpus), size, replace=False))
        batches, lengths = hidden_words(context, corpus, rows, RATE, randomness / "masks")
        n_masked = int((batches(np.arange(size)).labels != IGNORED_LABEL).sum())
        return cls(lengths, len(np.unique(corpus.context_ids[rows])), n_masked, batches)

    def batch(self, rows: IntArray) -> CorruptedBlocks:
        """Return some blocks with their masks, by their numbers from 0: int [B]."""
        return self._batches(rows)

    def of(self, context: TrainingContext) -> float:
        """Return the mean cross-entropy of `context.model` in nats per masked token, in evaluation mode."""
        runtime = replace(context.runtime, evaluation_batch_size=ROWS_PER_PASS)
        return mean_loss(replace(context, runtime=runtime), self._batches, self.lengths)
