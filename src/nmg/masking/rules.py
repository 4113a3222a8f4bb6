"""Maskings that look at nothing but the blocks: none, random, whole-word, span, punctuation."""

import unicodedata
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nmg.masking.base import (
    Draw,
    Ingredients,
    Rule,
    choose,
    choose_units,
    number_units,
    pick,
    position_noise,
    unit_sizes,
)
from nmg.types import FloatArray, IntArray, MaskPlan, TokenBlocks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def draw_nothing(blocks: TokenBlocks, _rate: float, _rng: np.random.Generator) -> MaskPlan:
    """A plan without positions."""
    no_budget = torch.zeros_like(blocks.block_ids)
    return MaskPlan(no_budget[:, None][:, :0], no_budget)


def draw_random(blocks: TokenBlocks, rate: float, rng: np.random.Generator) -> MaskPlan:
    """Maskable positions, uniformly without replacement."""
    return choose(position_noise(blocks, rng), blocks, rate)


class RandomMasking(Rule):
    """`draw_random` as a masking: what every other one is measured against."""

    def __init__(self) -> None:
        super().__init__("random", draw_random)


def draw_whole_words(blocks: TokenBlocks, rate: float, rng: np.random.Generator) -> MaskPlan:
    """Words in random order; at most one word of a block is cut, where none fits the rest of the budget."""
    return choose_units(blocks.word_index, position_noise(blocks, rng), blocks, rate)


def draw_punctuation(blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, is_punctuation: Tensor) -> MaskPlan:
    """Punctuation in random order, then the other tokens in random order.

    Args:
        is_punctuation: bool [V], from `punctuation_table`.
    """
    is_first_choice = is_punctuation.to(blocks.input_ids.device)[blocks.input_ids]
    return choose(position_noise(blocks, rng) + is_first_choice, blocks, rate)


def punctuation_masking(ingredients: Ingredients) -> Draw:
    return partial(draw_punctuation, is_punctuation=punctuation_table(ingredients.tokenizer))


def punctuation_table(tokenizer: "PreTrainedTokenizerBase") -> Tensor:
    """bool [V]: True for tokens whose text is all punctuation or symbols (Unicode categories P* and S*).

    Decoding turns word boundary marks (Ġ, ▁) into spaces, which are stripped, and byte-level tokens into characters.
    BERT's continuation mark ## stays, but as # is punctuation itself it does not change what a token is.
    """
    vocabulary = tokenizer.get_vocab()
    table = torch.zeros(max(vocabulary.values()) + 1, dtype=torch.bool)
    for token, index in vocabulary.items():
        text = tokenizer.convert_tokens_to_string([token]).strip()
        table[index] = text != "" and all(map(_is_punctuation, text))
    return table


def _is_punctuation(character: str) -> bool:
    # A fragment of a character's bytes decodes to the replacement character, a symbol by its category.
    return unicodedata.category(character)[0] in "PS" and character != "\N{REPLACEMENT CHARACTER}"


def span_lengths(p: float, longest: int) -> FloatArray:
    """P(length = 1 … longest) ∝ p (1 - p)^(length - 1), renormalised (SpanBERT, Joshi et al. 2020, section 3.1)."""
    weights = p * (1.0 - p) ** np.arange(longest)
    probabilities: FloatArray = weights / weights.sum()
    return probabilities


def draw_spans(blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, p: float, longest: int) -> MaskPlan:
    """Spans of consecutive words until the budget is full; each span is a group of the plan.

    A span's length in words is drawn first, then its start, uniformly among the places where it does not run into a
    masked word or the end of the block (where there is none, among those that take the most of it). The span that would
    break the budget keeps the words that fit, and another span is drawn for what remains. A first word that does not
    fit is drawn only where no word does; then it is cut.
    """
    shape = tuple(blocks.input_ids.shape)
    cumulative = span_lengths(p, longest).cumsum()
    lengths = np.searchsorted(cumulative[:-1], rng.random(shape), side="right") + 1
    places = rng.random(shape)
    word, _ = number_units(blocks.word_index, blocks)
    budget = blocks.budgets(rate).cpu().numpy()
    span, is_whole = _place_spans(unit_sizes(word), budget, lengths, places)
    # One column in front for the positions without a word.
    span_of, whole = (np.pad(x, ((0, 0), (1, 0)), constant_values=-1) for x in (span, is_whole))
    columns = word.cpu().numpy() + 1
    priority = np.take_along_axis(whole, columns, axis=1).astype(np.float64)
    plan = choose(torch.from_numpy(priority).to(word.device), blocks, rate)
    spans = torch.from_numpy(np.take_along_axis(span_of, columns, axis=1)).to(word.device)
    group = spans.gather(1, plan.positions.clamp(min=0)).masked_fill(~plan.is_chosen, -1)
    return MaskPlan(plan.positions, plan.budget, group=group)


def span_masking(ingredients: Ingredients) -> Draw:
    return partial(draw_spans, p=ingredients.settings.span_p, longest=ingredients.settings.span_max)


def _place_spans(sizes: IntArray, budget: IntArray, lengths: IntArray, places: FloatArray) -> tuple[IntArray, IntArray]:
    """Lay spans over words, one span of every block at a time.

    Args:
        sizes: [B, W] tokens of each word, 0 behind the last word.
        budget: [B] tokens to cover.
        lengths, places: [B, at least budget.max()] length in words and place in [0, 1) of each span to come.

    Returns:
        int64 [B, W]: the span a word belongs to, -1 for none;
        int64 [B, W]: 2 where the word is covered, 1 where only its first tokens are, 0 where nothing is.
    """
    rows, word = np.arange(len(sizes)), np.arange(sizes.shape[1])
    ends = sizes.cumsum(axis=1)
    span, covered = np.full(sizes.shape, -1), np.zeros(sizes.shape, dtype=np.int64)
    remaining = budget.copy()
    for number in range(int(budget.max(initial=0))):
        if not remaining.any():
            break
        is_free = (span < 0) & (sizes > 0)
        fits = is_free & (sizes <= remaining[:, None])
        may_start = np.where(fits.any(axis=1, keepdims=True), fits, is_free)
        # Free words from each word on: up to the next word that is not free.
        barrier = np.minimum.accumulate(np.where(is_free, len(word), word)[:, ::-1], axis=1)[:, ::-1]
        reach = np.where(may_start, np.minimum(barrier - word, lengths[:, number, None]), 0)
        start = pick(may_start & (reach == reach.max(axis=1, keepdims=True)), places[:, number])
        offset = word - start[:, None]
        in_span = (offset >= 0) & (offset < reach[rows, start, None]) & (remaining[:, None] > 0)
        tokens = ends - (ends - sizes)[rows, start, None]  # from the start of the span to the end of each word
        is_whole = in_span & (tokens <= remaining[:, None])
        is_cut = in_span & (offset == 0) & ~is_whole
        span[is_whole | is_cut] = number
        covered += 2 * is_whole + is_cut
        remaining = np.where(is_cut.any(axis=1), 0, remaining - (sizes * is_whole).sum(axis=1))
    return span, covered
