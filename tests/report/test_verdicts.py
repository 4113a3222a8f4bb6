"""The last lines of commands: verdict, reason and a next command that the command line accepts."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import typer.main

from nmg.cli import app
from nmg.report.document import Verdict
from nmg.report.verdicts import adapt_verdict, estimate_verdict, learn_verdict


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
        "rule": "selected a rule",
        "random": "selected random masks",
        "none": "no masks that are better than no adaptation",
    }.items():
        found = learn_verdict(replace(log, findings={"selected": selected}), tmp_path / "run")
        assert said in found.verdict
        assert accepts(found)


@pytest.mark.parametrize(("after", "said"), [(4.0, "better than before"), (6.0, "does not predict")])
def test_an_adaptation_says_whether_the_model_predicts_better(after: float, said: str, tmp_path: Path):
    from types import SimpleNamespace

    result = SimpleNamespace(out=tmp_path / "adapted", held_out=SimpleNamespace(before=5.0, after=after))
    found = adapt_verdict(result)  # type: ignore[arg-type]
    assert said in found.verdict
    assert "was 5.000" in found.why
    without = adapt_verdict(SimpleNamespace(out=tmp_path, held_out=None))  # type: ignore[arg-type]
    assert "No text was held out" in without.why


def test_an_estimate_names_the_run(tmp_path: Path):
    from types import SimpleNamespace

    found = estimate_verdict(SimpleNamespace(minutes=20.6, trials=23, episodes=1), Path("a b.yaml"))  # type: ignore[arg-type]
    assert found == Verdict(
        "The run takes about 21 minutes.", "It runs 23 inner loops in 1 episode.", "nmg learn 'a b.yaml' --out run"
    )
    assert accepts(found)
