"""Compares the masked-LM loss of a model on held-out text with the loss of a model of word frequencies.

Both are in nats per maskable token of a corpus, so their difference measures what a model knows beyond frequencies.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from nmg.base.seeding import StreamName
from nmg.base.settings import MaskingSettings
from nmg.base.types import IGNORED_LABEL, FloatArray, IntArray
from nmg.data.corpus import Corpus
from nmg.masking.rules import RandomMasking
from nmg.training.context import TrainingContext
from nmg.training.lm import summed_masked_lm_loss
from nmg.training.masks import Batches, FixedMasks
from nmg.training.memory import in_passes

RATE = 0.15
"""Fraction of the tokens that are masked to measure a loss, independent of `masking.rate`."""
BLOCKS_AT_ONCE = 1024
"""Number of blocks whose tokens are counted at the same time."""


def unigram_entropy(corpus: Corpus) -> float:
    """Compute the cross-entropy of a corpus under its word frequencies, in nats per maskable token.

    The frequencies for a block are those of all other blocks, so this is the loss of a pure frequency model on unseen
    text. Each distinct token of the corpus is counted once more (add-one smoothing). Let n be the occurrences of a
    token in the other blocks, N the number of all tokens there, and V the number of distinct tokens. A token then costs
    -ln((n + 1) / (N + V)). The result is NaN if no token is maskable.
    """
    counts = _counts(corpus, np.arange(len(corpus)))
    n_distinct, total, cost = np.count_nonzero(counts), counts.sum(), 0.0
    for block, token in _maskable(corpus, np.arange(len(corpus))):
        pairs, own = np.unique(block * len(counts) + token, return_counts=True)
        in_block = np.bincount(block)[pairs // len(counts)]
        share = (counts[pairs % len(counts)] - own + 1) / (total - in_block + n_distinct)
        cost -= float(own @ np.log(share))
    return cost / int(total) if total else float("nan")


def log_frequencies(corpus: Corpus, rows: IntArray, size: int) -> FloatArray:
    """Compute the natural logarithm of the frequency of each token among the maskable tokens of the blocks `rows`.

    Tokens that do not occur share the probability of one additional occurrence of each distinct token (Witten-Bell
    smoothing). If no token occurs, all frequencies are equal.

    Args:
        corpus: The corpus.
        rows: int [B]: numbers of the blocks to count.
        size: Number of tokens V.

    Returns:
        float64 [V]: log-frequencies.
    """
    counts = _counts(corpus, rows, size)
    n_distinct = max(int(np.count_nonzero(counts)), 1)
    frequencies: FloatArray = np.log((counts + n_distinct / size) / (counts.sum() + n_distinct))
    return frequencies


def held_out_loss(context: TrainingContext, corpus: Corpus, rows: IntArray, randomness: StreamName) -> float:
    """Compute the mean masked-LM cross-entropy of a model on the blocks `rows`, in evaluation mode.

    Tokens are chosen uniformly at `RATE`, and every chosen token becomes the mask token. In training, a tenth of them
    stays visible, but the model could copy such a token instead of predicting it. All blocks are held in memory.

    Args:
        context: Context with the model to measure.
        corpus: The corpus.
        rows: int [B]: numbers of the blocks.
        randomness: Random stream; equal streams choose equal tokens.

    Returns:
        Mean cross-entropy in nats per masked token, or NaN if no token is maskable.
    """
    return mean_loss(context, *hidden_words(context, corpus, rows, RATE, randomness))


def mean_loss(context: TrainingContext, batches: Batches, lengths: IntArray) -> float:
    """Compute the mean cross-entropy over all masked tokens, in evaluation mode. The model is left unchanged.

    Args:
        context: Context with the model to measure.
        batches: Function from row numbers to masked blocks.
        lengths: int [F]: tokens of each row. The longest rows are read first.

    Returns:
        Mean cross-entropy in nats per masked token, or NaN if there is none.
    """
    model, order, n_masked = context.model, np.argsort(-lengths, kind="stable"), 0

    def read(part: slice) -> tuple[float, int]:
        """Return the summed loss and the number of masked tokens of some rows."""
        corrupted = batches(order[part])
        with context.runtime.autocast():
            return summed_masked_lm_loss(model, corrupted), int((corrupted.labels != IGNORED_LABEL).sum())

    was_training, total = model.training, 0.0
    model.eval()
    for _, (loss, n) in in_passes(len(order), context.runtime.evaluation_batch_size, read):
        total += loss
        n_masked += n
    model.train(was_training)
    return total / n_masked if n_masked else float("nan")


def hidden_words(
    context: TrainingContext, corpus: Corpus, rows: IntArray, rate: float, randomness: StreamName
) -> tuple[Batches, IntArray]:
    """Replace randomly chosen tokens of the blocks `rows` by the mask token.

    The choice depends only on the blocks, the rate and `randomness`.

    Args:
        context: Context with the vocabulary.
        corpus: The corpus.
        rows: int [B]: numbers of the blocks.
        rate: Fraction of the tokens to replace.
        randomness: Random stream.

    Returns:
        A function from indices into `rows` to masked blocks, and the number of tokens of each block, int [B].
    """
    blocks = corpus.blocks(rows)
    plan = RandomMasking().plan(blocks, rate, (randomness / "choices").generator())
    all_masked = MaskingSettings(rate=rate, mask_replace_prob=1.0, random_replace_prob=0.0)
    masks = FixedMasks(blocks, plan)
    return masks.start(replace(context, masking=all_masked), randomness), masks.lengths


def _counts(corpus: Corpus, rows: IntArray, size: int = 0) -> IntArray:
    """Count the occurrences of each maskable token: int64 [V], with V at least `size`."""
    counts = np.zeros(size, dtype=np.int64)
    for _, token in _maskable(corpus, rows):
        found = np.bincount(token, minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    return counts


def _maskable(corpus: Corpus, rows: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the maskable tokens of each group of blocks: int64 [N] block within the group, int64 [N] token id."""
    for first in range(0, len(rows), BLOCKS_AT_ONCE):
        blocks = corpus.blocks(rows[first : first + BLOCKS_AT_ONCE])
        block, position = blocks.is_maskable.numpy().nonzero()
        yield block, blocks.input_ids.numpy()[block, position]
