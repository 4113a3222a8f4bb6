"""The rules `none`, `random`, `whole-word`, `span` and `punctuation`, which need only the blocks."""

import unicodedata
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nmg.base.types import FloatArray, IntArray, MaskPlan, TokenBlocks
from nmg.masking.base import (
    Draw,
    MaskingContext,
    Rule,
    choose,
    choose_units,
    number_units,
    pick,
    position_noise,
    unit_sizes,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def draw_nothing(blocks: TokenBlocks, _rate: float, _rng: np.random.Generator) -> MaskPlan:
    """Return a plan without masked positions.

    Args:
        blocks: B blocks of T tokens.
        _rate: ignored.
        _rng: ignored.

    Returns:
        A plan with no positions and a budget of 0 for each block.
    """
    no_budget = torch.zeros_like(blocks.block_ids)
    return MaskPlan(no_budget[:, None][:, :0], no_budget)


def draw_random(blocks: TokenBlocks, rate: float, rng: np.random.Generator) -> MaskPlan:
    """Select maskable positions uniformly, without replacement.

    Args:
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.
        rng: source of all randomness.

    Returns:
        A plan with `blocks.budgets(rate)` positions per block.
    """
    return choose(position_noise(blocks, rng), blocks, rate)


class RandomMasking(Rule):
    """`draw_random` as a masking; the baseline of all comparisons."""

    def __init__(self) -> None:
        super().__init__("random", draw_random)


def draw_whole_words(blocks: TokenBlocks, rate: float, rng: np.random.Generator) -> MaskPlan:
    """Select whole words in random order.

    At most one word per block is cut, if no word fits into the remaining budget.

    Args:
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.
        rng: source of all randomness.

    Returns:
        A plan with `blocks.budgets(rate)` positions per block.
    """
    return choose_units(blocks.word_index, position_noise(blocks, rng), blocks, rate)


def draw_punctuation(blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, is_punctuation: Tensor) -> MaskPlan:
    """Select punctuation in random order, then the other tokens in random order.

    Args:
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.
        rng: source of all randomness.
        is_punctuation: bool [V], from `punctuation_table`.

    Returns:
        A plan with `blocks.budgets(rate)` positions per block.
    """
    is_first_choice = is_punctuation.to(blocks.input_ids.device)[blocks.input_ids]
    return choose(position_noise(blocks, rng) + is_first_choice, blocks, rate)


def punctuation_masking(ingredients: MaskingContext) -> Draw:
    """Build the rule `punctuation` for the vocabulary of the tokenizer."""
    return partial(draw_punctuation, is_punctuation=punctuation_table(ingredients.tokenizer))


def punctuation_table(tokenizer: "PreTrainedTokenizerBase") -> Tensor:
    """Return bool [V]: True for tokens that consist of punctuation or symbols (Unicode categories P* and S*).

    Decoding turns word boundary marks (Ġ, ▁) into spaces, which are stripped, and byte-level tokens into characters.
    BERT's continuation mark ## is kept. It does not change the result, because # is punctuation itself.
    """
    vocabulary = tokenizer.get_vocab()
    table = torch.zeros(max(vocabulary.values()) + 1, dtype=torch.bool)
    for token, index in vocabulary.items():
        text = tokenizer.convert_tokens_to_string([token]).strip()
        table[index] = text != "" and all(map(_is_punctuation, text))
    return table


def _is_punctuation(character: str) -> bool:
    """Return whether a character is punctuation or a symbol."""
    # Incomplete bytes of a character decode to the replacement character, which has the category of a symbol.
    return unicodedata.category(character)[0] in "PS" and character != "\N{REPLACEMENT CHARACTER}"


def span_lengths(p: float, longest: int) -> FloatArray:
    """Return float64 [longest]: the probability of each span length from 1 to `longest` words.

    P(length) ∝ p (1 - p)^(length - 1), normalised to sum 1 (SpanBERT, Joshi et al. 2020, section 3.1).
    """
    weights = p * (1.0 - p) ** np.arange(longest)
    probabilities: FloatArray = weights / weights.sum()
    return probabilities


def draw_spans(blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, p: float, longest: int) -> MaskPlan:
    """Select spans of consecutive words until the budget is full. Each span is a group of the plan.

    The length of a span is drawn first, in words. Its start is drawn uniformly from the words that are
    followed by enough unmasked words for the whole span. If there is no such word, the start is drawn from those that
    allow the longest span. A span that exceeds the budget keeps the words that fit, and another span is drawn for the
    remainder. A word larger than the remaining budget can start a span only if no word fits; that word is cut.

    Args:
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.
        rng: source of all randomness.
        p: parameter of the geometric distribution of lengths, see `span_lengths`.
        longest: maximum number of words in a span.

    Returns:
        A plan with `blocks.budgets(rate)` positions per block.
    """
    shape = tuple(blocks.input_ids.shape)
    cumulative = span_lengths(p, longest).cumsum()
    lengths = np.searchsorted(cumulative[:-1], rng.random(shape), side="right") + 1
    places = rng.random(shape)
    word, _ = number_units(blocks.word_index, blocks)
    budget = blocks.budgets(rate).cpu().numpy()
    span, is_whole = _place_spans(unit_sizes(word), budget, lengths, places)
    # The extra first column is for positions without a word.
    span_of, whole = (np.pad(x, ((0, 0), (1, 0)), constant_values=-1) for x in (span, is_whole))
    columns = word.cpu().numpy() + 1
    priority = np.take_along_axis(whole, columns, axis=1).astype(np.float64)
    plan = choose(torch.from_numpy(priority).to(word.device), blocks, rate)
    spans = torch.from_numpy(np.take_along_axis(span_of, columns, axis=1)).to(word.device)
    group = spans.gather(1, plan.positions.clamp(min=0)).masked_fill(~plan.is_chosen, -1)
    return MaskPlan(plan.positions, plan.budget, group=group)


def span_masking(ingredients: MaskingContext) -> Draw:
    """Build the rule `span` from `masking.span_p` and `masking.span_max`."""
    return partial(draw_spans, p=ingredients.settings.span_p, longest=ingredients.settings.span_max)


def _place_spans(sizes: IntArray, budget: IntArray, lengths: IntArray, places: FloatArray) -> tuple[IntArray, IntArray]:
    """Place spans on words, one span per block in each iteration.

    Args:
        sizes: [B, W] number of tokens in each word, 0 after the last word.
        budget: [B] number of tokens to cover.
        lengths: [B, ≥ budget.max()] length of each successive span, in words.
        places: [B, ≥ budget.max()] random number in [0, 1) that selects the start of each successive span.

    Returns:
        int64 [B, W]: number of the span that contains the word, -1 if there is none.
        int64 [B, W]: 2 if the whole word is covered, 1 if only its first tokens are covered, else 0.
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
        # The number of consecutive free words that begin at each word.
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
