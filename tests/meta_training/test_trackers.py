"""Trackers: what reaches them, that they are closed, and what is said where one is missing.

TensorBoard is written for real; in the place of the others stand modules that remember what they were called with.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from accelerate.utils import LoggerType

from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.base.settings import TRACKERS
from nmg.config import Config
from nmg.meta_training import run as meta_training
from nmg.meta_training.loop import EpisodeRecord, MetaTraining
from nmg.trials.trackers import check_trackers, flat
from support.runs import Inputs, read_log


def start(config: Config, out: Path) -> MetaTraining:
    return meta_training.start(config, out, Silent(), lambda _record, _episodes: None)


class Seen:
    """What a tracker was called with."""

    def __init__(self) -> None:
        self.project = self.name = ""
        self.settings: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.is_open = False

    def open(self, project: str, name: str) -> None:
        assert not self.is_open
        self.project, self.name, self.is_open = project, name, True

    def log(self, values: dict[str, float], step: int) -> None:
        assert self.is_open
        self.logged.append((step, values))

    def close(self) -> None:
        assert self.is_open
        self.is_open = False


def like_wandb(module: Any, seen: Seen) -> None:
    """The part of wandb that accelerate calls; trackio has the same."""

    def init(project: str, name: str) -> SimpleNamespace:
        seen.open(project, name)
        return SimpleNamespace(log=seen.log, finish=seen.close)

    module.init = init
    module.config = SimpleNamespace(update=lambda values, allow_val_change: seen.settings.update(values))


def like_mlflow(module: Any, seen: Seen) -> None:
    def create_experiment(name: str, **_others: Any) -> str:
        seen.project = name
        return "1"

    module.search_experiments = lambda filter_string: []
    module.create_experiment = create_experiment
    module.start_run = lambda experiment_id, run_name, **_others: seen.open(seen.project, run_name)
    module.log_params = seen.settings.update
    module.log_metrics = seen.log
    module.end_run = seen.close
    limits = SimpleNamespace(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100)
    module.utils = SimpleNamespace(validation=limits)


FAKES: dict[str, Callable[[Any, Seen], None]] = {"wandb": like_wandb, "trackio": like_wandb, "mlflow": like_mlflow}


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let accelerate believe that these packages are installed, and no others."""
    monkeypatch.setattr("accelerate.tracking._available_trackers", [LoggerType(name) for name in names])


@pytest.fixture(params=FAKES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def seen(name: str, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What the tracker `name`, which is installed and can be imported, is called with."""
    install(monkeypatch, name)
    module, record = ModuleType(name), Seen()
    FAKES[name](module, record)
    monkeypatch.setitem(sys.modules, name, module)
    return record


def test_every_tracker_of_accelerate_may_be_named():
    assert set(LOGGER_TYPE_TO_CLASS) <= set(TRACKERS)
    assert {"tensorboard", "wandb", "trackio", "mlflow"} <= set(LOGGER_TYPE_TO_CLASS)


def test_a_tracker_gets_the_numbers_of_the_log_and_is_closed(inputs: Inputs, tmp_path: Path, name: str, seen: Seen):
    start(inputs.config(meta={"episodes": 2}, runtime={"trackers": [name]}), tmp_path / "my-run")
    assert (seen.project, seen.name) == ("nmg", "my-run")
    assert not seen.is_open
    assert {"meta/episodes": 2, "learner/reward": "difference"}.items() <= seen.settings.items()
    log = read_log(tmp_path / "my-run")
    assert [step for step, _ in seen.logged] == [1, 2]
    for line, (_, values) in zip(log, seen.logged, strict=True):
        numbers = {key: value for key, value in flat(line).items() if isinstance(value, (int, float))}
        assert {key: value for key, value in values.items() if not key.startswith("seconds/")} == numbers
        assert "scores/learner/loss" in values
    assert "learner_update/age" in seen.logged[1][1]


def test_a_tracker_is_closed_after_an_error(
    inputs: Inputs, tmp_path: Path, name: str, seen: Seen, monkeypatch: pytest.MonkeyPatch
):
    def fail(self: MetaTraining) -> list[EpisodeRecord]:
        assert seen.is_open
        raise RuntimeError("out of luck")

    monkeypatch.setattr(MetaTraining, "round", fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        start(inputs.config(runtime={"trackers": [name]}), tmp_path / "run")
    assert not seen.is_open


def test_several_trackers(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = {"wandb": Seen(), "trackio": Seen()}
    install(monkeypatch, "tensorboard", *seen)
    for name, record in seen.items():
        module = ModuleType(name)
        like_wandb(module, record)
        monkeypatch.setitem(sys.modules, name, module)
    start(inputs.config(meta={"episodes": 1}, runtime={"trackers": ["tensorboard", *seen]}), tmp_path / "run")
    assert [len(record.logged) for record in seen.values()] == [1, 1]
    assert len(list((tmp_path / "run").rglob("events.out.tfevents.*"))) == 1


def test_tensorboard_is_written(inputs: Inputs, tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    start(inputs.config(meta={"episodes": 2}, runtime={"trackers": ["tensorboard"]}), out)
    files = list(out.rglob("events.out.tfevents.*"))
    assert len(files) == 1
    events = EventAccumulator(str(files[0].parent)).Reload()
    wanted = {"scores/learner/loss", "reward_random", "seconds/masks", "lm_loss/random", "credit/alone/actions"}
    assert wanted <= set(events.Tags()["scalars"])
    points = [(point.step, point.value) for point in events.Scalars("scores/learner/loss")]
    losses = [line["scores"]["learner"]["loss"] for line in read_log(out)]
    assert points == [(number, pytest.approx(loss)) for number, loss in enumerate(losses, start=1)]


def test_a_tracker_that_is_not_installed_is_refused_before_any_work(
    inputs: Inputs, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    install(monkeypatch, "tensorboard")
    monkeypatch.setattr(meta_training.Session, "open_all", lambda *_: pytest.fail("work has begun"))
    config = inputs.config(runtime={"trackers": ["tensorboard", name]})
    with pytest.raises(
        UserError, match=rf"runtime.trackers: the package of '{name}' is not .*`pip install {name}`, or set"
    ):
        start(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    install(monkeypatch, "tensorboard", name)
    check_trackers(config)


def test_without_trackers_none_is_needed(inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    install(monkeypatch)
    check_trackers(inputs.config(runtime={"trackers": []}))
    with pytest.raises(UserError, match=r"installed: none"):
        check_trackers(inputs.config(runtime={"trackers": ["tensorboard"]}))
