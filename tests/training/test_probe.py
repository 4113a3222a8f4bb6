"""The probe reaches its optimum, draws nothing, and tells a better encoder from a worse one."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy import optimize, special
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from nmg.base.seeding import torch_stream
from nmg.base.settings import RuntimeSettings
from nmg.base.training_settings import FinetuneSettings
from nmg.base.types import Example, FloatArray
from nmg.data.formats.classification import ClassificationExample
from nmg.data.formats.questions import QAExample
from nmg.tasks.base import Task
from nmg.tasks.registry import task_kind
from nmg.tasks.rows import TaskFeatures
from nmg.training.context import TrainingContext
from nmg.training.lm import PretrainedLM, copy_state
from nmg.training.probe import PENALTY, probe, solve
from nmg.training.runtime import Runtime
from support.arenas import arena_of
from support.models import tiny_model
from support.runs import is_same
from support.tiny import word_tokenizer

WORDS = [f"w{i}" for i in range(40)]
SETTINGS = FinetuneSettings(max_length=16, stride=2, max_question_length=4, max_answer_length=3)


def labelled(n: int, seed: int) -> list[Example]:
    """The label is that of most words: each of the first 30 words belongs to one of three."""
    rng, examples = np.random.default_rng(seed), list[Example]()
    for i in range(n):
        own = [f"w{3 * k + i % 3}" for k in rng.integers(0, 10, rng.integers(1, 6))]
        words = rng.permutation([*own, *(f"w{k}" for k in rng.integers(30, 40, rng.integers(1, 6)))])
        examples.append(ClassificationExample(str(i), " ".join(words), f"label{i % 3}", i))
    return examples


def questions(n: int, seed: int) -> list[Example]:
    """The answer is the one word of the first five; some contexts need several windows."""
    rng, examples = np.random.default_rng(seed), list[Example]()
    for i in range(n):
        words = [f"w{k}" for k in rng.integers(10, 40, rng.integers(2, 24))]
        answer = f"w{rng.integers(0, 5)}"
        words.insert(int(rng.integers(0, len(words))), answer)
        context = " ".join(words)
        start = f" {context} ".index(f" {answer} ")
        examples.append(QAExample(str(i), "w8 w9", context, (answer,), (start,), i))
    return examples


@dataclass(frozen=True)
class Condition:
    task: Task
    train: TaskFeatures
    held_out: TaskFeatures
    examples: list[Example]
    context: TrainingContext

    def outputs(self, n_rows: int | None = None) -> dict[str, Tensor]:
        rows = np.arange(n_rows or len(self.train))
        return probe(self.context, self.task, self.train, rows, self.held_out)

    def loss(self) -> float:
        return self.task.evaluate(self.outputs(), self.held_out, self.examples).scores["loss"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    tokenizer = word_tokenizer(WORDS)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def setting(name: str, tokenizer: PreTrainedTokenizerBase, kind: str = "bert", batch: int = 64) -> Condition:
    made = {"classification": labelled, "qa": questions}[name]
    train, held_out = made(26, 0), made(17, 1)
    task = task_kind(name).build(tokenizer, train, SETTINGS)
    runtime = Runtime.start(RuntimeSettings(device="cpu", precision="fp32", threads=1, evaluation_batch_size=batch))
    context = arena_of(PretrainedLM("tiny", tiny_model(kind), tokenizer, ()), runtime)
    return Condition(task, task.encode(train), task.encode(held_out), held_out, context)


def states(context: TrainingContext, features: TaskFeatures, row: int) -> FloatArray:
    """[T, H] of one row alone, without padding."""
    context.model.eval()
    ids = features.batch(np.array([row]))["input_ids"]
    with torch.no_grad():
        found: FloatArray = context.model.base_model(input_ids=ids)[0][0].double().numpy()
    return found


def minimum(inputs: list[FloatArray], gold: list[int], n_classes: int | None) -> tuple[FloatArray, FloatArray]:
    """The same objective in plain sums, by another optimiser and numerical derivatives of none: its own gradient.

    `inputs`: [D] of each example for classes, [T, D] of each row for tokens.
    """
    width, n = inputs[0].shape[-1], len(gold)
    n_outputs = n_classes or 1

    def value(flat: FloatArray) -> tuple[float, FloatArray]:
        weights, bias = flat[: width * n_outputs].reshape(width, n_outputs), flat[width * n_outputs :]
        total, by_weights, by_bias = 0.0, np.zeros_like(weights), np.zeros_like(bias)
        for x, y in zip(inputs, gold, strict=True):
            scores = (x @ weights + bias).ravel()
            share = special.softmax(scores)
            total -= np.log(share[y])
            share[y] -= 1
            by_weights += np.outer(x, share) if n_classes else (x.T @ share)[:, None]
            by_bias += share if n_classes else share.sum()
        total, by_weights = total / n + PENALTY * (weights**2).sum() / (2 * n), (by_weights + PENALTY * weights) / n
        return total, np.concatenate([by_weights.ravel(), by_bias / n])

    start = np.zeros((width + 1) * n_outputs)
    found = optimize.minimize(value, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15})
    assert np.abs(value(found.x)[1]).max() < 1e-5
    return found.x[: width * n_outputs].reshape(width, n_outputs), found.x[width * n_outputs :]


def test_classes_equal_another_optimisers(tokenizer: PreTrainedTokenizerBase):
    one = setting("classification", tokenizer)
    rows = np.array([0, 3, 5, 8, 10, 11, 13, 19, 22, 25])

    def read(features: TaskFeatures, row: int) -> FloatArray:
        found = states(one.context, features, row)
        return np.concatenate([found.mean(axis=0), found[0]])

    seen = np.array([read(one.train, row) for row in rows])
    mean, deviation = seen.mean(axis=0), seen.std(axis=0)
    weights, bias = minimum(list((seen - mean) / deviation), one.train.targets["labels"][rows].tolist(), 3)
    unseen = np.array([read(one.held_out, row) for row in range(17)])
    by_hand = special.log_softmax((unseen - mean) / deviation @ weights + bias, axis=1)

    outputs = probe(one.context, one.task, one.train, rows, one.held_out)
    assert set(outputs) == {"logits"}
    assert outputs["logits"].shape == (17, 3)
    assert outputs["logits"].dtype == torch.float32
    np.testing.assert_allclose(outputs["logits"].log_softmax(dim=1).numpy(), by_hand, atol=2e-3)


def test_tokens_equal_another_optimisers(tokenizer: PreTrainedTokenizerBase):
    """A distribution over the tokens of a row, for starts and for ends, and nothing behind its end."""
    one = setting("qa", tokenizer)
    assert len(one.train) > 26, "some examples have several windows"
    rows = np.arange(0, len(one.train), 2)
    seen = [states(one.context, one.train, row) for row in rows]
    running = np.concatenate(seen)
    mean, deviation = running.mean(axis=0), running.std(axis=0)
    outputs = probe(one.context, one.task, one.train, rows, one.held_out)
    assert set(outputs) == {"start_logits", "end_logits"}
    for side in ("start", "end"):
        gold = one.train.targets[f"{side}_positions"][rows].tolist()
        weights, bias = minimum([(x - mean) / deviation for x in seen], gold, None)
        found = outputs[f"{side}_logits"]
        assert found.shape == (len(one.held_out), one.held_out.lengths.max())
        for row, length in enumerate(one.held_out.lengths):
            scores = (states(one.context, one.held_out, row) - mean) / deviation @ weights + bias
            by_hand = special.log_softmax(scores.ravel())
            np.testing.assert_allclose(found[row].log_softmax(dim=0)[:length].numpy(), by_hand, atol=2e-3)
            assert (found[row, length:] == -torch.inf).all()


@pytest.mark.parametrize("n_outputs", [2, 5])
def test_the_solution_is_a_minimum(n_outputs: int):
    """More directions than rows, and some without any variance."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((12, 30)) * rng.choice([0.0, 1.0, 3.0], 30)
    gold = rng.integers(0, n_outputs, 12)
    weights, bias = solve(torch.from_numpy(inputs), torch.from_numpy(gold), n_outputs, None)
    by_hand, _ = minimum(list(inputs), gold.tolist(), n_outputs)
    np.testing.assert_allclose(weights.numpy(), by_hand, atol=1e-3)
    assert not weights[(inputs == 0).all(axis=0)].any()
    assert not weights.requires_grad
    assert torch.isfinite(bias).all()


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta"])
@pytest.mark.parametrize("name", ["classification", "qa"])
def test_it_draws_nothing_and_changes_nothing(name: str, kind: str, tokenizer: PreTrainedTokenizerBase):
    one = setting(name, tokenizer, kind)
    before = copy_state(one.context.model)
    generators = torch.get_rng_state(), str(np.random.get_state())
    first = one.outputs()
    torch.manual_seed(99)
    assert is_same(first, one.outputs())
    assert is_same(copy_state(one.context.model), before)
    assert all(parameter.grad is None for parameter in one.context.model.parameters())
    torch.set_rng_state(generators[0])
    assert str(np.random.get_state()) == generators[1]
    scores = one.task.evaluate(first, one.held_out, one.examples).scores
    assert all(np.isfinite(value) for value in scores.values())


@pytest.mark.parametrize("name", ["classification", "qa"])
def test_it_does_not_depend_on_batches_or_padding(name: str, tokenizer: PreTrainedTokenizerBase):
    whole = setting(name, tokenizer).outputs()
    for batch in (1, 5):
        for key, values in setting(name, tokenizer, batch=batch).outputs().items():
            torch.testing.assert_close(values, whole[key], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["classification", "qa"])
def test_a_better_encoder_has_a_lower_loss(name: str, tokenizer: PreTrainedTokenizerBase):
    """Words of a kind share a part of their embeddings: the more, the better they are told apart."""
    kinds = {
        "classification": [[f"w{3 * k + kind}" for k in range(10)] for kind in range(3)],
        "qa": [[f"w{k}" for k in range(5)]],
    }
    one, losses = setting(name, tokenizer), []
    embeddings = one.context.model.get_input_embeddings().weight.data
    for strength in (0.0, 1.0, 4.0):
        before = embeddings.clone()
        with torch_stream(0, "kin"):
            for kind in kinds[name]:
                ids = tokenizer.convert_tokens_to_ids(kind)
                embeddings[ids] += strength * embeddings.std() * torch.randn(embeddings.shape[1])
        losses.append(one.loss())
        embeddings.copy_(before)
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 0.7 * losses[0]


def test_a_class_that_only_held_out_examples_have_is_scored(tokenizer: PreTrainedTokenizerBase):
    """And one that no row of the fit has."""
    one = setting("classification", tokenizer)
    few = replace(one.train, targets={"labels": np.minimum(one.train.targets["labels"], 1)})
    outputs = probe(one.context, one.task, few, np.arange(6), one.held_out)["logits"]
    assert outputs.shape == (17, 3)
    assert torch.isfinite(outputs).all()
    evaluation = one.task.evaluate({"logits": outputs}, one.held_out, one.examples)
    assert np.isfinite(evaluation.scores["loss"])


def test_one_row_is_enough(tokenizer: PreTrainedTokenizerBase):
    for name in ("classification", "qa"):
        for values in setting(name, tokenizer).outputs(n_rows=1).values():
            assert not torch.isnan(values).any()
