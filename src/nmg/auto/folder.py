"""The folder of `nmg adapt --auto`: stores the result of each stage, so that an interrupted run continues.

DIR/auto.json    settings digest, results of the finished stages and, at the end, the decision
DIR/config.yaml  every setting as it was given
DIR/index.html   the page
DIR/data/        the divided validation examples, see nmg.auto.split
DIR/audit/, DIR/learn/, DIR/comparison/, DIR/adapted/   the folders of the stages
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from nmg.auto.decision import Decision
from nmg.base.errors import UserError, bad_input
from nmg.base.files import as_json, write_text
from nmg.config import Config, load_config
from nmg.trials.provenance import changed_names

STATE, CONFIG = "auto.json", "config.yaml"
JOB = "adapt --auto"
"""Value of `job` in auto.json."""


class Record(Protocol):
    """The result of a stage."""

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Return the result that `to_json` gave."""


AnyRecord = TypeVar("AnyRecord", bound=Record)
Clock = Callable[[], float]
"""Returns a time in seconds."""


class AutoFolder:
    """The state of a run, which each finished stage writes to auto.json."""

    def __init__(self, path: Path, facts: Mapping[str, Any], clock: Clock) -> None:
        self.path, self.facts, self._clock = path, dict(facts), clock

    @classmethod
    def begin(cls, path: Path, config: Config, minutes: float, inputs: Mapping[str, str], clock: Clock) -> Self:
        """Begin a run in a folder.

        Args:
            path: The folder.
            config: The settings of the user.
            minutes: Minutes for the whole run.
            inputs: Setting → digest of each data file.
            clock: Returns the time in seconds.

        Returns:
            The state of the run, without any finished stage.
        """
        facts = {
            "job": JOB,
            "minutes": minutes,
            "settings_digest": config.digest,
            "inputs": dict(inputs),
            "stages": {},
            "is_finished": False,
        }
        begun = cls(path, facts, clock)
        write_text(path / CONFIG, config.to_yaml())
        begun._write()  # last: this file marks the folder as a run
        return begun

    @classmethod
    def resume(cls, path: Path, config: Config, minutes: float | None, inputs: Mapping[str, str], clock: Clock) -> Self:
        """Return the state of the run in a folder, to continue it.

        Args:
            path: The folder.
            config: The settings; only `runtime.*` may differ from those that the run began with.
            minutes: Minutes for the whole run; None keeps the number that the run began with.
            inputs: Setting → digest of each data file.
            clock: Returns the time in seconds.

        Returns:
            The state of the run.

        Raises:
            UserError: There is no run, it is finished, or it began with other settings or data.
        """
        facts = read_state(path)
        if facts["is_finished"]:
            raise UserError(f"--resume {path}: this run is finished; its page is {path / 'index.html'}")
        changed = changed_names(facts["inputs"], inputs)
        if facts["settings_digest"] != config.digest:
            changed.append("settings")
        if changed:
            raise UserError(
                f"--resume {path}: the run began with other {', '.join(changed)}. Use the same, or start a new run. "
                "Only --minutes and runtime settings may change."
            )
        return cls(path, {**facts, "minutes": minutes or facts["minutes"]}, clock)

    @property
    def seconds(self) -> float:
        """Seconds for the whole run."""
        return 60 * float(self.facts["minutes"])

    @property
    def seconds_left(self) -> float:
        """Seconds that the finished stages leave, at least 0. The time of a stage that was killed does not count."""
        spent = sum(float(stage.get("seconds", 0.0)) for stage in self.facts["stages"].values())
        return max(self.seconds - spent, 0.0)

    def stage(
        self, name: str, kind: type[AnyRecord], plan: Callable[[], float], work: Callable[[float], AnyRecord]
    ) -> AnyRecord:
        """Return the result of a stage: the stored one, or that of `work`.

        Args:
            name: Name of the stage.
            kind: Class of its result.
            plan: Returns the seconds that the stage may take. They are stored before the stage begins, so a resumed
                stage has the same size.
            work: Function of these seconds that runs the stage and returns its result.

        Returns:
            The result.
        """
        stages: dict[str, Any] = self.facts["stages"]
        if "result" not in stages.get(name, {}):
            if name not in stages:
                stages[name] = {"planned_seconds": plan()}
                self._write()
            began = self._clock()
            result = work(stages[name]["planned_seconds"])
            stages[name] |= {"seconds": self._clock() - began, "result": result.to_json()}
            self._write()
        return kind.from_json(stages[name]["result"])

    def finish(self, decision: Decision) -> None:
        """Record the decision and that the run is finished."""
        self.facts |= {
            "decision": decision.decision,
            "masking": decision.masking,
            "reason": decision.reason,
            "is_finished": True,
        }
        self._write()

    def _write(self) -> None:
        write_text(self.path / STATE, as_json(self.facts, indent=1) + "\n")


def is_auto(folder: Path) -> bool:
    """Return whether a folder contains a run of `nmg adapt --auto`."""
    return (folder / STATE).is_file()


def read_state(folder: Path) -> dict[str, Any]:
    """Return the content of auto.json. Raises UserError if it is missing or damaged."""
    path = folder / STATE
    if not path.is_file():
        raise UserError(f"--resume {folder}: there is no run of nmg adapt --auto in this folder")
    try:
        facts = json.loads(path.read_text("utf-8"))
        assert facts["job"] == JOB
        return dict(facts)
    except (ValueError, TypeError, KeyError, AssertionError, RecursionError) as error:
        raise bad_input(path, "is not the state of a run") from error


def recorded_config(folder: Path, overrides: list[str]) -> Config:
    """Return the settings of the run in a folder, with overrides. Raises UserError if there is no run."""
    read_state(folder)
    return load_config(folder / CONFIG, overrides)
