"""nmg report: where it writes, that it watches a run to its end, and what it refuses."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmg.cli import main
from support.run_logs import episode, write_facts, write_lines, write_run


@pytest.fixture
def nmg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Call the command line in this process: exit code, standard output, standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nmg", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return call


def test_report_writes_the_page_beside_the_run_or_elsewhere(nmg: Any, tmp_path: Path):
    run = write_run(tmp_path / "run", episode(0))
    assert nmg("report", run) == (0, f"{run}/report.html: 1 of 100 episodes\n", "")
    assert "Learning masks: run" in (run / "report.html").read_text()
    assert nmg("report", run, "--out", tmp_path / "new" / "page.html")[0] == 0
    assert (tmp_path / "new" / "page.html").read_text() == (run / "report.html").read_text()


def test_report_watches_until_the_run_is_finished(nmg: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run, slept = write_run(tmp_path / "run", planned=3), []

    def next_episode(seconds: float) -> None:
        assert 'content="30"' in (run / "report.html").read_text()
        slept.append(seconds)
        episodes = [episode(index) for index in range(len(slept))]
        write_lines(run / "metrics.jsonl", *episodes)
        write_facts(run, episodes, 3)

    monkeypatch.setattr("time.sleep", next_episode)
    code, out, _ = nmg("report", run, "--watch", "30")
    assert code == 0
    assert slept == [30, 30, 30]
    assert out.splitlines() == [f"{run}/report.html: {n} of 3 episodes" for n in range(4)]
    assert 'http-equiv="refresh"' not in (run / "report.html").read_text()


@pytest.mark.parametrize("words", [["nowhere"], ["empty"], ["run", "--out", "empty"]], ids=" ".join)
def test_what_report_refuses(nmg: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", episode(0))
    (tmp_path / "empty").mkdir()
    code, out, said = nmg("report", *words)
    assert code == 2
    assert out == ""
    assert re.fullmatch(r"error: .*(contains no run|cannot be written).*\n", said), said
    assert not list((tmp_path / "empty").iterdir())
