"""The gradient of a batch in parts is that of the whole batch, whatever the mean of its loss is over."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nmg.base.seeding import StreamName
from nmg.base.settings import ModelSettings
from nmg.base.training_settings import FinetuneSettings
from nmg.base.types import IGNORED_LABEL, CorruptedBlocks, Example
from nmg.data.formats.classification import ClassificationExample
from nmg.data.formats.questions import QAExample
from nmg.data.formats.tokens import TokenExample
from nmg.tasks.registry import task_kind
from nmg.tasks.rows import TaskFeatures
from nmg.training import finetune as finetuning
from nmg.training.accumulation import Accumulation, BatchLoss
from nmg.training.data_parallel import DataParallel
from nmg.training.finetune import finetune, task_model
from nmg.training.lm import PretrainedLM, load_pretrained, masked_lm_loss
from nmg.training.runtime import Runtime
from support.planted import WORDS
from support.tiny import save_tiny_bert

LENGTHS = (3, 40, 5, 30, 17)
"""words of each text: parts of a batch hold different numbers of labelled tokens"""
SETTINGS = FinetuneSettings(epochs=1, batch_size=8, max_length=60, stride=8, max_question_length=8)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> PretrainedLM:
    """Without dropout, whose draws depend on the size of a pass."""
    return load_pretrained(ModelSettings(name=str(save_tiny_bert(tmp_path_factory.mktemp("lm") / "bert", WORDS))))


def sentences() -> list[list[str]]:
    rng = np.random.default_rng(0)
    return [rng.choice(WORDS, n).tolist() for n in LENGTHS]


def question(index: int, words: Sequence[str]) -> QAExample:
    """One in three has no answer."""
    answers, starts = ((words[1],), (len(words[0]) + 1,)) if index % 3 else ((), ())
    return QAExample(str(index), words[0], " ".join(words), answers, starts, index)


def examples(kind: str) -> list[Example]:
    rng = np.random.default_rng(1)
    if kind == "classification":
        return [ClassificationExample(str(i), " ".join(w), f"label{i % 2}", i) for i, w in enumerate(sentences())]
    if kind == "qa":
        return [question(i, words) for i, words in enumerate(sentences())]
    tags = [tuple(rng.choice(["O", "B-x", "I-x"], n).tolist()) for n in LENGTHS]
    return [TokenExample(str(i), tuple(w), tags[i], i) for i, w in enumerate(sentences())]


def task_loss(lm: PretrainedLM, kind: str, monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, BatchLoss, int]:
    """A task model, and the loss of one batch as `finetune` gives it to the training loop."""
    task = task_kind(kind).build(lm.tokenizer, examples(kind), SETTINGS)
    features = task.encode(examples(kind))
    model = task_model(task, lm.model, StreamName(0) / "head")
    losses: list[Callable[[Any], BatchLoss]] = []
    monkeypatch.setattr(finetuning, "fit", lambda _model, _lengths, loss_of, *_, **__: losses.append(loss_of))
    rows = np.arange(len(features))
    finetune(model, features, rows, SETTINGS, runtime(), StreamName(0))
    return model, losses[0](rows), len(rows)


def lm_loss(lm: PretrainedLM, _kind: str, _monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, BatchLoss, int]:
    """Rows of 3, 0, 1, 5 and 2 masked tokens."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.full((5, 9), IGNORED_LABEL)
    for row, n in enumerate((3, 0, 1, 5, 2)):
        labels[row, 1 : 1 + n] = torch.randint(5, len(WORDS), (n,), generator=generator)
    ids = torch.randint(5, len(WORDS), (5, 9), generator=generator)
    batch = CorruptedBlocks(ids, torch.ones(5, 9, dtype=torch.bool), labels)
    return lm.model, lambda part: masked_lm_loss(lm.model, batch, part), 5


def runtime(sharing: DataParallel | None = None, at_once: int | None = None) -> Runtime:
    return Runtime(torch.device("cpu"), "fp32", 64, sharing or DataParallel(), at_once)


def gradient(model: nn.Module, loss: BatchLoss, n_rows: int, runtime: Runtime) -> tuple[Tensor, float]:
    model.train().zero_grad(set_to_none=True)
    value = Accumulation(n_rows, runtime).backward(loss, n_rows, model)
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]), float(value)


@pytest.mark.parametrize("kind", ["classification", "qa", "token-classification", "masked LM"])
@pytest.mark.parametrize(("processes", "at_once"), [(1, 1), (1, 2), (2, None), (2, 1), (3, 1)])
def test_the_gradient_of_parts_is_that_of_the_whole_batch(
    lm: PretrainedLM, kind: str, processes: int, at_once: int | None, monkeypatch: pytest.MonkeyPatch
):
    """Rows one by one, uneven parts, and processes that share the batch."""
    model, loss, n_rows = (lm_loss if kind == "masked LM" else task_loss)(lm, kind, monkeypatch)
    whole, whole_loss = gradient(model, loss, n_rows, runtime())
    ranks = [
        gradient(model, loss, n_rows, runtime(DataParallel(processes, index), at_once)) for index in range(processes)
    ]
    found = torch.stack([rank for rank, _ in ranks]).mean(dim=0)
    assert float((found - whole).norm() / whole.norm()) < 1e-5
    assert np.mean([value for _, value in ranks]) == pytest.approx(whole_loss, rel=1e-5)


def test_a_part_without_a_labelled_token_adds_nothing(lm: PretrainedLM, monkeypatch: pytest.MonkeyPatch):
    """The mean over no token is not a number."""
    batch_of = TaskFeatures.batch

    def without_labels_in_the_first_row(features: TaskFeatures, rows: Any) -> dict[str, Tensor]:
        batch = batch_of(features, rows)
        batch["labels"][0] = IGNORED_LABEL
        return batch

    monkeypatch.setattr(TaskFeatures, "batch", without_labels_in_the_first_row)
    model, loss, n_rows = task_loss(lm, "token-classification", monkeypatch)
    whole, whole_loss = gradient(model, loss, n_rows, runtime())
    found, value = gradient(model, loss, n_rows, runtime(at_once=1))
    assert float((found - whole).norm() / whole.norm()) < 1e-5
    assert value == pytest.approx(whole_loss, rel=1e-5)
