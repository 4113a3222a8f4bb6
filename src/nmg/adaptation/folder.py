"""The folder of an adaptation: what it was begun with, whether it may be resumed, and whether it is finished.

DIR/config.yaml      every setting as it was resolved
DIR/run.json         masking, digests of model and text, versions, planned steps, whether the run is finished
DIR/metrics.jsonl    one line per step, see nmg.adaptation.recorder
DIR/checkpoints/     while the run is not finished, see nmg.adaptation.checkpoints
DIR/config.json, …   the adapted model, when the run is finished
"""

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmg.adaptation.checkpoints import Checkpoints
from nmg.adaptation.save import is_saved
from nmg.base.errors import UserError, bad_input
from nmg.base.files import as_json, write_text
from nmg.base.outputs import check_output
from nmg.base.settings import named_contents
from nmg.config import Config, load_config
from nmg.training.runtime import Runtime, package_versions
from nmg.trials.provenance import changed_names
from nmg.trials.trackers import flat

JOB = "adapt"
"""Value of `job` in run.json, which runs of other commands do not have."""
SECTIONS = ("run", "model", "data", "masking", "adapt", "test")
"""Sections of the settings that an adaptation depends on."""


class AdaptationFolder:
    """The folder of an adaptation."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check_new(self) -> None:
        """Raise UserError if the folder contains files."""
        check_output(self.path, "another run (continue that one with --resume)")

    def begin(self, config: Config, masking: str, inputs: Mapping[str, str], runtime: Runtime) -> None:
        """Write what the run begins with, and remove what an interrupted one may have left.

        Args:
            config: The settings.
            masking: The name of the masking.
            inputs: Name → digest of everything else that the result depends on.
            runtime: Device and precision.
        """
        Checkpoints(self.path).clear()
        self._write(
            {
                "job": JOB,
                "command": sys.argv,
                "masking": masking,
                "inputs": dict(inputs),
                "seed": config.run.seed,
                "processes": runtime.sharing.processes,
                "python": platform.python_version(),
                "device": runtime.device.type,
                "precision": runtime.precision,
                "versions": package_versions(),
                "planned_steps": None,
                "is_finished": False,
            }
        )
        write_text(self.path / "config.yaml", config.to_yaml())  # last: this file marks the folder as a run

    def recorded(self) -> Config:
        """Return the settings that the run began with. Raises UserError if there is no adaptation in the folder."""
        if not (self.path / "config.yaml").is_file() or self.facts().get("job") != JOB:
            raise UserError(f"--resume {self.path}: there is no adaptation in this folder")
        return load_config(self.path / "config.yaml")

    def check_unfinished(self, *, keep_checkpoint: bool) -> None:
        """Check that there is a run and that it is not finished. Raises UserError if not."""
        self.recorded()
        if is_saved(self.path):
            self.finish(keep_checkpoint=keep_checkpoint)  # a kill may have come just before
            raise UserError(f"--resume {self.path}: this adaptation is finished; the folder holds the adapted model")

    def check_settings(self, config: Config, masking: str) -> None:
        """Check that the run was begun with these settings, those of its recipe included. Runtime settings may differ.

        Raises UserError with the names of settings that differ.
        """
        then, now = _settings(self.recorded()), _settings(config)
        then["--masking"], now["--masking"] = self.facts()["masking"], masking
        self._refuse(sorted(name for name in then if then[name] != now[name]))

    def check_inputs(self, inputs: Mapping[str, str], runtime: Runtime) -> None:
        """Check that text, model, tokenizer and masking are those that the run began with.

        Raises UserError with the names of what differs.
        """
        facts = self.facts()
        changed = changed_names(facts["inputs"], inputs)
        if facts["processes"] != runtime.sharing.processes:
            changed.append(f"the number of processes that share batches ({facts['processes']})")
        self._refuse(changed)

    def _refuse(self, changed: list[str]) -> None:
        """Raise UserError if anything changed."""
        if changed:
            raise UserError(
                f"--resume {self.path}: the run was begun with other values of {', '.join(changed)}; use the same, or "
                "start a new run"
            )

    @property
    def planned_steps(self) -> int | None:
        """Number of steps of the run; None if it has not been decided."""
        steps = self.facts()["planned_steps"]
        return None if steps is None else int(steps)

    def plan(self, steps: int) -> None:
        """Record the number of steps, which a resumed run keeps."""
        self._write({**self.facts(), "planned_steps": steps})

    def finish(self, *, keep_checkpoint: bool) -> None:
        """Record that the run is finished, and delete its checkpoints unless `keep_checkpoint`."""
        self._write({**self.facts(), "is_finished": True})
        if not keep_checkpoint:
            Checkpoints(self.path).clear()

    def facts(self) -> dict[str, Any]:
        """Return the content of run.json; empty if it is missing. Raises UserError if it is damaged."""
        path = self.path / "run.json"
        try:
            return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}
        except (ValueError, TypeError, RecursionError) as error:
            raise bad_input(path, "is not valid JSON") from error

    def _write(self, facts: Mapping[str, Any]) -> None:
        write_text(self.path / "run.json", as_json(facts, indent=2) + "\n")


def _settings(config: Config) -> dict[str, Any]:
    """Return name → value of all settings that the result depends on, without names of files and models."""
    settings = config.model_dump(mode="json", include=dict.fromkeys(SECTIONS, True))
    leaves = flat(settings)
    contents = {name.replace(".", "/") for name, _, _ in named_contents(config)}
    return {name.replace("/", "."): value for name, value in leaves.items() if name not in contents}
