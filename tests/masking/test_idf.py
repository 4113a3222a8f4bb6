"""Rare tokens and words."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch

from nmg.base.settings import MaskingSettings
from nmg.base.types import IntArray, TokenBlocks
from nmg.masking import idf as idf_module
from nmg.masking.idf import InverseDocumentFrequency, idf_rule, piece_keys, sample_by_idf, word_keys
from nmg.masking.registry import build_masking

from .helpers import FakeCorpus, copies, random_blocks, word_blocks, word_piece_tokenizer

TEXTS = ["the cat sat", "the the the mats", "the cat", "a mats", "zebra"]
VOCABULARY = ["the", "cat", "sat", "mat", "##s", "a", "zebra", "unseen"]


@pytest.fixture
def corpus() -> FakeCorpus:
    return FakeCorpus(TEXTS, word_piece_tokenizer(VOCABULARY))


def smooth_idf(n_documents: int, document_count: int) -> float:
    return math.log((1 + n_documents) / (1 + document_count)) + 1


@pytest.mark.parametrize("at_a_time", [1, 2, 1024])
def test_idf_counts_documents_not_occurrences(
    corpus: FakeCorpus, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idf_module, "CONTEXTS_AT_A_TIME", at_a_time)
    idf = InverseDocumentFrequency.count(corpus, piece_keys)
    ids = np.array(corpus.tokenizer.convert_tokens_to_ids(VOCABULARY), dtype=np.uint64)
    assert idf(ids).tolist() == pytest.approx([smooth_idf(5, df) for df in (3, 2, 1, 2, 2, 1, 1, 0)])
    assert idf(ids).argmax() == 7
    assert idf(np.array([corpus.tokenizer.cls_token_id], np.uint64)) == pytest.approx(smooth_idf(5, 0))


class TwoBlocksADocument(FakeCorpus):
    @property
    def context_ids(self) -> IntArray:
        return np.arange(len(self.texts)) // 2

    def blocks_of(self, context_ids: IntArray) -> IntArray:
        return np.flatnonzero(np.isin(self.context_ids, context_ids))

    def blocks(self, block_ids: IntArray) -> TokenBlocks:
        blocks = super().blocks(block_ids)
        blocks.context_ids.copy_(torch.from_numpy(self.context_ids[block_ids]))
        return blocks


def test_the_blocks_of_a_context_are_one_document() -> None:
    tokenizer = word_piece_tokenizer(VOCABULARY)
    idf = InverseDocumentFrequency.count(TwoBlocksADocument(["the cat", "the", "the", "a"], tokenizer), piece_keys)
    ids = np.array(tokenizer.convert_tokens_to_ids(["the", "cat"]), dtype=np.uint64)
    assert idf(ids).tolist() == pytest.approx([smooth_idf(2, 2), smooth_idf(2, 1)])


def test_idf_of_an_empty_corpus_is_the_same_for_all() -> None:
    idf = InverseDocumentFrequency.count(FakeCorpus([], word_piece_tokenizer(VOCABULARY)), piece_keys)
    assert idf(np.array([6, 7], np.uint64)).tolist() == [1.0, 1.0]


def test_words_have_the_same_key_exactly_when_they_have_the_same_pieces() -> None:
    rng = np.random.default_rng(0)
    sizes = [rng.integers(1, 5, 80).tolist() for _ in range(40)]
    blocks = word_blocks(sizes, [rng.integers(6, 12, sum(row)).tolist() for row in sizes])
    keys, rows, columns = word_keys(blocks)
    key_of = {}
    for key, row, column in zip(keys.tolist(), rows.tolist(), columns.tolist(), strict=True):
        in_word = blocks.word_index[row] == blocks.word_index[row, column]
        pieces = tuple(blocks.input_ids[row, in_word].tolist())
        assert key_of.setdefault(pieces, key) == key
    assert len(keys) == 40 * 80
    assert len(set(key_of.values())) == len(key_of) > 500
    assert len(word_keys(word_blocks([[], []]))[0]) == 0


def test_idf_of_words_counts_whole_words(corpus: FakeCorpus) -> None:
    idf = InverseDocumentFrequency.count(corpus, word_keys)
    blocks = FakeCorpus(["mats mat the cat"], corpus.tokenizer).blocks(np.array([0]))
    keys, _, columns = word_keys(blocks)
    assert columns.tolist() == [1, 3, 4, 5]
    assert idf(keys).tolist() == pytest.approx([smooth_idf(5, df) for df in (2, 0, 3, 2)])


def exact_inclusion(weights: list[float], k: int) -> list[float]:
    """P(item among k successive draws without replacement), summed over all orders of draws."""
    inclusion = [0.0] * len(weights)
    for order in itertools.permutations(range(len(weights)), k):
        probability, left = 1.0, sum(weights)
        for item in order:
            probability *= weights[item] / left
            left -= weights[item]
        for item in order:
            inclusion[item] += probability
    return inclusion


@pytest.mark.parametrize("unit", ["piece", "word"])
@pytest.mark.parametrize("exponent", [0.0, 2.0, 5.0])
def test_idf_inclusion_probabilities(corpus: FakeCorpus, unit: str, exponent: float) -> None:
    n, ids = 20_000, corpus.tokenizer.convert_tokens_to_ids(["the", "cat", "a", "unseen", "the"])
    blocks = copies(n, [1] * 5, ids)
    idf = InverseDocumentFrequency.count(corpus, idf_module.UNIT_KEYS[unit])
    draw = partial(sample_by_idf, idf=idf, unit=unit, exponent=exponent)
    included = draw(blocks, 0.6, np.random.default_rng(0)).is_masked(7)[:, 1:-1].double().mean(0).numpy()
    weights = [smooth_idf(5, df) ** exponent for df in (3, 2, 1, 0, 3)]
    expected = np.array(exact_inclusion(weights, 3))
    standard_error = np.sqrt(expected * (1 - expected) / n)
    assert (np.abs(included - expected) < 4 * standard_error).all()


def test_idf_takes_whole_words(corpus: FakeCorpus) -> None:
    idf = InverseDocumentFrequency.count(corpus, word_keys)
    blocks = copies(50, [2] * 10)
    masked = sample_by_idf(blocks, 0.3, np.random.default_rng(0), idf=idf, unit="word", exponent=2.0).is_masked(22)
    assert masked[:, 1:-1:2].equal(masked[:, 2:-1:2])


@pytest.mark.parametrize("exponent", [0.0, 4.0])
def test_the_rule_of_a_sharpness_is_that_of_the_registry_by_pieces(corpus: FakeCorpus, exponent: float) -> None:
    settings, blocks = MaskingSettings(idf_exponent=exponent), corpus.blocks(corpus.context_ids)
    named = build_masking("idf", corpus.tokenizer, corpus, settings)
    rule = idf_rule(corpus, exponent)
    plans = [one.plan(blocks, 0.4, np.random.default_rng(1)) for one in (named, rule)]
    assert rule.name == "idf"
    assert torch.equal(plans[0].positions, plans[1].positions)


def test_idf_changes_with_the_corpus_only(corpus: FakeCorpus) -> None:
    """Blocks that are not of the corpus are weighted by it all the same."""
    masking = build_masking("idf", corpus.tokenizer, corpus, MaskingSettings())
    blocks = random_blocks(4)
    assert masking.plan(blocks, 0.2, np.random.default_rng(0)).budget.equal(blocks.budgets(0.2))
