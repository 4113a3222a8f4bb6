"""Records an adaptation: logs its steps, saves checkpoints, and restores the last one."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch

from nmg.adaptation.checkpoints import Checkpoints
from nmg.base.distributed import as_one, from_first, is_main_process
from nmg.base.files import append_text, as_json, write_text
from nmg.base.json_lines import read_lines
from nmg.base.progress import Reporter
from nmg.training.fit import Training
from nmg.trials.trackers import LogNumbers

METRICS = "metrics.jsonl"
SECONDS_PER_FLUSH = 1.0
"""Seconds between two writes to the log. Losses are read from the GPU only then."""

OnStep: TypeAlias = Callable[[Mapping[str, Any], int], None]
"""Called with the last line of the log and the number of steps of the run, about once a second."""


@dataclass
class Recorder:
    """The `Observer` of an adaptation, which writes its log and its checkpoints."""

    out: Path
    """Folder of the run."""
    reporter: Reporter
    track: LogNumbers
    on_step: OnStep
    checkpoint_minutes: float
    resume: bool
    """Whether to continue from the last checkpoint."""
    seconds: float = 0.0
    """Wall time in seconds of the training until the last step, including the time before the run was resumed."""
    _began: float = 0.0
    """`perf_counter` at which an uninterrupted training would have begun."""
    _saved_at: float = 0.0
    """`seconds` at the last checkpoint."""
    _flushed_at: float = 0.0
    """`seconds` at the last line of the log."""
    _logged: int = 0
    """Number of steps in the log."""
    _tokens: int = 0
    """Number of tokens of the steps in the log."""
    _rate: float = 0.0
    """Learning rate of the next step."""
    _pending: list[tuple[int, float, float]] = field(default_factory=list)
    """(number, learning rate, seconds) of each step that is not yet in the log."""

    def begin(self, training: Training) -> None:
        """Prepare the log and start the clock. If the run is resumed, restore the last checkpoint first."""
        found = Checkpoints(self.out).load() if self.resume else None
        if found is not None:
            for name, part in training.parts.items():
                part.restore(found.parts[name])
            self.seconds = float(found.facts["seconds"])
            if found.damaged:
                self.reporter.notify(f"damaged: {', '.join(map(str, found.damaged))}")
        if self.resume:
            self.reporter.notify(f"resuming after {training.steps} of {training.n_steps} steps")
        if is_main_process():
            _cut_log(self.out / METRICS, training.steps if found is not None else -1, self.reporter)
        self._began = time.perf_counter() - self.seconds
        self._saved_at = self._flushed_at = self.seconds
        self._logged, self._rate = training.steps, training.learning_rate
        self._tokens = training.tokens(0, training.steps)

    def after_step(self, training: Training) -> None:
        """Log the step, and save a checkpoint if it is due."""
        self.seconds = time.perf_counter() - self._began
        self._pending.append((training.steps, self._rate, self.seconds))
        self._rate = training.learning_rate
        is_measured = training.watch is not None and training.watch.measured[-1][0] == training.steps
        to_log = self.seconds - self._flushed_at >= SECONDS_PER_FLUSH
        to_save = self.seconds - self._saved_at >= 60 * self.checkpoint_minutes
        to_log, to_save = from_first((to_log, to_save))  # all processes do the same at the same step
        if is_measured or to_log or to_save or training.is_over:
            self._flush(training)
        if to_save and training.is_sound:
            self._save(training)

    def _save(self, training: Training) -> None:
        """Write a checkpoint.

        All processes take part, because it contains the random state of each one (for dropout).
        """
        parts = {name: part.state() for name, part in training.parts.items()}
        with as_one():
            if is_main_process():
                Checkpoints(self.out).save(training.steps, parts, {"seconds": self.seconds})
        self._saved_at = self.seconds

    def _flush(self, training: Training) -> None:
        """Write pending steps to the log and to the trackers."""
        records = self._records(training)
        with as_one():
            if is_main_process():
                append_text(self.out / METRICS, "".join(as_json(record) + "\n" for record in records))
                for record in records:
                    self.track(record, record["step"])
        self._logged, self._flushed_at, self._pending = training.steps, self.seconds, []
        self.on_step(records[-1], training.n_steps)

    def _records(self, training: Training) -> list[dict[str, Any]]:
        """Return one line per pending step, after a line for the loss before the first step."""
        measured = dict(training.watch.measured) if training.watch is not None else {}
        losses = torch.stack(training.losses[self._logged :]).tolist()
        n_new = training.tokens(self._logged, training.steps)
        speed = n_new / max(self.seconds - self._flushed_at, 1e-9)
        records: list[dict[str, Any]] = []
        if not self._logged and 0 in measured:
            records.append({"step": 0, "tokens": 0, "held_out": measured[0]})
        for (step, rate, seconds), loss in zip(self._pending, losses, strict=True):
            self._tokens += training.tokens(step - 1, step)
            numbers = {"step": step, "loss": loss, "learning_rate": rate, "tokens": self._tokens}
            clock = {"tokens_per_second": round(speed, 1), "seconds": round(seconds, 3)}
            held_out = {"held_out": measured[step]} if step in measured else {}
            records.append({**numbers, **held_out, **clock})
        return records


def _cut_log(path: Path, steps: int, reporter: Reporter) -> None:
    """Remove lines of steps after `steps`, repeated lines and broken lines; all lines if `steps` is negative."""
    if not path.is_file():
        return
    found = read_lines(path)
    of_step = {line["step"]: line for line in found.records if line.get("step") in range(steps + 1)}
    if found.broken:
        reporter.notify(f"{path}: left out broken lines: {', '.join(map(str, found.broken))}")
    write_text(path, "".join(as_json(of_step[step]) + "\n" for step in sorted(of_step)))
