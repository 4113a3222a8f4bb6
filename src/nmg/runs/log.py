"""What the folder of a meta-training says about it, also while it runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from nmg.config import Config, load_config
from nmg.errors import UserError, bad_input


@dataclass(frozen=True)
class RunLog:
    name: str
    config: Config
    facts: Mapping[str, Any] = field(default_factory=dict)
    """run.json: command, versions, device, planned episodes, whether the run is finished"""
    episodes: Sequence[Mapping[str, Any]] = ()
    """lines of metrics.jsonl"""
    texts: Sequence[Mapping[str, Any]] = ()
    """sample texts, and"""
    snapshots: Sequence[Mapping[str, Any]] = ()
    """their mask probabilities over episodes: the lines of samples.jsonl (`nmg.runs.samples`)"""
    findings: Mapping[str, Any] = field(default_factory=dict)
    """effects.json: what the learner has found; empty where it tells nothing"""
    last_episode_at: datetime | None = None
    """when the last line was written, in local time"""

    @property
    def planned_episodes(self) -> int:
        """The most that the run may take; of a finished run, the number that it took."""
        return int(self.facts["planned_episodes"])

    @property
    def is_finished(self) -> bool:
        return bool(self.facts["is_finished"])

    @property
    def sound(self) -> "RunLog":
        """The same without episodes in which a player's training diverged."""
        return replace(self, episodes=[episode for episode in self.episodes if not episode.get("diverged")])

    @property
    def metric(self) -> str:
        """What players are compared by. There is an episode."""
        return str(self.episodes[0]["metric"])

    def series(self, *names: str) -> list[float]:
        """One number an episode, found under these nested names; NaN where an episode lacks it."""
        return [_inner(episode, names) for episode in self.episodes]


def _inner(record: Mapping[str, Any], names: Sequence[str]) -> float:
    value: Any = record
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return float("nan") if value is None else float(value)


def read_run(run: Path) -> RunLog:
    """Read the folder of a run. Raises UserError where there is none, or where a file of it is damaged."""
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run}: there is no run of meta-train in this folder (no config.yaml)")
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
    """What run.json says, empty where it is missing. Raises UserError where it is damaged."""
    return _json(run / "run.json")


def _json(path: Path) -> dict[str, Any]:
    """The object of a file, empty where it is missing. Raises UserError for one that is damaged."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (ValueError, TypeError, RecursionError) as error:
        raise bad_input(path, "is not valid JSON") from error


class Lines(NamedTuple):
    records: list[dict[str, Any]]
    broken: list[int]
    """numbers, from 1, of lines that are no JSON object"""


def read_lines(path: Path) -> Lines:
    """The objects of a file, none where it is missing. A last line that is just being written does not count."""
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    found = Lines([], [])
    for number, line in enumerate(lines[:-1], start=1):  # behind the last line break is nothing, or half a line
        try:
            found.records.append(dict(json.loads(line)))
        except (ValueError, TypeError, RecursionError):
            found.broken.append(number)
    return found


def log_lines(path: Path) -> list[dict[str, Any]]:
    """As `read_lines`. Raises UserError for a broken line."""
    found = read_lines(path)
    if found.broken:
        raise bad_input(path, "is not valid JSON", line=found.broken[0])
    return found.records
