"""What all rules promise, and what each of them draws."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from nmg.base.errors import UserError
from nmg.base.settings import MaskingSettings
from nmg.base.types import MaskPlan, TokenBlocks
from nmg.data.corpus import Corpus
from nmg.masking.base import Masking
from nmg.masking.registry import MASKINGS, RULES, build_masking
from nmg.masking.rules import (
    draw_punctuation,
    draw_random,
    draw_spans,
    draw_whole_words,
    punctuation_table,
    span_lengths,
)

from .helpers import (
    OTHERS,
    SENTENCE,
    FakeCorpus,
    any_masking,
    copies,
    empty_blocks,
    random_blocks,
    word_blocks,
    word_piece_tokenizer,
)

WORDS = ["the", "cat", "sat", "##s", ",", ".", "!", "mat", *[f"word{i}" for i in range(20)]]


class NothingFound:
    """Stands for a spaCy pipeline."""

    ents = ()

    def pipe(self, texts, batch_size):
        return [self for _ in texts]


@pytest.fixture(
    params=[("idf", "word"), ("tf-idf", "word"), *((name, "piece") for name in RULES if name != "none")], ids="-".join
)
def masking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Masking:
    name, unit = request.param
    monkeypatch.setattr("nmg.masking.entity.load_recogniser", lambda model: NothingFound())
    monkeypatch.setattr(FakeCorpus, "offsets", lambda self, block_id: np.zeros((0, 2), np.int64))
    tokenizer = word_piece_tokenizer(WORDS)
    corpus = FakeCorpus([" ".join(WORDS[i : i + 9]) for i in range(20)], tokenizer)
    return any_masking(name, tokenizer, corpus, tmp_path, replace(corpus), idf_unit=unit)


def check_plan(plan: MaskPlan, blocks: TokenBlocks, rate: float) -> None:
    assert plan.budget.equal(blocks.budgets(rate))
    assert plan.positions.dtype == plan.budget.dtype == torch.int64
    width = max(plan.budget.tolist(), default=0)
    assert plan.positions.shape == (len(blocks), width)
    if plan.group is not None:
        assert plan.group.shape == plan.positions.shape
        assert plan.is_chosen.equal(plan.group >= 0)
    for b, k in enumerate(plan.budget.tolist()):
        chosen = plan.positions[b, :k].tolist()
        assert chosen == sorted(set(chosen))
        assert blocks.is_maskable[b, chosen].all()
        assert (plan.positions[b, k:] == -1).all()


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.15, 0.5, 0.99])
def test_every_masking_fills_the_budget_exactly(masking: Masking, rate: float) -> None:
    blocks = random_blocks(12, seed=3)
    check_plan(masking.plan(blocks, rate, np.random.default_rng(0)), blocks, rate)


@pytest.mark.parametrize(
    "blocks",
    [
        word_blocks([[1]]),
        word_blocks([[1], [], [3, 1]]),
        empty_blocks(2, 5),
        empty_blocks(0, 0),
        empty_blocks(0, 7),
        empty_blocks(3, 0),
    ],
    ids=["one token", "with an empty block", "all special", "no blocks", "no blocks but width", "no width"],
)
def test_every_masking_takes_degenerate_blocks(masking: Masking, blocks: TokenBlocks) -> None:
    check_plan(masking.plan(blocks, 0.05, np.random.default_rng(0)), blocks, 0.05)


def test_the_same_stream_gives_the_same_plan_and_another_stream_another(masking: Masking) -> None:
    blocks = random_blocks(12)
    plans = [masking.plan(blocks, 0.15, np.random.default_rng(seed)) for seed in (5, 5, 6)]
    assert plans[0].positions.equal(plans[1].positions)
    assert not plans[0].positions.equal(plans[2].positions)


def test_every_masking_leaves_the_blocks_alone(masking: Masking) -> None:
    blocks, same = random_blocks(6), random_blocks(6)
    masking.plan(blocks, 0.15, np.random.default_rng(0))
    for name in ("input_ids", "is_maskable", "word_index", "is_token"):
        assert getattr(blocks, name).equal(getattr(same, name))


@pytest.mark.parametrize("name", [name for name in RULES if name != "none"])
def test_maskings_of_a_real_corpus(name: str, tmp_path: Path) -> None:
    """`data.corpus.Corpus` is what the maskings read in earnest; here a context has several blocks."""
    if name == "entity":
        model = MaskingSettings().spacy_model
        pytest.importorskip(model, reason=f"the spaCy model {model} is not installed")
    tokenizer = word_piece_tokenizer(sorted(set(f"{SENTENCE} {OTHERS}".split())))
    corpus = Corpus.build([SENTENCE, OTHERS, SENTENCE], tokenizer, 6, tmp_path)
    blocks = corpus.blocks(np.arange(len(corpus)))
    assert len(corpus) > 6
    plan = any_masking(name, tokenizer, corpus, tmp_path).plan(blocks, 0.4, np.random.default_rng(0))
    assert plan.budget.equal(blocks.budgets(0.4))
    assert plan.is_masked(blocks.input_ids.shape[1]).sum() == plan.budget.sum()
    berlin = (blocks.input_ids == tokenizer.convert_tokens_to_ids("Berlin")).nonzero()
    assert len(berlin) == 2
    if name == "entity":
        assert plan.is_masked(blocks.input_ids.shape[1])[tuple(berlin.T)].all()


def test_none_chooses_nothing() -> None:
    plan = build_masking(
        "none", word_piece_tokenizer(WORDS), FakeCorpus([], word_piece_tokenizer(WORDS)), MaskingSettings()
    ).plan(random_blocks(3), 0.5, np.random.default_rng(0))
    assert plan.positions.shape == (3, 0)
    assert plan.budget.tolist() == [0, 0, 0]


def test_names() -> None:
    first = ["none", "random", "whole-word", "span", "entity", "punctuation", "idf", "tf-idf", "frequency", "pmi"]
    others = ["keyword", "weights", "difference", "selective", "loss", "entropy", "learned"]
    assert list(MASKINGS) == [*first, *others]
    tokenizer = word_piece_tokenizer(WORDS)
    for name, message in [
        ("whole_words", "did you mean 'whole-word'"),
        ("xyzzy", "known: none"),
        ("learned", "folder"),
    ]:
        with pytest.raises(UserError, match=message):
            build_masking(name, tokenizer, FakeCorpus([], tokenizer), MaskingSettings())


def test_random_is_uniform() -> None:
    blocks = copies(4000, [1, 3, 1, 2, 1, 4, 1, 3, 1, 3])
    masked = draw_random(blocks, 0.15, np.random.default_rng(1)).is_masked(22)
    counts = masked.sum(0)[1:-1].numpy()
    assert counts.sum() == 4000 * 3
    assert stats.chisquare(counts).pvalue > 0.01


def test_random_draws_for_every_position_of_the_batch() -> None:
    """What other positions are maskable does not change what a position draws."""
    blocks, fewer = random_blocks(8), random_blocks(8)
    plan = draw_random(blocks, 0.3, np.random.default_rng(2))
    fewer.is_maskable[:] &= plan.is_masked(blocks.input_ids.shape[1]) | (fewer.word_index % 2 == 0)
    rng = np.random.default_rng(2)
    best_of_fewer = draw_random(fewer, 0.1, rng).is_masked(blocks.input_ids.shape[1])
    assert (best_of_fewer & ~plan.is_masked(blocks.input_ids.shape[1])).sum() == 0
    assert rng.random() == _after(blocks.input_ids.numel(), 2)


def _after(n: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    rng.random(n)
    return rng.random()


def words_cut(plan: MaskPlan, blocks: TokenBlocks, b: int) -> list[int]:
    masked = plan.is_masked(blocks.input_ids.shape[1])[b]
    words = blocks.word_index[b]
    return [w for w in range(int(words.max()) + 1) if 0 < masked[words == w].sum() < (words == w).sum()]


@pytest.mark.parametrize("draw", ["whole-word", "span"])
def test_words_are_cut_only_where_no_word_fits(draw: str) -> None:
    blocks = random_blocks(300, seed=4)
    rng = np.random.default_rng(0)
    plan = (
        draw_whole_words(blocks, 0.15, rng)
        if draw == "whole-word"
        else draw_spans(blocks, 0.15, rng, p=0.2, longest=10)
    )
    masked = plan.is_masked(blocks.input_ids.shape[1])
    n_cut = 0
    for b in range(len(blocks)):
        words, cut = blocks.word_index[b], words_cut(plan, blocks, b)
        assert len(cut) <= 1
        for w in cut:
            of_word = (words == w).nonzero().flatten().tolist()
            taken = int(masked[b, of_word].sum())
            assert masked[b, of_word[:taken]].all()  # the first tokens
            free = [u for u in range(int(words.max()) + 1) if not masked[b, words == u].any()]
            assert all((words == u).sum() > taken for u in free)
            n_cut += 1
    assert 0 < n_cut < 150


def test_whole_words_start_equally_often_at_every_word() -> None:
    blocks = copies(3000, [2] * 20)
    masked = draw_whole_words(blocks, 0.05, np.random.default_rng(3)).is_masked(42)
    counts = masked[:, 1:-1:2].sum(0).numpy()
    assert counts.sum() == 3000
    assert stats.chisquare(counts).pvalue > 0.01


def spans_of(plan: MaskPlan, blocks: TokenBlocks, b: int) -> list[list[int]]:
    """The words of each span of a block, spans in the order of their numbers."""
    k = int(plan.budget[b])
    groups, positions = plan.group[b, :k], plan.positions[b, :k]
    return [sorted(set(blocks.word_index[b, positions[groups == g]].tolist())) for g in groups.unique().tolist()]


def test_span_lengths_follow_the_truncated_geometric_distribution() -> None:
    p, longest, n = 0.2, 10, 4000
    blocks = copies(n, [1] * 600)
    plan = draw_spans(blocks, 0.05, np.random.default_rng(8), p=p, longest=longest)
    # The first span of 30 tokens is never cut.
    lengths = [len(spans_of(plan, blocks, b)[0]) for b in range(n)]
    normaliser = 1 - 0.8**10
    expected = [n * 0.2 * 0.8 ** (length - 1) / normaliser for length in range(1, 11)]
    observed = np.bincount(lengths, minlength=11)[1:]
    assert stats.chisquare(observed, expected).pvalue > 0.01
    assert np.allclose(span_lengths(p, longest), np.array(expected) / n)


def test_spans_are_consecutive_words_and_do_not_overlap() -> None:
    blocks = random_blocks(200, seed=9)
    plan = draw_spans(blocks, 0.4, np.random.default_rng(0), p=0.2, longest=4)
    for b in range(len(blocks)):
        spans = spans_of(plan, blocks, b)
        words = [w for span in spans for w in span]
        assert len(words) == len(set(words))
        for span in spans:
            assert span == list(range(span[0], span[0] + len(span)))
            assert len(span) <= 4
    assert max(len(spans_of(plan, blocks, b)) for b in range(200)) > 5


def test_span_starts_cover_every_place_where_the_span_fits() -> None:
    blocks = copies(4000, [1] * 12)
    # Lengths 1, 2, 3 alike, budget 3: only a length of 3 fills it at once, from any of the starts 0 … 9.
    plan = draw_spans(blocks, 0.25, np.random.default_rng(5), p=1e-9, longest=3)
    starts = [spans_of(plan, blocks, b)[0][0] for b in range(4000) if len(spans_of(plan, blocks, b)) == 1]
    assert stats.chisquare(np.bincount(starts, minlength=10)).pvalue > 0.01
    assert abs(len(starts) - 4000 / 3) < 100  # one in three lengths is 3, and no such span is cut short


def test_punctuation_comes_first() -> None:
    tokenizer = word_piece_tokenizer(WORDS)
    table = punctuation_table(tokenizer)
    comma, word = tokenizer.convert_tokens_to_ids([",", "cat"])
    blocks = copies(500, [1] * 20, [word, comma, word, word, comma] + [word] * 15)
    one = draw_punctuation(blocks, 0.05, np.random.default_rng(0), is_punctuation=table)
    assert set(one.positions.flatten().tolist()) == {2, 5}
    assert abs((one.positions == 2).sum().item() - 250) < 60
    four = draw_punctuation(blocks, 0.2, np.random.default_rng(0), is_punctuation=table).is_masked(22)
    assert four[:, [2, 5]].all()
    assert four[:, 1:21].any(0).all()


def test_punctuation_of_a_word_piece_vocabulary() -> None:
    tokens = {
        ",": True,
        "##,": True,
        "...": True,
        "$": True,
        "’": True,
        "»": True,
        "…": True,
        "。": True,
        "+": True,
        "a": False,
        "##s": False,
        "don't": False,
        "3": False,
        "##3": False,
        "U.S": False,
    }
    tokenizer = word_piece_tokenizer(list(tokens))
    table = punctuation_table(tokenizer)
    assert {token: bool(table[tokenizer.convert_tokens_to_ids(token)]) for token in tokens} == tokens
    assert not table[tokenizer.all_special_ids].any()


def test_punctuation_of_a_byte_level_vocabulary() -> None:
    tokens = {"Ġ,": True, ",": True, "âĢĻ": True, "Ġ##": True, "Ġ": False, "âĢ": False, "Ġthe": False, "Ċ": False}
    model = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    model.pre_tokenizer, model.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    table = punctuation_table(PreTrainedTokenizerFast(tokenizer_object=model))
    assert dict(zip(tokens, table.tolist(), strict=True)) == tokens


def test_punctuation_of_a_sentence_piece_vocabulary() -> None:
    tokens = {"▁,": True, ",": True, "▁": False, "▁the": False, "▁(": True}
    model = Tokenizer(models.Unigram([(token, -1.0) for token in tokens]))
    model.pre_tokenizer, model.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    table = punctuation_table(PreTrainedTokenizerFast(tokenizer_object=model))
    assert dict(zip(tokens, table.tolist(), strict=True)) == tokens


def test_rules_that_say_they_need_no_words_do_not(masking: Masking) -> None:
    """With every token a word for itself they draw the same."""
    blocks = random_blocks(12)
    if masking.masking.reads_words:
        return
    apart = replace(blocks, word_index=torch.where(blocks.is_maskable, torch.arange(blocks.input_ids.shape[1]), -1))
    plans = [masking.plan(one, 0.3, np.random.default_rng(0)) for one in (blocks, apart)]
    assert plans[0].positions.equal(plans[1].positions)
