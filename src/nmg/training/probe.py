"""Linear probe on frozen encoder features, solved to its optimum: a score without the noise of fine-tuning.

The probe is multinomial logistic regression with a quadratic penalty (like scikit-learn's with C = 0.01). Texts with
several labels have one logistic regression per label, and numbers have ridge regression (alpha = 100). For texts, the
features are the mean of the last hidden states and the state at the first position. For tokens (start or end
positions, or token classes), the features are the last hidden state of each token.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nmg.base.types import IGNORED_LABEL, FloatArray, IntArray
from nmg.tasks.base import Task
from nmg.tasks.rows import TaskFeatures
from nmg.training.context import TrainingContext
from nmg.training.states import read_states

PENALTY = 100.0
"""Penalty 1 / C. With a few hundred labels and features, a weaker penalty overfits the training set."""
STEPS = 200
"""Maximum number of L-BFGS iterations. A few dozen usually reach the optimum."""
SMALLEST_DEVIATION = 1e-6
"""Lower limit of the standard deviation by which a feature is divided."""
TOLERANCE = 1e-7
"""Gradient tolerance of L-BFGS."""


def probe(
    context: TrainingContext, task: Task, train: TaskFeatures, rows: IntArray, held_out: TaskFeatures
) -> dict[str, Tensor]:
    """Fit a probe on `rows` of `train` and return the task's outputs for all rows of `held_out`.

    The probe predicts one distribution per output and row, over classes or over the tokens of the row. The i-th name in
    `task.outputs` is trained on the i-th entry of `train.targets`, whose dtype and shape define the loss. If each token
    has a target, the probe predicts a distribution over classes for every token. The probe is deterministic: equal
    encoders give equal outputs.

    Args:
        context: Context with the adapted LM.
        task: The task.
        train: Encoded training examples.
        rows: int [N]: rows of `train` to fit on.
        held_out: Encoded examples to predict.

    Returns:
        Logits by output name: float32 [F, C], [F, T], or [F, T, C] for token targets.
    """
    if train.token_targets:
        return {task.outputs[0]: _probe_words(context, train, rows, held_out)}
    per_token = task.outputs_are_per_token
    seen = row_states(context, train, rows, per_token)
    is_token = torch.from_numpy(np.arange(seen.shape[1]) < train.lengths[rows, None]) if per_token else None
    flat = seen[is_token] if is_token is not None else seen
    mean, deviation = flat.mean(dim=0), flat.std(dim=0, correction=0).clamp(min=SMALLEST_DEVIATION)
    seen.sub_(mean).div_(deviation)
    layers = []
    for name, targets in train.targets.items():
        n_outputs = 1 if per_token else n_outputs_of(targets, held_out.targets[name])
        layers.append(solve(seen, torch.from_numpy(targets[rows]), n_outputs, is_token))
    longest = int(held_out.lengths.max())
    found = [torch.full((len(held_out), longest if per_token else len(bias)), -torch.inf) for _, bias in layers]
    for places, states in _read(context, held_out, np.arange(len(held_out)), per_token):
        for outputs, (weights, bias) in zip(found, layers, strict=True):
            scores = ((states - mean) / deviation @ weights + bias).float()
            outputs[places, : states.shape[1] if per_token else None] = scores.squeeze(2) if per_token else scores
    if per_token:
        is_after = torch.from_numpy(np.arange(longest) >= held_out.lengths[:, None])
        found = [outputs.masked_fill(is_after, -torch.inf) for outputs in found]
    return dict(zip(task.outputs, found, strict=True))


def n_outputs_of(targets: IntArray | FloatArray, held_out: IntArray | FloatArray) -> int:
    """Return the number of outputs of the probe.

    `targets` and `held_out` are the targets of training and held-out rows, with one target per row.
    """
    if targets.ndim == 2:
        return int(targets.shape[1])
    if np.issubdtype(targets.dtype, np.floating):
        return 1
    return int(max(targets.max(), held_out.max())) + 1  # classes that occur only in held-out rows need an output, too


def _probe_words(context: TrainingContext, train: TaskFeatures, rows: IntArray, held_out: TaskFeatures) -> Tensor:
    """Fit a classifier of tokens. Each labelled token of `rows` is a training example.

    Args:
        context: Context with the adapted LM.
        train: Encoded training examples.
        rows: int [N]: rows of `train` to fit on.
        held_out: Encoded examples to predict.

    Returns:
        float32 [F, T, C]: logits of the classes of each token of `held_out`; -inf after the end of a row.
    """
    (name,) = train.token_targets
    seen, gold = [], []
    for places, states in _read(context, train, rows, per_token=True):
        labels = train.batch(rows[places.numpy()])[name]
        is_labelled = labels != IGNORED_LABEL
        seen.append(states[is_labelled])
        gold.append(labels[is_labelled])
    inputs = torch.cat(seen)
    mean, deviation = inputs.mean(dim=0), inputs.std(dim=0, correction=0).clamp(min=SMALLEST_DEVIATION)
    # Classes that occur only in held-out rows need an output, too.
    n_classes = int(max(features.token_targets[name].values.max() for features in (train, held_out))) + 1
    weights, bias = solve((inputs - mean) / deviation, torch.cat(gold), n_classes, None)
    found = torch.full((len(held_out), int(held_out.lengths.max()), n_classes), -torch.inf)
    for places, states in _read(context, held_out, np.arange(len(held_out)), per_token=True):
        found[places, : states.shape[1]] = ((states - mean) / deviation @ weights + bias).float()
    is_after = torch.from_numpy(np.arange(found.shape[1]) >= held_out.lengths[:, None])
    return found.masked_fill(is_after[:, :, None], -torch.inf)


def row_states(context: TrainingContext, features: TaskFeatures, rows: IntArray, per_token: bool) -> Tensor:
    """Return the states of `_read` for all rows, in the order of `rows`.

    Args:
        context: Context with the adapted LM.
        features: Encoded examples.
        rows: int [N]: rows of `features` to read.
        per_token: Whether to return a state for each token instead of each row.

    Returns:
        float64 on the CPU: [N, T, H], 0 after the end of a row's batch, or [N, 2 H].
    """
    width = (int(features.lengths[rows].max()),) if per_token else ()
    found: Tensor | None = None
    for places, states in _read(context, features, rows, per_token):
        if found is None:
            found = torch.zeros(len(rows), *width, states.shape[-1], dtype=states.dtype)
        found[places, : states.shape[1]] = states
    assert found is not None, "there is at least one row"
    return found


def _read(
    context: TrainingContext, features: TaskFeatures, rows: IntArray, per_token: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Read rows in batches of similar length, longest first.

    Args:
        context: Context with the adapted LM.
        features: Encoded examples.
        rows: int [N]: rows of `features` to read.
        per_token: Whether to yield a state for each token instead of each row.

    Yields:
        Indices into `rows`, int64 [B], and states, float64 on the CPU: last hidden states [B, T, H], or [B, 2 H] with
        their mean and the first of them.
    """
    return read_states(context, features, rows, (lambda states, _: states) if per_token else mean_and_first)


def mean_and_first(states: Tensor, is_token: Tensor) -> Tensor:
    """Return the mean and the first of the states [B, T, H] of each row: [B, 2 H]."""
    counted = is_token[:, :, None].long()
    return torch.cat([(states * counted).sum(dim=1) / counted.sum(dim=1), states[:, 0]], dim=1)


def solve(inputs: Tensor, gold: Tensor, n_outputs: int, is_token: Tensor | None) -> tuple[Tensor, Tensor]:
    """Minimise the penalised mean loss of the probe.

    Args:
        inputs: float64 [N, D] to predict classes, labels or numbers, or [N, T, D] to select one token per row.
        gold: int64 [N]: correct classes or token positions; float64 [N, C]: labels; float64 [N]: numbers. Dtype and
            shape define the loss (`TaskFeatures.targets`).
        n_outputs: Number of classes or labels, or 1 for a number or to select a token.
        is_token: bool [N, T], False at padding; None to predict classes.

    Returns:
        Weights [D, n_outputs] and bias [n_outputs].
    """
    weights = torch.zeros(inputs.shape[-1], n_outputs, dtype=inputs.dtype, requires_grad=True)
    bias = torch.zeros(n_outputs, dtype=inputs.dtype, requires_grad=True)
    parameters: Sequence[Tensor] = [weights, bias]
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=STEPS, tolerance_grad=TOLERANCE, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        """Compute the penalised loss and its gradient."""
        optimiser.zero_grad()
        value = penalised_loss(inputs, gold, weights, bias, is_token)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach(), bias.detach()


def penalised_loss(inputs: Tensor, gold: Tensor, weights: Tensor, bias: Tensor, is_token: Tensor | None) -> Tensor:
    """Return the objective of the probe: its mean loss and the penalty of its weights. Arguments as in `solve`."""
    penalty = PENALTY * weights.square().sum() / (2 * len(gold))
    return mean_loss(inputs, gold, weights, bias, is_token) + penalty


def mean_loss(inputs: Tensor, gold: Tensor, weights: Tensor, bias: Tensor, is_token: Tensor | None) -> Tensor:
    """Return the mean loss of a probe with the given weights. Arguments as in `solve`."""
    scores = inputs @ weights + bias
    if is_token is not None:
        scores = scores.squeeze(2).masked_fill(~is_token, -torch.inf)
    return _loss(scores, gold)


def _loss(scores: Tensor, gold: Tensor) -> Tensor:
    """Return the mean over rows of the loss that `gold` defines, summed over labels. A squared error counts half."""
    if gold.ndim == 2:
        return F.binary_cross_entropy_with_logits(scores, gold, reduction="sum") / len(gold)
    if gold.is_floating_point():
        return F.mse_loss(scores.squeeze(1), gold) / 2
    return F.cross_entropy(scores, gold)
