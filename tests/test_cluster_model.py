"""The cost model of more workers: by hand, and the simulation beside it."""

import numpy as np
import pytest

from benchmarks.cluster import WORKERS, Costs, comparison_seconds, episode_seconds, makespan, simulated_episode, table

COSTS = Costs(play=10.0, besides=2.0)


@pytest.mark.parametrize(
    ("players", "workers", "expected"), [(3, 1, 32), (3, 2, 22), (3, 3, 12), (3, 8, 12), (7, 3, 32)]
)
def test_an_episode_takes_whole_rounds(players: int, workers: int, expected: float):
    assert episode_seconds(COSTS, players, workers) == expected


def test_jobs_go_to_the_first_worker_that_is_free():
    assert makespan(np.array([4.0, 3, 2, 1]), 2) == 5  # 4 + 1 and 3 + 2
    assert makespan(np.array([4.0, 3, 2, 1]), 1) == 10
    assert makespan(np.array([4.0, 3, 2, 1]), 9) == 4


def test_the_simulation_is_the_model_and_the_wait_for_the_slowest():
    for players, workers in ((3, 1), (3, 2), (64, 8), (64, 512)):
        model = episode_seconds(COSTS, players, workers)
        simulated = simulated_episode(COSTS, players, workers, np.random.default_rng(0))
        assert model * 0.95 < simulated < model * 1.3


def test_the_table_stops_growing_where_there_are_no_more_jobs():
    rows = {int(row["workers"]): row for row in table(COSTS)}
    assert tuple(rows) == WORKERS
    assert rows[3]["model_3"] == rows[512]["model_3"] == 300
    assert rows[64]["model_64"] == rows[512]["model_64"]
    assert rows[256]["model_cells"] == pytest.approx(3600 * 96 / comparison_seconds(COSTS, 96, 96))
