"""Episodes an hour against workers: a cost model from single figures, a simulation, and a check on this machine.

    python -m benchmarks.cluster check                 measure one and two workers here (minutes)
    python -m benchmarks.cluster table PLAY BESIDES    seconds of an inner loop, and of an episode besides these

A worker plays one inner loop at a time. The players of an episode are independent; the next episode starts when all
of them are done, because the learner learns from their scores, and with continual adaptation also because its LM is
the one that the leader adapted. The cells of a comparison wait for nothing.
"""

import heapq
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.episode import measured_episodes, open_training
from benchmarks.pairs import median
from nmg.base.types import PHASES, FloatArray

WORKERS = (1, 2, 3, 8, 16, 32, 64, 128, 256, 512)
SPREAD = 0.1
"""standard deviation of the seconds of an inner loop, as a share of their mean: contexts differ in length"""
EPISODES = 200
"""simulated"""
CELLS = 96
"""of a comparison of eight maskings over twelve seeds"""


@dataclass(frozen=True)
class Costs:
    """Seconds, measured with one worker."""

    play: float
    """of an inner loop"""
    besides: float
    """of an episode: masks, learning, sending weights, keeping"""


def episode_seconds(costs: Costs, players: int, workers: int) -> float:
    """The model: whole rounds of inner loops, and what is done once."""
    return costs.besides + -(-players // workers) * costs.play


def comparison_seconds(costs: Costs, cells: int, workers: int) -> float:
    return -(-cells // workers) * costs.play


def makespan(seconds: FloatArray, workers: int) -> float:
    """Until the last of these jobs is done, each given to the first worker that is free, in order."""
    free_at = [0.0] * min(workers, len(seconds))
    for job in seconds.tolist():
        heapq.heapreplace(free_at, free_at[0] + job)
    return max(free_at)


def simulated_episode(costs: Costs, players: int, workers: int, rng: np.random.Generator) -> float:
    """Mean over episodes whose inner loops differ in length: an episode waits for its slowest worker."""
    spread = rng.normal(1.0, SPREAD, (EPISODES, players)).clip(0.5, 2.0)
    return costs.besides + float(np.mean([makespan(costs.play * row, workers) for row in spread]))


def table(costs: Costs) -> list[dict[str, float]]:
    """For each number of workers, episodes (or cells) an hour by the model and by the simulation."""
    rows = []
    for workers in WORKERS:
        row: dict[str, float] = {"workers": workers}
        for players in (3, 16, 64):
            rng = np.random.default_rng(0)
            row[f"model_{players}"] = 3600 / episode_seconds(costs, players, workers)
            row[f"simulated_{players}"] = 3600 / simulated_episode(costs, players, workers, rng)
        cells = np.random.default_rng(0).normal(1.0, SPREAD, CELLS).clip(0.5, 2.0) * costs.play
        row["model_cells"] = 3600 * CELLS / comparison_seconds(costs, CELLS, workers)
        row["simulated_cells"] = 3600 * CELLS / makespan(cells, workers)
        rows.append(row)
    return rows


def check(episodes: int = 6) -> dict[str, float]:
    """Seconds of an episode of three players, one thread a worker, with one and with two Ray workers here."""
    found: dict[str, float] = {}
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            runtime = {"engine": "ray", "processes": workers, "threads": workers}
            training = open_training(folder / "episode", folder, n_validation=417, runtime=runtime)
            records = measured_episodes(training, episodes)
        whole = median([sum(record.seconds[phase] for phase in PHASES) for record in records])
        inner = median([record.seconds["inner loops"] for record in records])
        if workers == 1:
            costs = Costs(inner / 3, whole - inner)
            found |= {"play": costs.play, "besides": costs.besides}
        found[f"measured_{workers}"] = whole
        found[f"model_{workers}"] = episode_seconds(costs, 3, workers)
    return found


def main(words: list[str]) -> None:
    if words[:1] == ["check"]:
        print(json.dumps(check(), indent=1))
        return
    play, besides = map(float, words[1:])
    for row in table(Costs(play, besides)):
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
