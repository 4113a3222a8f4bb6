"""The closed form of a new head: what it solves, how it is written into heads of all forms, and what it is worth."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, layer_norm

from nmg.data.corpus import Corpus
from nmg.inner import head_start
from nmg.inner.head_start import LINEAR, start_head
from nmg.inner.lm import PretrainedLM, copy_state
from nmg.inner.lm_quality import held_out_loss, log_frequencies
from nmg.inner.runtime import Runtime
from nmg.seeding import StreamName
from nmg.types import FloatArray, IntArray
from support.arenas import arena_of
from support.models import CONFIGS, VOCABULARY, tiny_model
from support.runs import is_same
from support.tiny import SPECIAL, word_tokenizer

RANDOMNESS = StreamName(0)
WORDS = [f"w{number}" for number in range(VOCABULARY - len(SPECIAL))]
OTHER_FORM = {"modernbert"}
"""a dense layer without a bias"""


@pytest.fixture(params=CONFIGS)
def headless(request: pytest.FixtureRequest) -> PretrainedLM:
    """A model of each architecture whose head counts as new."""
    model = tiny_model(request.param)
    encoder = model.base_model_prefix + "."
    tied = {id(parameter) for parameter in model.base_model.parameters()}
    new = [
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not name.startswith(encoder) and id(parameter) not in tied
    ]
    return PretrainedLM(request.param, model, word_tokenizer(WORDS), tuple(new))


@pytest.fixture
def pairs(tmp_path: Path) -> Corpus:
    """Each word stands beside its twin, so a hidden one can be read from the other; pairs differ in frequency."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, 11)
    texts = []
    for _ in range(300):
        drawn = rng.choice(10, 4, p=share / share.sum())
        texts.append(" ".join(f"{WORDS[2 * one]} {WORDS[2 * one + 1]}" for one in drawn))
    return Corpus.build(texts, word_tokenizer(WORDS), 16, tmp_path)


def loss_of(lm: PretrainedLM, corpus: Corpus, runtime: Runtime, rows: IntArray) -> Callable[[], float]:
    return lambda: held_out_loss(arena_of(lm, runtime), corpus, rows, RANDOMNESS / "held-out")


def test_it_lowers_the_loss_of_every_architecture(headless: PretrainedLM, pairs: Corpus, runtime: Runtime):
    held_out, rows = np.arange(60), np.arange(60, len(pairs))
    loss, output = loss_of(headless, pairs, runtime, held_out), headless.model.get_output_embeddings()
    encoder = copy_state(headless.model.base_model)
    drawn = loss()
    frequencies = torch.from_numpy(log_frequencies(pairs, rows, len(output.bias))).float()
    output.bias.data.copy_(frequencies)
    with_bias = loss()
    output.bias.data.zero_()
    start_head(headless, arena_of(headless, runtime), pairs, rows, RANDOMNESS, loss)
    assert torch.equal(output.bias.data, frequencies)
    assert with_bias < drawn
    assert is_same(encoder, headless.model.base_model.state_dict()), "but for the head, nothing moves"
    if headless.name in OTHER_FORM:
        assert loss() == with_bias
    else:
        assert loss() < with_bias - 0.3


def test_a_closed_form_that_is_worse_is_taken_back(headless: PretrainedLM, pairs: Corpus, runtime: Runtime):
    before = copy_state(headless.model)
    losses = iter([1.0, 2.0])
    start_head(headless, arena_of(headless, runtime), pairs, np.arange(60), RANDOMNESS, lambda: next(losses))
    after = copy_state(headless.model)
    bias = headless.model.get_output_embeddings().bias
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(torch.equal(after[name], bias) for name in changed)
    assert changed


def test_parameters_of_the_checkpoint_stay(headless: PretrainedLM, pairs: Corpus, runtime: Runtime):
    old = PretrainedLM(headless.name, headless.model, headless.tokenizer, ())
    before = copy_state(old.model)
    start_head(old, arena_of(old, runtime), pairs, np.arange(60), RANDOMNESS, lambda: 0.0)
    assert is_same(before, old.model.state_dict())


# ---- the equations


def small_problem() -> tuple[head_start._Head, Tensor, Tensor, FloatArray]:
    """Three dimensions, five words whose frequencies are those of the hidden words."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(0, 5, (400,), generator=generator)
    embeddings = torch.randn(5, 3, generator=generator)
    states = torch.randn(400, 3, generator=generator) + embeddings[words] @ torch.randn(3, 3, generator=generator)
    frequencies = np.log(np.bincount(words.numpy(), minlength=5) / len(words))
    head = head_start._Head(nn.Linear(3, 3), nn.LayerNorm(3), nn.Parameter(embeddings))
    return head, states.double(), words, frequencies


def test_it_is_a_newton_step_on_the_likelihood(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(head_start, "STATES_RIDGE", 0.0)
    monkeypatch.setattr(head_start, "WORDS_RIDGE", 0.0)
    head, states, words, frequencies = small_problem()
    embeddings, centred = head.embeddings.detach().double(), states - states.mean(dim=0)

    def loss(flat: Tensor) -> Tensor:
        logits = centred @ flat.view(3, 3).T @ embeddings.T + torch.from_numpy(frequencies)
        return cross_entropy(logits, words)

    start = torch.zeros(9, dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(loss, start)
    step = -torch.linalg.solve(torch.autograd.functional.hessian(loss, start), gradient).view(3, 3)
    assert head_start._set(head, states, words, frequencies)
    found = head.dense.weight * head.norm.weight.mean()
    torch.testing.assert_close(found.double(), step, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_head_computes_that_map_but_for_its_length():
    """The activation is linear where the dense layer's outputs lie; LayerNorm gives all of them the mean length."""
    head, states, words, frequencies = small_problem()
    assert head_start._set(head, states, words, frequencies)
    scale = head.norm.weight.mean()
    linear = (states.float() - states.float().mean(dim=0)) @ head.dense.weight.T
    assert float(linear.std()) == pytest.approx(1, rel=1e-3)
    found = head.norm(gelu(head.dense(states.float())))
    direction = layer_norm(linear, (3,))
    usual = linear.min(dim=1).values > 3 - LINEAR
    assert usual.float().mean() > 0.9
    torch.testing.assert_close(found[usual], scale * direction[usual], rtol=0.02, atol=0.02 * float(scale))


def test_text_that_is_one_word_over_and_over_sets_nothing():
    head, states, _, _ = small_problem()
    before = copy_state(head.norm)
    frequencies = np.log(np.array([1 - 4e-9, 1e-9, 1e-9, 1e-9, 1e-9]))
    same = states[:1].expand(10, 3)
    assert not head_start._set(head, same, torch.zeros(10, dtype=torch.int64), frequencies)
    assert is_same(before, head.norm.state_dict())
