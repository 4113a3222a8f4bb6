"""What a run will take, before it starts."""

import json
import mmap
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmg.base.files import default_cache_dir
from nmg.base.progress import Silent
from nmg.config import Config
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.learners.experiment.stages import planned_players
from nmg.meta_training import run as meta_training
from nmg.meta_training.disk import FolderGrowth
from nmg.meta_training.estimate import Estimate, estimate, extrapolate
from nmg.meta_training.memory import PeakMemory
from support.command import Nmg
from support.runs import Inputs


@pytest.mark.parametrize(
    ("few", "more", "steps", "expected"),
    [
        ((4, 3.0), (20, 7.0), 100, 27.0),  # 2 seconds and a quarter a step
        ((4, 3.0), (20, 7.0), 10, 4.5),
        ((4, 3.0), (20, 7.0), 0, 0.0),
        ((4, 3.0), (20, 2.0), 100, 2.0),  # never less than nothing for a step
        ((3, 3.0), (3, 6.0), 3, 6.0),
        ((4, 3.0), (20, 7.0), 2, 2.5),
    ],
)
def test_seconds_of_steps_lie_on_a_line(few: Any, more: Any, steps: float, expected: float):
    assert extrapolate(few, more, steps) == pytest.approx(expected)


def test_memory_is_the_highest_that_was_seen():
    with PeakMemory() as memory:
        before = memory.look()
        # Not from malloc, which may have such a piece from before.
        held = mmap.mmap(-1, 128 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        np.frombuffer(held, dtype=np.uint8)[:] = 1
        assert memory.look() - before == pytest.approx(128, abs=20)
        held.close()
        after = memory.look()
    assert after - before < 30
    assert memory.mib - before == pytest.approx(128, abs=20)


@pytest.mark.parametrize(("plays", "tunes"), [(200, 5), (48, 1), (20, 1)])
def test_an_experiment_has_planned_its_plays(plays: int, tunes: int):
    players = planned_players(ExperimentSettings(budget=plays))
    assert players[: plays // 5] == [2] * (plays // 5)
    assert players.count(7) == tunes
    assert plays - 4 < sum(players) <= plays


def run(config: Config, out: Path) -> Path:
    meta_training.start(config, out, Silent(), lambda _record, _episodes: None)
    return out


def mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


LEARNERS: list[dict[str, dict[str, Any]]] = [
    {"meta": {"episodes": 12, "checkpoint_every": 3, "contexts": 5}},
    {"meta": {"episodes": 12, "contexts": 5}, "learner": {"replay_max_states": 20}},
    {"meta": {"episodes": 60, "continual": False}, "policy": {"kind": "linear"}, "learner": {"kind": "experiment"}},
]


def config_of(inputs: Inputs, sections: dict[str, dict[str, Any]]) -> Config:
    """The sections in the place of the small ones where they name a kind."""
    small = inputs.sections(**sections)
    kinds = {name: fields for name, fields in sections.items() if "kind" in fields}
    return Config.model_validate(small | kinds | {"adapt": small["adapt"] | {"epochs": 2}})


@pytest.mark.parametrize(
    "sections",
    [pytest.param(LEARNERS[0], marks=pytest.mark.slow), *LEARNERS[1:]],
    ids=["replay", "full replay", "experiment"],
)
def test_disk_is_what_the_run_leaves(inputs: Inputs, tmp_path: Path, sections: dict[str, dict[str, Any]]):
    if sections.get("learner", {}).get("kind") == "experiment":
        sections = sections | {"learner": {"kind": "experiment", "budget": 40}}
    config = config_of(inputs, sections)
    found = estimate(config, Silent())
    left = run(config, tmp_path / "run")
    episodes = len((left / "metrics.jsonl").read_text().splitlines())
    assert found.episodes == pytest.approx(episodes, abs=1)
    assert found.disk_mib == pytest.approx(mib(left), rel=0.25)
    assert found.minutes > 0
    assert found.peak_mib > 100
    assert found.head_steps == 0


@pytest.mark.slow
def test_a_missing_head_is_measured_and_not_made(minilm: Path, inputs: Inputs):
    config = inputs.config(model={"name": str(minilm), "head_warmup_steps": 3, "head_tuning_steps": 4})
    before = set(default_cache_dir(None).glob("head-*"))
    found = estimate(config, Silent())
    assert found.head_steps == 7
    assert set(default_cache_dir(None).glob("head-*")) == before


def test_the_command_prints_and_writes(inputs: Inputs, nmg: Nmg, tmp_path: Path):
    inputs.write_config(tmp_path / "config.yaml")
    answer = nmg("estimate", "config.yaml", "--out", "estimate.json", "--meta.episodes", "7")
    assert answer.code == 0, answer.err
    found = Estimate(**json.loads((tmp_path / "estimate.json").read_text()))
    assert (found.episodes, found.trials) == (7, 21)
    assert answer.out == (
        f"minutes: {found.minutes:.1f} (7 episodes, 21 inner loops)\n"
        f"memory: {found.peak_mib:.0f} MiB\ndisk: {found.disk_mib:.1f} MiB\n"
        f"Verdict: The run takes about {found.minutes:.1f} minutes.\nWhy: It runs 21 inner loops in 7 episodes.\n"
        "Next: nmg learn config.yaml --out run\n"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "estimate.json"}


def test_growth_is_read_off_the_first_episodes(tmp_path: Path):
    """By hand: a log of 10 bytes an episode, a snapshot of 5 before and after each, 100 kept, and 7 that last.

    The last two checkpoints stay; the first one is smaller than its place in the row.
    """
    growth = FolderGrowth(tmp_path)
    (tmp_path / "config.yaml").write_text("x" * 50)
    for episode in (1, 2, 3):
        (tmp_path / "metrics.jsonl").write_text("x" * 10 * episode)
        (tmp_path / "samples.jsonl").write_text("x" * 5 * (episode + 1))
        for folder, size in (
            (f"checkpoints/kept-{episode}", 100),
            (f"checkpoints/episode-{episode}", 20 * (episode > 1) + episode),
        ):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / "policy").write_text("x" * size)
        (tmp_path / "replay").mkdir(exist_ok=True)
        (tmp_path / "replay" / f"{episode}.safetensors").write_text("x" * 7)
        shutil.rmtree(tmp_path / f"checkpoints/episode-{episode - 2}", ignore_errors=True)
        growth.look()
    growth.look()
    shutil.rmtree(tmp_path)  # as a temporary folder ends before the sum is made
    assert growth.after(100, 25, 40) == 50 + 10 * 100 + 5 * 41 + 4 * 100 + 2 * (20 + 40) + 40 * 7
