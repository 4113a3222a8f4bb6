"""Gradient checkpointing, which a caller's model may have on: the same loss and gradients, or one clear sentence."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nmg.base.errors import UserError
from nmg.base.seeding import StreamName
from nmg.base.training_settings import OptimiserSettings
from nmg.base.types import IGNORED_LABEL, CorruptedBlocks
from nmg.training.accumulation import Accumulation
from nmg.training.fast.checkpointing import gradient_checkpointing
from nmg.training.fast.functions import is_checkpointed
from nmg.training.fit import Training, fit
from nmg.training.lm import masked_lm_loss
from nmg.training.runtime import Precision, Runtime
from support.models import CONFIGS, VOCABULARY, tiny_model

KINDS = [kind for kind in CONFIGS if tiny_model(kind).supports_gradient_checkpointing]


def batch() -> CorruptedBlocks:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, VOCABULARY, (4, 9), generator=generator)
    is_token = torch.arange(9) < torch.tensor([9, 9, 7, 4])[:, None]
    labels = torch.where((torch.arange(9) % 3 == 1) & is_token, ids, IGNORED_LABEL)
    return CorruptedBlocks(ids.masked_fill(~is_token, 0), is_token, labels)


def step(model: PreTrainedModel, loss: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Loss and gradient of a training step under a seed."""
    model.train().zero_grad(set_to_none=True)
    torch.manual_seed(3)
    runtime = Runtime(torch.device("cpu"), "fp32", 64)
    value = Accumulation(4, runtime).backward(lambda _part: loss(), 4, model)
    return float(value), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    ("kind", "use_reentrant"), [*((kind, False) for kind in KINDS), ("bert", True), ("roberta", True)]
)
def test_a_checkpointed_model_has_the_loss_and_gradient_of_a_plain_one(kind: str, use_reentrant: bool):
    model = tiny_model(kind)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "dropout_prob", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    plain = step(model, lambda: masked_lm_loss(model, batch()))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
    if use_reentrant:
        model.enable_input_require_grads()
    loss, gradient = step(model, lambda: masked_lm_loss(model, batch()))
    assert loss == pytest.approx(plain[0], rel=1e-5)
    assert float((gradient - plain[1]).norm() / plain[1].norm()) < 1e-4


def test_dropout_is_the_same_when_a_layer_is_run_again():
    """The gradient is that of the loss that was computed: twice the same, and not that of another dropout."""
    model = tiny_model("distilbert")
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    parameter = model.distilbert.transformer.layer[0].ffn.lin1.bias
    step(model, lambda: masked_lm_loss(model, batch()))
    assert parameter.grad is not None
    slope = float(parameter.grad.norm())
    change, values = 1e-3 * parameter.grad.clone() / slope, []
    for sign in (1, -1):
        parameter.data.add_(sign * change)
        values.append(step(model, lambda: masked_lm_loss(model, batch()))[0])
        parameter.data.sub_(sign * change)
    assert (values[0] - values[1]) / 2e-3 == pytest.approx(slope, rel=0.05)


def test_packing_and_checkpointing_are_a_clear_error():
    model = tiny_model("bert").train()
    model.gradient_checkpointing_enable()
    with pytest.raises(UserError, match=r"runtime\.packing cannot be combined with gradient checkpointing"):
        masked_lm_loss(model, batch(), is_packed=True)


def fitted(model: PreTrainedModel, precision: Precision, *, is_on: bool) -> tuple[list[float], Tensor]:
    """Losses of three steps with dropout, and the weights after them."""
    runtime = Runtime(torch.device("cpu"), precision, 64, gradient_checkpointing=is_on)
    settings, watch = OptimiserSettings(epochs=3, batch_size=4, learning_rate=1e-3), Losses()
    lengths = np.array([9, 9, 7, 4])
    fit(
        model,
        lengths,
        lambda rows: lambda part: masked_lm_loss(model, batch(), part),
        settings,
        runtime,
        StreamName(0),
        observer=watch,
    )
    assert not any(vars(module).get("gradient_checkpointing", False) for module in model.modules())
    return watch.losses, torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


class Losses:
    def __init__(self) -> None:
        self.losses: list[float] = []

    def begin(self, training: Training) -> None:
        """Nothing to restore."""

    def after_step(self, training: Training) -> None:
        self.losses.append(float(training.losses[-1]))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_setting_changes_no_loss_and_no_weight_also_with_dropout(kind: str, precision: Precision):
    plain, recomputed = (fitted(tiny_model(kind), precision, is_on=is_on) for is_on in (False, True))
    assert recomputed[0] == pytest.approx(plain[0], abs=1e-6)
    assert float((recomputed[1] - plain[1]).abs().max()) < 1e-6


def test_all_layers_but_the_restricted_last_one_run_twice():
    model, calls = tiny_model("bert").train(), [0, 0]
    runtime = Runtime(torch.device("cpu"), "fp32", 64, gradient_checkpointing=True)
    for index, layer in enumerate(model.bert.encoder.layer):
        layer.intermediate.register_forward_hook(lambda *_, index=index: calls.__setitem__(index, calls[index] + 1))
    with gradient_checkpointing(model, runtime):
        assert is_checkpointed(model)
        Accumulation(4, runtime).backward(lambda part: masked_lm_loss(model, batch(), part), 4, model)
    assert calls == [2, 1]


def test_a_model_without_support_is_named():
    model = tiny_model("bert").train()
    model.supports_gradient_checkpointing = False
    runtime = Runtime(torch.device("cpu"), "fp32", 64, gradient_checkpointing=True)
    with (
        pytest.raises(UserError, match=r"runtime\.gradient_checkpointing: BertForMaskedLM does not support it"),
        gradient_checkpointing(model, runtime),
    ):
        pass
