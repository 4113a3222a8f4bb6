"""Gradient of a probe's validation loss with respect to the encoder, through the probe that is fitted again.

The weights w of the probe minimise f(w, s), the penalised loss on the states s of training texts. A change of the
encoder therefore moves the probe, too. With the implicit function theorem, the validation loss L has the gradient

    dL/ds = ∂L/∂s − ∂/∂s ⟨∇_w f(w, s), v⟩   where   (∇²_w f) v = ∇_w L

(Lorraine et al. 2020, arXiv 1911.02590). The probe is small and convex, so conjugate gradients solve for v exactly.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import grad

from nmg.base.errors import UserError
from nmg.base.types import IntArray
from nmg.tasks.rows import TaskFeatures
from nmg.training.context import TrainingContext
from nmg.training.probe import (
    SMALLEST_DEVIATION,
    mean_and_first,
    mean_loss,
    n_outputs_of,
    penalised_loss,
    row_states,
    solve,
)
from nmg.training.states import batch_states

MAX_ITERATIONS = 200
"""Maximum number of iterations of conjugate gradients."""
SOLVED = 1e-6
"""Conjugate gradients end when the residual is this fraction of the right side."""


class StateGradients(NamedTuple):
    """Gradients of the validation loss."""

    train: Tensor
    """float64, of the states of training rows, in their shape."""
    held_out: Tensor
    """float64, of the states of held-out rows, in their shape."""


def encoder_gradient(
    context: TrainingContext,
    train: TaskFeatures,
    rows: IntArray,
    held_out: TaskFeatures,
    held_out_rows: IntArray | None = None,
) -> dict[str, Tensor]:
    """Return the gradient of the probe's mean loss on `held_out` for each parameter of the encoder.

    The gradient includes the effect on the probe, which is fitted on `rows` of `train`, and on the mean and deviation
    of its inputs.

    Args:
        context: Context with the adapted LM.
        train: Encoded training examples, with one target per row.
        rows: int [N]: rows of `train` to fit on.
        held_out: Encoded examples to measure the loss on.
        held_out_rows: int [M]: rows of `held_out` to use; None for all.

    Returns:
        Parameter name of `context.model` → float32 gradient. Parameters that the encoder does not use are missing.

    Raises:
        UserError: If the task has one target per token or selects tokens.
    """
    if train.token_targets or len(train.targets) != 1:
        raise UserError("credit: needs a task with one prediction per text, with reward.evaluation linear-probe")
    (name,) = train.targets
    model, chosen_rows = context.model.eval(), np.arange(len(held_out)) if held_out_rows is None else held_out_rows
    gradients = state_gradients(
        row_states(context, train, rows, per_token=False),
        torch.from_numpy(train.targets[name][rows]),
        row_states(context, held_out, chosen_rows, per_token=False),
        torch.from_numpy(held_out.targets[name][chosen_rows]),
        n_outputs_of(train.targets[name], held_out.targets[name]),
    )
    model.zero_grad(set_to_none=True)
    for features, chosen, of_states in (
        (train, rows, gradients.train),
        (held_out, chosen_rows, gradients.held_out),
    ):
        for part in _batches(context, features, chosen):
            (batch_states(context, features, chosen[part], mean_and_first) * of_states[part]).sum().backward()  # type: ignore[no-untyped-call]
    found = {name: p.grad.float() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def state_gradients(seen: Tensor, gold: Tensor, new: Tensor, new_gold: Tensor, n_outputs: int) -> StateGradients:
    """Differentiate the mean loss on `new` of the probe that is fitted on `seen`.

    Args:
        seen: float64 [N, D]: states of training rows.
        gold: Targets of the N rows, as in `probe.solve`.
        new: float64 [M, D]: states of held-out rows.
        new_gold: Targets of the M rows.
        n_outputs: Number of outputs C of the probe.

    Returns:
        The gradients with respect to `seen` and `new`.
    """
    seen, new = seen.detach().requires_grad_(), new.detach().requires_grad_()
    mean = seen.mean(dim=0)
    deviation = seen.std(dim=0, correction=0).clamp(min=SMALLEST_DEVIATION)
    inputs, new_inputs = (seen - mean) / deviation, (new - mean) / deviation
    weights, bias = (part.requires_grad_() for part in solve(inputs.detach(), gold, n_outputs, None))
    loss = mean_loss(new_inputs, new_gold, weights, bias, None)
    of_seen, of_new, *of_probe = grad(loss, [seen, new, weights, bias], retain_graph=True)
    slope = grad(penalised_loss(inputs, gold, weights, bias, None), [weights, bias], create_graph=True)

    def times_hessian(vector: Tensor) -> Tensor:
        return _flat(grad(slope, [weights, bias], _parts(vector, weights, bias), retain_graph=True))

    moved = _parts(conjugate_gradients(times_hessian, _flat(of_probe)), weights, bias)
    (through_probe,) = grad(slope, seen, moved)
    return StateGradients(of_seen - through_probe, of_new)


def conjugate_gradients(times: Callable[[Tensor], Tensor], right: Tensor) -> Tensor:
    """Solve A x = `right` for a symmetric positive semidefinite A.

    Args:
        times: Multiplies A by a vector [n].
        right: [n]: the right side, in the range of A.

    Returns:
        x [n], accurate to `SOLVED` unless `MAX_ITERATIONS` are too few.
    """
    found, residual = torch.zeros_like(right), right.clone()
    direction, squared = residual.clone(), residual.dot(residual)
    limit = squared * SOLVED**2
    for _ in range(MAX_ITERATIONS):
        if squared <= limit:
            break
        image = times(direction)
        step = squared / direction.dot(image)
        found += step * direction
        residual -= step * image
        before, squared = squared, residual.dot(residual)
        direction = residual + squared / before * direction
    return found


def _flat(parts: "tuple[Tensor, ...] | list[Tensor]") -> Tensor:
    """Return the elements of all tensors in one vector."""
    return torch.cat([part.flatten() for part in parts])


def _parts(vector: Tensor, weights: Tensor, bias: Tensor) -> list[Tensor]:
    """Return the parts of a vector, in the shapes of `weights` and `bias`."""
    return [vector[: weights.numel()].view_as(weights), vector[weights.numel() :].view_as(bias)]


def _batches(context: TrainingContext, features: TaskFeatures, rows: IntArray) -> list[IntArray]:
    """Return indices into `rows` in batches of rows of similar length."""
    order = np.argsort(-features.lengths[rows], kind="stable")
    at_once = context.runtime.evaluation_batch_size
    return [order[first : first + at_once] for first in range(0, len(order), at_once)]
