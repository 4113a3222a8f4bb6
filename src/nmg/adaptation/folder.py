"""The folder of an adaptation: records how the run began, and checks whether it may be resumed.

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
from nmg.base.section import named_contents
from nmg.config import Config, load_config
from nmg.training.runtime import Runtime, package_versions
from nmg.trials.provenance import changed_names
from nmg.trials.trackers import flat

JOB = "adapt"
"""Value of `job` in run.json, which distinguishes an adaptation from runs of other commands."""
SECTIONS = ("run", "model", "data", "masking", "adapt", "test")
"""Sections of the settings on which the result of an adaptation depends."""


class AdaptationFolder:
    """The folder of an adaptation, with the state of the run in run.json."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check_new(self) -> None:
        """Raise UserError if the folder contains files."""
        check_output(self.path, "another run (continue that one with --resume)")

    def begin(self, config: Config, masking: str, inputs: Mapping[str, str], runtime: Runtime) -> None:
        """Write the settings and facts of a new run, and remove files of an interrupted run.

        Args:
            config: The settings of the run.
            masking: The name of the masking.
            inputs: Name → digest of each content that the result depends on besides the settings.
            runtime: Device, precision and number of processes.
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

    @property
    def is_begun(self) -> bool:
        """Whether run.json is that of an adaptation, finished or not."""
        return bool(self.facts().get("job") == JOB)

    def recorded(self) -> Config:
        """Return the settings that the run began with. Raises UserError if there is no adaptation in the folder."""
        facts = self.facts() if (self.path / "config.yaml").is_file() else {}
        if facts.get("job") != JOB:
            problem = f"--resume {self.path}: there is no adaptation in this folder"
            if "planned_episodes" in facts:
                problem += f" but a run of nmg learn. Continue it: nmg learn --resume {self.path}"
            raise UserError(problem)
        return load_config(self.path / "config.yaml")

    def check_unfinished(self, *, keep_checkpoint: bool) -> None:
        """Raise UserError if the folder has no run, or if its run is finished."""
        self.recorded()
        if is_saved(self.path):
            self.finish(keep_checkpoint=keep_checkpoint)  # a kill may have come just before
            raise UserError(f"--resume {self.path}: this adaptation is finished; the folder holds the adapted model")

    def check_settings(self, config: Config, masking: str) -> None:
        """Check that the run was begun with the same masking and settings, including those of its recipe.

        Runtime settings may differ. Raises UserError if other settings differ; the message names them.
        """
        then, now = _settings(self.recorded()), _settings(config)
        then["--masking"], now["--masking"] = self.facts()["masking"], masking
        self._refuse(sorted(name for name in then if then[name] != now[name]))

    def check_inputs(self, inputs: Mapping[str, str], runtime: Runtime) -> None:
        """Check that text, model, tokenizer, masking and number of processes are those that the run began with.

        Raises UserError if one of them differs; the message names it.
        """
        facts = self.facts()
        changed = changed_names(facts["inputs"], inputs)
        if facts["processes"] != runtime.sharing.processes:
            changed.append(f"the number of processes that share batches ({facts['processes']})")
        self._refuse(changed)

    def _refuse(self, changed: list[str]) -> None:
        """Raise UserError with the names in `changed`; do nothing if `changed` is empty."""
        if changed:
            raise UserError(
                f"--resume {self.path}: the run was begun with other values of {', '.join(changed)}; use the same, or "
                "start a new run"
            )

    @property
    def planned_steps(self) -> int | None:
        """Number of steps of the run; None if it is not recorded yet."""
        steps = self.facts()["planned_steps"]
        return None if steps is None else int(steps)

    def plan(self, steps: int) -> None:
        """Record the number of steps of the run; a resumed run has the same number."""
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
    """Return name → value of the settings on which the result depends, without names of files and models."""
    settings = config.model_dump(mode="json", include=dict.fromkeys(SECTIONS, True))
    leaves = flat(settings)
    contents = {name.replace(".", "/") for name, _, _ in named_contents(config)}
    return {name.replace("/", "."): value for name, value in leaves.items() if name not in contents}
