"""Trackers: TensorBoard, Weights & Biases, trackio, MLflow, and whatever else accelerate knows by name.

They get the numbers of metrics.jsonl, which is written with or without them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from accelerate import Accelerator
from accelerate.tracking import filter_trackers, get_available_trackers

from nmg.config import Config
from nmg.errors import UserError
from nmg.meta_train import EpisodeRecord

LogEpisode: TypeAlias = Callable[[EpisodeRecord], None]

PROJECT = "nmg"


def check_trackers(config: Config) -> None:
    """Raises UserError for a tracker whose package is not installed; that there is such a tracker is for `config`."""
    installed = [str(name) for name in get_available_trackers()]
    for name in config.runtime.trackers:
        if name not in installed:
            raise UserError(
                f"runtime.trackers: '{name}': its package is not installed: pip install {name} "
                f"(installed: {', '.join(installed) or 'none'}; [] for no tracker)"
            )


@contextmanager
def start_trackers(config: Config, accelerator: Accelerator, run: Path) -> Iterator[LogEpisode]:
    """Yields the function that logs an episode to all trackers; they are closed when the block ends, also by an error.

    TensorBoard writes to RUN/nmg. The others keep what they get where they always do, under the name of the run's
    folder and with its settings.
    """
    if not config.runtime.trackers:
        yield lambda _record: None
        return
    accelerator.project_configuration.set_directories(str(run))
    accelerator.log_with = filter_trackers(list(config.runtime.trackers), str(run))
    name = run.resolve().name
    accelerator.init_trackers(
        PROJECT, init_kwargs={"wandb": {"name": name}, "trackio": {"name": name}, "mlflow": {"run_name": name}}
    )
    for tracker in accelerator.trackers:
        if tracker.name != "tensorboard":  # it would begin another run beside this one, for the settings alone
            tracker.store_init_configuration(flat(config.model_dump(mode="json")))
    try:
        yield lambda record: accelerator.log(flat_metrics(record), step=record.episode)
    finally:
        accelerator.end_training()


def flat_metrics(record: EpisodeRecord) -> dict[str, float]:
    """The record's numbers under slash-separated names, e.g. 'scores/learner/accuracy'."""
    return {name: float(value) for name, value in flat(record.to_json()).items() if isinstance(value, (int, float))}


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of nested mappings, each under the names that lead to it, joined by slashes."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves
