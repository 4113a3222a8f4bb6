"""The training loop against one written by hand, and its random streams."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from nmg.base.errors import Diverged, UserError
from nmg.base.seeding import StreamName, torch_stream
from nmg.base.settings import RuntimeSettings
from nmg.base.training_settings import OptimiserSettings
from nmg.base.trial import TrainingStats
from nmg.base.types import IntArray
from nmg.training.accumulation import BatchLoss
from nmg.training.fit import LOOK_EVERY, fit
from nmg.training.keep_best import KeepBest
from nmg.training.runtime import Runtime

LENGTHS = np.array([3, 9, 4, 8, 5, 7, 6, 2, 1, 10, 3])
SETTINGS = OptimiserSettings(epochs=3, batch_size=4, learning_rate=0.05, weight_decay=0.1, max_grad_norm=0.5)


def new_model(dropout: float = 0.0) -> nn.Module:
    with torch_stream(0, "model"):
        return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))


def rows_of_data(rows: IntArray) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    inputs, targets = torch.randn(len(LENGTHS), 3, generator=generator), torch.randn(len(LENGTHS), generator=generator)
    return inputs[torch.from_numpy(rows)], targets[torch.from_numpy(rows)]


def loss_with(model: nn.Module, seen: list[IntArray] | None = None) -> Callable[[IntArray], BatchLoss]:
    def loss_of(rows: IntArray) -> BatchLoss:
        if seen is not None:
            seen.append(rows)
        inputs, targets = rows_of_data(rows)
        return lambda part: 5 * mse_loss(model(inputs[part]).squeeze(1), targets[part], reduction="sum") / len(rows)

    return loss_of


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def train(
    runtime: Runtime, seed: int = 0, dropout: float = 0.2, max_steps: int | None = None
) -> tuple[Tensor, TrainingStats]:
    model = new_model(dropout)
    result = fit(model, LENGTHS, loss_with(model), SETTINGS, runtime, StreamName(seed), max_steps=max_steps)
    return weights(model), result


def test_what_a_failed_step_left_is_not_trained_on(runtime: Runtime):
    """A model is used again after a training that ended in the midst of a step."""
    model = new_model(0.2)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def fails(rows: IntArray) -> BatchLoss:
        loss_with(model)(rows)(slice(None)).backward()
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fit(model, LENGTHS, fails, SETTINGS, runtime, StreamName(0))
    model.load_state_dict(start)
    fit(model, LENGTHS, loss_with(model), SETTINGS, runtime, StreamName(0))
    assert torch.equal(weights(model), train(runtime)[0])


def test_training_is_adamw_with_a_rate_that_falls_linearly_to_zero(runtime: Runtime):
    """Written out: Loshchilov and Hutter 2019, algorithm 2, after clipping the gradient's norm."""
    model, slow, seen = new_model(), new_model(), []
    result = fit(model, LENGTHS, loss_with(model, seen), SETTINGS, runtime, StreamName(0))

    parameters = list(slow.parameters())
    first = [torch.zeros_like(p) for p in parameters]
    second = [torch.zeros_like(p) for p in parameters]
    losses, clipped = [], 0
    for step, rows in enumerate(seen, start=1):
        rate = SETTINGS.learning_rate * (1 - (step - 1) / len(seen))
        slow.zero_grad()
        loss = loss_with(slow)(rows)(slice(None))
        loss.backward()
        losses.append(loss.item())
        gradients = [p.grad.clone() for p in parameters if p.grad is not None]
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        clipped += int(norm > SETTINGS.max_grad_norm)
        with torch.no_grad():
            for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
                g = g * min(1.0, SETTINGS.max_grad_norm / (float(norm) + 1e-6))  # noqa: PLW2901
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g**2)
                p.mul_(1 - rate * SETTINGS.weight_decay)
                p.sub_(rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8))
    assert len(seen) == result.steps == 9
    assert clipped > 0
    torch.testing.assert_close(weights(model), weights(slow), rtol=1e-5, atol=1e-6)
    assert result.loss == pytest.approx(np.mean(losses[-3:]), rel=1e-5)
    assert result.loss < np.mean(losses[:3])


def test_the_same_stream_gives_the_same_weights(runtime: Runtime):
    first, second = train(runtime)[0], train(runtime)[0]
    assert torch.equal(first, second)
    assert not torch.equal(first, train(runtime, seed=1)[0])


def test_dropout_comes_from_the_stream_too(runtime: Runtime):
    """One batch holds all rows, so streams differ in dropout and nothing else that counts."""
    one_batch = SETTINGS.model_copy(update={"batch_size": len(LENGTHS), "epochs": 1})

    def trained(seed: int, dropout: float) -> Tensor:
        model = new_model(dropout)
        fit(model, np.full(len(LENGTHS), 5), loss_with(model), one_batch, runtime, StreamName(seed))
        return weights(model)

    torch.testing.assert_close(trained(0, 0.0), trained(1, 0.0))
    assert not torch.allclose(trained(0, 0.5), trained(1, 0.5))


def test_global_generators_stay_as_they_are(runtime: Runtime):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    train(runtime)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize(
    ("warmup_ratio", "expected"),
    [
        (0.0, [0.05, 0.04, 0.03, 0.02, 0.01]),
        (0.2, [0.0, 0.05, 0.0375, 0.025, 0.0125]),
        (0.3, [0.0, 0.025, 0.05, 0.05 * 2 / 3, 0.05 / 3]),  # 1.5 steps are two
    ],
)
def test_max_steps_cuts_training_and_the_rate_still_ends_at_zero(
    runtime: Runtime, warmup_ratio: float, expected: list[float]
):
    """After a warm-up as transformers' Trainer does it."""
    model, seen, rates = new_model(), [], []
    settings = SETTINGS.model_copy(update={"warmup_ratio": warmup_ratio})
    step = torch.optim.AdamW.step

    def spy(self: torch.optim.AdamW, *args: object) -> object:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", spy)
        result = fit(model, LENGTHS, loss_with(model, seen), settings, runtime, StreamName(0), max_steps=5)
    assert result.steps == len(seen) == 5
    assert rates == pytest.approx(expected)
    assert train(runtime, max_steps=100)[1].steps == 9


def test_without_epochs_nothing_happens(runtime: Runtime):
    model = new_model()
    before = weights(model).clone()
    nothing = SETTINGS.model_copy(update={"epochs": 0})
    result = fit(model, LENGTHS, loss_with(model), nothing, runtime, StreamName(0))
    assert result.steps == 0
    assert result.loss is None
    assert torch.equal(weights(model), before)


def test_only_the_given_parameters_move(runtime: Runtime):
    model = new_model()
    before = [p.detach().clone() for p in model.parameters()]
    fit(model, LENGTHS, loss_with(model), SETTINGS, runtime, StreamName(0), parameters=model[3].parameters())
    moved = [not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True)]
    assert moved == [False, False, True, True]


def test_progress_is_told_after_each_step(runtime: Runtime):
    model, told = new_model(), []
    fit(model, LENGTHS, loss_with(model), SETTINGS, runtime, StreamName(0), progress=lambda *step: told.append(step))
    assert told == [(step, 9) for step in range(1, 10)]


# ---- a watch over a training of nine steps


def watched(
    runtime: Runtime, losses: list[float], every: int, patience: int
) -> tuple[Tensor, list[Tensor], TrainingStats]:
    """The weights left, the weights at each look, and how the training went; looks find the given losses."""
    model, at_looks, left = new_model(), list[Tensor](), iter(losses)

    def look() -> float:
        at_looks.append(weights(model).clone())
        return next(left)

    watch = KeepBest(look, every, patience)
    result = fit(model, LENGTHS, loss_with(model), SETTINGS, runtime, StreamName(0), watch=watch)
    assert watch.best == min([loss for loss in losses[: len(at_looks)] if not np.isnan(loss)], default=float("inf"))
    return weights(model), at_looks, result


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("losses", "patience", "steps", "kept"),
    [
        ([5, 3, 4, 6, 1], 2, 6, 1),  # the second look in vain, after six steps, ends it
        ([5, 3, 4, 2, 3, 1], 2, 9, 5),  # the last step is looked at, too
        ([1, 2, 3, 4, 5, 6], 9, 9, 0),  # nothing was better than the start
        ([float("nan"), 2, float("nan"), float("nan")], 2, 6, 1),
    ],
)
def test_a_watch_leaves_the_best_weights(
    runtime: Runtime, precision: str, losses: list[float], patience: int, steps: int, kept: int
):
    if precision == "bf16":
        runtime = Runtime.start(RuntimeSettings(device="cpu", precision="bf16"))
    found, at_looks, result = watched(runtime, losses, 2, patience)
    assert result.steps == steps
    as_computed_with = found if precision == "fp32" else found.bfloat16().float()
    assert torch.equal(as_computed_with, at_looks[kept].float())


def test_a_watch_that_only_looks_changes_nothing(runtime: Runtime):
    seen: list[float] = []
    model = new_model(0.2)

    def look() -> float:
        seen.append(-float(len(seen)))
        return seen[-1]

    watch = KeepBest(look, 4, 1)
    result = fit(model, LENGTHS, loss_with(model), SETTINGS, runtime, StreamName(0), watch=watch)
    assert len(seen) == 4, "before the first step, after 4 and 8, after the last"
    plain, as_plain = train(runtime)
    assert torch.equal(weights(model), plain)
    assert result.loss == as_plain.loss


def spoil(model: nn.Module, at_step: int, value: float) -> Callable[[IntArray], BatchLoss]:
    """A loss that is `value` in one step, counted from 1, and sound in all others."""
    loss_of, steps = loss_with(model), 0

    def spoiled(rows: IntArray) -> BatchLoss:
        nonlocal steps
        steps += 1
        loss = loss_of(rows)
        return (lambda part: loss(part) * value) if steps == at_step else loss

    return spoiled


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("step", [1, 5, 9])
def test_a_loss_that_is_no_number_ends_the_training(runtime: Runtime, value: float, step: int):
    model = new_model()
    with pytest.raises(Diverged, match=r"after 9 of 9 steps .* Lower finetune.learning_rate \(0.05\)\."):
        fit(
            model,
            LENGTHS,
            spoil(model, step, value),
            SETTINGS,
            runtime,
            StreamName(0),
            lower="finetune.learning_rate",
        )


def test_weights_that_are_no_numbers_end_the_training_too(runtime: Runtime):
    """After the last step no loss tells."""
    model, once = new_model(), SETTINGS.model_copy(update={"epochs": 1, "batch_size": len(LENGTHS)})
    too_high = once.model_copy(update={"learning_rate": 1e39})
    with pytest.raises(Diverged, match="after 1 of 1 steps"):
        fit(model, LENGTHS, loss_with(model), too_high, runtime, StreamName(0))


def test_a_diverged_training_is_not_played_to_its_end(runtime: Runtime):
    model, seen = new_model(), []
    long = SETTINGS.model_copy(update={"epochs": 100})
    loss_of = spoil(model, 3, float("nan"))

    def counted(rows: IntArray) -> BatchLoss:
        seen.append(rows)
        return loss_of(rows)

    with pytest.raises(Diverged):
        fit(model, LENGTHS, counted, long, runtime, StreamName(0))
    assert len(seen) == LOOK_EVERY


def test_a_watched_training_that_diverges_goes_back_to_its_best(runtime: Runtime):
    """A new head is watched: it keeps what it had."""
    model = new_model()
    every = KeepBest(lambda: loss_with(model)(np.arange(11))(slice(None)).item(), every=1, patience=100)
    fit(model, LENGTHS, spoil(model, 4, float("nan")), SETTINGS, runtime, StreamName(0), watch=every)
    assert weights(model).isfinite().all()
    assert float(loss_with(model)(np.arange(11))(slice(None))) == pytest.approx(every.best, rel=1e-6)


def short_of_memory(loss_of: Callable[[IntArray], BatchLoss], fits: int, seen: list[int]) -> Any:
    """As on a GPU whose memory takes no more than `fits` rows."""

    def short(rows: IntArray) -> BatchLoss:
        loss = loss_of(rows)

        def of_part(part: slice) -> Tensor:
            n = len(rows[part])
            seen.append(n)
            if n > fits:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return loss(part)

        return of_part

    return short


@pytest.mark.parametrize("fits", [1, 2, 3])
def test_where_gpu_memory_is_short_the_gradients_of_parts_add_up(runtime: Runtime, fits: int):
    model, whole, seen = new_model(), new_model(), []
    expected = fit(whole, LENGTHS, loss_with(whole), SETTINGS, runtime, StreamName(0))
    with pytest.warns(UserWarning, match=r"out of GPU memory: .* \d rows at a time") as notices:
        found = fit(model, LENGTHS, short_of_memory(loss_with(model), fits, seen), SETTINGS, runtime, StreamName(0))
    torch.testing.assert_close(weights(model), weights(whole), rtol=1e-5, atol=1e-6)
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    assert found.steps == expected.steps
    tried = [4, 2] if fits > 1 else [4, 2, 1]
    assert seen[: len(tried)] == tried, "halved until it fits"
    assert max(seen[len(tried) :]) == tried[-1], "and it stays so"
    assert len(notices) == len(tried) - 1


def test_where_not_even_a_row_fits_it_is_an_error(runtime: Runtime):
    model = new_model()
    with pytest.warns(UserWarning, match="rows at a time"), pytest.raises(UserError, match="on a single text"):
        fit(model, LENGTHS, short_of_memory(loss_with(model), 0, []), SETTINGS, runtime, StreamName(0))
