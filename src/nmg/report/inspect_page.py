"""The page of `nmg inspect`: texts shaded by mask probability, and what the corpus says. One file, no network.

The data of the texts stand in the page as columns, one string a text in which each character is a number (`packed`):
the browser reads a token's number where it needs it, and unpacks nothing.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from nmg.files import write_text
from nmg.report.page import Facts
from nmg.report.tables import Table
from nmg.types import BoolArray, FloatArray, IntArray

SCRIPTS = ("data", "texts", "token", "corpus", "controls")
"""files of the script, in order"""
PACKED_FROM = 48
"""the character of 0: the digit 0, so that small numbers are printable"""
LARGEST_PACKED = 55_000
"""larger numbers are cut to it; beyond come characters that cannot stand alone"""
LOG_STEPS = 1500
"""a probability p is kept as −ln p · LOG_STEPS: exact to 0.03 %, down to e^−36"""


@dataclass(frozen=True)
class ShownTexts:
    """S texts; every sequence has one entry a text, every array one entry (or row) a token of the text."""

    titles: Sequence[str]
    texts: Sequence[str]
    spans: Sequence[IntArray]
    """[n, 2] first character of each token in the text, and one behind the last"""
    starts_word: Sequence[BoolArray]
    """[n] False joins the token to the word before"""
    labels: Mapping[str, tuple[Sequence[str], Sequence[IntArray]]] = field(default_factory=dict)
    """what is said of a token beside its numbers, e.g. part of speech → (names, [n] index into the names)"""


@dataclass(frozen=True)
class ShownMasking:
    """One masking's numbers for the tokens of `ShownTexts`; what a rule does not have is None."""

    name: str
    about: str
    drawn: Sequence[IntArray]
    """[n] how many draws masked each token"""
    probability: Sequence[FloatArray] | None = None
    """[n] single-draw probability"""
    taken: Sequence[IntArray] | None = None
    """[k] the tokens (ascending) of the greedy choice"""
    entropy: Sequence[float] | None = None
    """nats"""


@dataclass(frozen=True)
class Shares:
    """Groups of tokens: G groups, V views."""

    title: str
    note: str
    groups: Sequence[str]
    counts: IntArray
    """[G] tokens"""
    masked: FloatArray
    """[V, G] tokens that each view masks, in the mean"""


@dataclass(frozen=True)
class Words:
    """Distinct words, most frequent first: W words, V views."""

    words: Sequence[str]
    counts: IntArray
    """[W] occurrences"""
    rates: FloatArray
    """[V, W] share of the occurrences that each view masks, in the mean"""
    note: str = ""


@dataclass(frozen=True)
class InspectPage:
    title: str
    subtitle: str
    facts: Facts
    draws: int
    texts: ShownTexts
    maskings: Sequence[ShownMasking]
    views: Sequence[tuple[str, int]]
    """columns of `shares` and `words`: name, and index of the masking it belongs to"""
    shares: Sequence[Shares]
    words: Words
    tables: Sequence[tuple[str, Table]] = ()
    """further tables with their headings"""
    unit: str = "text"
    """what one of `texts` is called: a text, or a part of one"""
    notices: Sequence[str] = ()
    """what is missing from the page, and how to get it"""


def render_inspect_page(page: InspectPage) -> str:
    """The page as HTML. Its own policy (Content-Security-Policy) forbids it to load or run anything from elsewhere."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nmg.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = _sources(environment, "run.css", "inspect.css")
    script = _sources(environment, *(f"inspect.{part}.js" for part in SCRIPTS))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("inspect.html.j2").render(
        page=page,
        security_policy=policy,
        style=Markup(style),
        script=Markup(script),
        corpus_data=_script_safe(_corpus_data(page)),
        text_data=_script_safe(_text_data(page)),
    )


def write_inspect_page(path: Path, page: InspectPage) -> None:
    """Render the page into `path`, which is replaced only when the new page is whole."""
    write_text(path, render_inspect_page(page))


def packed(numbers: npt.ArrayLike) -> str:
    """One character a number, for whole numbers from 0; those above `LARGEST_PACKED` are cut to it.

    >>> packed([0, 1, 5, 100])
    '015\\x94'
    """
    codes = np.minimum(np.asarray(numbers), LARGEST_PACKED) + PACKED_FROM
    text: str = codes.astype("<u2").tobytes().decode("utf-16-le")
    return text


def pack_probabilities(probabilities: FloatArray) -> str:
    """One character a probability; see `LOG_STEPS`."""
    with np.errstate(divide="ignore"):
        steps = -np.log(np.asarray(probabilities, dtype=np.float64)) * LOG_STEPS
    return packed(np.round(np.clip(steps, 0, LARGEST_PACKED)).astype(np.int64))


def pack_spans(text: str, spans: IntArray, starts_word: BoolArray) -> str:
    """Two characters a token: characters between it and the token before, and 2 · length + (1 where a word starts).

    Lengths count UTF-16 units, as browsers do. Tokens that share characters (bytes of one letter) share them out: the
    first has them, the others have length 0.
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
    texts = page.texts
    return {
        "titles": list(texts.titles),
        "texts": list(texts.texts),
        "spans": [
            pack_spans(text, spans, starts)
            for text, spans, starts in zip(texts.texts, texts.spans, texts.starts_word, strict=True)
        ],
        "labels": [
            {"name": name, "names": list(names), "of": list(map(packed, of_token))}
            for name, (names, of_token) in texts.labels.items()
        ],
        "maskings": [
            {
                "drawn": list(map(packed, one.drawn)),
                "probability": None if one.probability is None else list(map(pack_probabilities, one.probability)),
                "taken": None if one.taken is None else list(map(packed, one.taken)),
                "entropy": _rounded(one.entropy),
            }
            for one in page.maskings
        ],
    }


def _corpus_data(page: InspectPage) -> dict[str, Any]:
    return {
        "draws": page.draws,
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


def _rounded(numbers: Sequence[float] | FloatArray | None) -> list[float] | None:
    """Four significant digits."""
    return None if numbers is None else [float(f"{number:.4g}") for number in numbers]


def _script_safe(data: Mapping[str, Any]) -> Markup:
    """JSON that no text in it can end: `<` never stands in it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _sources(environment: jinja2.Environment, *names: str) -> str:
    """Files of the templates' folder one after the other, as they are."""
    assert environment.loader is not None
    return "\n".join(environment.loader.get_source(environment, name)[0] for name in names)


def _hash(source: str) -> str:
    """What a Content-Security-Policy calls an inline style or script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
