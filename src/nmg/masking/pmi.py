"""The rule `pmi`: whole collocations, that is, n-grams whose words predict each other.

It follows PMI-Masking (Levine et al. 2021, arXiv 2010.01825). The pointwise mutual information of an n-gram is the
minimum over all ways to divide it into parts:

    PMI(w₁ … wₙ) = min over divisions of ln( p(w₁ … wₙ) / Π p(part) )

"Kuala Lumpur" therefore has a high PMI, but "Kuala Lumpur is" does not. The units of masking are the collocations,
longest first, and the words between them. The paper keeps 800,000 n-grams of 2 to 5 words that occur more than 10 times
in 16 GB of text. Corpora are smaller here, so `masking.pmi_share` is the fraction of sufficiently frequent n-grams to
keep.

N-grams do not include punctuation, such as entity marks. Otherwise "( 9" and "< < aspirin > >" would be collocations.
Texts that differ only in marks, numbers or case count once, because some data sets repeat a sentence for each pair of
its entities.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from nmg.base.types import FloatArray, IntArray, MaskPlan, TokenBlocks
from nmg.data.near_duplicates import groups
from nmg.masking.base import Draw, MaskingContext, choose_units, position_noise
from nmg.masking.idf import Keys
from nmg.masking.phrases import Phrases, Words, look_up
from nmg.masking.rules import punctuation_table

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nmg.data.corpus import Corpus

BLOCKS_AT_A_TIME = 1024
"""Number of blocks that are read in one step."""


def draw_collocations(blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, collocations: Phrases) -> MaskPlan:
    """Select whole collocations and single words in random order. At most one unit per block is cut.

    Args:
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.
        rng: source of all randomness.
        collocations: the collocations to treat as units.

    Returns:
        A plan with `blocks.budgets(rate)` positions per block.
    """
    unit, _ = collocations.find(blocks, 0.0)
    return choose_units(unit, position_noise(blocks, rng), blocks, rate)


def pmi_masking(ingredients: MaskingContext) -> Draw:
    """Build the rule `pmi`. Raises UserError if there is no corpus."""
    settings = ingredients.settings
    corpus = ingredients.counted_corpus("pmi")
    source = DistinctText.of(corpus, ingredients.tokenizer)
    found = find_collocations(source, settings.pmi_longest, settings.pmi_least_count, settings.pmi_share)
    ingredients.notify(f"pmi: {sum(map(len, found.keys)):,} collocations")
    return partial(draw_collocations, collocations=found)


@dataclass(frozen=True)
class DistinctText:
    """The words of a corpus without repeated texts, separated at punctuation."""

    corpus: "Corpus"
    block_ids: IntArray
    """int64 [blocks]: blocks of the first text in each group of near duplicates (`data.near_duplicates`)."""
    is_border: npt.NDArray[np.bool_]
    """bool [V]: True for tokens that no n-gram may contain: punctuation and the unknown token."""

    @classmethod
    def of(cls, corpus: "Corpus", tokenizer: "PreTrainedTokenizerBase") -> Self:
        """Find the distinct texts of a corpus."""
        is_border = punctuation_table(tokenizer).numpy()
        if tokenizer.unk_token_id is not None:
            is_border[tokenizer.unk_token_id] = True
        texts: dict[int, str] = {}
        for block_id, context in enumerate(corpus.context_ids.tolist()):
            texts[context] = f"{texts.get(context, '')} {corpus.text(block_id)}"
        is_first = groups(texts.values()) == np.arange(len(texts))
        return cls(corpus, corpus.blocks_of(np.array(list(texts), dtype=np.int64)[is_first]), is_border)

    def __iter__(self) -> Iterator[Words]:
        """Yield the words of `BLOCKS_AT_A_TIME` blocks at a time."""
        for first in range(0, len(self.block_ids), BLOCKS_AT_A_TIME):
            blocks = self.corpus.blocks(self.block_ids[first : first + BLOCKS_AT_A_TIME])
            words = Words.of(blocks)
            yield words.cut_at(self.is_border[blocks.input_ids.numpy()[words.rows, words.starts]])


def find_collocations(source: DistinctText, longest: int, least_count: int, share: float) -> Phrases:
    """Return the n-grams with the highest PMI.

    Args:
        source: the words to count.
        longest: maximum number of words in an n-gram; the minimum is 2.
        least_count: minimum number of occurrences of an n-gram.
        share: fraction of the sufficiently frequent n-grams to keep.

    Returns:
        The n-grams, each with its PMI in nats.
    """
    counts = [_count(source, 1, [], 1)]
    for n in range(2, longest + 1):
        counts.append(_count(source, n, counts, least_count))
    scores = _scores(source, counts)
    ranked = np.sort(np.concatenate([np.fromiter(table.values(), np.float64) for table in scores]))[::-1]
    n_kept = round(share * len(ranked))
    bar = ranked[n_kept - 1] if n_kept else np.inf
    kept = [{key: score for key, score in table.items() if score >= bar} for table in scores]
    return Phrases.of_tables([{}, *kept])


def _scores(source: DistinctText, counts: list[tuple[Keys, IntArray]]) -> list[dict[int, float]]:
    """Return a table for each n = 2, 3, …, from the key of each counted n-gram to its PMI in nats."""
    log_total = np.log(max(counts[0][1].sum(), 1))
    scores: list[dict[int, float]] = [{} for _ in counts[1:]]
    for words in source:
        # [W]: ln p of the k words that begin at each word, and of their most probable division, which may be uncut
        whole: list[FloatArray] = []
        best: list[FloatArray] = []
        for k, (keys, is_whole) in enumerate(words.ngrams(len(counts)), start=1):
            at, is_known = look_up(counts[k - 1][0], keys)
            is_known &= is_whole
            log_p = np.full(len(keys), -np.inf)
            log_p[is_known] = np.log(counts[k - 1][1][at[is_known]]) - log_total
            cut = np.full(len(keys), -np.inf)
            for j in range(1, k):
                np.maximum(cut, whole[j - 1] + _later(best[k - j - 1], j), out=cut)
            whole.append(log_p)
            best.append(np.maximum(log_p, cut))
            if k > 1:
                pmi = log_p[is_known] - cut[is_known]
                scores[k - 2].update(zip(keys[is_known].tolist(), pmi.tolist(), strict=True))
    return scores


def _later(values: FloatArray, by: int) -> FloatArray:
    """Return `values` shifted left by `by` words, with -inf after the end."""
    return np.append(values[by:], np.full(min(by, len(values)), -np.inf))


def _count(source: DistinctText, n: int, shorter: list[tuple[Keys, IntArray]], least: int) -> tuple[Keys, IntArray]:
    """Count the n-grams of a text. Reads the corpus once.

    An n-gram is not more frequent than its two parts of n − 1 words. It is therefore not counted if one of them is too
    rare.

    Args:
        source: the words to count.
        n: number of words in an n-gram.
        shorter: results of this function for 1 … n − 1 words.
        least: minimum number of occurrences.

    Returns:
        The keys (uint64, ascending) and the counts (int64) of the n-grams that occur at least `least` times.
    """
    keys, counts = np.empty(0, np.uint64), np.empty(0, np.int64)
    for words in source:
        ngrams = words.ngrams(n)
        found, is_counted = ngrams[-1]
        if n > 2:
            _, is_frequent = look_up(shorter[n - 2][0], ngrams[-2][0])
            is_counted = is_counted & is_frequent & np.append(is_frequent[1:], False)
        distinct, times = np.unique(found[is_counted], return_counts=True)
        keys, where = np.unique(np.concatenate([keys, distinct]), return_inverse=True)
        total = np.zeros(len(keys), np.int64)
        np.add.at(total, where, np.concatenate([counts, times]))
        counts = total
    return keys[counts >= least], counts[counts >= least]
