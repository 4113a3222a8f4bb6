"""The rule `weights`: custom weights make words and phrases more or less likely to be masked."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Real
from pathlib import Path
from typing import TypeAlias, TypeGuard

import numpy as np
import torch
from torch import Tensor

from nmg.base.errors import UserError, bad_input, shown
from nmg.base.types import FloatArray, MaskPlan, TokenBlocks
from nmg.data.formats.reading import read_lines, read_text
from nmg.masking.base import Draw, MaskingContext, choose, choose_units, weighted_scores
from nmg.masking.phrases import Phrases

WeightsOfBatch: TypeAlias = Callable[[TokenBlocks], Tensor | FloatArray]
"""Maps blocks to weights [B, T], ≥ 0; values at positions that are not maskable are ignored."""


def draw_by_weight(blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, phrases: Phrases) -> MaskPlan:
    """Sample words and phrases without replacement, each with probability ∝ its weight.

    Words without a given weight have the weight 1.

    Args:
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.
        rng: source of all randomness.
        phrases: the words and phrases with their weights.

    Returns:
        A plan with `blocks.budgets(rate)` positions per block.
    """
    unit, weights = phrases.find(blocks, 1.0)
    return choose_units(unit, weighted_scores(weights, blocks, rng), blocks, rate)


def draw_by_function(
    blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, weights_of: WeightsOfBatch
) -> MaskPlan:
    """Sample tokens without replacement, each with probability ∝ its weight.

    Args:
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.
        rng: source of all randomness.
        weights_of: computes the weights, [B, T].

    Returns:
        A plan with `blocks.budgets(rate)` positions per block.

    Raises:
        UserError: If weights have the wrong shape, are negative or are not finite.
    """
    weights = torch.as_tensor(weights_of(blocks))
    if weights.shape != blocks.input_ids.shape:
        shapes = f"{tuple(weights.shape)}, but the blocks have the shape {tuple(blocks.input_ids.shape)}"
        raise UserError(f"the masking function returned weights of the shape {shapes}: return one weight per token")
    of_tokens = weights.to(blocks.input_ids.device)[blocks.is_maskable]
    if not bool(((of_tokens >= 0) & of_tokens.isfinite()).all()):
        raise UserError("the masking function returned weights below 0 or not finite: return finite numbers ≥ 0")
    return choose(weighted_scores(weights, blocks, rng), blocks, rate)


def weights_masking(ingredients: MaskingContext) -> Draw:
    """Build the rule `weights`. Raises UserError if `masking.weights` is not set or its file is invalid."""
    path = ingredients.settings.weights
    if path is None:
        raise UserError("the masking 'weights' needs a file of words and weights: set masking.weights")
    return weigh(read_weights(Path(path).expanduser()), ingredients)


def weigh(weights: Mapping[str, float], ingredients: MaskingContext) -> Draw:
    """Build a rule from a mapping of words or phrases to weights.

    Raises UserError for an empty word and for a weight that is not a finite number ≥ 0.
    """
    for word, weight in weights.items():
        if not isinstance(word, str) or not word.strip():
            raise UserError(f"weights: {shown(word)} is not a word or phrase")
        if not _is_weight(weight):
            raise UserError(f"the weight of '{word}' must be a number ≥ 0, not {shown(weight)}")
    return partial(draw_by_weight, phrases=Phrases.of(weights, ingredients.tokenizer))


def _is_weight(weight: object) -> TypeGuard[float]:
    """Return whether `weight` is a finite number ≥ 0."""
    return isinstance(weight, Real) and not isinstance(weight, bool) and 0.0 <= float(weight) < float("inf")


def read_weights(path: Path) -> dict[str, float]:
    """Read a file of weights: a JSON object (.json), or lines with a word or phrase, a tab and a weight.

    In .csv files, a comma separates the columns, and quotes have their CSV meaning. In other files, quotes are part of
    the word. Raises UserError, with line and word, for an unreadable file and for a word with two weights.
    """
    if path.suffix == ".json":
        return _of_json(path)
    weights: dict[str, float] = {}
    line_of: dict[str, int] = {}
    for number, line in read_lines(path):
        word, weight = _of_line(path, line, number)
        if weights.setdefault(word, weight) != weight:
            problem = f"has another weight on line {line_of[word]}: remove one of them"
            raise bad_input(path, problem, line=number, field=word)
        line_of.setdefault(word, number)
    return weights


def _of_line(path: Path, line: str, number: int) -> tuple[str, float]:
    """Parse one line into a word and its weight. Raises UserError, with the line number, if it is invalid."""
    is_csv = path.suffix == ".csv"
    problem = f"must contain a word, {'a comma' if is_csv else 'a tab'} and a number"
    try:
        # One reader per line: an unclosed quote then does not swallow the lines after it.
        (cells,) = csv.reader([line], strict=True) if is_csv else [line.split("\t")]
    except csv.Error as error:
        raise bad_input(path, f"{problem}, with quotes as in CSV ({error})", line=number) from None
    if len(cells) != 2 or not cells[0].strip():
        raise bad_input(path, problem, line=number)
    word = cells[0].strip()
    try:
        weight = float(cells[1])
    except ValueError:
        raise bad_input(path, problem, line=number, field=word) from None
    if not _is_weight(weight):
        raise bad_input(path, f"the weight must be a number ≥ 0, not {cells[1].strip()}", line=number, field=word)
    return word, weight


def _of_json(path: Path) -> dict[str, float]:
    """Read weights from a JSON object. Raises UserError if the file is invalid."""
    try:
        weights = json.loads(read_text(path), object_pairs_hook=lambda pairs: _of_pairs(path, pairs))
    except json.JSONDecodeError as error:
        raise bad_input(path, f"is not valid JSON: {error.msg}", line=error.lineno) from error
    except RecursionError as error:
        raise bad_input(path, "is nested too deeply") from error
    if not isinstance(weights, dict):
        raise bad_input(path, 'must contain a JSON object of words and weights, such as {"aspirin": 3.0}')
    return weights


def _of_pairs(path: Path, pairs: Sequence[tuple[str, object]]) -> dict[str, float]:
    """Check the entries of a JSON object. Raises UserError for an invalid weight and for a word with two weights."""
    weights: dict[str, float] = {}
    for word, weight in pairs:
        if not _is_weight(weight):
            raise bad_input(path, f"the weight must be a number ≥ 0, not {shown(weight)}", field=word)
        if weights.setdefault(word, weight) != weight:
            raise bad_input(path, "has two weights: remove one of them", field=word)
    return weights
