"""Killed at random moments, a meta-training, an adaptation and a comparison end as ones that were left alone.

    pytest tests/test_kills.py                  eleven kills
    pytest tests/test_kills.py -m slow          seventy

A job runs in a process of its own, forked from one that has loaded all libraries; `kill -9`, Ctrl-C (SIGINT) and
SIGTERM end it by turns, each after a time drawn from a seed, until it has survived so many. Then it is let end, and
each file of its folder that says something of the result must be that of an undisturbed job, to the bit.
"""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmg.adaptation.save import is_saved
from nmg.base.numerals import duration_text
from nmg.comparison.results import trial_json
from nmg.config import Config, load_config
from nmg.trials.store import TRIALS, read_trials
from support.documents import documents, save_model
from support.runs import Inputs, read_log, resume_run

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
OUTLIVES = 5.0
"""seconds that a process may outlive the one that started it"""
LOADED = ["nmg.adaptation.adapt", "nmg.meta_training.run", "nmg.jobs.compare", "torch.utils.tensorboard", "nmg.cli"]


def meta_train(config: Path, out: Path) -> None:
    from nmg.base.progress import Silent
    from nmg.meta_training import run as meta_training

    if (out / "config.yaml").is_file():
        resume_run(out, [], Silent(), lambda *_: None)
    else:
        meta_training.start(load_config(config), out, Silent(), lambda *_: None)


def adapt(config: Path, out: Path) -> None:
    from nmg.adaptation.adapt import adapt_corpus

    if not is_saved(out):
        adapt_corpus(load_config(config), "random", out, resume=(out / "config.yaml").is_file())


def compare(config: Path, out: Path) -> None:
    from nmg.jobs.compare import compare as run

    run(load_config(config), ["none", "random", "idf"], out, seeds=3, save_models=True)


def as_command(job: Callable[[Path, Path], None], config: Path, out: Path) -> None:
    """As `nmg.cli.main` runs it: SIGTERM and SIGINT end it from within."""
    try:
        from nmg import cli

        signal.signal(signal.SIGTERM, cli._end)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        job(config, out)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def result(out: Path) -> dict[str, Any]:
    """Everything in the folder but what the clock says, and the command that ran last."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        with_times = {"run.json", "results.json", "results.csv", "results.md", "results.tex", "index.html"}
        if name.startswith("checkpoints/step-"):
            continue  # of an adaptation that was killed after its model was saved
        if path.is_dir() or path.name in with_times or path.name.startswith(("events.out", ".")):
            continue
        if path.name == "metrics.jsonl":
            found[name] = [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in read_log(out)]
        elif path.name == TRIALS:
            found[name] = {spec: trial_json(one) | {"seconds": None} for spec, one in read_trials(path).items()}
        elif path.name == "nmg.json":
            found[name] = json.loads(path.read_text()) | {"seconds": None}
        elif path.name == "README.md" and (path.parent / "nmg.json").is_file():
            took = duration_text(json.loads((path.parent / "nmg.json").read_text())["seconds"])
            assert f" of them masked, {took}" in path.read_text()
            found[name] = path.read_text().replace(f" of them masked, {took}", "")
        else:
            found[name] = path.read_bytes()
    return found


def descendants(parent: int) -> list[int]:
    """Processes that this one started, and those that these started."""
    lines = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.splitlines()
    children: dict[int, list[int]] = {}
    for line in lines:
        child, of = map(int, line.split())
        children.setdefault(of, []).append(child)
    found, left = [], [parent]
    while left:
        started = children.get(left.pop(), [])
        found += started
        left += started
    return found


def is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/status")
    try:
        return "\nState:\tZ" not in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


class Killer:
    def __init__(self, job: Callable[[Path, Path], None], config: Path, folder: Path, seed: int) -> None:
        self.job, self.config, self.folder = job, config, folder
        self.rng = np.random.default_rng(seed)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(LOADED)
        began = time.monotonic()
        self.run(folder / "whole").join()
        self.seconds = time.monotonic() - began
        """of an undisturbed job"""
        self.log: list[str] = []

    def run(self, out: Path) -> BaseProcess:
        process = self.context.Process(target=as_command, args=(self.job, self.config, out))
        process.start()
        return process

    def survive(self, kills: int, out: Path) -> int:
        """Kill a job up to so many times, let it end, and compare; returns how often it was killed before its end."""
        for number in range(kills):
            process = self.run(out)
            wait = float(self.rng.uniform(0, self.seconds))
            process.join(wait)
            how = SIGNALS[len(self.log) % len(SIGNALS)]
            if not process.is_alive() or not self.kill(process, how, wait):
                process.join()
                assert process.exitcode == 0, self.log
                self.check(out)
                return number
        last = self.run(out)
        last.join()
        assert last.exitcode == 0, self.log
        self.check(out)
        return kills

    def kill(self, process: BaseProcess, how: signal.Signals, wait: float) -> bool:
        """Returns False where the process has ended by itself in the meantime."""
        assert process.pid is not None
        started = descendants(process.pid)
        self.log.append(f"{how.name} after {wait:.3f} s, with {len(started)} processes")
        try:
            os.kill(process.pid, how)
        except ProcessLookupError:
            return False
        process.join()
        ends = {-how, 128 + how, 0}
        if how == signal.SIGINT:
            ends.add(1)  # before or after the job, as multiprocessing ends a process
        assert process.exitcode in ends, self.log
        deadline = time.monotonic() + OUTLIVES
        while left := [one for one in started if is_running(one)]:
            assert time.monotonic() < deadline, (left, self.log)
            time.sleep(0.05)
        return True

    def check(self, out: Path) -> None:
        ours, whole = result(out), result(self.folder / "whole")
        assert set(ours) == set(whole), self.log
        for name, content in ours.items():
            assert content == whole[name], (name, self.log)


def adapt_config(inputs: Inputs, folder: Path, long: bool) -> Config:
    """A checkpoint after each step, held-out text, and an early stop that comes late."""
    (folder / "corpus.txt").write_text("\n".join(documents(120)))
    adapt = {"epochs": 12 if long else 4, "held_out": 0.2, "evaluate_every": 7, "patience": 4}
    return inputs.config(
        model={"name": str(save_model(folder / "model"))},
        data={"train": None, "test": None, "corpus": str(folder / "corpus.txt")},
        adapt=adapt,
        runtime={"checkpoint_minutes": 0},
    )


def config_of(inputs: Inputs, job: Callable[[Path, Path], None], processes: int, long: bool) -> Config:
    runtime = {"processes": processes, "trackers": ["tensorboard"] if job is meta_train else []}
    data = {"corpus": str(inputs.train)}
    if job is meta_train:
        return inputs.config(meta={"episodes": 12 if long else 6, "checkpoint_every": 3}, runtime=runtime)
    return inputs.config(data=data, adapt={"epochs": 8 if long else 4}, runtime=runtime)


JOBS = {"meta-train": meta_train, "adapt": adapt, "compare": compare}


def kill_some(inputs: Inputs, folder: Path, job: str, processes: int, kills: int, seed: int) -> None:
    """As many kills as asked for; a job that ends before it is killed begins anew."""
    config = folder / "config.yaml"
    long = kills > 5
    settings = config_of(inputs, JOBS[job], processes, long) if job != "adapt" else adapt_config(inputs, folder, long)
    config.write_text(settings.to_yaml())
    killer, survived = Killer(JOBS[job], config, folder, seed), 0
    for number in range(10 * kills):
        survived += killer.survive(kills - survived, folder / f"out-{number}")
        shutil.rmtree(folder / f"out-{number}")
        if survived == kills:
            break
    assert survived == kills, killer.log


@pytest.fixture(autouse=True)
def _no_process_stays() -> Iterator[None]:
    yield
    assert not [child for child in multiprocessing.active_children() if child.is_alive()]


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="looks at processes as Linux shows them")
@pytest.mark.parametrize(
    ("job", "processes", "kills"),
    [("meta-train", 1, 2), ("adapt", 1, 2), pytest.param("compare", 1, 2, marks=pytest.mark.slow)],
)
def test_a_few_kills(inputs: Inputs, tmp_path: Path, job: str, processes: int, kills: int):
    kill_some(inputs, tmp_path, job, processes, kills, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="looks at processes as Linux shows them")
@pytest.mark.parametrize(
    ("job", "processes", "kills"),
    [("meta-train", 1, 15), ("meta-train", 2, 10), ("adapt", 1, 30), ("compare", 1, 10), ("compare", 2, 5)],
)
def test_many_kills(inputs: Inputs, tmp_path: Path, job: str, processes: int, kills: int):
    kill_some(inputs, tmp_path, job, processes, kills, seed=1)
