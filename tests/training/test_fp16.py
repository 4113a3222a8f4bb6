"""fp16: losses are scaled so that gradients fit, and a step whose gradients overflow is skipped."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nmg.training.runtime
from nmg.base.errors import Diverged
from nmg.base.seeding import StreamName
from nmg.base.settings import RuntimeSettings
from nmg.base.state import State
from nmg.base.training_settings import OptimiserSettings
from nmg.base.types import IntArray
from nmg.data.corpus import Corpus
from nmg.masking.rules import RandomMasking
from nmg.training.accumulation import BatchLoss
from nmg.training.adapt import adapt
from nmg.training.context import TrainingContext
from nmg.training.fit import FIRST_SCALE, LOOK_EVERY, Training, fit
from nmg.training.lm import copy_state
from nmg.training.masks import DrawnMasks
from nmg.training.runtime import Runtime

LARGEST = 65504.0
"""Largest number of fp16."""
N = 12
ROWS = np.full(N, 5)
STEPS = OptimiserSettings(epochs=1, batch_size=1, learning_rate=0.01, max_grad_norm=1e9)


@pytest.fixture
def runtime() -> Runtime:
    return Runtime.start(RuntimeSettings(device="cpu", precision="fp16"))


def one_weight() -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(1.0)
    return layer


def slope(layer: nn.Linear, gradient: float, spoiled: Callable[[int], bool] = lambda step: False) -> Any:
    """Loss whose gradient is always the same; it is NaN at the spoiled steps, counted from 1."""
    step = 0

    def loss_of(_rows: IntArray) -> BatchLoss:
        nonlocal step
        step += 1
        factor = float("nan") if spoiled(step) else 1.0
        return lambda _part: factor * gradient * layer.weight.float().sum()

    return loss_of


def distance(taken: range) -> float:
    """How far AdamW moves a weight with a constant gradient: by the learning rate of each step."""
    return sum(0.01 * (N - step) / N for step in taken)


def test_steps_are_skipped_until_the_gradients_fit(runtime: Runtime):
    layer, gradient = one_weight(), 100.0
    skipped = next(n for n in range(N) if FIRST_SCALE / 2**n * gradient <= LARGEST)
    assert skipped == 3
    result = fit(layer, ROWS, slope(layer, gradient), STEPS, runtime, StreamName(0))
    assert result.steps == N
    assert result.loss is not None
    assert layer.weight.item() == pytest.approx(1 - distance(range(skipped, N)), abs=1e-5)


def test_small_gradients_do_not_vanish(runtime: Runtime):
    """2^-30 is 0 in fp16. The scaled one is not, and AdamW's steps do not depend on its size."""
    layer = one_weight()
    fit(layer, ROWS, slope(layer, 2.0**-30), STEPS, runtime, StreamName(0))
    epsilon = 1e-8 / 2.0**-30
    assert layer.weight.item() == pytest.approx(1 - distance(range(N)) / (1 + epsilon), abs=1e-5)


def test_a_batch_without_a_finite_loss_is_skipped(runtime: Runtime):
    layer = one_weight()
    result = fit(layer, ROWS, slope(layer, 1.0, lambda step: step == 1), STEPS, runtime, StreamName(0))
    assert layer.weight.item() == pytest.approx(1 - distance(range(1, N)), abs=1e-5)
    assert result.loss is not None
    assert 0.9 < result.loss < 1, "the mean of the others"


def test_a_training_without_any_finite_loss_diverged(runtime: Runtime):
    layer, seen = one_weight(), []
    long = np.full(5 * LOOK_EVERY, 5)
    with pytest.raises(Diverged):
        fit(layer, long, slope(layer, 1.0, lambda step: bool(seen.append(step)) or True), STEPS, runtime, StreamName(0))
    assert len(seen) == LOOK_EVERY, "it ends at the first check"
    assert layer.weight.item() == 1.0


class Restore:
    """Copies the state after a step, or restores it before the first."""

    def __init__(self, at: int, state: State | None = None) -> None:
        self.at, self.state = at, state

    def begin(self, training: Training) -> None:
        if self.state is not None:
            training.restore(self.state)

    def after_step(self, training: Training) -> None:
        if training.steps == self.at:
            found = training.state()
            self.state = State({name: tensor.clone() for name, tensor in found.tensors.items()}, found.facts)


@pytest.mark.parametrize("at", [1, 2, 7])
def test_a_resumed_training_keeps_the_scale(runtime: Runtime, at: int):
    layer, stop = one_weight(), Restore(at)
    fit(layer, ROWS, slope(layer, 100.0), STEPS, runtime, StreamName(0), observer=stop)
    assert stop.state is not None
    assert stop.state.facts["scaler"]["scale"] == FIRST_SCALE / 2 ** min(at, 3)
    resumed = one_weight()
    fit(resumed, ROWS, slope(resumed, 100.0), STEPS, runtime, StreamName(0), observer=Restore(0, stop.state))
    assert torch.equal(resumed.weight, layer.weight)


def test_an_adaptation_is_that_of_fp32_within_rounding(context: TrainingContext, corpus: Corpus, runtime: Runtime):
    start, found = copy_state(context.model), []
    for one in (replace(runtime, precision="fp32"), runtime):
        context.model.load_state_dict(start)
        masks = DrawnMasks(corpus, RandomMasking())
        found.append(adapt(replace(context, runtime=one), masks, StreamName(0)).loss)
        assert all(parameter.dtype == torch.float32 for parameter in context.model.parameters())
    assert found[0] == pytest.approx(found[1], rel=0.005)
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("device", "has_bf16", "wanted"),
    [
        ("cuda", True, "bf16"),
        ("cuda", False, "fp16"),
        ("cpu", True, "bf16"),
        ("cpu", False, "fp32"),
        ("mps", False, "fp32"),
    ],
)
def test_auto_takes_fp16_only_on_nvidia_gpus_without_bf16(
    device: str, has_bf16: bool, wanted: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(nmg.training.runtime, "_multiplies_bf16", lambda _on_cpu: has_bf16)
    assert nmg.training.runtime._precision(RuntimeSettings(), device) == wanted
