"""Logs to experiment trackers: TensorBoard, Weights & Biases, trackio, MLflow, and any other that accelerate supports.

Trackers receive the numbers of metrics.jsonl, which is always written.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from accelerate import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers

from nmg.base.errors import UserError
from nmg.config import Config

LogNumbers: TypeAlias = Callable[[Mapping[str, Any], int], None]
"""Logs the numbers of a record, which may be nested, with the number of its episode or step."""

PROJECT = "nmg"
"""Name of the project in each tracker."""


def check_trackers(config: Config) -> None:
    """Raise UserError if the package of a tracker is not installed. The names were checked with the settings."""
    installed = [str(name) for name in get_available_trackers()]
    for name in config.runtime.trackers:
        if name not in installed:
            raise UserError(
                f"runtime.trackers: the package of '{name}' is not installed. Run `pip install {name}`, or set "
                f"runtime.trackers to [] (installed: {', '.join(installed) or 'none'})."
            )


@contextmanager
def start_trackers(config: Config, run: Path) -> Iterator[LogNumbers]:
    """Start the trackers, and yield a function that logs a record to each.

    The trackers are closed when the context ends, even after an error. TensorBoard writes to RUN/nmg. Other trackers
    store their data in their default location, under the name of the run's folder and with its settings.
    """
    trackers: list[GeneralTracker] = []

    def log(record: Mapping[str, Any], step: int) -> None:
        for tracker in trackers:
            tracker.log(flat_metrics(record), step=step)

    try:
        for name in dict.fromkeys(config.runtime.trackers):
            trackers.append(_open(name, run))
            if name != "tensorboard":  # it would create a second run only for the settings
                trackers[-1].store_init_configuration(flat(config.model_dump(mode="json")))
        yield log
    finally:
        for tracker in trackers:
            tracker.finish()


def _open(name: str, run: Path) -> GeneralTracker:
    PartialState()  # trackers use it to find the main process; it does not fix the precision
    tracker_class, run_name = LOGGER_TYPE_TO_CLASS[name], run.resolve().name
    given = {"wandb": {"name": run_name}, "trackio": {"name": run_name}, "mlflow": {"run_name": run_name}}
    folder = [str(run)] if tracker_class.requires_logging_directory else []
    tracker = tracker_class(PROJECT, *folder, **given.get(name, {}))
    tracker.start()
    return tracker


def flat_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of the record by slash-separated names, e.g. 'scores/learner/accuracy'."""
    return {name: float(value) for name, value in flat(record).items() if isinstance(value, (int, float))}


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by name: `prefix` followed by the keys, joined with slashes."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves
