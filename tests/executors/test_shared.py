"""What crosses the border between processes leaves its device here."""

import pickle
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nmg.executors.shared import SharedObjectStore, pack, split_shared
from support.elsewhere import OnGpu


class Result(NamedTuple):
    score: float
    state: dict[str, Tensor]


def test_a_result_of_a_gpu_is_on_the_cpu_when_it_arrives():
    """A driver without a GPU cannot even read a tensor that is on one."""
    weight = OnGpu(torch.arange(3.0))
    assert weight.device.type == "cuda"
    assert weight.is_cuda
    found = pickle.loads(pack(Result(0.5, {"weight": weight})))
    assert found.score == 0.5
    assert type(found.state["weight"]) is Tensor
    assert found.state["weight"].device.type == "cpu"
    assert torch.equal(found.state["weight"], torch.arange(3.0))


def test_what_a_driver_with_a_gpu_shares_is_on_the_cpu_too():
    sent: list[bytes] = []
    SharedObjectStore(lambda part: sent.append(part) or len(sent), lambda _place: None).places(
        split_shared(Result(1.0, {"weight": OnGpu(torch.ones(2))}))[1]
    )
    state = pickle.loads(sent[1])
    assert state["weight"].device.type == "cpu"


def test_a_tensor_on_the_cpu_is_sent_as_it_is():
    layer = nn.Linear(2, 2)
    found = pickle.loads(pack(layer))
    assert isinstance(found.weight, nn.Parameter)
    assert torch.equal(found.weight, layer.weight)
