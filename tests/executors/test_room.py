"""How many workers a Ray cluster holds, from what its machines have; and what each of its failures is called."""

import pytest

from nmg.base.errors import UserError
from nmg.executors.cluster import Room, room_for

SMALL, LARGE, WITH_GPUS = {"CPU": 4.0}, {"CPU": 8.0, "memory": 1e9}, {"CPU": 8.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("machines", "workers", "threads", "wants_gpus", "expected"),
    [
        ([SMALL, LARGE], 9, 4, True, Room(3, 4, 0)),
        ([SMALL, SMALL], 9, 3, True, Room(2, 3, 0)),  # 8 CPUs in all, but 3 and 1 on each
        ([SMALL, LARGE], 9, 16, True, Room(1, 8, 0)),
        ([SMALL, LARGE], 2, 1, True, Room(2, 1, 0)),
        ([SMALL, WITH_GPUS], 9, 2, True, Room(2, 2, 1)),
        ([SMALL, WITH_GPUS], 9, 8, True, Room(1, 8, 1)),
        ([SMALL, WITH_GPUS], 9, 2, False, Room(6, 2, 0)),
        ([{"CPU": 32.0}, {"CPU": 2.0, "GPU": 1.0}], 9, 16, True, Room(1, 2, 1)),
    ],
)
def test_workers_fit_on_single_machines(machines: object, workers: int, threads: int, wants_gpus: bool, expected: Room):
    assert room_for(machines, workers, threads, wants_gpus=wants_gpus) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("machines", [[], [{"memory": 1.0}], [{"CPU": 0.5}]])
def test_a_cluster_without_a_cpu_is_a_clear_error(machines: object):
    with pytest.raises(UserError, match="no machine that offers a CPU"):
        room_for(machines, 1, 1, wants_gpus=True)  # type: ignore[arg-type]


def test_a_gpu_on_a_machine_without_a_cpu_is_a_clear_error():
    with pytest.raises(UserError, match="no machine with a GPU that offers a CPU"):
        room_for([SMALL, {"GPU": 1.0}], 1, 1, wants_gpus=True)
