"""Learning-rate schedules by hand, StableAdamW against one written by hand, and both resumed."""

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nmg.base.errors import UserError
from nmg.base.seeding import StreamName, torch_stream
from nmg.base.state import State
from nmg.base.training_settings import OptimiserSettings
from nmg.base.types import IntArray
from nmg.training.accumulation import BatchLoss
from nmg.training.fit import Training, fit
from nmg.training.optimiser import new_optimiser, new_schedule
from nmg.training.runtime import Runtime

LENGTHS = np.full(12, 4)
SETTINGS = OptimiserSettings(epochs=2, batch_size=4, learning_rate=0.05, weight_decay=0.1, warmup_ratio=0.2)


def rates(settings: OptimiserSettings, n_steps: int) -> list[float]:
    """The learning rate of each step."""
    optimiser = new_optimiser([torch.zeros(1, requires_grad=True)], settings, torch.device("cpu"))
    schedule, seen = new_schedule(optimiser, settings, n_steps), []
    for _ in range(n_steps):
        seen.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return seen


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [0, 1 / 2, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        ("constant", [0, 1 / 2, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("cosine", [0, 1 / 2, *(0.5 + 0.5 * np.cos(np.pi * np.arange(8) / 8))]),
        ("warmup-stable-decay", [0, 1 / 2, 1, 1, 1, 1, *(1 - np.sqrt(np.arange(4) / 4))]),
    ],
)
def test_schedules(schedule: str, expected: list[float]):
    settings = SETTINGS.model_copy(update={"schedule": schedule, "decay_ratio": 0.4, "learning_rate": 1.0})
    assert rates(settings, 10) == pytest.approx(expected)


def test_a_decay_of_all_steps_leaves_the_warm_up():
    update = {"schedule": "warmup-stable-decay", "decay_ratio": 1.0, "learning_rate": 1.0, "warmup_ratio": 0.5}
    assert rates(SETTINGS.model_copy(update=update), 4) == pytest.approx([0, 1 / 2, 1, 1 - np.sqrt(1 / 2)])


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optimi", None)
    with pytest.raises(UserError, match=r"stable-adamw.*torch-optimi.*pip install 'torch-optimi"):
        rates(SETTINGS.model_copy(update={"optimiser": "stable-adamw"}), 1)


def new_model() -> nn.Module:
    with torch_stream(0, "model"):
        return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))


def loss_with(model: nn.Module, seen: list[IntArray]) -> Callable[[IntArray], BatchLoss]:
    """A loss that grows with each step, so that gradients grow beyond their past mean."""
    generator = torch.Generator().manual_seed(7)
    inputs, targets = torch.randn(12, 3, generator=generator), torch.randn(12, generator=generator)

    def loss_of(rows: IntArray) -> BatchLoss:
        seen.append(rows)
        index, scale = torch.from_numpy(rows), 4.0 ** len(seen)
        return lambda part: scale * (model(inputs[index][part]).squeeze(1) - targets[index][part]).square().mean()

    return loss_of


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_stable_adamw_limits_the_steps_of_each_matrix(runtime: Runtime):
    """Written out: Wortsman et al. 2023, algorithm 2, with the bias correction of its Adam."""
    pytest.importorskip("optimi", reason="the extra stable-adamw is not installed")
    settings = SETTINGS.model_copy(update={"optimiser": "stable-adamw", "schedule": "constant", "warmup_ratio": 0.0})
    settings = settings.model_copy(update={"max_grad_norm": 1e9})
    model, slow, seen, limited = new_model(), new_model(), [], 0
    fit(model, LENGTHS, loss_with(model, seen), settings, runtime, StreamName(0))
    parameters = list(slow.parameters())
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    for step, rows in enumerate(list(seen), start=1):
        slow.zero_grad()
        loss_with(slow, list(seen[: step - 1]))(rows)(slice(None)).backward()
        with torch.no_grad():
            for p, m, v in zip(parameters, first, second, strict=True):
                assert p.grad is not None
                beta = 0.98 * (1 - 0.98 ** (step - 1)) / (1 - 0.98**step)
                m.mul_(0.9 * (1 - 0.9 ** (step - 1)) / (1 - 0.9**step)).add_(0.1 / (1 - 0.9**step) * p.grad)
                v.mul_(beta).add_((1 - beta) * p.grad**2)
                rms = float((p.grad**2 / v.clamp(min=1e-12)).mean().sqrt())
                limited += rms > 1
                rate = settings.learning_rate / max(1.0, rms)
                p.mul_(1 - rate * settings.weight_decay)
                p.sub_(rate * m / (v.sqrt() + 1e-6))
    assert limited > 0
    torch.testing.assert_close(weights(model), weights(slow), rtol=1e-5, atol=1e-6)


class Snapshot:
    """Takes the state of a training after some steps, or restores it before the first."""

    def __init__(self, at: int, state: State | None = None) -> None:
        self.at, self.state = at, state

    def begin(self, training: Training) -> None:
        if self.state is not None:
            training.restore(self.state)

    def after_step(self, training: Training) -> None:
        if training.steps == self.at and self.state is None:
            state = training.state()
            self.state = State({name: tensor.clone() for name, tensor in state.tensors.items()}, state.facts)


@pytest.mark.parametrize("schedule", ["linear", "warmup-stable-decay"])
@pytest.mark.parametrize("optimiser", ["adamw", "stable-adamw"])
def test_a_resumed_training_has_the_same_weights(runtime: Runtime, optimiser: str, schedule: str):
    if optimiser == "stable-adamw":
        pytest.importorskip("optimi", reason="the extra stable-adamw is not installed")
    settings = SETTINGS.model_copy(update={"optimiser": optimiser, "schedule": schedule})
    whole, resumed, snapshot = new_model(), new_model(), Snapshot(at=3)
    fit(whole, LENGTHS, loss_with(whole, []), settings, runtime, StreamName(0), observer=snapshot)
    seen = [LENGTHS] * 3  # the loss grows as if three steps were taken
    fit(resumed, LENGTHS, loss_with(resumed, seen), settings, runtime, StreamName(0), observer=snapshot)
    assert len(seen) == 6, "the other three come from the snapshot"
    assert torch.equal(weights(whole), weights(resumed))
