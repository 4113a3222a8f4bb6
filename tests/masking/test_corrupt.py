"""The corruption step."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import AddedToken

from nmg.base.errors import UserError
from nmg.base.settings import MaskingSettings
from nmg.base.types import IGNORED_LABEL, MaskPlan
from nmg.masking.corrupt import Vocabulary, corrupt
from nmg.masking.rules import draw_random, draw_spans, draw_whole_words

from .helpers import copies, empty_blocks, random_blocks, word_blocks, word_piece_tokenizer

MASK = 4
VOCABULARY = Vocabulary(MASK, torch.arange(1000, 1100))
SETTINGS = MaskingSettings()


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_only_chosen_positions_change_and_have_labels() -> None:
    blocks, same = random_blocks(20), random_blocks(20)
    plan = draw_random(blocks, 0.3, stream())
    corrupted = corrupt(blocks, plan, VOCABULARY, SETTINGS, stream())
    chosen = plan.is_masked(blocks.input_ids.shape[1])
    assert corrupted.labels[chosen].equal(blocks.input_ids[chosen])
    assert (corrupted.labels[~chosen] == IGNORED_LABEL).all()
    assert corrupted.input_ids[~chosen].equal(blocks.input_ids[~chosen])
    assert corrupted.is_token.equal(blocks.is_token)
    assert blocks.input_ids.equal(same.input_ids)
    assert corrupted.input_ids.data_ptr() != blocks.input_ids.data_ptr()


@pytest.mark.parametrize("shares", [(0.8, 0.1), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.5, 0.5)])
def test_realised_shares(shares: tuple[float, float]) -> None:
    settings = MaskingSettings(mask_replace_prob=shares[0], random_replace_prob=shares[1])
    blocks = copies(500, [1] * 100)
    rng = stream()
    plan = draw_random(blocks, 0.2, rng)
    chosen = plan.is_masked(102)
    result = corrupt(blocks, plan, VOCABULARY, settings, rng).input_ids[chosen]
    became_mask, became_random = result == MASK, result >= 1000
    counts = torch.stack([became_mask, became_random, result == blocks.input_ids[chosen]]).sum(1).numpy()
    expected = np.array([*shares, 1 - sum(shares)]) * 10_000
    assert counts.sum() == 10_000
    certain = expected < 1e-6
    assert (counts[certain] == 0).all()
    if (~certain).sum() > 1:
        assert stats.chisquare(counts[~certain], expected[~certain]).pvalue > 0.01
    if shares[1] == 1.0:
        assert stats.chisquare(np.bincount(result - 1000, minlength=100)).pvalue > 0.01


def test_two_plans_under_one_stream_corrupt_shared_positions_alike() -> None:
    blocks = random_blocks(50)
    settings = MaskingSettings(mask_replace_prob=0.4, random_replace_prob=0.3)
    one, other = draw_random(blocks, 0.5, stream(1)), draw_whole_words(blocks, 0.4, stream(2))
    shared = one.is_masked(blocks.input_ids.shape[1]) & other.is_masked(blocks.input_ids.shape[1])
    first, second = (corrupt(blocks, plan, VOCABULARY, settings, stream(7)).input_ids for plan in (one, other))
    assert shared.sum() > 100
    assert first[shared].equal(second[shared])


def test_a_span_shares_the_coin_of_its_first_position() -> None:
    settings = MaskingSettings(mask_replace_prob=0.4, random_replace_prob=0.3)
    blocks = copies(100, [1] * 60)
    plan = draw_spans(blocks, 0.3, stream(3), p=0.2, longest=10)
    result = corrupt(blocks, plan, VOCABULARY, settings, stream(4)).input_ids
    alone = corrupt(blocks, dataclasses.replace(plan, group=None), VOCABULARY, settings, stream(4)).input_ids

    def kind(ids: torch.Tensor) -> torch.Tensor:
        return torch.where(ids == MASK, 0, torch.where(ids >= 1000, 1, 2))

    seen, distinct_random, differs = set(), 0, 0
    for b in range(100):
        for group in plan.group[b].unique():
            positions = plan.positions[b, plan.group[b] == group]
            kinds = kind(result[b, positions])
            assert (kinds == kind(alone[b, positions[:1]])).all()
            differs += int((kinds != kind(alone[b, positions])).any())
            seen.add(int(kinds[0]))
            if kinds[0] == 1 and len(positions) > 1:
                distinct_random += int(len(result[b, positions].unique()) > 1)
    assert seen == {0, 1, 2}
    assert differs > 50
    assert distinct_random > 10  # each token of a span its own random token


def test_plans_of_different_widths_leave_the_padding_alone() -> None:
    blocks = word_blocks([[1] * 40, [1]])
    plan = draw_spans(blocks, 0.5, stream(), p=0.2, longest=10)
    corrupted = corrupt(
        blocks, plan, VOCABULARY, MaskingSettings(mask_replace_prob=1.0, random_replace_prob=0.0), stream()
    )
    assert (corrupted.input_ids == MASK).sum(1).tolist() == [20, 1]


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (2, 4), (2, 0)])
@pytest.mark.parametrize("grouped", [False, True])
def test_nothing_to_corrupt(shape: tuple[int, int], grouped: bool) -> None:
    blocks = empty_blocks(*shape)
    nothing = torch.zeros(shape[0], 0, dtype=torch.int64)
    plan = MaskPlan(nothing, torch.zeros(shape[0], dtype=torch.int64), group=nothing if grouped else None)
    corrupted = corrupt(blocks, plan, VOCABULARY, SETTINGS, stream())
    assert corrupted.input_ids.equal(blocks.input_ids)
    assert (corrupted.labels == IGNORED_LABEL).all()


def test_replacements_are_ordinary_tokens() -> None:
    tokenizer = word_piece_tokenizer(["the", "cat", "##s", "unused", "madeupword0001"])
    tokenizer.add_tokens([AddedToken("<e>", special=True), AddedToken("newword", special=False)])
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(vocabulary.replacement_ids.tolist())
    assert tokens == ["the", "cat", "##s", "unused", "newword"]
    assert vocabulary.mask_id == tokenizer.mask_token_id


def test_a_tokenizer_without_a_mask_token_is_a_user_error() -> None:
    tokenizer = word_piece_tokenizer(["the"])
    tokenizer.mask_token = None
    with pytest.raises(UserError, match="no mask token"):
        Vocabulary.from_tokenizer(tokenizer)


def test_replacements_within_a_text():
    assert VOCABULARY.within(torch.tensor([[5, 1003], [1001, 1003]])).replacement_ids.tolist() == [1001, 1003]
    with pytest.raises(UserError, match="only special tokens"):
        VOCABULARY.within(torch.tensor([5, MASK]))
