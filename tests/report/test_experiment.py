"""What the page of a run says of a designed experiment."""

import re
from typing import Any

import pytest

from nmg.config import Config
from nmg.report.document import Table
from nmg.report.experiment import sections, summary, warnings
from nmg.report.html import render_html
from nmg.report.run_page import run_page
from support.run_logs import log_of

FEATURES = [
    {"feature": "idf", "effect": 0.3, "low": 0.1, "high": 0.5},
    {"feature": "digit", "effect": -0.2, "low": -0.5, "high": 0.1},
]


def episode(index: int) -> dict[str, Any]:
    scores = {name: {"accuracy": 0.5, "loss": 0.5} for name in ("plus", "minus")}
    laps = {"masks": 1.0, "inner loops": 5.0, "update": 0.1, "adapt": 2.0, "finetune": 2.0, "evaluate": 1.0}
    record = {"episode": index, "metric": "accuracy", "scores": scores, "lm_loss": {}, "is_tie": True}
    return record | {"stage": "explore", "trials": 2 * index + 2, "seconds": laps}


def found(**changes: Any) -> dict[str, Any]:
    facts = {"pairs": 20, "noise": 0.5, "f": 3.0, "f_p": 0.01, "features": FEATURES, "stage": "done", "trials": 60}
    facts |= {"length": 0.36, "placebo_length": {"median": 0.1, "high": 0.2}, "possible_gain": 0.5, "strength": 2.0}
    facts |= {"rule": 5.0, "tuned": {"random": 0.0, "learned-2": 0.02}, "selected": "policy"}
    return facts | {"gate": gate(none=0.001, random=0.01, rule=0.004)} | changes


def gate(**p: float) -> dict[str, Any]:
    against = {name: {"mean": 0.03, "p": one} for name, one in p.items()}
    return {"n": 10 if p else 0, "level": 0.05, "against": against, "passes": max(p.values(), default=1.0) < 0.05}


def log(**changes: Any):
    return log_of(episode(0), episode(1), findings=found(**changes), config=Config())


def test_what_matters_and_whether_the_gate_was_passed():
    text = summary(log())
    assert "Which tokens are masked matters for the score (F test of all features: p = 0.010)." in text
    assert "more tokens that are “rare (ln of the inverse document frequency)”" in text
    assert "digit" not in text, "its interval holds zero"
    assert (
        "The policy passed the gate: in 10 new episodes, scored on the same validation examples as before, it beat "
        "no adaptation (+0.03), random masks (+0.03) and idf with exponent 5 (+0.03)." in text
    )
    assert warnings(log()) == []


@pytest.mark.parametrize(
    ("selected", "words"), [("none", "no adaptation"), ("random", "random masks"), ("rule", "idf with exponent 5")]
)
def test_what_is_selected_instead_of_the_policy_is_named(selected: str, words: str):
    refused = log(selected=selected, gate=gate(none=0.2, random=0.3, rule=0.001))
    assert "it did not clearly beat no adaptation and random masks. " in summary(refused)
    assert f"The run selected {words}, the best of the alternatives." in summary(refused)
    (warning,) = warnings(refused)
    assert warning.startswith(f"**The run selected {words}, not the learned policy.**")
    unplayed = log(selected="rule", gate=gate())
    assert "The gate was not run" in summary(unplayed)
    assert warnings(log(selected="rule", stage="tune")) == []


@pytest.mark.parametrize(("f_p", "text"), [(None, "too few trials"), (0.4, "do not show that any feature matters")])
def test_too_little_is_said(f_p: float | None, text: str):
    assert text in summary(log(f_p=f_p))


def test_the_page_draws_the_effects():
    page = render_html(run_page(log()))
    assert "What raises the score" in page
    assert "Is the policy better than all else?" in page
    assert "learned-2" in page
    assert "gain over random" in page
    assert "rise of the accuracy, in points (right of 0 is better)" in page
    no_random = log(tuned={"idf-2": 0.0, "idf-5": 0.01, "learned-2": 0.02})
    assert "gain over idf-2" in render_html(run_page(no_random))
    assert sections(log_of(episode(0), config=Config())) == []


@pytest.mark.parametrize(
    ("changes", "tuned", "in_gate"),
    [
        ({"selected": "policy"}, {"learned-2": "best strength, selected", "idf-5": "best rule"}, {}),
        (
            {"selected": "rule"},
            {"learned-2": "best strength", "idf-5": "best rule, selected"},
            {"idf with exponent 5": "selected"},
        ),
        (
            {"selected": "random", "rule": 0.0},
            {"random": "best rule, selected", "learned-2": "best strength"},
            {"random masks": "selected"},
        ),
        ({"selected": "none"}, {"learned-2": "best strength", "idf-5": "best rule"}, {"no adaptation": "selected"}),
        ({"stage": "tune", "strength": 0.0, "rule": 0.0}, {}, {}),
    ],
)
def test_the_rows_that_were_chosen_are_marked(changes: dict[str, Any], tuned: dict[str, str], in_gate: dict[str, str]):
    scores = {"random": 0.0, "idf-5": 0.01, "learned-1": 0.01, "learned-2": 0.02}
    _, compared = sections(log(tuned=scores, **changes))
    tables = [block for block in compared.blocks if isinstance(block, Table)]
    marks = [{row[0]: table.mark(n) for n, row in enumerate(table.rows) if table.mark(n)} for table in tables]
    assert marks[-1] == tuned
    assert marks[:-1] == ([] if "stage" in changes else [in_gate])


def test_the_pieces_of_most_and_least_credit_are_listed_with_their_reliability():
    credit = {"rounds": 8, "reliability": 0.93, "seconds": 60.0}
    credit |= {"most": [{"piece": "inhibits", "credit": 0.25, "count": 30}]}
    credit |= {"least": [{"piece": "the", "credit": -0.125, "count": 900}]}
    page = render_html(run_page(log(credit=credit)))
    assert all(part in page for part in ("inhibits", "+0.25", "the", "−0.125", "0.93"))
    assert "Which words are worth training on" not in render_html(run_page(log()))


@pytest.mark.parametrize(("task", "unit"), [("classification", "nats"), ("similarity", "squared standard deviations")])
def test_the_loss_has_the_unit_of_the_task(task: str, unit: str):
    first = episode(0) | {"metric": "loss"}
    config = Config.model_validate({"data": {"task": task}, "reward": {"metric": "loss"}})
    html = render_html(run_page(log_of(first, findings=found(), config=config)))
    text = re.sub(r"</text>.*?<text[^>]*>", " ", html, flags=re.DOTALL)
    assert f"fall of the loss, in {unit} (right of 0 is better)" in text


FACTORS = [
    {"factor": "learning-rate", "effect": 0.02, "low": 0.01, "high": 0.03, "curvature": -0.01, "tuned": 4e-5}
    | {"values": [1e-5, 2e-5, 4e-5], "is_at_end": True},
    {"factor": "steps", "effect": 0.0, "low": None, "high": None, "curvature": 0.0, "tuned": 1.25}
    | {"values": [0.667, 1.0, 1.5], "is_at_end": False},
    {"factor": "unit", "effect": 0.0, "low": -0.01, "high": 0.01, "curvature": 0.0, "tuned": "token"}
    | {"values": ["token", "token", "word"], "is_at_end": False},
]


def tuned(**changes: Any):
    recipe = {name: {"mean": 0.02, "p": 0.01} for name in ("none", "random")}
    verdict = gate(none=0.001, random=0.01) | {"masks": {"mean": 0.01, "p": 0.2}, "recipe": recipe}
    facts = {"factors": FACTORS, "recipe": {"learning_rate": 4e-5, "steps_factor": 1.25}, "gate": verdict}
    return log(**facts | changes)


def test_one_sentence_says_what_the_recipe_and_what_the_masks_gain():
    text = summary(tuned(selected="recipe"))
    assert (
        "Of the difference from random masks, the tuned recipe (learning rate 4e-05, 1.25 times the steps) makes +0.02 "
        "(p = 0.010), and the learned masks make +0.01 under this recipe (p = 0.200). With this recipe an "
        "adaptation takes 1.25 times as many steps. The run selected random masks under the tuned recipe." in text
    )
    assert "steps" not in summary(tuned(recipe={"learning_rate": 4e-5}))
    assert "tuned recipe" not in summary(log())


def test_the_page_lists_the_factors():
    page = render_html(run_page(tuned()))
    for part in ("Which recipe raises the score", "4e-05 (end of the range)", "+1.0 to +3.0", "0.667 to 1.5"):
        assert part in page
    assert "token to word" in page
    assert "random masks under the tuned recipe" in page
    assert "Which recipe raises the score" not in [section.heading for section in sections(log())]
