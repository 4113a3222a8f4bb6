"""Reads the log of a meta-training run from its folder, even while the run is in progress."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from nmg.base.errors import UserError, bad_input
from nmg.base.json_lines import log_lines
from nmg.config import Config, load_config


@dataclass(frozen=True)
class RunLog:
    """The content of a run's folder."""

    name: str
    """Name of the run's folder."""
    config: Config
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The content of run.json: command, versions, device, planned episodes, whether the run is finished."""
    episodes: Sequence[Mapping[str, Any]] = ()
    """Lines of metrics.jsonl, one per episode."""
    texts: Sequence[Mapping[str, Any]] = ()
    """Sample texts from samples.jsonl (`nmg.meta_training.samples`)."""
    snapshots: Sequence[Mapping[str, Any]] = ()
    """Mask probabilities of the sample texts, one snapshot per line of samples.jsonl."""
    findings: Mapping[str, Any] = field(default_factory=dict)
    """The content of effects.json: the learner's findings; empty if it reports none."""
    last_episode_at: datetime | None = None
    """Time at which the last line of metrics.jsonl was written, in local time."""

    @property
    def planned_episodes(self) -> int:
        """Maximum number of episodes; after the run is finished, its actual number of episodes."""
        return int(self.facts["planned_episodes"])

    @property
    def is_finished(self) -> bool:
        """Whether the run is finished."""
        return bool(self.facts["is_finished"])

    @property
    def sound(self) -> "RunLog":
        """A copy without episodes in which a player's training diverged."""
        return replace(self, episodes=[episode for episode in self.episodes if not episode.get("diverged")])

    @property
    def metric(self) -> str:
        """Name of the metric that players are compared by; the log must have at least one episode."""
        return str(self.episodes[0]["metric"])

    def series(self, *names: str) -> list[float]:
        """Return one number per episode, read by nested keys; NaN for an episode without it.

        `names` are the keys, the outermost first.
        """
        return [_inner(episode, names) for episode in self.episodes]


def _inner(record: Mapping[str, Any], names: Sequence[str]) -> float:
    value: Any = record
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return float("nan") if value is None else float(value)


def read_run(run: Path) -> RunLog:
    """Read the folder of a run. Raises UserError if it contains no run or a damaged file."""
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run}: this folder contains no run of nmg learn (no config.yaml)")
    metrics, samples = run / "metrics.jsonl", run / "samples.jsonl"
    lines = log_lines(samples)
    return RunLog(
        name=run.resolve().name,
        config=load_config(run / "config.yaml"),
        facts=read_facts(run),
        episodes=log_lines(metrics),
        texts=lines[0]["texts"] if lines else (),
        snapshots=lines[1:],
        findings=_json(run / "effects.json"),
        last_episode_at=datetime.fromtimestamp(metrics.stat().st_mtime).astimezone() if metrics.is_file() else None,
    )


def read_facts(run: Path) -> dict[str, Any]:
    """Return the content of run.json; empty if the file is missing. Raises UserError if it is damaged."""
    return _json(run / "run.json")


def _json(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file; empty if the file is missing. Raises UserError if it is damaged."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (ValueError, TypeError, RecursionError) as error:
        raise bad_input(path, "is not valid JSON") from error
