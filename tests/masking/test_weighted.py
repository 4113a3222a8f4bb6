"""Rules that draw by weights: the weights by hand, and draws in proportion to them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nmg.base.errors import UserError
from nmg.base.settings import MaskingSettings
from nmg.base.types import TokenBlocks
from nmg.masking.base import MaskingContext, choose, unit_means, weighted_scores
from nmg.masking.counts import guessed_counts
from nmg.masking.idf import InverseDocumentFrequency
from nmg.masking.mixture import Mixture
from nmg.masking.registry import RULES, build_masking, build_rule
from nmg.masking.rules import draw_nothing
from nmg.masking.selective import draw_important, important_tokens
from nmg.masking.surprise import ENTROPY, LOSS
from support.tiny import SPECIAL, word_tokenizer

from .helpers import FakeCorpus, copies, random_blocks, word_piece_tokenizer

N = 20_000
VOCABULARY = ["the", "cat", "sat", "mat", "##s", "a", "zebra", "unseen"]
TEXTS = ["the cat sat", "the the the mats", "the cat", "a mats", "zebra"]
TOKENIZER = word_piece_tokenizer(VOCABULARY)
ID = {word: TOKENIZER.convert_tokens_to_ids(word) for word in VOCABULARY}


def first_draws(draw: Callable[[TokenBlocks], Any], words: list[str]) -> list[float]:
    """How often each word of a block is the one token that is masked, over N blocks."""
    blocks = copies(N, [1] * len(words), [ID[word] for word in words])
    return draw(blocks).is_masked(len(words) + 2)[:, 1:-1].double().mean(dim=0).tolist()


def is_in_proportion(found: list[float], weights: list[float]) -> bool:
    expected = np.array(weights) / sum(weights)
    error = 4 * np.sqrt(expected * (1 - expected) / N) + 1e-12
    return bool((np.abs(np.array(found) - expected) <= error).all())


def plan(name: str, **settings: Any) -> Callable[[TokenBlocks], Any]:
    masking = build_masking(name, TOKENIZER, FakeCorpus(TEXTS, TOKENIZER), MaskingSettings(**settings))
    return lambda blocks: masking.plan(blocks, 0.01, np.random.default_rng(0))


def test_draws_are_in_proportion_to_weights_and_zero_comes_last() -> None:
    blocks = copies(N, [1, 1, 1], [ID["the"]] * 3)
    weights = torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0]).expand(N, 5)
    masked = choose(weighted_scores(weights, blocks, np.random.default_rng(0)), blocks, 0.01).is_masked(5)
    assert is_in_proportion(masked[:, 1:-1].double().mean(dim=0).tolist(), [1.0, 0.0, 3.0])
    two = choose(weighted_scores(weights, blocks, np.random.default_rng(0)), blocks, 0.7).is_masked(5)
    assert not two[:, 2].any()
    none = choose(weighted_scores(torch.zeros(N, 5), blocks, np.random.default_rng(0)), blocks, 0.01).is_masked(5)
    assert is_in_proportion(none[:, 1:-1].double().mean(dim=0).tolist(), [1.0, 1.0, 1.0]), "zeros by chance"


def test_frequency() -> None:
    """the 5 ×, cat 2, sat 1; what does not occur counts as once."""
    counts = {"the": 5, "cat": 2, "sat": 1, "unseen": 1}
    for alpha in (0.5, 2.0, 0.0):
        found = first_draws(plan("frequency", frequency_alpha=alpha), list(counts))
        assert is_in_proportion(found, [count**-alpha for count in counts.values()])


@pytest.mark.parametrize("unit", ["piece", "word"])
def test_tf_idf(unit: str) -> None:
    """tf in the block × idf = ln(6 / (1 + df)) + 1 over five texts."""
    idf = {word: math.log(6 / (1 + df)) + 1 for word, df in (("the", 3), ("cat", 2), ("zebra", 1))}
    found = first_draws(plan("tf-idf", idf_unit=unit, idf_exponent=2.0), ["the", "the", "the", "cat", "zebra"])
    weights = [(3 * idf["the"]) ** 2] * 3 + [idf["cat"] ** 2, idf["zebra"] ** 2]
    assert is_in_proportion(found, weights)


def test_weights_and_keywords_of_settings(tmp_path: Path) -> None:
    (tmp_path / "weights.tsv").write_text("cat\t3\nthe\t0.5\n")
    found = first_draws(plan("weights", weights=str(tmp_path / "weights.tsv")), ["the", "cat", "sat"])
    assert is_in_proportion(found, [0.5, 3.0, 1.0])
    (tmp_path / "words.txt").write_text("cat\nzebra\n")
    for keywords in (("cat", "zebra"), str(tmp_path / "words.txt")):
        found = first_draws(plan("keyword", keywords=keywords), ["the", "cat", "sat", "zebra"])
        assert is_in_proportion(found, [0.0, 1.0, 0.0, 1.0])
    for name, message in (("weights", "masking.weights"), ("keyword", "masking.keywords"), ("selective", "classifier")):
        with pytest.raises(UserError, match=message):
            plan(name)


def test_without_a_corpus_the_order_of_the_vocabulary_stands_for_counts(caplog: pytest.LogCaptureFixture) -> None:
    counts = guessed_counts(TOKENIZER)
    n = len(VOCABULARY)
    assert counts[[ID[word] for word in VOCABULARY]].tolist() == pytest.approx([n / rank for rank in range(1, n + 1)])
    assert counts.sum() == pytest.approx(sum(n / rank for rank in range(1, n + 1))), "special tokens have none"
    idf = InverseDocumentFrequency.guess(TOKENIZER)
    values = idf(np.array([ID[word] for word in VOCABULARY], np.uint64))
    assert (np.diff(values) >= 0).all()
    assert values[0] == pytest.approx(1.0)
    corpus = FakeCorpus(TEXTS, TOKENIZER)
    ingredients = MaskingContext(TOKENIZER, None, MaskingSettings(), corpus)
    blocks = corpus.blocks(corpus.context_ids)
    for name in ("idf", "tf-idf", "frequency"):
        assert (
            build_rule(name, ingredients).plan(blocks, 0.4, np.random.default_rng(0)).budget.equal(blocks.budgets(0.4))
        )
    assert caplog.text.count("order of the vocabulary") == 3
    for name in ("pmi", "difference"):
        with pytest.raises(UserError, match="counts words in text"):
            build_rule(name, ingredients)


def test_words_like_the_anchors_are_masked_more_often(tmp_path: Path) -> None:
    """Embeddings of two directions: those of drugs and those of others."""
    words = ["the", "a", "of", "aspirin", "ibuprofen", "chair"]
    tokenizer = word_tokenizer(words)
    texts = ["aspirin aspirin aspirin the", "aspirin of a chair"]
    (tmp_path / "general.txt").write_text("the a of chair the a of chair the a\n")
    embeddings = torch.zeros(len(SPECIAL) + len(words), 2)
    embeddings[:, 0] = 1.0
    for drug in ("aspirin", "ibuprofen"):
        embeddings[tokenizer.convert_tokens_to_ids(drug)] = torch.tensor([0.0, 2.0])
    settings = MaskingSettings(difference_anchors=1, difference_scale=3.0, general_corpus=str(tmp_path / "general.txt"))
    masking = build_masking("difference", tokenizer, FakeCorpus(texts, tokenizer), settings, embeddings)
    blocks = copies(N, [1, 1, 1], tokenizer.convert_tokens_to_ids(["the", "ibuprofen", "chair"]))
    masked = masking.plan(blocks, 0.01, np.random.default_rng(0)).is_masked(5)[:, 1:-1]
    assert is_in_proportion(masked.double().mean(dim=0).tolist(), [1.0, math.exp(3.0), 1.0])
    with pytest.raises(UserError, match="model="):
        build_masking("difference", tokenizer, FakeCorpus(texts, tokenizer), settings)


def test_a_word_has_the_mean_of_its_pieces() -> None:
    unit = torch.tensor([[-1, 0, 0, 1, -1]])
    assert unit_means(unit, torch.tensor([[9.0, 1.0, 3.0, 5.0, 7.0]])).tolist() == [[9.0, 2.0, 2.0, 5.0, 7.0]]


class Surprised:
    """An LM that finds the tokens 1, 2, 3 of every block hard to this degree."""

    def __call__(self, blocks: TokenBlocks) -> torch.Tensor:
        raise AssertionError("states are not asked for")

    def surprise(self, blocks: TokenBlocks) -> torch.Tensor:
        found = torch.zeros(*blocks.input_ids.shape, 2)
        found[:, 1:4, LOSS], found[:, 1:4, ENTROPY] = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([3.0, 1.0, 0.0])
        return found


@pytest.mark.parametrize(("name", "weights"), [("loss", [1.0, 2.0, 5.0]), ("entropy", [3.0, 1.0, 0.0])])
def test_what_the_lm_finds_hard(name: str, weights: list[float]) -> None:
    masking = build_masking(name, TOKENIZER, FakeCorpus(TEXTS, TOKENIZER), MaskingSettings())
    assert masking.reads_states
    draw = lambda blocks: masking.plan(blocks, 0.01, np.random.default_rng(0), Surprised())  # noqa: E731
    assert is_in_proportion(first_draws(draw, ["the", "cat", "sat"]), weights)
    with pytest.raises(ValueError, match="pass `encode`"):
        masking.plan(random_blocks(1), 0.1, np.random.default_rng(0))


def test_tokens_that_matter_come_first() -> None:
    draw = lambda blocks: draw_important(  # noqa: E731
        blocks, 0.01, np.random.default_rng(0), importance=lambda b: (b.input_ids == ID["cat"]) * 0.6
    )
    assert first_draws(draw, ["the", "cat", "sat"]) == [0.0, 1.0, 0.0]


def test_marks_of_a_text_whose_label_one_word_gives_away() -> None:
    """A classifier that is sure where it sees "bad": that word alone matters."""
    confidence = lambda texts: [0.99 if "bad" in text else 0.5 for text in texts]  # noqa: E731
    assert important_tokens(["a", "bad", "film", "bad"], confidence) == [False, True, False, True]


def test_a_mixture_keeps_budgets_groups_and_what_members_say() -> None:
    corpus = FakeCorpus(TEXTS, TOKENIZER)
    mixed = build_masking("0.5*span+0.5*random", TOKENIZER, corpus, MaskingSettings())
    blocks = random_blocks(40, seed=1)
    plan = mixed.plan(blocks, 0.3, np.random.default_rng(0))
    assert plan.budget.equal(blocks.budgets(0.3))
    assert plan.group is not None
    assert plan.is_chosen.equal(plan.group >= 0)
    assert plan.is_masked(blocks.input_ids.shape[1]).sum(dim=1).equal(plan.budget)
    again = mixed.plan(blocks, 0.3, np.random.default_rng(0))
    assert again.positions.equal(plan.positions)
    alone = build_masking("random+random", TOKENIZER, corpus, MaskingSettings()).plan(
        blocks, 0.3, np.random.default_rng(0)
    )
    assert alone.group is None
    assert build_masking("random+loss", TOKENIZER, corpus, MaskingSettings()).reads_states
    assert not mixed.reads_states
    assert isinstance(mixed, Mixture)


def test_a_mixture_with_nothing_masks_some_blocks_alone() -> None:
    mixed = build_masking("none+random", TOKENIZER, FakeCorpus(TEXTS, TOKENIZER), MaskingSettings())
    blocks = random_blocks(200)
    budget = mixed.plan(blocks, 0.3, np.random.default_rng(0)).budget
    assert 60 < int((budget == 0).sum()) < 140
    assert draw_nothing(blocks, 0.1, np.random.default_rng(0)).budget.sum() == 0


def test_every_rule_names_its_source() -> None:
    assert all(rule.source and rule.about for rule in RULES.values())
