"""A meta-training as one call: its folder, its page, and how it continues."""

from pathlib import Path

import pytest

import nmg
from nmg.base.errors import UserError
from nmg.meta_training.log import read_run
from support.runs import Inputs


def test_a_run_has_its_page_at_the_end(inputs: Inputs, tmp_path: Path):
    seen: list[tuple[int, int]] = []
    run = nmg.learn(
        inputs.config(meta={"episodes": 1}), tmp_path / "run", on_episode=lambda one, n: seen.append((one.episode, n))
    )
    assert run.training.is_finished
    assert seen == [(1, 1)]
    assert "Learning masks: run" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    nmg.load_policy(run)
    assert nmg.meta_train is nmg.learn


def test_a_run_continues_and_its_page_is_written_again(inputs: Inputs, tmp_path: Path):
    out = tmp_path / "run"
    nmg.learn(inputs.config(meta={"episodes": 1}), out)
    before = (out / "report.html").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="continue it with --resume"):
        nmg.learn(inputs.config(meta={"episodes": 2}), out)
    run = nmg.learn(inputs.config(meta={"episodes": 2}), out, resume=True)
    assert run.episodes == len(read_run(out).episodes) == 2
    assert (out / "report.html").read_text(encoding="utf-8") != before


def test_what_may_not_change_is_refused(inputs: Inputs, tmp_path: Path):
    out = tmp_path / "run"
    with pytest.raises(UserError, match="this folder contains no run"):
        nmg.learn(inputs.config(), out, resume=True)
    adapted = tmp_path / "adapted"
    adapted.mkdir()
    (adapted / "config.yaml").write_text("{}")
    (adapted / "run.json").write_text('{"job": "adapt"}')
    with pytest.raises(UserError, match=f"Continue it: nmg adapt --resume {adapted}"):
        nmg.learn(inputs.config(), adapted, resume=True)
    nmg.learn(inputs.config(meta={"episodes": 1}), out)
    with pytest.raises(UserError, match=r"only meta\.episodes and runtime settings may change"):
        nmg.learn(inputs.config(meta={"episodes": 1}, adapt={"learning_rate": 0.5}), out, resume=True)
