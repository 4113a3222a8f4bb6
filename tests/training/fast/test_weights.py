"""bf16 training steps fp32 masters, and leaves an fp32 model behind."""

import pytest
import torch
from torch import nn

from nmg.base.types import CorruptedBlocks
from nmg.training.fast.weights import training_weights
from nmg.training.lm import copy_state, masked_lm_loss
from nmg.training.runtime import HALF, Precision
from support.models import CONFIGS, VOCABULARY, tiny_model


def corrupted(seed: int = 0) -> CorruptedBlocks:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, VOCABULARY, (4, 9), generator=generator)
    labels = torch.where(torch.rand(4, 9, generator=generator) < 0.3, ids, -100)
    return CorruptedBlocks(ids, torch.ones(4, 9, dtype=torch.bool), labels)


def gradient_vector(parameters: list[nn.Parameter]) -> torch.Tensor:
    return torch.cat([p.grad.float().flatten() if p.grad is not None else torch.zeros(p.numel()) for p in parameters])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_loss_and_gradients_are_those_of_fp32_within_rounding(kind: str, precision: Precision):
    """Tolerance: 2 % of the loss, a cosine of 0.98 between the gradients of all weights together."""
    model, batch = tiny_model(kind), corrupted()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)  # with larger weights a tiny model is chaotic, and rounding no small change
    loss = masked_lm_loss(model, batch)
    loss.backward()
    wanted = gradient_vector(list(model.parameters()))
    model.zero_grad(set_to_none=True)
    with training_weights(model, model.parameters(), precision) as weights:
        with torch.autocast("cpu", HALF[precision]):
            rounded = masked_lm_loss(model, batch)
        rounded.backward()
        weights.collect_gradients()
        found = gradient_vector(list(weights.masters))
        assert all(p.grad is None or p.grad.dtype == torch.float32 for p in weights.masters)
    assert rounded.item() == pytest.approx(loss.item(), rel=0.02)
    assert torch.cosine_similarity(found, wanted, dim=0) > 0.98
    assert found.norm() == pytest.approx(wanted.norm().item(), rel=0.05)


def test_small_steps_are_not_lost_to_rounding():
    """A thousand steps of 1e-4 of a weight's size: bf16, which resolves 4e-3, would not move at all."""
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(1.0)
    with training_weights(layer, layer.parameters(), "bf16") as weights:
        optimiser = torch.optim.SGD(weights.masters, lr=1e-4)
        for _ in range(1000):
            layer(torch.ones(1, 1, dtype=torch.bfloat16)).sum().backward()
            weights.collect_gradients()
            optimiser.step()
            weights.publish()
        assert layer.weight.dtype == torch.bfloat16
        assert layer.weight.item() == pytest.approx(0.9, abs=4e-3)
    assert layer.weight.dtype == torch.float32
    assert layer.weight.item() == pytest.approx(0.9, abs=1e-4)


def test_frozen_weights_come_back_to_the_bit_and_trained_ones_are_the_masters():
    model = tiny_model("bert")
    before = copy_state(model)
    trained = model.bert.encoder.layer[0].output.dense.weight
    with training_weights(model, [trained], "bf16") as weights:
        assert model.bert.encoder.layer[1].output.dense.weight.dtype == torch.bfloat16
        assert model.bert.embeddings.word_embeddings.weight.dtype == torch.float32
        weights.masters[0].data.add_(1e-6)
        weights.publish()
    for name, tensor in model.state_dict().items():
        wanted = before[name] + 1e-6 if name == "bert.encoder.layer.0.output.dense.weight" else before[name]
        assert torch.equal(tensor, wanted), name
    assert not any(module._forward_hooks for module in model.modules())


def test_on_a_gpu_layer_norms_stay_fp32_where_autocast_computes_them_so():
    model = tiny_model("bert")
    with training_weights(model, model.parameters(), "bf16", "cuda"):
        norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
        assert {p.dtype for norm in norms for p in norm.parameters()} == {torch.float32}
        assert not any(norm._forward_pre_hooks for norm in norms), "its inputs stay as they come, too"
        assert model.bert.encoder.layer[0].output.dense.weight.dtype == torch.bfloat16
    with training_weights(model, model.parameters(), "bf16", "cpu"):
        assert norms[0].weight.dtype == torch.bfloat16


def test_gradients_of_rounded_weights_reach_their_masters_in_one_cast(monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []
    copy = torch._foreach_copy_
    monkeypatch.setattr(torch, "_foreach_copy_", lambda to, of: (calls.append(len(to)), copy(to, of))[1])
    model = tiny_model("bert")
    with training_weights(model, model.parameters(), "bf16") as weights:
        with torch.autocast("cpu", torch.bfloat16):
            masked_lm_loss(model, corrupted()).backward()
        rounded = {id(p): p.grad.float() for p in model.parameters() if p.grad is not None}
        parameters = list(model.parameters())
        weights.collect_gradients()
        for parameter, master in zip(parameters, weights.masters, strict=True):
            assert (master.grad is None) == (id(parameter) not in rounded)
            assert master.grad is None or torch.equal(master.grad, rounded[id(parameter)])
    assert len(calls) == 1


def test_the_model_is_whole_again_after_an_exception():
    model = tiny_model("bert")
    with pytest.raises(RuntimeError, match="stop"), training_weights(model, model.parameters(), "bf16"):
        raise RuntimeError("stop")
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_fp32_weights_are_their_own_masters():
    layer = nn.Linear(2, 2)
    with training_weights(layer, layer.parameters(), "fp32") as weights:
        assert [id(m) for m in weights.masters] == [id(p) for p in layer.parameters()]
