"""Gradient credit: through the fitted probe, scaled as Adam does, for each masked token."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from nmg.base.seeding import StreamName, stream
from nmg.base.training_settings import FinetuneSettings
from nmg.base.types import IGNORED_LABEL, Example
from nmg.data.corpus import Corpus
from nmg.data.formats.classification import ClassificationExample
from nmg.masking.rules import RandomMasking
from nmg.tasks.registry import task_kind
from nmg.training.adapt import adapt, trained_vocabulary
from nmg.training.context import TrainingContext
from nmg.training.finetune import task_model
from nmg.training.finetune_gradient import finetuned_gradient
from nmg.training.lm import PretrainedLM, copy_state, masked_lm_loss
from nmg.training.masks import FixedBatches, FixedMasks
from nmg.training.probe import mean_loss, probe, solve
from nmg.training.probe_gradient import conjugate_gradients, encoder_gradient, state_gradients
from nmg.training.token_credit import DAMPING, LastMoments, moved, token_credit
from support.planted import WORDS


def refitted_loss(seen: Tensor, gold: Tensor, new: Tensor, new_gold: Tensor, n_outputs: int) -> float:
    """The loss of a probe that is fitted from the start."""
    mean, deviation = seen.mean(dim=0), seen.std(dim=0, correction=0)
    weights, bias = solve((seen - mean) / deviation, gold, n_outputs, None)
    return float(mean_loss((new - mean) / deviation, new_gold, weights, bias, None))


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
def test_state_gradients_are_those_of_refitting(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    seen, new = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (30, 20))
    golds = {
        "classes": [torch.randint(0, 3, (n,), generator=generator) for n in (30, 20)],
        "labels": [(torch.rand(n, 3, generator=generator) < 0.4).double() for n in (30, 20)],
        "numbers": [torch.randn(n, generator=generator, dtype=torch.float64) for n in (30, 20)],
    }
    (gold, new_gold), n_outputs = golds[kind], 1 if kind == "numbers" else 3
    found = state_gradients(seen, gold, new, new_gold, n_outputs)
    for part in (0, 1):
        way, step = torch.randn((30, 20)[part], 4, generator=generator, dtype=torch.float64), 1e-3
        sides = []
        for sign in (1, -1):
            states = [seen, new]
            states[part] = states[part] + sign * step * way
            sides.append(refitted_loss(states[0], gold, states[1], new_gold, n_outputs))
        assert float((found[part] * way).sum()) == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=2e-3)


def test_conjugate_gradients_solve_a_singular_system() -> None:
    rng = stream(0, "test")
    root = rng.standard_normal((6, 4))
    matrix = torch.from_numpy(root @ root.T)
    right = matrix @ torch.from_numpy(rng.standard_normal(6))
    assert torch.allclose(matrix @ conjugate_gradients(lambda v: matrix @ v, right), right, atol=1e-6)
    assert not conjugate_gradients(lambda v: matrix @ v, torch.zeros(6, dtype=torch.float64)).any()


def examples(n: int) -> list[Example]:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS[:20], rng.integers(3, 9))) for _ in range(n)]
    return [ClassificationExample(str(i), text, f"label{i % 3}", i) for i, text in enumerate(texts)]


def test_the_gradient_of_the_encoder_predicts_the_loss_of_a_moved_encoder(
    context: TrainingContext, lm: PretrainedLM
) -> None:
    data = examples(36)
    task = task_kind("classification").build(lm.tokenizer, data, FinetuneSettings(max_length=16))
    train, held_out, rows = task.encode(data[:24]), task.encode(data[24:]), np.arange(24)
    gradient = encoder_gradient(context, train, rows, held_out)
    assert all(p.grad is None for p in context.model.parameters())
    labels = torch.from_numpy(held_out.targets["labels"])

    def loss() -> float:
        logits = probe(context, task, train, rows, held_out)["labels" if "labels" in task.outputs else task.outputs[0]]
        return float(torch.nn.functional.cross_entropy(logits, labels))

    length = sum(float(g.square().sum()) for g in gradient.values())
    sides = []
    for sign in (1, -1):
        with moved(context.model, gradient, sign * 1e-2 / length**0.5):
            sides.append(loss())
    assert (sides[0] - sides[1]) / 2e-2 == pytest.approx(length**0.5, rel=0.02)


def test_the_gradient_of_some_rows_is_that_of_a_set_with_these_rows(context: TrainingContext, lm: PretrainedLM) -> None:
    data, some = examples(36), np.array([1, 4, 5, 9, 11])
    task = task_kind("classification").build(lm.tokenizer, data, FinetuneSettings(max_length=16))
    train, held_out, rows = task.encode(data[:24]), task.encode(data[24:]), np.arange(24)
    alone = task.encode([data[24 + int(n)] for n in some])
    model = task_model(task, context.model, StreamName(0) / "test")
    for found, expected in (
        (encoder_gradient(context, train, rows, held_out, some), encoder_gradient(context, train, rows, alone)),
        (
            finetuned_gradient(model, held_out, context.runtime, some),
            finetuned_gradient(model, alone, context.runtime),
        ),
    ):
        assert found.keys() == expected.keys()
        for name, slope in found.items():
            torch.testing.assert_close(slope, expected[name], rtol=1e-4, atol=1e-6, msg=name)
        assert any(slope.any() for slope in found.values())


@pytest.mark.parametrize("vocabulary", ["all", "corpus"])
def test_credit_is_the_derivative_along_the_scaled_gradient(
    context: TrainingContext, corpus: Corpus, vocabulary: str
) -> None:
    """Against one backward pass per token, and moments that are read from a hand-made average."""
    context = replace(context, adapt=context.adapt.model_copy(update={"vocabulary": vocabulary, "epochs": 1}))
    blocks = corpus.blocks(np.arange(6))
    masks = FixedMasks(blocks, RandomMasking().plan(blocks, 0.3, stream(0, "test")))
    start, last, randomness = copy_state(context.model), LastMoments(), StreamName(0) / "test"
    adapt(context, masks, randomness, observer=last)
    context.model.load_state_dict(start)
    generator = torch.Generator().manual_seed(1)
    gradient = {name: torch.randn(p.shape, generator=generator) for name, p in context.model.named_parameters()}
    direction = last.scale(gradient)
    name = "bert.encoder.layer.0.attention.self.query.weight"
    root = last.moments[name]
    mean = torch.cat([one.flatten() for one in last.moments.values()]).mean()
    assert torch.allclose(direction[name], gradient[name] / (root + DAMPING * mean))
    expected = []
    with trained_vocabulary(context, masks) as (of_text, columns):
        batches = masks.start(of_text, randomness)
        assert isinstance(batches, FixedBatches)
        labels = batches.corrupted.labels
        found = token_credit(of_text, batches.corrupted, direction, columns)
        context.model.eval()
        parameters = dict(context.model.named_parameters())
        for row, place in (labels != IGNORED_LABEL).nonzero().tolist():
            only = torch.full_like(labels, IGNORED_LABEL)
            only[row, place] = labels[row, place]
            context.model.zero_grad()
            masked_lm_loss(context.model, replace(batches.corrupted, labels=only)).backward()  # type: ignore[no-untyped-call]
            expected.append(sum(float((parameters[n].grad * way).sum()) for n, way in direction.items()))
    assert np.corrcoef(found, expected)[0, 1] > 0.9999
    assert found.numpy() == pytest.approx(np.array(expected), rel=0.02, abs=0.01 * np.abs(expected).max())
    assert all(torch.equal(tensor, start[name]) for name, tensor in context.model.state_dict().items())
    if vocabulary == "corpus":
        words = "bert.embeddings.word_embeddings.weight"
        assert last.ids is not None
        assert torch.allclose(direction[words], gradient[words][last.ids] / (last.moments[words] + DAMPING * mean))
