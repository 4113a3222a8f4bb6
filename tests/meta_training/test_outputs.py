"""Outputs that cannot be written are found before the work, and no two processes write into one folder."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nmg.adaptation import adapt as adaptation
from nmg.base.errors import UserError
from nmg.base.outputs import LOCK, PARTIAL, check_file, check_output, check_writable, output_lock
from nmg.meta_training import run as meta_training
from nmg.trials.session import ModelSession, Session
from support.command import Nmg
from support.runs import Inputs, Notes, resume_run

HOLD = """
import sys, time
from pathlib import Path
from nmg.base.outputs import output_lock

with output_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(folder: Path) -> "subprocess.Popen[str]":
    """A process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def commands(inputs: Inputs, folder: Path) -> dict[str, list[Any]]:
    """A call of every command that writes, but for its output, which comes last."""
    config = inputs.write_config(folder / "config.yaml")
    plain = inputs.write_config(folder / "plain.yaml", meta={"continual": False})
    plain.write_text(plain.read_text().replace("kind: actor-critic", "kind: random-search"))
    learned = ["--policy.kind", "linear", "--learner.kind", "random-search", "--meta.continual", "false"]
    return {
        "learn": ["learn", config, "--out"],
        "compare": ["compare", config, "--maskings", "random", "--out"],
        "audit": ["audit", config, *learned, "--out"],
        "adapt": ["adapt", "--config", config, "--corpus", inputs.train, "--out"],
        "demo": ["demo", "--out"],
        "inspect": ["inspect", "--model", inputs.model, "--text", inputs.train, "--out"],
        "convert": ["data", "convert", inputs.train],
        "corpus": ["data", "corpus", inputs.train],
    }


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command may load a model or data."""
    for target, name in ((Session, "open_all"), (ModelSession, "open"), (Session, "prepare")):
        monkeypatch.setattr(target, name, lambda *_: pytest.fail("work has begun"))
    # Where they are used: a module that is first imported under a patch would keep it.
    for name in ("nmg.demo.run.write_demo_data", "nmg.cli.data._read", "nmg.inspection.run.read_any_texts"):
        monkeypatch.setattr(name, lambda *_: pytest.fail("work has begun"))


NAMES = ("learn", "compare", "audit", "adapt", "demo", "inspect", "convert", "corpus")


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("name", NAMES)
def test_an_output_that_cannot_be_written_is_found_before_the_work(inputs: Inputs, tmp_path: Path, nmg: Nmg, name: str):
    """A folder inside a file; a read-only folder and a full disk answer in the same way."""
    (tmp_path / "file").write_text("")
    ending = {"inspect": ".html", "convert": ".csv", "corpus": ".txt"}.get(name, "")
    answer = nmg(*commands(inputs, tmp_path)[name], tmp_path / "file" / "inside" / f"out{ending}")
    assert answer.code == 2
    assert re.fullmatch(r"error: .*file/inside.*: cannot be written: Not a directory", answer.err.strip()), answer.err


@pytest.mark.usefixtures("no_work")
@pytest.mark.skipif(not Path("/proc/self").is_dir() or not os.access("/", os.W_OK), reason="needs Linux")
@pytest.mark.parametrize("name", ["learn", "adapt", "inspect"])
def test_where_the_system_lets_no_one_write(inputs: Inputs, tmp_path: Path, nmg: Nmg, name: str):
    ending = ".html" if name == "inspect" else ""
    answer = nmg(*commands(inputs, tmp_path)[name], f"/proc/nmg/out{ending}")
    assert answer.code == 2
    assert "cannot be written: No such file or directory" in answer.err


def test_a_look_leaves_all_as_it_was(tmp_path: Path):
    check_writable(tmp_path / "a" / "b" / "c")
    assert list(tmp_path.iterdir()) == []
    check_file(tmp_path / "a" / "page.html")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="because it is a folder"):
        check_file(tmp_path)


def test_a_full_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Full:
        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def write(self, _content: bytes) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    with pytest.raises(UserError, match=r"out: cannot be written: No space left on device"):
        check_writable(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_free_whatever_a_kill_left_half_written(tmp_path: Path):
    check_output(tmp_path)
    (tmp_path / ".config.0a1b.yaml").write_text("")
    (tmp_path / LOCK).write_text("")
    check_output(tmp_path)
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(UserError, match="already contains another run"):
        check_output(tmp_path)
    (tmp_path / PARTIAL).mkdir()
    check_output(tmp_path)


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path: Path):
    """Also where the first was killed, which lets no one tidy up."""
    first = hold(tmp_path / "run")
    with pytest.raises(UserError, match="another process is writing to this folder"), output_lock(tmp_path / "run"):
        pass
    first.send_signal(signal.SIGKILL)
    first.wait()
    with output_lock(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).exists()
    assert not (tmp_path / "run" / LOCK).exists()


def test_within_one_process_too(tmp_path: Path):
    with output_lock(tmp_path / "run"):
        with pytest.raises(UserError, match="another process"), output_lock(tmp_path / "run"):
            pass
        (tmp_path / "run" / "file").write_text("kept")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["file"]
    with output_lock(tmp_path / "a" / "b"):
        pass
    assert not (tmp_path / "a").exists(), "where nothing was written, no folder stays"


@pytest.mark.usefixtures("no_work")
def test_every_command_that_fills_a_folder_holds_it(inputs: Inputs, tmp_path: Path, nmg: Nmg):
    (tmp_path / "run").mkdir()
    inputs.write_config(tmp_path / "run" / "config.yaml")
    process = hold(tmp_path / "out")
    other = hold(tmp_path / "run")
    try:
        for name in ("learn", "compare", "audit", "adapt", "demo"):
            answer = nmg(*commands(inputs, tmp_path)[name], tmp_path / "out")
            assert (answer.code, name) == (2, name)
            assert "another process is writing to this folder" in answer.err
        answer = nmg("learn", "--resume", tmp_path / "run")
        assert "another process is writing to this folder" in answer.err
    finally:
        for one in (process, other):
            one.kill()
            one.wait()


def test_a_model_is_saved_into_a_folder_that_cannot_be_renamed(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As the mount point of a container; what a kill left of an earlier save is replaced."""
    out = tmp_path / "out"
    (out / PARTIAL).mkdir(parents=True)
    (out / "model.safetensors").write_text("half")
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, to: pytest.fail("renamed") if self == out else rename(self, to))
    adaptation.adapt_corpus(inputs.config(data={"corpus": str(inputs.train)}), "random", out)
    names = {path.name for path in out.iterdir()}
    assert {"config.json", "model.safetensors", "nmg.json"} <= names
    assert not [name for name in names if name.startswith(".")]


def test_a_disk_that_fills_during_a_run_is_a_clear_error_and_the_checkpoint_before_stays(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from nmg.base import files

    flush, written = files._flush, []

    def fill(path: Path) -> None:
        if "episode-00002.tmp" in str(path):
            written.append(path)
            raise OSError(28, "No space left on device")
        flush(path)

    monkeypatch.setattr(files, "_flush", fill)
    with pytest.raises(UserError, match=r"episode-00002.tmp/.*: cannot be written: No space left on device"):
        meta_training.start(inputs.config(), tmp_path / "run", Notes(), lambda *_: None)
    monkeypatch.setattr(files, "_flush", flush)
    notes = Notes()
    resumed = resume_run(tmp_path / "run", [], notes, lambda *_: None)
    assert "resuming after 1 of 3 episodes" in notes.lines
    assert resumed.is_finished


def test_sigterm_ends_a_command_as_from_within(inputs: Inputs, tmp_path: Path):
    """The lock and its file go, and the exit code says which signal it was."""
    config = inputs.write_config(tmp_path / "config.yaml", meta={"episodes": 1000})
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "nmg", "learn", str(config), "--out", str(out)], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=20) == 128 + signal.SIGTERM
    assert not (out / LOCK).exists()


def test_of_processes_that_train_together_the_first_holds_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with output_lock(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).is_file()
        monkeypatch.setenv("RANK", "1")
        with output_lock(tmp_path / "run"), output_lock(tmp_path / "other"):
            assert not (tmp_path / "other").exists()
