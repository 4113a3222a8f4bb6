"""The rule `idf`: inverse document frequency as weight, so rare tokens or words are masked more often."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from nmg.base.types import FloatArray, IntArray, MaskPlan, TokenBlocks
from nmg.masking.base import Draw, MaskingContext, Rule, choose, choose_units, gumbel_noise, number_units
from nmg.masking.counts import guessed_counts, say_that_counts_are_guessed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nmg.data.corpus import Corpus

Keys: TypeAlias = npt.NDArray[np.uint64]
"""uint64 identifiers of units: token ids, or hashes of words or n-grams."""
UnitKeys: TypeAlias = Callable[[TokenBlocks], tuple[Keys, IntArray, IntArray]]
"""Maps blocks to the key, row and first column of every unit of the batch, each [units], in reading order."""

CONTEXTS_AT_A_TIME = 1024
"""Number of documents that are counted in one step."""


def piece_keys(blocks: TokenBlocks) -> tuple[Keys, IntArray, IntArray]:
    """Return the maskable tokens as units (see `UnitKeys`). The key is the token id."""
    rows, columns = np.nonzero(blocks.is_maskable.cpu().numpy())
    return blocks.input_ids.cpu().numpy()[rows, columns].astype(np.uint64), rows, columns


def word_keys(blocks: TokenBlocks) -> tuple[Keys, IntArray, IntArray]:
    """Return the words as units (see `UnitKeys`).

    The key is a 64-bit polynomial hash of the word's token ids, so collisions are very unlikely.
    """
    unit, is_first = (x.cpu().numpy() for x in number_units(blocks.word_index, blocks))
    in_word = unit >= 0
    starts = np.flatnonzero(is_first[in_word])
    rows, columns = np.nonzero(is_first)
    if not len(starts):
        return np.empty(0, np.uint64), rows, columns
    ids = blocks.input_ids.cpu().numpy()[in_word].astype(np.uint64)
    lengths = np.diff(starts, append=len(ids))
    place = np.arange(len(ids)) - np.repeat(starts, lengths)
    powers = np.multiply.accumulate(np.full(lengths.max(), 0x9E3779B97F4A7C15, dtype=np.uint64))
    scattered = (ids + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    scattered ^= scattered >> np.uint64(31)
    return np.add.reduceat(scattered * powers[place], starts), rows, columns


UNIT_KEYS: dict[str, UnitKeys] = {"piece": piece_keys, "word": word_keys}
"""Maps the setting `masking.idf_unit` to the function that finds the units."""


class InverseDocumentFrequency:
    """idf = ln((1 + n) / (1 + df)) + 1 for n documents, df of which contain the unit. A document is a context.

    This smoothed form is that of scikit-learn. It is at least 1, and highest for a unit that the corpus lacks.
    """

    def __init__(self, keys: Keys, document_counts: IntArray, n_documents: int) -> None:
        """Store the document counts of all units.

        Args:
            keys: uint64 [D], distinct and in ascending order.
            document_counts: int64 [D], number of documents that contain each unit.
            n_documents: number of documents.
        """
        self.keys, self.document_counts, self.n_documents = keys, document_counts, n_documents

    @classmethod
    def count(cls, corpus: "Corpus", unit_keys: UnitKeys) -> Self:
        """Count the units of a corpus in one pass, `CONTEXTS_AT_A_TIME` documents at a time."""
        contexts = np.unique(corpus.context_ids)
        keys, counts = np.empty(0, np.uint64), np.empty(0, np.int64)
        for start in range(0, len(contexts), CONTEXTS_AT_A_TIME):
            blocks = corpus.blocks(corpus.blocks_of(contexts[start : start + CONTEXTS_AT_A_TIME]))
            found, rows, _ = unit_keys(blocks)
            distinct, which = np.unique(found, return_inverse=True)
            # A pair (document, unit) counts once, regardless of how often the unit occurs.
            pairs = np.unique(blocks.context_ids.cpu().numpy()[rows] * len(distinct) + which)
            new_counts = np.bincount(pairs % max(len(distinct), 1), minlength=len(distinct))
            keys, where = np.unique(np.concatenate([keys, distinct]), return_inverse=True)
            total = np.zeros(len(keys), np.int64)
            np.add.at(total, where, np.concatenate([counts, new_counts]))
            counts = total
        return cls(keys, counts, len(contexts))

    def __call__(self, keys: Keys) -> FloatArray:
        """Return the idf of each key: float64 [units] for keys [units]."""
        counts = np.zeros(len(keys))
        if len(self.keys):
            at = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
            counts = np.where(self.keys[at] == keys, self.document_counts[at], 0)
        idf: FloatArray = np.log((1.0 + self.n_documents) / (1.0 + counts)) + 1.0
        return idf

    @classmethod
    def guess(cls, tokenizer: "PreTrainedTokenizerBase") -> Self:
        """Estimate the document counts of word pieces from the order of the vocabulary, without a corpus.

        The estimate assumes that every document contains the first piece.
        """
        counts = guessed_counts(tokenizer)
        pieces = np.flatnonzero(counts)
        return cls(pieces.astype(np.uint64), counts[pieces].round().astype(np.int64), len(pieces))


def document_frequency(ingredients: MaskingContext, unit: str, masking: str) -> InverseDocumentFrequency:
    """Count document frequencies in the corpus, or estimate them if there is none.

    Args:
        ingredients: the corpus and the tokenizer.
        unit: "piece" or "word".
        masking: name of the rule in messages.

    Returns:
        The inverse document frequencies of the units.

    Raises:
        UserError: If there is no corpus and `unit` is "word", because only pieces can be estimated.
    """
    if ingredients.corpus is None and unit == "piece":
        say_that_counts_are_guessed(masking)
        return InverseDocumentFrequency.guess(ingredients.tokenizer)
    return InverseDocumentFrequency.count(ingredients.counted_corpus(masking), UNIT_KEYS[unit])


def sample_by_idf(
    blocks: TokenBlocks,
    rate: float,
    rng: np.random.Generator,
    *,
    idf: InverseDocumentFrequency,
    unit: str,
    exponent: float,
) -> MaskPlan:
    """Sample tokens or words without replacement, each with probability ∝ idf ** exponent.

    One sort of ln(weight) plus Gumbel noise replaces the successive draws (Efraimidis and Spirakis 2006; Kool et al.
    2019, section 2.3).

    Args:
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.
        rng: source of all randomness.
        idf: inverse document frequencies of the units.
        unit: "piece" to sample tokens, "word" to sample whole words.
        exponent: exponent of the weights; 0 makes all units equally likely.

    Returns:
        A plan with `blocks.budgets(rate)` positions per block.
    """
    keys, rows, columns = UNIT_KEYS[unit](blocks)
    scores = gumbel_noise(blocks, rng)
    device = scores.device
    log_weight = torch.from_numpy(exponent * np.log(idf(keys))).to(device)
    scores[torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)] += log_weight
    return choose(scores, blocks, rate) if unit == "piece" else choose_units(blocks.word_index, scores, blocks, rate)


def idf_rule(corpus: "Corpus", exponent: float) -> Rule:
    """Build the rule `idf` for word pieces, with document frequencies counted in `corpus`."""
    idf = InverseDocumentFrequency.count(corpus, piece_keys)
    return Rule("idf", partial(sample_by_idf, idf=idf, unit="piece", exponent=exponent))


def idf_masking(ingredients: MaskingContext) -> Draw:
    """Build the rule `idf`. Raises UserError if words are to be counted and there is no corpus."""
    settings = ingredients.settings
    idf = document_frequency(ingredients, settings.idf_unit, "idf")
    return partial(sample_by_idf, idf=idf, unit=settings.idf_unit, exponent=settings.idf_exponent)
