"""The last lines of commands: verdict, reason and a next command that the command line accepts."""

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer.main

from nmg.cli import app
from nmg.report.audit_page import verdict as audit_verdict
from nmg.report.document import Verdict
from nmg.report.verdicts import _adapt_command, adapt_verdict, compare_verdict, estimate_verdict, learn_verdict

LEARN = "nmg learn 'my audit/recommended.yaml' --out run"
LONGER = "nmg audit 'my audit/recommended.yaml' --minutes 18 --out 'my audit-longer'"
COMPARE = "nmg compare 'my audit/recommended.yaml' --out comparison"
ADAPT = "nmg adapt --config 'my audit/recommended.yaml' --masking random --out adapted"
"""What an audit in the folder `my audit` names as the next command."""


def accepts(verdict: Verdict) -> bool:
    """Whether the command line can read the next command."""
    program, name, *words = shlex.split(verdict.command)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    return program == "nmg" and command.make_context(name, words) is not None


def test_a_run_names_what_it_selected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from nmg.meta_training.log import read_run
    from support.run_logs import episode, write_run

    monkeypatch.setattr("nmg.report.verdicts.summary", lambda _log: "the summary")
    log = read_run(write_run(tmp_path / "run", episode(0)))
    for selected, said in {
        "policy": "learned masks that passed",
        "recipe": "found a better recipe",
        "rule": "selected a rule",
        "random": "selected random masks",
        "none": "no masks that are better than no adaptation",
    }.items():
        found = learn_verdict(replace(log, findings={"selected": selected}), tmp_path / "run")
        assert said in found.verdict
        assert accepts(found)
        assert "run/config.yaml" in found.command or selected == "none"
    tuned = replace(log, findings={"selected": "policy", "recipe": {"steps_factor": 1.5}})
    assert "run/recommended.yaml" in learn_verdict(tuned, tmp_path / "run").command


@pytest.mark.parametrize(("after", "said"), [(4.0, "better than before"), (6.0, "does not predict")])
def test_an_adaptation_says_whether_the_model_predicts_better(after: float, said: str, tmp_path: Path):
    result = SimpleNamespace(out=tmp_path / "adapted", held_out=SimpleNamespace(before=5.0, after=after))
    found = adapt_verdict(result)  # type: ignore[arg-type]
    assert said in found.verdict
    assert "was 5.000" in found.why
    without = adapt_verdict(SimpleNamespace(out=tmp_path, held_out=None))  # type: ignore[arg-type]
    assert "No text was held out" in without.why


def test_an_estimate_names_the_run(tmp_path: Path):
    found = estimate_verdict(SimpleNamespace(minutes=20.6, trials=23, episodes=1), Path("a b.yaml"))  # type: ignore[arg-type]
    assert found == Verdict(
        "The run takes about 21 minutes.", "It runs 23 inner loops in 1 episode.", "nmg learn 'a b.yaml' --out run"
    )
    assert accepts(found)


@pytest.mark.parametrize(
    ("means", "differs", "said", "command"),
    [
        (
            {"none": 0.7, "idf": 0.8},
            True,
            "Maskings differ. The highest mean accuracy is that of 'idf'.",
            "--masking idf",
        ),
        ({"none": 0.9, "idf": 0.8}, True, "Maskings differ. The highest mean accuracy is that of 'none'.", ""),
        ({"none": 0.7, "random": 0.8}, False, "No difference between maskings is shown.", ""),
    ],
)
def test_a_comparison_advises_only_what_it_shows(
    means: dict[str, float], differs: bool, said: str, command: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("nmg.report.verdicts.reading", lambda _results: "the tests")
    maskings = [
        SimpleNamespace(masking=name, estimates={"accuracy": SimpleNamespace(mean=mean)})
        for name, mean in means.items()
    ]
    plan = SimpleNamespace(maskings=dict.fromkeys(means))
    part = SimpleNamespace(config=SimpleNamespace(model=SimpleNamespace(name="lm")), plan=plan)
    setting = SimpleNamespace(maskings=maskings, tested="accuracy", part=part)
    found = compare_verdict(
        SimpleNamespace(
            planned=[SimpleNamespace(noun="masking")],
            is_external=False,
            settings=[setting],
            pairs=[SimpleNamespace(differs=differs, is_shown=differs, is_equal=False)],
        )
    )  # type: ignore[arg-type]
    assert found.verdict.startswith(said)
    assert command in found.command
    assert bool(found.command) is bool(command)


@pytest.mark.parametrize(("place", "named"), [("my run/policy", "run"), ("my run", "run"), ("alone", "model")])
def test_a_comparison_names_the_folder_of_the_best_policy(place: str, named: str, tmp_path: Path):
    (tmp_path / "my run" / "policy").mkdir(parents=True)
    for name in ("config.yaml", "policy/config.json"):
        (tmp_path / "my run" / name).touch()
    plan = SimpleNamespace(maskings={"none": None, "learned": tmp_path / place})
    part = SimpleNamespace(config=SimpleNamespace(model=SimpleNamespace(name="lm")), plan=plan)
    command = _adapt_command(part, "learned")  # type: ignore[arg-type]
    words = shlex.split(command)
    assert words[words.index("--masking") + 1] == str(tmp_path / place)
    assert (str(tmp_path / "my run" / "config.yaml") in words) == (named == "run")
    assert ("lm" in words) == (named == "model")
    assert accepts(Verdict("", "", command))


@pytest.mark.parametrize(
    ("pays", "reward", "is_clear", "steps", "examples", "said", "command"),
    [
        (False, "probe", False, 70, 90, "Random masks do not pay. Learning masks: perhaps.", COMPARE),
        (False, None, False, 20, 90, "Random masks do not pay. Learning masks: these trials cannot tell …", LONGER),
        (False, "probe", True, 20, 90, "Random masks do not pay. Learning masks: yes, some masks are better …", LEARN),
        (True, "probe", True, 20, 90, "Adapting pays. Learning masks: yes, some masks are better than others.", LEARN),
        (None, "probe", True, 20, 90, "Adapting: not clear. Learning masks: yes, some masks are better than …", LEARN),
        (True, "probe", False, 20, 90, "Adapting pays. Learning masks: perhaps.", LEARN),
        (None, "probe", False, 20, 90, "Adapting: not clear. Learning masks: perhaps.", LONGER),
        (None, "probe", False, 70, 60, "Adapting: not clear. Learning masks: perhaps.", LONGER),
        (None, "probe", False, 70, 90, "Adapting: not clear. Learning masks: perhaps.", COMPARE),
        (None, None, False, 70, 90, "Adapting: not clear. Learning masks: these trials cannot tell …", COMPARE),
        (True, None, False, 20, 90, "Adapting pays. Learning masks: these trials cannot tell …", ADAPT),
    ],
)
def test_an_audit_answers_both_questions(
    pays: bool | None,
    reward: str | None,
    is_clear: bool,
    steps: int,
    examples: int,
    said: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("nmg.report.audit_page.best_reward", lambda _rewards, _p: reward)
    monkeypatch.setattr("nmg.report.audit_page.is_sound", lambda _reward, _p: is_clear)
    facts = {
        "maskings": {"p": 0.01, "mean": {"random": 0.4, "idf-5": 0.6}},
        "recommendation": "because",
        "steps": {"most": steps, "wanted": 70},
        "examples": {"used": examples, "labelled": 90},
        "minutes": 17.2,
    }
    result = SimpleNamespace(facts=facts, rewards=[], adaptation=SimpleNamespace(pays=pays, none=0.5))
    found = audit_verdict(result, Path("my audit"))  # type: ignore[arg-type]
    assert found.verdict.startswith(said.removesuffix("…"))
    assert (found.why, found.command) == ("because", command)
    if command:
        assert accepts(found)


@pytest.mark.parametrize(("p", "none"), [(0.01, 0.6), (0.01, 0.7), (0.2, 0.5), (None, 0.5)])
def test_an_audit_in_which_no_mask_may_beat_no_adaptation_advises_nothing(
    p: float | None, none: float, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("nmg.report.audit_page.best_reward", lambda _rewards, _p: "probe")
    monkeypatch.setattr("nmg.report.audit_page.is_sound", lambda _reward, _p: True)
    facts = {"maskings": {"p": p, "mean": {"random": 0.4, "idf-5": 0.6}}, "recommendation": "because"}
    result = SimpleNamespace(facts=facts, rewards=[], adaptation=SimpleNamespace(pays=False, none=none))
    found = audit_verdict(result, Path("audit"))  # type: ignore[arg-type]
    assert found == Verdict("Random masks do not pay. No other masks are shown to be better.", "because", "")
