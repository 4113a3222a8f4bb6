"""A new LM head in closed form: the linear head that ridge regression finds, written into the head's own layers.

The heads of masked LMs are dense layer → activation → LayerNorm → output embeddings (tied to the input's) + bias. With
the bias at the logarithm of the words' frequencies, a head that adds nothing else loses the unigram entropy. From there
one Newton step on the likelihood of a linear map W from states h to logits E W (h - mean of h), E the embeddings, is

    W = Cov(e)⁻¹ · Cov(e, h) · Cov(h)⁻¹

with e the embedding of the word hidden at h: ridge regression from states to the embedding of the hidden word, freed of
what words have in common anyway. The dense layer takes W, under a bias at which the activation is linear, and with a
pattern of ±1 added that is large beside W h: so LayerNorm is nearly linear, too, and its own bias takes the pattern off
again. (LayerNorm could give the predictions their mean length instead. But that is short, and an optimiser's steps do
not depend on the size of gradients: a head with small gains learns as slowly as with a small learning rate.)
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nmg.data.corpus import Corpus
from nmg.inner.arena import Arena
from nmg.inner.lm import PretrainedLM, encoder_states
from nmg.inner.lm_quality import RATE, hidden_words, log_frequencies
from nmg.inner.memory import in_passes
from nmg.seeding import StreamName
from nmg.types import IGNORED_LABEL, FloatArray, IntArray

POSITIONS = 20_000
"""masked positions that the regression sees, at least; fewer where the text has fewer"""
STATES_RIDGE = 5.0
"""added to each variance of the states, in units of their mean variance, times dimensions / positions"""
WORDS_RIDGE = 3.0
"""added to each variance of the words' embeddings, in units of their mean variance"""
MAX_HALVINGS = 5
"""of the step"""
LINEAR = 4.0
"""GELU and its kin are the identity around here"""


@dataclass(frozen=True)
class _Head:
    dense: nn.Linear
    norm: nn.LayerNorm
    embeddings: nn.Parameter
    """output embeddings, [V, D]"""

    def parameters(self) -> list[nn.Parameter]:
        return [*self.dense.parameters(), *self.norm.parameters()]


def start_head(
    lm: PretrainedLM,
    arena: Arena,
    corpus: Corpus,
    rows: IntArray,
    randomness: StreamName,
    loss: Callable[[], float],
) -> None:
    """Set the new parameters of `lm`'s head from the blocks `rows`; the model's other parameters stay.

    The output's bias becomes the words' log-frequencies, where it is new. A head of the form above then starts as the
    linear map, halved as long as that lowers `loss`; unless the head as drawn is better even so.
    """
    output = lm.model.get_output_embeddings()
    if output is None or len(output.weight) != len(lm.model.get_input_embeddings().weight):
        return  # transformers names another layer (DeBERTa v3's heads): the head starts as drawn
    bias = getattr(output, "bias", None)
    if bias is not None and any(bias is parameter for parameter in lm.drawn_anew()):
        with torch.no_grad():
            bias.copy_(torch.from_numpy(log_frequencies(corpus, rows, len(bias))))
    head = _new_head(lm)
    if head is None:
        return
    drawn = [(parameter, parameter.detach().clone()) for parameter in head.parameters()]
    loss_as_drawn = loss()
    states, words = _states(arena, corpus, rows, randomness)
    weight = newton_step(states, words, head.embeddings, log_frequencies(corpus, rows, len(head.embeddings)))
    if not _write_damped(head, weight, states.mean(dim=0), loss) < loss_as_drawn:
        for parameter, value in drawn:
            parameter.data.copy_(value)


def _new_head(lm: PretrainedLM) -> _Head | None:
    """The one new dense layer and the one new LayerNorm before the output embeddings; None for heads of other forms."""
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


def _states(arena: Arena, corpus: Corpus, rows: IntArray, randomness: StreamName) -> tuple[Tensor, Tensor]:
    """Encoder states float64 [N, H] at masked positions, and int64 [N] the words hidden there; on the CPU."""
    order = (randomness / "blocks").generator().permutation(rows)
    enough = int(np.searchsorted(np.cumsum(corpus.lengths[order]) * RATE, POSITIONS)) + 1
    batches, lengths = hidden_words(arena, corpus, order[:enough], RATE, randomness)
    by_length = np.argsort(-lengths, kind="stable")

    def read(part: slice) -> tuple[Tensor, Tensor]:
        some = batches(by_length[part])
        is_hidden = some.labels != IGNORED_LABEL
        with arena.runtime.autocast():
            found = encoder_states(arena.model, some)
        # On the CPU first: not every device has float64.
        return found[is_hidden.to(found.device)].cpu().double(), some.labels[is_hidden]

    parts = [part for _, part in in_passes(len(by_length), arena.runtime.evaluation_batch_size, read)]
    return torch.cat([states for states, _ in parts]), torch.cat([words for _, words in parts])


@torch.no_grad()
def newton_step(states: Tensor, words: Tensor, embeddings: Tensor, log_frequencies: FloatArray) -> Tensor:
    """W of the module's text, float64 [D, H].

    Args:
        states: float64 [N, H], at positions where `words`, int64 [N], are hidden.
        embeddings: of the output, [V, D].
        log_frequencies: of words, [V].
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
    """Write the map, and halve it as long as that lowers the loss, which is returned: steps on little text are long."""
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
    """Have the head compute `weight` [D, H] times (state - `centre` [H]), nearly."""
    pattern = torch.ones(len(weight), dtype=weight.dtype)
    pattern[::2] = -1
    head.dense.weight.copy_(weight)
    head.dense.bias.copy_(LINEAR + pattern - weight @ centre)
    head.norm.weight.fill_(1.0)
    head.norm.bias.copy_(-pattern)


def _ridge(covariance: Tensor, strength: float) -> Tensor:
    """`covariance` [D, D] with `strength` times its mean variance, and a hair, added to its diagonal."""
    mean = covariance.diagonal().mean()
    return covariance + (strength * mean + 1e-12) * torch.eye(len(covariance), dtype=covariance.dtype)
