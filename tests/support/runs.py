"""Runs that take a second: a tiny BERT, the planted corpus, a few short episodes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from nmg.base.progress import Reporter
from nmg.config import Config, load_config
from nmg.meta_training.loop import EpisodeRecord, MetaTraining
from nmg.meta_training.run import OnEpisode, continue_run, recorded_config
from support.planted import WORDS, write_planted
from support.tiny import save_tiny_bert

SMALL: dict[str, dict[str, Any]] = {
    "masking": {"rate": 0.3},
    "adapt": {"epochs": 1, "batch_size": 4, "learning_rate": 5e-3, "block_size": 16},
    "finetune": {"epochs": 1, "batch_size": 4, "learning_rate": 5e-3, "max_length": 16},
    "meta": {"episodes": 3, "contexts": 8, "examples": 8, "validation_fraction": 0.3, "continual": True},
    "policy": {"kind": "attention", "hidden": 8},
    "learner": {
        "kind": "actor-critic",
        "updates_per_episode": 2,
        "batch_size": 16,
        "learning_rate": 0.01,
        "learning_starts": 1,
        "reward": "difference",
    },
    "reward": {"metric": "loss"},
    "runtime": {"device": "cpu", "precision": "fp32", "threads": 1, "trackers": []},
}
"""Learning rates are high, so that what a player learns shows after a step or two."""


def resume_run(out: Path, overrides: Sequence[str], reporter: Reporter, on_episode: OnEpisode) -> MetaTraining:
    """Continue a run with its recorded settings and some overrides, as `nmg learn --resume` does."""
    return continue_run(recorded_config(out, overrides), out, reporter, on_episode)


class Inputs:
    """A model and data files that a whole test session shares."""

    def __init__(self, folder: Path) -> None:
        self.model = save_tiny_bert(folder / "model", WORDS, hidden=16, dropout=0.1)
        self.train = write_planted(folder / "train.jsonl", 40, seed=1)
        self.test = write_planted(folder / "test.jsonl", 20, seed=2)

    def sections(self, **changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
        sections = {name: dict(fields) for name, fields in SMALL.items()}
        sections["model"] = {"name": str(self.model)}
        sections["data"] = {"train": str(self.train), "test": str(self.test)}
        for name, fields in changes.items():
            sections[name] = sections.get(name, {}) | fields
        return sections

    def config(self, **changes: dict[str, Any]) -> Config:
        """The small settings with some changed: `config(meta={"episodes": 2})`."""
        return Config.model_validate(self.sections(**changes))

    def write_config(self, path: Path, **changes: dict[str, Any]) -> Path:
        path.write_text(yaml.safe_dump(self.sections(**changes)), encoding="utf-8")
        assert load_config(path) == self.config(**changes)
        return path


class Notes:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.phases: list[str] = []

    def notify(self, line: str) -> None:
        self.lines.append(line)

    def steps(self, phase: str) -> Any:
        self.phases.append(phase)
        return lambda _done, _total: None


def record_facts(record: EpisodeRecord) -> dict[str, Any]:
    """All but the seconds."""
    return {name: value for name, value in record.to_json().items() if name != "seconds"}


def read_log(run: Path, *, seconds: bool = False) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without what the clock says."""
    text = (run / "metrics.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    return [line if seconds else {k: v for k, v in line.items() if k != "seconds"} for line in lines]


def is_same(first: Any, second: Any) -> bool:
    """True where two models, states or tensors are equal to the bit."""
    if isinstance(first, torch.nn.Module):
        return is_same(first.state_dict(), second.state_dict())
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


def players_of(*trainings: MetaTraining) -> list[tuple[Any, ...]]:
    """The same player of each training, side by side."""
    return [tuple(getattr(one.learner, name) for one in trainings) for name in ("learner", "opponent")]


def assert_same_run(first: MetaTraining, second: MetaTraining) -> None:
    """All that the next episode depends on is equal to the bit."""
    for ours, theirs in players_of(first, second):
        assert is_same(ours.policy, theirs.policy), ours.name
        assert is_same(ours.value, theirs.value), ours.name
        assert is_same(ours.replay.transitions_state(), theirs.replay.transitions_state())
        assert list(ours.replay.shards) == list(theirs.replay.shards)
        for key, shard in ours.replay.shards.items():
            assert is_same(shard.to_tensors(), theirs.replay.shards[key].to_tensors())
        assert is_same(ours.to_files()[f"{ours.name}-optimiser"], theirs.to_files()[f"{ours.name}-optimiser"])
    assert is_same(first.lm_state, second.lm_state)
    assert first.learner.score_noise == second.learner.score_noise
    assert first.next_episode == second.next_episode
