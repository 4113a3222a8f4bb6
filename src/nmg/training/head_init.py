"""Initialises a new LM head in closed form, by writing the solution of a ridge regression into the head's layers.

The heads of masked LMs are dense layer → activation → LayerNorm → output embeddings (tied to the input's) + bias. If
the bias is the logarithm of the word frequencies and the head adds nothing else, the loss is the unigram entropy. From
there, one Newton step is taken on the likelihood of a linear map W. The map gives logits E W (h - mean of h) for states
h, with E the embeddings. The step is

    W = Cov(e)⁻¹ · Cov(e, h) · Cov(h)⁻¹

with e the embedding of the word hidden at h. This is ridge regression from states to the embedding of the hidden word,
corrected for the covariance of the embeddings.

The dense layer receives W. Its bias moves the inputs of the activation to a range where the activation is linear, and
adds a pattern of ±1. The pattern is large compared with W h, so LayerNorm is nearly linear, too. The bias of LayerNorm
subtracts the pattern again.

LayerNorm could instead scale the predictions to their mean length, which is short. But the steps of an optimiser such
as AdamW do not depend on the size of gradients. A head with small gains would therefore learn as slowly as with a small
learning rate.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nmg.base.seeding import StreamName
from nmg.base.types import IGNORED_LABEL, FloatArray, IntArray
from nmg.data.corpus import Corpus
from nmg.training.context import TrainingContext
from nmg.training.lm import PretrainedLM, encoder_states
from nmg.training.lm_quality import RATE, hidden_words, log_frequencies
from nmg.training.memory import in_passes

POSITIONS = 20_000
"""Minimum number of masked positions for the regression, or all if the text has fewer."""
STATES_RIDGE = 5.0
"""Ridge added to each variance of the states, in units of their mean variance times dimensions / positions."""
WORDS_RIDGE = 3.0
"""Ridge added to each variance of the word embeddings, in units of their mean variance."""
MAX_HALVINGS = 5
"""Maximum number of times the Newton step is halved."""
LINEAR = 4.0
"""Input around which GELU and similar activations are close to the identity."""


@dataclass(frozen=True)
class _Head:
    """The layers of a new LM head."""

    dense: nn.Linear
    norm: nn.LayerNorm
    embeddings: nn.Parameter
    """Output embeddings, [V, D]."""

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters that are initialised in closed form."""
        return [*self.dense.parameters(), *self.norm.parameters()]


def init_head_closed_form(
    lm: PretrainedLM,
    context: TrainingContext,
    corpus: Corpus,
    rows: IntArray,
    randomness: StreamName,
    loss: Callable[[], float],
) -> None:
    """Initialise the new parameters of an LM head from text. All other parameters are left unchanged.

    If the output bias is new, it is set to the log-frequencies of the words. A head of the form described above is set
    to the linear map, which is halved while that lowers the loss. If the random initialisation has a lower loss than
    the map, it is kept.

    Args:
        lm: The LM with the new head.
        context: Context with the same model.
        corpus: The corpus.
        rows: int [B]: numbers of the blocks to learn from.
        randomness: Random stream.
        loss: Returns the held-out loss of the model in its current state.
    """
    output = lm.model.get_output_embeddings()
    if output is None or len(output.weight) != len(lm.model.get_input_embeddings().weight):
        return  # transformers returns another layer (DeBERTa v3): keep the random initialisation
    bias = getattr(output, "bias", None)
    if bias is not None and any(bias is parameter for parameter in lm.newly_initialized()):
        with torch.no_grad():
            bias.copy_(torch.from_numpy(log_frequencies(corpus, rows, len(bias))))
    head = _new_head(lm)
    if head is None:
        return
    drawn = [(parameter, parameter.detach().clone()) for parameter in head.parameters()]
    loss_as_drawn = loss()
    states, words = _states(context, corpus, rows, randomness)
    weight = newton_step(states, words, head.embeddings, log_frequencies(corpus, rows, len(head.embeddings)))
    if not _write_damped(head, weight, states.mean(dim=0), loss) < loss_as_drawn:
        for parameter, value in drawn:
            parameter.data.copy_(value)


def _new_head(lm: PretrainedLM) -> _Head | None:
    """Return the new dense layer and LayerNorm before the output embeddings, or None for heads of other forms."""
    model, output = lm.model, lm.model.get_output_embeddings()
    weight = getattr(output, "weight", None)
    modules = {name.rpartition(".")[0]: None for name in lm.new_parameters}
    new = [module for module in map(model.get_submodule, modules) if module is not output]
    dense = [module for module in new if isinstance(module, nn.Linear)]
    norms = [module for module in new if isinstance(module, nn.LayerNorm)]
    if not isinstance(weight, nn.Parameter) or len(dense) != 1 or len(norms) != 1:
        return None
    if dense[0].bias is None or norms[0].bias is None:
        return None
    if dense[0].weight.shape != (weight.shape[1], lm.hidden_size):
        return None
    return _Head(dense[0], norms[0], weight)


def _states(context: TrainingContext, corpus: Corpus, rows: IntArray, randomness: StreamName) -> tuple[Tensor, Tensor]:
    """Compute hidden states at masked positions.

    Args:
        context: Context with the model.
        corpus: The corpus.
        rows: int [B]: numbers of the blocks to read.
        randomness: Random stream of the order of blocks and of the masked positions.

    Returns:
        States, float64 [N, H], and ids of the hidden words, int64 [N], on the CPU.
    """
    order = (randomness / "blocks").generator().permutation(rows)
    enough = int(np.searchsorted(np.cumsum(corpus.lengths[order]) * RATE, POSITIONS)) + 1
    batches, lengths = hidden_words(context, corpus, order[:enough], RATE, randomness)
    by_length = np.argsort(-lengths, kind="stable")

    def read(part: slice) -> tuple[Tensor, Tensor]:
        """Return the states and hidden words of some blocks."""
        some = batches(by_length[part])
        is_hidden = some.labels != IGNORED_LABEL
        with context.runtime.autocast():
            found = encoder_states(context.model, some)
        # Move to the CPU first, because not every device supports float64.
        return found[is_hidden.to(found.device)].cpu().double(), some.labels[is_hidden]

    parts = [part for _, part in in_passes(len(by_length), context.runtime.evaluation_batch_size, read)]
    return torch.cat([states for states, _ in parts]), torch.cat([words for _, words in parts])


@torch.no_grad()
def newton_step(states: Tensor, words: Tensor, embeddings: Tensor, log_frequencies: FloatArray) -> Tensor:
    """Compute the map W of the module docstring.

    Args:
        states: float64 [N, H]: states at masked positions.
        words: int64 [N]: ids of the words hidden there.
        embeddings: Output embeddings, [V, D].
        log_frequencies: float64 [V]: log-frequencies of the words.

    Returns:
        float64 [D, H].
    """
    n, size = states.shape
    frequencies = torch.from_numpy(log_frequencies).exp()
    embeddings = embeddings.detach().cpu().double()
    embeddings -= frequencies @ embeddings
    states = states - states.mean(dim=0)
    with_words = states.T @ embeddings[words] / n
    by_state = torch.linalg.solve(_ridge(states.T @ states / n, STATES_RIDGE * size / n), with_words)  # [H, D]
    spread = (embeddings * frequencies[:, None]).T @ embeddings
    weight: Tensor = torch.linalg.solve(_ridge(spread, WORDS_RIDGE), by_state.T)
    return weight


@torch.no_grad()
def _write_damped(head: _Head, weight: Tensor, centre: Tensor, loss: Callable[[], float]) -> float:
    """Write the map into the head, and halve it while that lowers the loss.

    Damping is needed because the step is too long if there is little text.

    Args:
        head: The layers to write to.
        weight: float64 [D, H], the map.
        centre: float64 [H], mean of the states.
        loss: Returns the held-out loss of the model in its current state.

    Returns:
        The lowest loss.
    """
    _write(head, weight, centre)
    best = loss()
    for _ in range(MAX_HALVINGS):
        _write(head, weight / 2, centre)
        found = loss()
        if not found < best:
            _write(head, weight, centre)
            break
        best, weight = found, weight / 2
    return best


@torch.no_grad()
def _write(head: _Head, weight: Tensor, centre: Tensor) -> None:
    """Make the head compute approximately `weight` [D, H] times (state - `centre` [H])."""
    pattern = torch.ones(len(weight), dtype=weight.dtype)
    pattern[::2] = -1
    head.dense.weight.copy_(weight)
    head.dense.bias.copy_(LINEAR + pattern - weight @ centre)
    head.norm.weight.fill_(1.0)
    head.norm.bias.copy_(-pattern)


def _ridge(covariance: Tensor, strength: float) -> Tensor:
    """Add `strength` times the mean variance, plus 1e-12, to the diagonal of `covariance` [D, D]."""
    mean = covariance.diagonal().mean()
    return covariance + (strength * mean + 1e-12) * torch.eye(len(covariance), dtype=covariance.dtype)
