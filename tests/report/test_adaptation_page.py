"""The page of an adaptation: what it says, from which numbers, and that a user's text stays text."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nmg.adaptation.log import AdaptationLog
from nmg.config import Config
from nmg.report.adaptation_page import adaptation_page, verdict
from nmg.report.html import render_html

SPITE = "</script><script>alert(1)</script>"


def log_of(held_out: dict[str, Any] | None, *, is_best: bool = False, word: str = "word", **more: Any) -> AdaptationLog:
    """A log of three steps; `held_out` None: no text was held out."""
    records: list[dict[str, Any]] = [
        {"step": n, "tokens": 100 * n, "loss": 6.0 - n, "learning_rate": 1e-4, "seconds": 1.0 * n} for n in (1, 2, 3)
    ]
    if held_out is not None:
        records = [{"step": 0, "tokens": 0, "held_out": held_out["before"]}, *records]
        records[-1]["held_out"] = held_out["after"]
        held_out = {"best_step": 3, "documents": 4, "masked_tokens": 50, **held_out}
    one = {"token": word, "seen": 10, "masked": 4, "z": 2.5}
    config = Config.model_validate({"data": {"corpus": "/texts/domain.txt"}})
    facts = {
        "masking": "random",
        "steps": 3,
        "documents": 9,
        "tokens": 300,
        "masked_tokens": 45,
        "seconds": 3.0,
        "loss": 4.0,
        "near_duplicates": 0,
        "lora_rank": 0,
        "recipe": "default",
        "recipe_changed": [],
        "settings": config.model_dump(mode="json"),
        "is_best": is_best,
        "held_out": held_out,
        "general": None,
        "terms": more.get("terms"),
        "masked": {"rate": 0.15, "most": [one], "least": [one]},
        "examples": [{"text": f"a [{word}] b [c]", "masked": [word, "c"], "before": ["x", "c"], "after": [word, "c"]}],
    }
    run = {"masking": "random", "planned_steps": 3}
    return AdaptationLog(Path("out"), config, run, records, more.get("facts", facts))


@pytest.mark.parametrize(
    ("held_out", "is_best", "says", "command"),
    [
        ({"before": 5.0, "after": 4.0, "best": 4.0}, False, "fell: 5.000 → 4.000", "nmg share out OWNER/NAME"),
        ({"before": 5.0, "after": 4.5, "best": 4.0}, True, "fell: 5.000 → 4.000", "nmg share out OWNER/NAME"),
        (
            {"before": 5.0, "after": 4.5, "best": 4.0},
            False,
            "fell to 4.000 by step 3 and then rose",
            "--adapt.patience 3",
        ),
        (
            {"before": 5.0, "after": 5.0, "best": 5.0},
            False,
            "did not fall: 5.000 → 5.000",
            "--adapt.learning_rate 1e-05",
        ),
        (None, False, "was not measured", "nmg share"),
    ],
)
def test_the_verdict_follows_from_the_losses(held_out: Any, is_best: bool, says: str, command: str):
    found = verdict(log_of(held_out, is_best=is_best))
    assert says in found.verdict
    assert command in found.command
    if held_out is not None:
        assert "on 50 masked tokens of 4 documents" in found.why
        assert "Perplexity 148.4 →" in found.why


def test_the_page_has_the_curve_the_masks_and_the_guesses():
    html = render_html(adaptation_page(log_of({"before": 5.0, "after": 4.0, "best": 4.0})))
    for words in ("training", "held out", "loss (lower is better)"):
        assert re.search(rf"<text[^>]*>{re.escape(words)}</text>", html)
    assert "3 of 3 steps · finished" in html
    assert "15.0 % were masked" in html
    assert "40.0 %" in html, "4 of 10"
    assert "1 → 2 of 2" in html
    assert "masking rate 0.05, learning rate 2e-05 (linear, adamw), batches of 8" in html
    assert "/texts/" not in html.split("All settings")[0]


def test_terms_are_on_the_page_if_some_were_measured():
    """By the name of their file, and as text."""
    held_out = {"before": 5.0, "after": 4.0, "best": 4.0}
    one = {"term": SPITE, "pieces": ["kin", "##ase"], "occurrences": 8}
    one |= {"log_probability": {"before": -5.0, "after": -3.5}, "rank": {"before": 10.0, "after": 1.5}}
    terms: dict[str, Any] = {"source": "/texts/terms.txt", "measured": [one], "left_out": ["zebra"]}
    html = render_html(adaptation_page(log_of(held_out, terms=terms)))
    assert "Terms (terms.txt): 1 measured, the largest gain first" in html
    assert "+1.50" in html
    assert "<script>alert" not in html
    for nothing in (None, terms | {"measured": []}):
        assert "ln p" not in render_html(adaptation_page(log_of(held_out, terms=nothing)))


def test_a_run_in_progress():
    log = log_of({"before": 5.0, "after": 4.0, "best": 4.0}, facts=None)
    page = adaptation_page(log, 5)
    assert page.refresh_seconds == 5
    html = render_html(page)
    assert "The run is not finished." in html
    assert "Guesses" not in html
    empty = AdaptationLog(log.folder, log.config, {"masking": "random", "planned_steps": None}, [], None)
    assert "0 of ? steps" in render_html(adaptation_page(empty))


def test_words_of_the_corpus_are_only_text():
    html = render_html(adaptation_page(log_of({"before": 5.0, "after": 4.0, "best": 4.0}, word=SPITE)))
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_a_page_is_json_away(tmp_path: Path):
    """The log reads what a run writes; a damaged nmg.json is named."""
    from nmg.base.errors import UserError

    (tmp_path / "config.yaml").write_text(Config().to_yaml())
    (tmp_path / "run.json").write_text(json.dumps({"job": "adapt", "masking": "random", "planned_steps": 2}))
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "held_out": 3.5, "tokens": 0}\n{"step": 1, "loss": 3.0, "to')
    log = AdaptationLog.read(tmp_path)
    assert (log.held_out, log.steps, log.facts) == ([(0, 3.5)], [], None)
    (tmp_path / "nmg.json").write_text("{")
    with pytest.raises(UserError, match=r"nmg\.json: is not valid JSON"):
        AdaptationLog.read(tmp_path)
