"""Collocations as a whole: n-grams whose words give each other away (Levine et al. 2021, arXiv 2010.01825).

An n-gram's pointwise mutual information is the least over all ways to cut it into parts:

    PMI(w₁ … wₙ) = min over cuts of ln( p(w₁ … wₙ) / Π p(part) )

so that "Kuala Lumpur" counts and "Kuala Lumpur is" does not. Units of masking are the collocations, found in a text
longest first, and the words between them. The paper keeps 800,000 n-grams of 2 to 5 words that occur more than 10 times
in 16 GB of text; here, as corpora are smaller, a share of those that occur often enough (`masking.pmi_share`).

N-grams do not reach over punctuation, entity marks among it: else "( 9" and "< < aspirin > >" are collocations. A text
that is there again, also with other marks, numbers or case, counts once: data sets repeat a sentence for each pair of
its entities.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from nmg.data.twins import groups
from nmg.masking.base import Draw, Ingredients, choose_units, position_noise
from nmg.masking.idf import Keys
from nmg.masking.phrases import Phrases, Words, look_up
from nmg.masking.rules import punctuation_table
from nmg.types import FloatArray, IntArray, MaskPlan, TokenBlocks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nmg.data.corpus import Corpus

BLOCKS_AT_A_TIME = 1024


def draw_collocations(blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, collocations: Phrases) -> MaskPlan:
    """Collocations and single words in random order; at most one unit of a block is cut."""
    unit, _ = collocations.find(blocks, 0.0)
    return choose_units(unit, position_noise(blocks, rng), blocks, rate)


def pmi_masking(ingredients: Ingredients) -> Draw:
    settings = ingredients.settings
    corpus = ingredients.counted_corpus("pmi")
    source = DistinctText.of(corpus, ingredients.tokenizer)
    found = find_collocations(source, settings.pmi_longest, settings.pmi_least_count, settings.pmi_share)
    ingredients.notify(f"pmi: {sum(map(len, found.keys)):,} collocations")
    return partial(draw_collocations, collocations=found)


@dataclass(frozen=True)
class DistinctText:
    """The words of a corpus, each distinct text once, cut at punctuation."""

    corpus: "Corpus"
    block_ids: IntArray
    """[blocks] of the first of all texts that are the same once folded (`data.twins`)"""
    is_border: npt.NDArray[np.bool_]
    """[V] True for tokens of which an n-gram holds none: punctuation, and the unknown token"""

    @classmethod
    def of(cls, corpus: "Corpus", tokenizer: "PreTrainedTokenizerBase") -> Self:
        is_border = punctuation_table(tokenizer).numpy()
        if tokenizer.unk_token_id is not None:
            is_border[tokenizer.unk_token_id] = True
        texts: dict[int, str] = {}
        for block_id, context in enumerate(corpus.context_ids.tolist()):
            texts[context] = f"{texts.get(context, '')} {corpus.text(block_id)}"
        is_first = groups(texts.values()) == np.arange(len(texts))
        return cls(corpus, corpus.blocks_of(np.array(list(texts), dtype=np.int64)[is_first]), is_border)

    def __iter__(self) -> Iterator[Words]:
        for first in range(0, len(self.block_ids), BLOCKS_AT_A_TIME):
            blocks = self.corpus.blocks(self.block_ids[first : first + BLOCKS_AT_A_TIME])
            words = Words.of(blocks)
            yield words.cut_at(self.is_border[blocks.input_ids.numpy()[words.rows, words.starts]])


def find_collocations(source: DistinctText, longest: int, least_count: int, share: float) -> Phrases:
    """The `share` of n-grams of 2 to `longest` words with the highest PMI, of those that occur `least_count` times."""
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
    """For n = 2, 3, …: key → PMI of every n-gram that was counted, in nats."""
    log_total = np.log(max(counts[0][1].sum(), 1))
    scores: list[dict[int, float]] = [{} for _ in counts[1:]]
    for words in source:
        # [W] ln p of the k words from each word on, and of the most probable way to cut them, uncut included
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
    """The value `by` words on, -inf behind the end."""
    return np.append(values[by:], np.full(min(by, len(values)), -np.inf))


def _count(source: DistinctText, n: int, shorter: list[tuple[Keys, IntArray]], least: int) -> tuple[Keys, IntArray]:
    """Keys, ascending, and counts of the n-grams that occur at least `least` times. One pass over the corpus.

    An n-gram cannot be more frequent than its two parts of n − 1 words: where one of these is too rare it is not
    counted.
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
