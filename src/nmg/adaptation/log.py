"""Reads the folder of an adaptation, finished or not, for its page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmg.adaptation.folder import AdaptationFolder
from nmg.adaptation.recorder import METRICS
from nmg.base.errors import bad_input
from nmg.base.json_lines import read_lines
from nmg.config import Config


@dataclass(frozen=True)
class AdaptationLog:
    """The files of an adaptation."""

    folder: Path
    config: Config
    """The settings, with the values of the recipe."""
    run: Mapping[str, Any]
    """Content of run.json."""
    records: Sequence[Mapping[str, Any]]
    """Lines of metrics.jsonl: one per step, after one for the measurement before the first step."""
    facts: Mapping[str, Any] | None
    """Content of nmg.json; None while the run is not finished."""

    @classmethod
    def read(cls, folder: Path) -> "AdaptationLog":
        """Read the files. Raises UserError if there is no adaptation in the folder, or nmg.json is damaged."""
        run = AdaptationFolder(folder)
        config, path, facts = run.recorded(), folder / "nmg.json", None
        if path.is_file():
            try:
                facts = dict(json.loads(path.read_text("utf-8")))
            except (ValueError, TypeError, RecursionError) as error:
                raise bad_input(path, "is not valid JSON") from error
        records = read_lines(folder / METRICS).records if (folder / METRICS).is_file() else []
        return cls(folder, config, run.facts(), records, facts)

    @property
    def is_finished(self) -> bool:
        """Whether the folder holds the adapted model."""
        return self.facts is not None

    @property
    def progress(self) -> str:
        """Number of steps taken, and the planned number, as text."""
        planned = self.run["planned_steps"]
        return f"{len(self.steps):,} of {'?' if planned is None else f'{planned:,}'} steps"

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        """The lines of the log that describe a step."""
        return [record for record in self.records if record["step"]]

    @property
    def held_out(self) -> list[tuple[int, float]]:
        """Step and loss of each measurement on held-out text."""
        return [(record["step"], record["held_out"]) for record in self.records if record.get("held_out") is not None]
