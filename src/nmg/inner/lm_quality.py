"""Is a language model one? Its masked-LM loss on text it has not seen, beside what word frequencies alone give.

Both are in nats per maskable token of a corpus, so their difference says what a model knows beyond frequencies.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from nmg.data.corpus import Corpus
from nmg.inner.arena import Arena
from nmg.inner.lm import summed_masked_lm_loss
from nmg.inner.masks import Batches, FixedMasks
from nmg.inner.memory import in_passes
from nmg.masking.rules import RandomMasking
from nmg.seeding import StreamName
from nmg.settings import MaskingSettings
from nmg.types import IGNORED_LABEL, FloatArray, IntArray

RATE = 0.15
"""share of the tokens that are masked to measure a loss, whatever `masking.rate` is"""
BLOCKS_AT_ONCE = 1024
"""blocks whose tokens are counted together"""


def unigram_entropy(corpus: Corpus) -> float:
    """Cross-entropy (nats per maskable token) of each block under the token frequencies of all the others.

    Frequencies are counted once more for every distinct token of the corpus (add-one smoothing): with n occurrences of
    a token in the other blocks, N of all tokens there, and V distinct tokens, a token costs -ln((n + 1) / (N + V)). So
    it is what a model that knows only frequencies loses on text it has not seen. NaN where nothing is maskable.
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
    """Natural logarithm of the frequency of each of `size` tokens [V] among the maskable tokens of the blocks `rows`.

    Tokens that do not occur share as much as if each distinct token had occurred once more (Witten-Bell smoothing);
    where no token occurs, all are equal.
    """
    counts = _counts(corpus, rows, size)
    n_distinct = max(int(np.count_nonzero(counts)), 1)
    frequencies: FloatArray = np.log((counts + n_distinct / size) / (counts.sum() + n_distinct))
    return frequencies


def held_out_loss(arena: Arena, corpus: Corpus, rows: IntArray, randomness: StreamName) -> float:
    """Mean cross-entropy (nats) of the arena's model over masked tokens of the blocks `rows`, in evaluation mode.

    Tokens are chosen uniformly at `RATE`, the same for the same `randomness`, and each becomes the mask token: what
    stays visible, as a tenth does in training, would be a word to copy and not one to predict. The blocks are held in
    memory at once. NaN where nothing is maskable.
    """
    return mean_loss(arena, *hidden_words(arena, corpus, rows, RATE, randomness))


def mean_loss(arena: Arena, batches: Batches, lengths: IntArray) -> float:
    """Mean cross-entropy (nats) of the arena's model over all masked tokens, in evaluation mode; NaN without any.

    Args:
        arena: of the model, which stays as it was.
        batches: rows → masked blocks.
        lengths: int [F] tokens of each row; the longest are read first.
    """
    model, order, n_masked = arena.model, np.argsort(-lengths, kind="stable"), 0

    def read(part: slice) -> tuple[float, int]:
        corrupted = batches(order[part])
        with arena.runtime.autocast():
            return summed_masked_lm_loss(model, corrupted), int((corrupted.labels != IGNORED_LABEL).sum())

    was_training, total = model.training, 0.0
    model.eval()
    for _, (loss, n) in in_passes(len(order), arena.runtime.evaluation_batch_size, read):
        total += loss
        n_masked += n
    model.train(was_training)
    return total / n_masked if n_masked else float("nan")


def hidden_words(
    arena: Arena, corpus: Corpus, rows: IntArray, rate: float, randomness: StreamName
) -> tuple[Batches, IntArray]:
    """The blocks `rows` with some tokens replaced by the mask token, and the length of each.

    The choice of tokens depends on nothing but blocks, rate and `randomness`.
    """
    blocks = corpus.blocks(rows)
    plan = RandomMasking().plan(blocks, rate, (randomness / "choices").generator())
    all_masked = MaskingSettings(rate=rate, mask_share=1.0, random_share=0.0)
    masks = FixedMasks(blocks, plan)
    return masks.start(replace(arena, masking=all_masked), randomness), masks.lengths


def _counts(corpus: Corpus, rows: IntArray, size: int = 0) -> IntArray:
    """int64 [V]: occurrences of each token, V at least `size`."""
    counts = np.zeros(size, dtype=np.int64)
    for _, token in _maskable(corpus, rows):
        found = np.bincount(token, minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    return counts


def _maskable(corpus: Corpus, rows: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Of some blocks after others: int64 [N] number of the block among these, int64 [N] id of the maskable token."""
    for first in range(0, len(rows), BLOCKS_AT_ONCE):
        blocks = corpus.blocks(rows[first : first + BLOCKS_AT_ONCE])
        block, position = blocks.is_maskable.numpy().nonzero()
        yield block, blocks.input_ids.numpy()[block, position]
