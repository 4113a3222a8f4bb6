"""The closed form of a new head: what it solves, how it is written into heads of all forms, and what it is worth."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu

from nmg.base.seeding import StreamName
from nmg.base.types import FloatArray, IntArray
from nmg.data.corpus import Corpus
from nmg.training import head_init as head_start
from nmg.training.head_init import LINEAR, init_head_closed_form, newton_step
from nmg.training.lm import PretrainedLM, copy_state
from nmg.training.lm_quality import held_out_loss, log_frequencies
from nmg.training.runtime import Runtime
from support.arenas import arena_of
from support.models import CONFIGS, VOCABULARY, tiny_model
from support.runs import is_same
from support.tiny import SPECIAL, word_tokenizer

RANDOMNESS = StreamName(0)
WORDS = [f"w{number}" for number in range(VOCABULARY - len(SPECIAL))]
OTHER_FORM = {"modernbert"}
"""a dense layer without a bias"""
UNNAMED = {"deberta-v3"}
"""whose output embeddings transformers does not name"""


@pytest.fixture(params=sorted(CONFIGS.keys() - UNNAMED))
def headless(request: pytest.FixtureRequest) -> PretrainedLM:
    """A model of each architecture whose head counts as new."""
    return headless_model(request.param)


def headless_model(kind: str) -> PretrainedLM:
    model = tiny_model(kind)
    encoder = model.base_model_prefix + "."
    tied = {id(parameter) for parameter in model.base_model.parameters()}
    new = [
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not name.startswith(encoder) and id(parameter) not in tied
    ]
    return PretrainedLM(kind, model, word_tokenizer(WORDS), tuple(new))


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
    init_head_closed_form(headless, arena_of(headless, runtime), pairs, rows, RANDOMNESS, loss)
    assert torch.equal(output.bias.data, frequencies)
    assert with_bias < drawn
    assert is_same(encoder, headless.model.base_model.state_dict()), "but for the head, nothing moves"
    if headless.name in OTHER_FORM:
        assert loss() == with_bias
    else:
        assert loss() < with_bias - 0.3


def test_a_closed_form_that_is_worse_is_taken_back(headless: PretrainedLM, pairs: Corpus, runtime: Runtime):
    before = copy_state(headless.model)
    losses = iter([1.0, 2.0, 1.5, 1.75])
    init_head_closed_form(headless, arena_of(headless, runtime), pairs, np.arange(60), RANDOMNESS, lambda: next(losses))
    after = copy_state(headless.model)
    bias = headless.model.get_output_embeddings().bias
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(torch.equal(after[name], bias) for name in changed)
    assert changed


@pytest.mark.parametrize("kind", sorted(UNNAMED))
def test_a_head_whose_output_is_not_named_starts_as_drawn(kind: str, pairs: Corpus, runtime: Runtime):
    lm = headless_model(kind)
    before = copy_state(lm.model)
    init_head_closed_form(lm, arena_of(lm, runtime), pairs, np.arange(60), RANDOMNESS, lambda: 0.0)
    assert is_same(before, lm.model.state_dict())


def test_parameters_of_the_checkpoint_stay(headless: PretrainedLM, pairs: Corpus, runtime: Runtime):
    old = PretrainedLM(headless.name, headless.model, headless.tokenizer, ())
    before = copy_state(old.model)
    init_head_closed_form(old, arena_of(old, runtime), pairs, np.arange(60), RANDOMNESS, lambda: 0.0)
    assert is_same(before, old.model.state_dict())


# ---- the equations


def small_problem() -> tuple[Tensor, Tensor, Tensor, FloatArray]:
    """States [400, 4], words, embeddings [5, 4], and the words' frequencies."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(0, 5, (400,), generator=generator)
    embeddings = torch.randn(5, 4, generator=generator)
    states = torch.randn(400, 4, generator=generator) + embeddings[words] @ torch.randn(4, 4, generator=generator)
    frequencies = np.log(np.bincount(words.numpy(), minlength=5) / len(words))
    return states.double(), words, embeddings, frequencies


def test_it_is_a_newton_step_on_the_likelihood(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(head_start, "STATES_RIDGE", 0.0)
    monkeypatch.setattr(head_start, "WORDS_RIDGE", 0.0)
    states, words, embeddings, frequencies = small_problem()
    centred = states - states.mean(dim=0)

    def loss(flat: Tensor) -> Tensor:
        logits = centred @ flat.view(4, 4).T @ embeddings.double().T + torch.from_numpy(frequencies)
        return cross_entropy(logits, words)

    start = torch.zeros(16, dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(loss, start)
    step = -torch.linalg.solve(torch.autograd.functional.hessian(loss, start), gradient).view(4, 4)
    found = newton_step(states, words, embeddings, frequencies)
    torch.testing.assert_close(found, step, rtol=1e-6, atol=1e-8)


def test_ridges_by_hand():
    """One dimension: a covariance over two variances, each with its share of itself added."""
    states, words = torch.tensor([[0.0], [2.0], [0.0], [2.0]]).double(), torch.tensor([0, 1, 0, 1])
    frequencies = np.log([0.5, 0.5])
    found = newton_step(states, words, torch.tensor([[-3.0], [3.0]]), frequencies)
    assert found.item() == pytest.approx(3 / ((1 + head_start.STATES_RIDGE / 4) * 9 * (1 + head_start.WORDS_RIDGE)))


def small_head() -> head_start._Head:
    return head_start._Head(nn.Linear(6, 4), nn.LayerNorm(4), nn.Parameter(torch.zeros(5, 4)))


@torch.no_grad()
def test_the_head_computes_the_map():
    generator, head = torch.Generator().manual_seed(0), small_head()
    states, weight = (torch.randn(shape, generator=generator).double() for shape in ((50, 6), (4, 6)))
    weight *= 0.01
    head_start._write(head, weight, states.mean(dim=0))
    found = head.norm(gelu(head.dense(states.float())))
    expected = ((states - states.mean(dim=0)) @ weight.T).float()
    pattern = torch.tensor([-1.0, 1.0, -1.0, 1.0])
    along = expected - expected.mean(dim=1, keepdim=True)  # LayerNorm takes off the mean and what lies in the pattern
    along = along - pattern * (along @ pattern)[:, None] / 4
    torch.testing.assert_close(found, along, rtol=0.05, atol=0.002)
    assert float(along.std()) > 0.01


@pytest.mark.parametrize(
    ("losses", "scale", "best"),
    [
        ((3.0, 4.0), 1, 3.0),
        ((3.0, 2.0, 1.0, 1.5), 1 / 4, 1.0),
        ((6, 5, 4, 3, 2, 1, 0), 1 / 32, 1),
        ((1, math.nan), 1, 1),
    ],
)
def test_a_step_that_is_too_long_is_halved(losses: tuple[float, ...], scale: float, best: float):
    head, left = small_head(), iter(losses)
    weight, centre = torch.ones(4, 6).double(), torch.ones(6).double()
    assert head_start._write_damped(head, weight, centre, lambda: next(left)) == best
    assert head.dense.weight.unique().tolist() == [scale]
    assert head.dense.bias.tolist() == [LINEAR + sign - 6 * scale for sign in (-1, 1, -1, 1)]


def test_text_that_is_one_word_over_and_over_has_no_step():
    states, _, embeddings, _ = small_problem()
    frequencies = np.log(np.array([1 - 4e-9, 1e-9, 1e-9, 1e-9, 1e-9]))
    same = states[:1].expand(10, 4)
    assert not newton_step(same, torch.zeros(10, dtype=torch.int64), embeddings, frequencies).any()
