"""Texts with several labels and texts with numbers: fine-tuning learns them, and the probe is scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from transformers import PreTrainedTokenizerBase

from nmg.base.seeding import StreamName
from nmg.base.settings import RuntimeSettings
from nmg.base.training_settings import FinetuneSettings
from nmg.base.types import Example, FloatArray
from nmg.data.formats.multi_label import MultiLabelExample
from nmg.data.formats.regression import RegressionExample
from nmg.tasks.registry import task_kind
from nmg.tasks.rows import TaskFeatures
from nmg.training.context import TrainingContext
from nmg.training.finetune import evaluate, finetune, task_model
from nmg.training.lm import PretrainedLM
from nmg.training.probe import probe
from nmg.training.runtime import Runtime
from support.arenas import arena_of
from support.models import tiny_model
from support.tiny import word_tokenizer

WORDS = [f"w{i}" for i in range(40)]
SETTINGS = FinetuneSettings(epochs=30, batch_size=8, learning_rate=1e-2, max_length=16)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return word_tokenizer(WORDS)


def examples(name: str, n: int, seed: int) -> list[Example]:
    """The labels are "low" with w0 and "high" with w1; the number counts w0 and subtracts w1."""
    rng, made = np.random.default_rng(seed), list[Example]()
    for i in range(n):
        n_low, n_high = rng.integers(0, 3, 2)
        words = [*["w0"] * n_low, *["w1"] * n_high, *(f"w{k}" for k in rng.integers(2, 40, 3))]
        text = " ".join(rng.permutation(words))
        if name == "regression":
            made.append(RegressionExample(str(i), text, 10.0 + n_low - n_high, i))
        else:
            labels = (*(["high"] if n_high else []), *(["low"] if n_low else []))
            made.append(MultiLabelExample(str(i), text, labels, i, label_set=("high", "low")))
    return made


def context_of(tokenizer: PreTrainedTokenizerBase, precision: str, **settings: int) -> TrainingContext:
    runtime = Runtime.start(RuntimeSettings(device="cpu", precision=precision, threads=1, **settings))  # type: ignore[arg-type]
    return arena_of(PretrainedLM("tiny", tiny_model("bert"), tokenizer, ()), runtime)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("name", "most"), [("multi-label", 0.45), ("regression", 0.65)])
def test_fine_tuning_learns_the_task(name: str, most: float, precision: str, tokenizer: PreTrainedTokenizerBase):
    """The loss is 0.69 or 1 if nothing was learned."""
    train = examples(name, 96, 0)
    task, context = task_kind(name).build(tokenizer, train, SETTINGS), context_of(tokenizer, precision)
    model = task_model(task, context.model, StreamName(0, "head"))
    features = task.encode(train)
    finetune(model, features, np.arange(len(features)), SETTINGS, context.runtime, StreamName(0, "finetune"))
    assert evaluate(model, task, features, train, context.runtime).scores["loss"] < most


@pytest.mark.parametrize("name", ["multi-label", "regression"])
def test_parts_of_a_batch_give_the_same_weights(name: str, tokenizer: PreTrainedTokenizerBase):
    train, weights = examples(name, 12, 0), []
    settings = SETTINGS.model_copy(update={"epochs": 1, "learning_rate": 1e-3})
    for rows in (8, 3):
        task, context = (
            task_kind(name).build(tokenizer, train, settings),
            context_of(tokenizer, "fp32", micro_batch_size=rows),
        )
        context.model.config.hidden_dropout_prob = context.model.config.attention_probs_dropout_prob = 0.0
        model = task_model(task, context.model, StreamName(0, "head"))
        finetune(model, task.encode(train), np.arange(12), settings, context.runtime, StreamName(0, "finetune"))
        weights.append(torch.cat([one.detach().flatten() for one in model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], atol=1e-4, rtol=0)


def read(context: TrainingContext, features: TaskFeatures) -> FloatArray:
    """[F, 2 H]: mean and first of the last hidden states of each row, read alone."""
    found = []
    for row in range(len(features)):
        inputs = features.inputs(np.array([row]))
        with torch.no_grad():
            states = context.model.base_model(**inputs)[0][0].double().numpy()
        found.append(np.concatenate([states.mean(axis=0), states[0]]))
    return np.array(found)


@pytest.mark.parametrize("name", ["multi-label", "regression"])
def test_the_probe_equals_scikit_learns(name: str, tokenizer: PreTrainedTokenizerBase):
    train, held_out = examples(name, 40, 0), examples(name, 17, 1)
    task, context = task_kind(name).build(tokenizer, train, SETTINGS), context_of(tokenizer, "fp32")
    features, unseen = task.encode(train), task.encode(held_out)
    rows = np.arange(0, 40, 2)
    outputs = probe(context, task, features, rows, unseen)["logits"].numpy()
    context.model.eval()
    inputs, others = read(context, features)[rows], read(context, unseen)
    mean, deviation = inputs.mean(axis=0), inputs.std(axis=0)
    inputs, others, gold = (inputs - mean) / deviation, (others - mean) / deviation, features.targets["labels"][rows]
    if name == "regression":
        expected = Ridge(alpha=100).fit(inputs, gold).predict(others)[:, None]
    else:
        fits = [LogisticRegression(C=0.01, tol=1e-9, max_iter=5000).fit(inputs, column) for column in gold.T]
        expected = np.stack([one.decision_function(others) for one in fits], axis=1)
    assert outputs.shape == (17, 1 if name == "regression" else 2)
    np.testing.assert_allclose(outputs, expected, atol=2e-3)
    assert np.isfinite(
        list(task.evaluate({"logits": torch.from_numpy(outputs)}, unseen, held_out).scores.values())
    ).all()
