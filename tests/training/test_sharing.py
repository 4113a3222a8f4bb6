"""Processes that train together exchange gradients a bucket at a time: to the bit what one exchange a tensor gave."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from nmg.training import data_parallel as sharing
from nmg.training.data_parallel import DataParallel


def tensors(rank: int) -> list[Tensor]:
    """A loss, gradients of different shapes, one of another dtype, one that is not contiguous."""
    generator = torch.Generator().manual_seed(rank)
    shapes: list[tuple[int, ...]] = [(), (300, 7), (5,), (64, 64), (1,)]
    made = [torch.randn(shape, generator=generator) for shape in shapes]
    return [*made, torch.randn(9, generator=generator).double(), torch.randn(6, 4, generator=generator).t()]


def exchange(rank: int, folder: str) -> None:
    """Average in buckets, and one by one; write both and the number of exchanges."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    reduce, n = dist.all_reduce, 0

    def counted(tensor: Tensor, *args: Any) -> Any:
        nonlocal n
        n += 1
        return reduce(tensor, *args)

    dist.all_reduce = counted  # type: ignore[assignment]
    found = tensors(rank)
    DataParallel(2, rank).average(found)
    in_buckets, n = n, 0
    sharing.BUCKET_BYTES = 1
    small = tensors(rank)
    DataParallel(2, rank).average(small)
    one_by_one = tensors(rank)
    for tensor in one_by_one:
        reduce(tensor)
        tensor.div_(2)
    mean = DataParallel(2, rank).mean(float(rank), torch.device("cpu"))
    torch.save((found, small, one_by_one, in_buckets, mean), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_buckets_give_what_single_exchanges_give_to_the_bit(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=exchange, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for in_buckets, small, one_by_one, n, mean in found:
        assert n == 2, "one exchange for each dtype; there were as many as tensors"
        assert mean == 0.5
        for tensors_so in (in_buckets, small):
            for first, second in zip(tensors_so, one_by_one, strict=True):
                assert torch.equal(first, second)
    for first, second in zip(found[0][0], found[1][0], strict=True):
        assert torch.equal(first, second), "both processes have the same"


def test_a_step_of_many_parameters_is_a_few_exchanges(monkeypatch: pytest.MonkeyPatch):
    """A BERT has 200 parameters, and each had an exchange of its own."""
    asked: list[int] = []
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: asked.append(tensor.nbytes))
    monkeypatch.setattr(sharing, "BUCKET_BYTES", 4000)
    DataParallel(2, 0).average([torch.ones(100) for _ in range(200)])
    assert len(asked) == 20
    assert sum(asked) == 200 * 400
