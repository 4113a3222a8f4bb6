"""Weights of your own: words and phrases more often, or less, than others."""

import csv
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from nmg.data.formats.reading import read_text
from nmg.errors import UserError, bad_input
from nmg.masking.base import Draw, Ingredients, choose, choose_units, weighted_scores
from nmg.masking.phrases import Phrases
from nmg.types import FloatArray, MaskPlan, TokenBlocks

WeightsOfBatch: TypeAlias = Callable[[TokenBlocks], Tensor | FloatArray]
"""blocks → [B, T] weights, 0 or more; those at positions that are not maskable do not matter"""


def draw_by_weight(blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, phrases: Phrases) -> MaskPlan:
    """Words and phrases without replacement, the next one with probability ∝ its weight; 1 where none is given."""
    unit, weights = phrases.find(blocks, 1.0)
    return choose_units(unit, weighted_scores(weights, blocks, rng), blocks, rate)


def draw_by_function(
    blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, weights_of: WeightsOfBatch
) -> MaskPlan:
    """Tokens without replacement, by the weights that a function gives.

    Raises UserError for weights of another shape, below 0, or that are no numbers.
    """
    weights = torch.as_tensor(weights_of(blocks))
    if weights.shape != blocks.input_ids.shape:
        shapes = f"{tuple(weights.shape)}, not {tuple(blocks.input_ids.shape)} as the blocks"
        raise UserError(f"the function that weighs tokens gave weights of the shape {shapes}")
    of_tokens = weights.to(blocks.input_ids.device)[blocks.is_maskable]
    if not bool(((of_tokens >= 0) & of_tokens.isfinite()).all()):
        raise UserError("the function that weighs tokens gave weights that are below 0 or no numbers")
    return choose(weighted_scores(weights, blocks, rng), blocks, rate)


def weights_masking(ingredients: Ingredients) -> Draw:
    path = ingredients.settings.weights
    if path is None:
        raise UserError("the masking 'weights' needs a file of words and weights: masking.weights")
    return weigh(read_weights(Path(path).expanduser()), ingredients)


def weigh(weights: Mapping[str, float], ingredients: Ingredients) -> Draw:
    """A rule by a mapping word or phrase → weight. Raises UserError for a weight below 0."""
    for word, weight in weights.items():
        if not (isinstance(weight, int | float) and 0.0 <= weight < float("inf")):
            raise UserError(f"the weight of '{word}' must be a number from 0 on, not {weight!r}")
    return partial(draw_by_weight, phrases=Phrases.of(weights, ingredients.tokenizer))


def read_weights(path: Path) -> dict[str, float]:
    """A JSON object (.json), or lines of a word or phrase, a tab (.csv: a comma), and its weight.

    Raises UserError for a file that cannot be read, naming the line.
    """
    text = read_text(path)
    if path.suffix == ".json":
        return _of_json(path, text)
    weights = {}
    for number, row in enumerate(csv.reader(text.splitlines(), delimiter="," if path.suffix == ".csv" else "\t"), 1):
        if not row:
            continue
        try:
            word, weight = row
            weights[word] = float(weight)
        except ValueError:
            between = "a comma" if path.suffix == ".csv" else "a tab"
            raise bad_input(path, f"must hold a word, {between} and a number", line=number) from None
    return weights


def _of_json(path: Path, text: str) -> dict[str, float]:
    try:
        weights = json.loads(text)
    except json.JSONDecodeError as error:
        raise bad_input(path, f"is no JSON: {error.msg}", line=error.lineno) from error
    if not isinstance(weights, dict):
        raise bad_input(path, 'must hold an object of words and weights: {"aspirin": 3.0}')
    return weights
