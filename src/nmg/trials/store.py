"""Stores the results of trials, so that an interrupted comparison or audit can continue.

FOLDER/trials.jsonl      one line per finished trial
FOLDER/errors/NAME.txt   the traceback of a trial that failed and has not been repeated
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from nmg.base.distributed import as_one, is_main_process
from nmg.base.errors import bad_input
from nmg.base.files import as_json, cannot_write, write_text
from nmg.base.trial import TrialResult, TrialSpec
from nmg.trials.provenance import TrialProvenance

TRIALS, ERRORS = "trials.jsonl", "errors"


class TrialStore:
    """The results of the trials of one folder."""

    def __init__(self, folder: Path, provenance: TrialProvenance) -> None:
        self.path, self._errors = folder / TRIALS, folder / ERRORS
        self.provenance = provenance
        self.results: dict[TrialSpec, TrialResult] = {}
        """The loaded results and the results of this process, including failed trials."""

    def load(self) -> None:
        """Read the results of earlier processes.

        Raises UserError for a damaged line, and for any result that was made from other inputs.
        """
        self.results = read_trials(self.path)
        for spec, result in self.results.items():
            self.provenance.check(self.path.parent, f"{self.path.name} ({spec.name})", result)

    def missing(self, specs: Iterable[TrialSpec]) -> list[TrialSpec]:
        """Return the trials that have no result or failed."""
        return [spec for spec in specs if spec not in self.results or self.results[spec].error is not None]

    def append(self, result: TrialResult) -> TrialResult:
        """Store a result with its provenance and return it. A failed trial leaves its traceback in a file.

        In distributed training, all processes call this and the main process writes. Raises UserError if a file cannot
        be written.
        """
        result = replace(result, provenance=self.provenance.of(result.spec.masking))
        self.results[result.spec] = result
        with as_one():
            if is_main_process():
                self._write(result)
        return result

    def _write(self, result: TrialResult) -> None:
        report = self._errors / f"{result.spec.name}.txt"
        if result.error is not None:
            write_text(report, result.traceback or f"{result.error}\n")
            return
        facts = {name: value for name, value in _LINE.dump_python(result).items() if name not in NOT_STORED}
        _append(self.path, as_json(facts).encode() + b"\n")
        report.unlink(missing_ok=True)
        with suppress(OSError):  # it is missing, or other trials failed
            self._errors.rmdir()


NOT_STORED = {"error", "traceback"}
_LINE = TypeAdapter(TrialResult)


def read_trials(path: Path) -> dict[TrialSpec, TrialResult]:
    """Read the results in a file without checking their provenance; the last result of a trial counts.

    A last line without a line break is ignored, because the process that wrote it was killed or the disk was full.

    Raises:
        UserError: A line is not a result; the message names file and line.
    """
    if not path.is_file():
        return {}
    results = {}
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            result = _LINE.validate_json(line)
        except ValueError as error:
            raise bad_input(path, "is not a trial; remove the line to run the trial again", line=number) from error
        results[result.spec] = result
    return results


def _append(path: Path, line: bytes) -> None:
    """Append a line to a file and sync it to the disk, after removing an incomplete last line.

    Raises UserError if the line cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.truncate(path.read_bytes().rfind(b"\n") + 1)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error


def has_trials(folder: Path) -> bool:
    """Return whether a folder contains finished or failed trials."""
    return (folder / TRIALS).is_file() or (folder / ERRORS).is_dir()
