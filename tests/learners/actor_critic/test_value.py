"""The value network: architecture, and what it reads."""

import pytest
import torch

from nmg.learners.actor_critic.value import ValueNetwork
from nmg.policies import base
from support.policies import blocks_of, new_value

BLOCKS = blocks_of([[5, 6, 7, 8], [9, 10], []])
STATES = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0))


def test_the_sizes_are_those_of_the_paper() -> None:
    torch.manual_seed(0)
    value = ValueNetwork(768, 128)
    value.reset_parameters()
    weights = dict(value.named_parameters())
    assert tuple(weights["head.0.weight"].shape) == (128, 768)
    assert tuple(weights["head.2.weight"].shape) == (1, 128)
    assert sum(weight.numel() for weight in value.parameters()) == 128 * 768 + 128 + 128 + 1
    for name, weight in weights.items():
        if name.endswith("bias"):
            assert not weight.any()
        else:
            assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.25)


def test_the_value_reads_the_mean_of_the_raw_states_over_tokens() -> None:
    value = new_value()
    means = torch.stack([STATES[b, :n].mean(dim=0) for b, n in enumerate((6, 4, 2))])
    torch.testing.assert_close(value(STATES, BLOCKS.is_token), value.head(means).squeeze(1))


def test_padding_changes_nothing() -> None:
    value = new_value()
    longer = blocks_of([[5, 6, 7, 8], [9, 10], []], n_tokens=11)
    padded = value(torch.cat([STATES, torch.full((3, 5, 8), 1e3)], dim=1), longer.is_token)
    torch.testing.assert_close(padded, value(STATES, BLOCKS.is_token), atol=1e-6, rtol=1e-5)


def test_a_row_of_padding_gives_neither_nan_nor_a_gradient_of_nan() -> None:
    value = new_value()
    values = value(STATES, torch.zeros_like(BLOCKS.is_token))
    assert values.isfinite().all()
    values.sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in value.parameters())


def test_a_prediction_is_the_value_without_a_gradient() -> None:
    value = new_value()
    predicted = value.predict(STATES, BLOCKS)
    assert predicted.dtype == torch.float32
    assert not predicted.requires_grad
    torch.testing.assert_close(predicted, value(STATES, BLOCKS.is_token).detach())


def test_blocks_are_valued_alike_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    value = new_value()
    whole = value.predict(STATES, BLOCKS)
    monkeypatch.setattr(base, "CHUNK", 2)
    torch.testing.assert_close(value.predict(STATES, BLOCKS), whole)


def test_blocks_of_special_tokens_alone_have_a_value() -> None:
    assert new_value().predict(torch.randn(2, 2, 8), blocks_of([[], []])).isfinite().all()
