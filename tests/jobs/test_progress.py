"""Progress of Python calls: bars of a notebook, messages of a reporter, silence elsewhere."""

import pytest
from transformers.utils import logging as transformers_logging

from nmg.jobs import progress
from nmg.jobs.progress import NotebookBars, job_progress
from support.runs import Notes


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the bars of a notebook showed; every update counts."""
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    return []


def test_bars_of_a_notebook(shown: list[str], capsys: pytest.CaptureFixture[str]):
    bars = NotebookBars(shown.append)
    bars.overall("trial <1>", 1, 4)
    bars.steps("adapting")(3, 10)
    assert shown[0] == '<div><progress value="1" max="4"></progress> trial &lt;1&gt;</div>'
    assert shown[1].count("<progress ") == 2
    assert '<progress value="3" max="10"></progress> adapting' in shown[1]
    bars.steps("adapting")(10, 10)
    assert "adapting" not in shown[2], "a finished phase has no bar"
    bars.notify("a warning")
    assert capsys.readouterr().out == "a warning\n"


def test_bars_are_not_updated_too_often(monkeypatch: pytest.MonkeyPatch, shown: list[str]):
    monkeypatch.setattr(progress, "SECONDS", 3600.0)
    monkeypatch.setattr("time.monotonic", lambda: 5000.0)
    advance = NotebookBars(shown.append).steps("adapting")
    for done in range(100):
        advance(done, 100)
    assert len(shown) == 1


def test_a_reporter_gets_messages_and_phases(capfd: pytest.CaptureFixture[str]):
    notes = Notes()
    with job_progress(True, notes) as job:
        job.notify("a line")
        job.steps("a phase")(1, 2)
        job.overall("all", 1, 2)
    assert (notes.lines, notes.phases) == (["a line"], ["a phase"])
    assert capfd.readouterr() == ("", "")


def test_a_reporter_with_a_bar_gets_the_progress_of_the_job():
    seen = []

    class Bar(Notes):
        def overall(self, description: str, done: float, total: float) -> None:
            seen.append((description, done, total))

    bar = Bar()
    with job_progress(True, bar) as job:
        job.overall("trial 1/2", 1, 2)
    with job_progress(True, progress.Messages(bar)) as part:
        part.overall("a part", 1, 2)
        part.notify("a line")
    assert (seen, bar.lines) == ([("trial 1/2", 1, 2)], ["a line"])


@pytest.mark.parametrize("is_shown", [True, False])
def test_calls_are_silent_without_a_terminal(is_shown: bool, capfd: pytest.CaptureFixture[str]):
    with job_progress(is_shown, None) as job:
        job.notify("a line")
        job.steps("a phase")(1, 2)
        job.overall("all", 1, 2)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_has_bars_unless_they_are_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    for is_shown in (True, False):
        with job_progress(is_shown, None) as job:
            job.overall("trial 1/2", 1, 2)
            job.notify("a line")
        assert ("a line" in capsys.readouterr().err) == is_shown


def test_other_libraries_are_quiet_meanwhile():
    transformers_logging.enable_progress_bar()
    before = transformers_logging.get_verbosity()
    seen = []

    def fail() -> None:
        with job_progress(False, None):
            seen.append(transformers_logging.is_progress_bar_enabled())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == [False]
    assert transformers_logging.is_progress_bar_enabled()
    assert transformers_logging.get_verbosity() == before
