"""Reads the scores of runs made elsewhere, which are then compared like the trials of nmg.

The file is a table with the columns `method`, `seed`, `item` and `score`. Every method has a score for the same seeds
and the same items, because differences are paired by both.
"""

import math
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nmg.base.errors import bad_input
from nmg.base.trial import TrialResult, TrialSpec
from nmg.base.types import FloatArray
from nmg.data.formats.tables import read_records

METRIC = "score"
"""Name of the only metric."""


class Place(NamedTuple):
    """Identifies a score."""

    method: str
    seed: int
    item: str

    def __str__(self) -> str:
        return f"method '{self.method}', seed {self.seed}, item '{self.item}'"


def read_scores(path: Path) -> list[TrialResult]:
    """Read the scores of single items and return one trial per method and seed.

    Args:
        path: A table (.csv, .tsv, .jsonl, .json or .parquet) with the four columns.

    Returns:
        The trials in the order of the file. Their only metric is `score`: the mean over items. `example_scores` has the
        scores of the items.

    Raises:
        UserError: A column is missing, a value is invalid, a score is there twice, there is only one method, or a
            method lacks a seed or an item of another. The message names file, line and field.
    """
    scores: dict[Place, tuple[float, int]] = {}  # with line numbers
    for line, record in read_records(path):
        place = Place(_text(path, line, record, "method"), _seed(path, line, record), _text(path, line, record, "item"))
        if place in scores:
            raise bad_input(path, f"{place} already has a score in line {scores[place][1]}", line=line)
        scores[place] = _score(path, line, record), line
    methods = list(dict.fromkeys(place.method for place in scores))
    seeds = list(dict.fromkeys(place.seed for place in scores))
    items = list(dict.fromkeys(place.item for place in scores))
    if len(methods) < 2:
        raise bad_input(path, f"names {len(methods)} methods; a comparison needs at least 2", field="method")
    missing = next((place for one in product(methods, seeds, items) if (place := Place(*one)) not in scores), None)
    if missing is not None:
        raise bad_input(path, f"there is no score of {missing}; every method needs all seeds and items", field=METRIC)
    return [
        _trial(method, seed, np.array([scores[Place(method, seed, item)][0] for item in items]))
        for method, seed in product(methods, seeds)
    ]


def _trial(method: str, seed: int, scores: FloatArray) -> TrialResult:
    return TrialResult(TrialSpec(method, seed), {METRIC: float(scores.mean())}, {METRIC: scores})


def _text(path: Path, line: int, record: Mapping[str, Any], field: str) -> str:
    """Return a cell as text without surrounding spaces. Raises UserError if it is missing or empty."""
    if field not in record:
        found = ", ".join(record)
        raise bad_input(path, f"there is no such column or value; the row has {found}", line=line, field=field)
    text = str(record[field]).strip()
    if not text or record[field] is None:
        raise bad_input(path, "is empty", line=line, field=field)
    return text


def _seed(path: Path, line: int, record: Mapping[str, Any]) -> int:
    text = _text(path, line, record, "seed")
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise bad_input(path, f"'{text}' is not a whole number from 0", line=line, field="seed")
    return int(text)


def _score(path: Path, line: int, record: Mapping[str, Any]) -> float:
    text = _text(path, line, record, METRIC)
    try:
        score = float(text)
    except ValueError as error:
        raise bad_input(path, f"'{text}' is not a number", line=line, field=METRIC) from error
    if not math.isfinite(score):
        raise bad_input(path, f"'{text}' is not a finite number", line=line, field=METRIC)
    if abs(score) > 1:
        problem = f"{text} is not between −1 and 1; divide points or percent by 100"
        raise bad_input(path, problem, line=line, field=METRIC)
    return score
