"""Fast dropout and attention have the distribution, the randomness and the gradients of torch's own."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from nmg.training.dropout import dropout_probability
from nmg.training.fast.attention import attention, is_slow_in_torch
from nmg.training.fast.dropout import dropout
from nmg.training.fast.functions import FastFunctions, fast_functions
from support.models import tiny_model


def drawn(p: float, n: int = 40_003, dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(3)
    return dropout(torch.ones(n, dtype=dtype), p)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_share_and_scale(p: float, dtype: torch.dtype):
    values = drawn(p, dtype=dtype)
    assert values.dtype == dtype
    n_dropped = int((values == 0).sum())
    assert stats.binomtest(n_dropped, len(values), p).pvalue > 1e-4
    kept = values[values != 0]
    torch.testing.assert_close(
        kept, torch.full_like(kept, 1 / (1 - p)), rtol=1e-2 if dtype == torch.bfloat16 else 1e-4, atol=0
    )


def test_neighbours_are_independent():
    """The four elements that share a random integer, and those of two integers."""
    is_dropped = (drawn(0.3, n=100_000) == 0).double()
    for shift in range(1, 6):
        together = (is_dropped[shift:] * is_dropped[:-shift]).mean().item()
        deviation = math.sqrt(0.09 * 0.91 / len(is_dropped))
        assert abs(together - 0.09) < 5 * deviation


def test_one_stream_gives_one_mask_and_the_next_draw_another():
    assert torch.equal(drawn(0.1), drawn(0.1))
    torch.manual_seed(3)
    first, second = (dropout(torch.ones(100), 0.5) for _ in range(2))
    assert not torch.equal(first, second)


def test_gradient_is_the_mask():
    torch.manual_seed(0)
    values = torch.randn(7, 5, requires_grad=True)
    dropped = dropout(values, 0.4)
    dropped.sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad * values, dropped)
    assert 0 < int((values.grad == 0).sum()) < 35


@pytest.mark.parametrize("mask", ["none", "bool", "float"])
def test_attention_without_dropout_is_that_of_torch(mask: str):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 4, requires_grad=True) for _ in range(3))
    is_seen = torch.rand(2, 1, 5, 5) < 0.7
    is_seen[..., 0] = True
    attn_mask = {"none": None, "bool": is_seen, "float": torch.randn(2, 1, 5, 5)}[mask]
    results = []
    for function in (attention, F.scaled_dot_product_attention):
        output = function(query, key, value, attn_mask=attn_mask, scale=0.3)
        results.append([output, *torch.autograd.grad(output.square().sum(), (query, key, value))])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mask", ["none", "float"])
def test_attention_in_bfloat16_is_as_near_to_the_exact_one_as_that_of_torch(mask: str):
    """Errors of the output and of three gradients, against torch's attention in float64."""
    torch.manual_seed(0)
    exact = [torch.randn(4, 3, 33, 16, dtype=torch.float64) for _ in range(3)]
    bias = None if mask == "none" else torch.randn(4, 1, 33, 33, dtype=torch.float64)

    def run(function: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        inputs = [tensor.to(dtype).requires_grad_() for tensor in exact]
        output = function(*inputs, attn_mask=None if bias is None else bias.to(dtype))
        return [t.double() for t in (output, *torch.autograd.grad(output.double().square().sum(), inputs))]

    wanted = run(F.scaled_dot_product_attention, torch.float64)
    ours, theirs = (run(one, torch.bfloat16) for one in (attention, F.scaled_dot_product_attention))
    for mine, other, true in zip(ours, theirs, wanted, strict=True):
        error, allowed = (float((one - true).detach().norm() / true.norm().detach()) for one in (mine, other))
        assert error < max(0.02, 1.5 * allowed)


def test_which_calls_are_slow_in_torch():
    half, full = (torch.zeros(2, 2, 4, 8, dtype=dtype, requires_grad=True) for dtype in (torch.bfloat16, torch.float32))
    constant, one_head = half.detach(), half[:, :1]
    assert is_slow_in_torch((half, half, half), {})
    assert is_slow_in_torch((), {"query": half, "key": half, "value": half, "is_causal": False})
    assert is_slow_in_torch((full, full, full, None, 0.1), {})
    assert not is_slow_in_torch((full, full, full), {})
    assert not is_slow_in_torch((constant, constant, constant), {})
    assert not is_slow_in_torch((half, one_head, one_head), {"enable_gqa": True})
    assert not is_slow_in_torch((half, one_head, one_head), {})
    assert not is_slow_in_torch((half, half, half), {"is_causal": True})
    with torch.no_grad():
        assert not is_slow_in_torch((half, half, half), {})


def test_the_mode_replaces_attention_of_a_bfloat16_training(monkeypatch: pytest.MonkeyPatch):
    import nmg.training.fast.functions as module

    shapes: list[tuple[int, ...]] = []
    monkeypatch.setattr(module, "attention", lambda *a, **k: shapes.append(tuple(a[0].shape)) or attention(*a, **k))
    model, ids = tiny_model("bert").to(torch.bfloat16).train(), torch.ones(2, 6, dtype=torch.long)
    with dropout_probability(model, 0.0):
        outside = model(input_ids=ids).logits
        with FastFunctions():
            inside = model(input_ids=ids).logits
    assert shapes == [(2, 2, 6, 8)] * 2
    torch.testing.assert_close(inside, outside, rtol=2e-2, atol=2e-2)


def test_attention_drops_probabilities():
    """With a value of ones every output is the sum of its row's kept probabilities, which are all the same."""
    torch.manual_seed(0)
    query = torch.zeros(1, 1, 50, 4)
    output = attention(query, query, torch.ones(1, 1, 50, 4), dropout_p=0.5)[0, 0, :, 0]
    sums = output * 50 * 0.5
    torch.testing.assert_close(sums, sums.round(), atol=1e-4, rtol=0)
    assert sums.std() > 1
    assert abs(output.mean() - 1) < 0.1


def test_a_model_inside_the_mode_uses_it_everywhere_and_is_itself_outside(monkeypatch: pytest.MonkeyPatch):
    import nmg.training.fast.attention as attention_module
    import nmg.training.fast.functions as module

    calls: list[tuple[int, ...]] = []
    for one in (module, attention_module):
        monkeypatch.setattr(one, "dropout", lambda values, p: calls.append(tuple(values.shape)) or values)
    model = tiny_model("bert").train()
    ids = torch.ones(2, 6, dtype=torch.long)
    with FastFunctions():
        inside = model(input_ids=ids).logits
    hidden, probabilities = (2, 6, 16), (2, 2, 6, 6)
    # embeddings, and for each of two layers: attention probabilities, attention output, feed-forward output
    assert calls == [hidden, *[probabilities, hidden, hidden] * 2]
    torch.testing.assert_close(inside, model.eval()(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    model.train()(input_ids=ids)
    assert len(calls) == 7
    with FastFunctions():
        model.eval()(input_ids=ids)
        nn.Dropout(0.0).train()(torch.ones(3))
    assert len(calls) == 7


def test_what_it_does_not_know_goes_to_torch():
    with FastFunctions():
        query = torch.randn(1, 2, 4, 8)
        causal = F.scaled_dot_product_attention(query, query, query, None, 0.5, True)
        positional = F.dropout(torch.ones(1000), 0.5, False)
    assert causal.shape == query.shape
    assert torch.equal(positional, torch.ones(1000))


def test_the_mode_is_entered_only_where_it_does_something():
    """On a GPU it would cost a quarter of the Python of a small step, and change nothing."""
    model = tiny_model("bert").train()
    assert isinstance(fast_functions(torch.device("cpu"), model), FastFunctions)
    assert not isinstance(fast_functions(torch.device("cuda"), model), FastFunctions)
    assert not isinstance(fast_functions(torch.device("mps"), model), FastFunctions)
