"""Options that are not there, lists with blanks, Ctrl-C, and a hub that does not answer: one clear line each."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nmg.base.errors import UserError
from nmg.cli.commands import join_lists
from support.command import Nmg
from support.runs import Inputs


@pytest.fixture
def config(inputs: Inputs, tmp_path: Path) -> Path:
    return inputs.write_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "c.yaml", "--ou", "x"], "No such option: --ou. Did you mean --out?"),
        (["learn", "c.yaml", "--ou", "x"], "No such option: --ou. Did you mean --out?"),
        (["compare", "c.yaml", "--ou=x"], "No such option: --ou. Did you mean --out?"),
        (["audit", "c.yaml", "--minuts", "3"], "No such option: --minuts. Did you mean --minutes?"),
        (["estimate", "c.yaml", "--outt", "x"], "No such option: --outt. Did you mean --out?"),
        (["validate", "c.yaml", "--quite"], "No such option: --quite. Did you mean --quiet?"),
        (["adapt", "--corpus", "a.txt", "--ou", "x"], "No such option: --ou. Did you mean --out?"),
        (["inspect", "--polcy", "x"], "No such option: --polcy. Did you mean --policy?"),
        (["demo", "--ou", "x"], "No such option: --ou. Did you mean --out?"),
        (["demo", "-o", "x"], "No such option: -o. Use "),
        (["validate", "c.yaml", "--seed", "3"], "No such option: --seed. Did you mean --run.seed?"),
        (["validate", "c.yaml", "--zzz"], "No such option: --zzz. Use --help, --quiet, -h, or --section.field"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_is_not_there(nmg: Nmg, words: Sequence[str], message: str):
    answer = nmg(*words)
    assert answer.code == 2
    assert answer.err.startswith(f"error: {message}")
    assert len(answer.err.splitlines()) == 1


def test_values_may_look_like_options(nmg: Nmg, config: Path):
    assert nmg("validate", config, "--data.label_field", "-x").code == 0
    assert nmg("validate", config, "--engine", "serial").code == 0


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        (["--maskings", "none,", "random"], ["--maskings", "none,random"]),
        (["--maskings", "none", ",", "random"], ["--maskings", "none,random"]),
        (["--maskings", "none", ",random", "--out", "x"], ["--maskings", "none,random", "--out", "x"]),
        (["a.yaml", "b.yaml", "--out", "x"], ["a.yaml", "b.yaml", "--out", "x"]),
        (["--maskings=none,", "--out", "x"], ["--maskings=none,", "--out", "x"]),
        (["--maskings=none,", "random"], ["--maskings=none,random"]),
    ],
)
def test_a_list_may_have_blanks(words: list[str], joined: list[str]):
    assert join_lists(words) == joined


def test_maskings_with_blanks_are_compared(nmg: Nmg, config: Path):
    answer = nmg("compare", config, "--maskings", "none,", "rondom", "--out", "out")
    assert answer.err == "error: there is no masking 'rondom'; did you mean 'random'?\n"


@pytest.mark.parametrize(
    ("words", "target", "advice"),
    [
        (
            ("learn", "config.yaml", "--out", "out"),
            "nmg.jobs.learn.learn",
            "nothing was saved yet, so run the same command again",
        ),
        (
            ("learn", "--resume", "run"),
            "nmg.jobs.learn.learn",
            "continue with: nmg learn --resume run",
        ),
        (
            ("compare", "config.yaml", "--out", "out"),
            "nmg.jobs.compare.compare",
            "run the same command again to continue",
        ),
        (
            ("audit", "config.yaml", "--out", "out"),
            "nmg.jobs.audit.audit",
            "run the same command again to continue",
        ),
        (("demo", "--out", "run"), "nmg.demo.run.run_demo", "remove run before you start again"),
        (
            ("data", "describe", "config.yaml"),
            "nmg.tasks.load.guess_task",
            "nothing was saved, so run the same command",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_an_interruption_says_how_to_continue(
    nmg: Nmg,
    config: Path,
    words: Sequence[str],
    target: str,
    advice: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    def interrupt(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(config.read_text())
    monkeypatch.setattr(target, interrupt)
    answer = nmg(*words)
    assert answer.code == 130
    assert answer.err.startswith(f"interrupted; {advice}")
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize("phase", [None, "adapting"])
def test_an_error_has_its_own_line_whether_or_not_a_bar_is_there(
    nmg: Nmg, phase: str | None, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_arguments: Any, reporter: Any, **_options: Any) -> None:
        if phase is not None:
            reporter.steps(phase)(1, 3)
        raise UserError("no more")

    monkeypatch.setattr("nmg.jobs.adapt.adapt", fail)
    lines = nmg("adapt", "--corpus", "a.txt", "--out", "out").err.splitlines()
    assert lines[-1] == "error: no more"
    assert [line.split()[0] for line in lines[:-1]] == ([] if phase is None else [phase])


NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
"""a hub that refuses every connection"""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("adapt", "--corpus", "a.txt", "--model", "no-such/model", "--out", "out"),
            "error: model.name: there is no folder 'no-such/model', the hub cannot be reached, and its cache does "
            "not contain it",
        ),
        (
            ("data", "describe", "hub:no/such"),
            "error: hub:no/such: cannot be reached, and is not in the cache of `datasets`",
        ),
    ],
    ids=["model", "data"],
)
@pytest.mark.slow
def test_a_hub_that_does_not_answer(words: Sequence[str], message: str, tmp_path: Path):
    (tmp_path / "a.txt").write_text("one two\n")
    environment = {**os.environ, **NO_HUB, "HF_HOME": str(tmp_path / "cache"), "COLUMNS": "300"}
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "nmg", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert time.monotonic() - began < 60, "it does not try again and again"
    assert ended.returncode == 2
    assert ended.stderr.startswith(message)
    assert len(ended.stderr.splitlines()) == 1, "no line of a library"


@pytest.mark.parametrize("content", ["nothing", "a broken tokenizer"])
def test_a_folder_without_a_model(nmg: Nmg, content: str, tmp_path: Path):
    (tmp_path / "model").mkdir()
    (tmp_path / "a.txt").write_text("one two\n")
    if content != "nothing":
        (tmp_path / "model" / "config.json").write_text('{"model_type": "bert"}')
    answer = nmg("adapt", "--corpus", "a.txt", "--model", "model", "--out", "out")
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 1
    if content == "nothing":
        assert answer.err == "error: model.name: the folder 'model' contains no model: there is no config.json\n"
    else:
        assert not answer.err.rstrip().endswith(":"), "the reason is not cut at a colon"


def test_a_corpus_of_special_tokens_alone(nmg: Nmg, inputs: Inputs, tmp_path: Path):
    (tmp_path / "a.txt").write_text("[SEP] [CLS]\n[PAD]\n")
    answer = nmg("adapt", "--corpus", "a.txt", "--model", inputs.model, "--out", "out", "--adapt.block_size=16")
    assert answer.code == 2
    assert answer.err.startswith("error: the corpus contains only special tokens ('[SEP] [CLS]')")
    assert not (tmp_path / "out").exists()
