"""Renders the page of `nmg inspect`: texts shaded by mask probability, and corpus statistics.

The page is one file that needs no network.

The page stores the data of the texts as columns: one string per text, in which each character encodes a number
(`packed`). The browser decodes a token's number only when it needs it.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from nmg.base.files import write_text
from nmg.base.types import BoolArray, FloatArray, IntArray
from nmg.inspection.draws import Observed
from nmg.inspection.overlap import entropies
from nmg.inspection.tags import Labels
from nmg.inspection.tokens import TokenTable
from nmg.report.document import Facts, Table
from nmg.report.html import environment

SCRIPTS = ("data", "texts", "token", "corpus", "controls")
"""Files of the page's script, in the order of inclusion."""
PACKED_FROM = 48
"""Code point that encodes 0: the digit "0", so that small numbers are printable."""
LARGEST_PACKED = 55_000
"""Maximum encoded number, because surrogate code points follow; larger numbers are clipped to it."""
LOG_STEPS = 1500
"""Number of steps per nat: a probability p is encoded as −ln p · LOG_STEPS.

The relative error is at most 0.03 % for p down to e^−36.
"""


@dataclass(frozen=True)
class Shares:
    """The number of masked tokens per group of a grouping (G groups, V views)."""

    title: str
    note: str
    groups: Sequence[str]
    counts: IntArray
    """int [G]: number of tokens."""
    masked: FloatArray
    """float [V, G]: mean number of tokens that each view masks."""


@dataclass(frozen=True)
class Words:
    """Distinct words, most frequent first, and how often each view masks them (W words, V views)."""

    words: Sequence[str]
    counts: IntArray
    """int [W]: number of occurrences."""
    rates: FloatArray
    """float [V, W]: `page.word_rates` of each view, from 0 to 1."""
    note: str = ""


@dataclass(frozen=True)
class InspectPage:
    """Content of the page of `nmg inspect`."""

    title: str
    subtitle: str
    facts: Facts
    titles: Sequence[str]
    """Title of each text."""
    table: TokenTable
    """The tokens; each block is a text of the page."""
    labels: Mapping[str, Labels]
    """Name of an annotation, e.g. 'part of speech' → labels of the words."""
    maskings: Sequence[Observed]
    views: Sequence[tuple[str, int]]
    """Rows of `shares` and `words`: name of the view, and index of its masking."""
    shares: Sequence[Shares]
    words: Words
    tables: Sequence[Table] = ()
    """Further tables, each under its caption."""
    unit: str = "text"
    """Noun for one text of the page: "text" or "part"."""
    notices: Sequence[str] = ()
    """Messages on what is missing from the page and how to add it."""


def render_inspect_page(page: InspectPage) -> str:
    """Return the page as HTML, with a Content-Security-Policy that forbids external files and scripts."""
    templates = environment("nmg.inspection")
    style = _sources(templates, "page.css", "inspect.css")
    script = _sources(templates, *(f"inspect.{part}.js" for part in SCRIPTS))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return templates.get_template("inspect.html.j2").render(
        page=page,
        security_policy=policy,
        style=Markup(style),
        script=Markup(script),
        corpus_data=_script_safe(_corpus_data(page)),
        text_data=_script_safe(_text_data(page)),
    )


def write_inspect_page(path: Path, page: InspectPage) -> None:
    """Write the page as HTML to the file `path`, which is replaced atomically."""
    write_text(path, render_inspect_page(page))


def packed(numbers: npt.ArrayLike) -> str:
    """Encode non-negative integers as one character each; numbers above `LARGEST_PACKED` are clipped to it.

    >>> packed([0, 1, 5, 100])
    '015\\x94'
    """
    codes = np.minimum(np.asarray(numbers), LARGEST_PACKED) + PACKED_FROM
    text: str = codes.astype("<u2").tobytes().decode("utf-16-le")
    return text


def pack_probabilities(probabilities: FloatArray) -> str:
    """Encode probabilities as one character each; see `LOG_STEPS`."""
    with np.errstate(divide="ignore"):
        steps = -np.log(np.asarray(probabilities, dtype=np.float64)) * LOG_STEPS
    return packed(np.round(np.clip(steps, 0, LARGEST_PACKED)).astype(np.int64))


def pack_spans(text: str, spans: IntArray, starts_word: BoolArray) -> str:
    """Encode the spans of one text's tokens as two characters per token.

    The first is the gap to the previous token, the second is 2 · length + (1 if the token starts a word). Both count
    UTF-16 code units, as browsers do. If several tokens cover the same characters (bytes of one letter), the first
    token gets them and the others have length 0.

    Args:
        text: The text of the tokens.
        spans: int [n, 2]: first character of each token, and the position after its last character.
        starts_word: bool [n]: True at the first token of a word.

    Returns:
        A string of 2 n characters.
    """
    positions = np.asarray(spans, dtype=np.int64)
    if text and max(text) > "\uffff":
        units = [1 + (character > "\uffff") for character in text]
        positions = np.concatenate([[0], np.cumsum(units)])[positions]
    ends = np.maximum.accumulate(np.concatenate([[0], positions[:, 1]]))
    starts = np.maximum(positions[:, 0], ends[:-1])
    lengths = np.maximum(positions[:, 1] - starts, 0)
    return packed(np.stack([starts - ends[:-1], 2 * lengths + starts_word], axis=1).ravel())


def _text_data(page: InspectPage) -> dict[str, Any]:
    table = page.table
    spans = zip(table.texts, table.by_block(table.spans), table.by_block(table.starts_word), strict=True)
    return {
        "titles": list(page.titles),
        "texts": list(table.texts),
        "spans": [pack_spans(text, of_text, starts) for text, of_text, starts in spans],
        "labels": [
            {
                "name": name,
                "names": list(labels.names),
                "of": list(map(packed, table.by_block(labels.of_word[table.word]))),
            }
            for name, labels in page.labels.items()
        ],
        "maskings": [_masking_data(one, table) for one in page.maskings],
    }


def _masking_data(one: Observed, table: TokenTable) -> dict[str, Any]:
    """Return the encoded numbers of a masking, one string per text; a rule has only `drawn`."""
    data: dict[str, Any] = {"drawn": list(map(packed, table.by_block(one.drawn)))}
    probability, taken = one.probability, one.taken
    return data | {
        "probability": None if probability is None else list(map(pack_probabilities, table.by_block(probability))),
        "taken": None if taken is None else [packed(np.flatnonzero(of)) for of in table.by_block(taken)],
        "entropy": None if probability is None else _rounded(entropies(probability, table)),
    }


def _corpus_data(page: InspectPage) -> dict[str, Any]:
    return {
        "draws": page.maskings[0].draws,
        "unit": page.unit,
        "packed_from": PACKED_FROM,
        "log_steps": LOG_STEPS,
        "maskings": [{"name": one.name, "about": one.about} for one in page.maskings],
        "views": [{"name": name, "masking": masking} for name, masking in page.views],
        "shares": [
            {
                "title": shares.title,
                "note": shares.note,
                "groups": list(shares.groups),
                "counts": shares.counts.tolist(),
                "masked": [_rounded(row) for row in shares.masked],
            }
            for shares in page.shares
        ],
        "words": {
            "note": page.words.note,
            "words": list(page.words.words),
            "counts": page.words.counts.tolist(),
            "rates": [_rounded(row) for row in page.words.rates],
        },
    }


def _rounded(numbers: FloatArray) -> list[float]:
    """Round each number to four significant digits."""
    return [float(f"{number:.4g}") for number in numbers]


def _script_safe(data: Mapping[str, Any]) -> Markup:
    """Return the data as JSON with every `<` escaped, so that no text in it can close the script element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _sources(templates: jinja2.Environment, *names: str) -> str:
    """Concatenate files of the template folder without rendering them."""
    assert templates.loader is not None
    return "\n".join(templates.loader.get_source(templates, name)[0] for name in names)


def _hash(source: str) -> str:
    """Return the hash by which a Content-Security-Policy allows an inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
