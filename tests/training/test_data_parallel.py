"""Processes that share every batch, and batches in parts: the losses and weights of whole batches in one process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nmg.base.seeding import StreamName
from nmg.base.settings import ModelSettings, RuntimeSettings
from nmg.base.training_settings import FinetuneSettings
from nmg.base.types import Example
from nmg.data.corpus import Corpus
from nmg.data.formats.classification import ClassificationExample
from nmg.masking.rules import RandomMasking
from nmg.tasks.registry import task_kind
from nmg.training.accumulation import Accumulation
from nmg.training.adapt import adapt
from nmg.training.context import TrainingContext
from nmg.training.data_parallel import DataParallel
from nmg.training.finetune import finetune, task_model
from nmg.training.lm import PretrainedLM, load_pretrained
from nmg.training.masks import DrawnMasks
from nmg.training.runtime import Runtime
from nmg.trials.store import TRIALS, read_trials
from support.arenas import arena_of
from support.planted import WORDS
from support.runs import Inputs, is_same
from support.tiny import save_tiny_bert


@pytest.mark.parametrize(
    ("n_rows", "processes", "at_once", "expected"),
    [
        (5, 1, None, [[(0, 5)]]),
        (5, 1, 2, [[(0, 2), (2, 4), (4, 5)]]),
        (5, 2, None, [[(0, 2)], [(2, 5)]]),
        (8, 2, 3, [[(0, 3), (3, 4)], [(4, 7), (7, 8)]]),
        (1, 2, None, [[(0, 1)], [(0, 1)]]),
    ],
)
def test_each_process_has_its_part_of_a_batch(n_rows: int, processes: int, at_once: int | None, expected: Any):
    """The mean of their losses and gradients is that of the batch."""
    targets, gradients, losses = torch.arange(float(n_rows)), [], []
    for index, parts in enumerate(expected):
        sharing, asked, model = DataParallel(processes, index), [], nn.Linear(1, 1, bias=False)

        def loss(part: slice, asked: Any = asked, model: Any = model) -> torch.Tensor:
            asked.append((part.start, part.stop))
            return (model.weight * targets[part]).sum() / n_rows

        runtime = Runtime(torch.device("cpu"), "fp32", 64, sharing, at_once)
        losses.append(float(Accumulation(8, runtime).backward(loss, n_rows, model)) / model.weight.item())
        gradients.append(float(model.weight.grad))
        assert asked == parts
    assert np.mean(gradients) == pytest.approx(float(targets.mean()))
    assert np.mean(losses) == pytest.approx(float(targets.mean()))


def weights_after(context: TrainingContext, corpus: Corpus) -> tuple[dict[str, torch.Tensor], float]:
    result = adapt(context, DrawnMasks(corpus, RandomMasking()), StreamName(0))
    return {name: tensor.clone() for name, tensor in context.model.state_dict().items()}, result.loss


@pytest.fixture
def still(tmp_path: Path) -> PretrainedLM:
    """A model without dropout: rows that are computed apart would have dropout of their own."""
    return load_pretrained(ModelSettings(name=str(save_tiny_bert(tmp_path / "still", WORDS))))


def test_an_adaptation_in_parts_is_that_of_whole_batches(still: PretrainedLM, corpus: Corpus):
    start = {name: tensor.clone() for name, tensor in still.model.state_dict().items()}
    found = []
    for at_once in (None, 1, 3):
        still.model.load_state_dict(start)
        runtime = Runtime.start(RuntimeSettings(device="cpu", precision="fp32", micro_batch_size=at_once))
        found.append(weights_after(arena_of(still, runtime), corpus))
    (whole, loss), *others = found
    for weights, other_loss in others:
        assert other_loss == pytest.approx(loss, rel=1e-5)
        for name, tensor in weights.items():
            torch.testing.assert_close(tensor, whole[name], rtol=1e-3, atol=1e-4, msg=name)


def test_a_fine_tuning_in_parts_is_that_of_whole_batches(still: PretrainedLM):
    rng = np.random.default_rng(0)
    examples: list[Example] = [
        ClassificationExample(str(i), " ".join(rng.choice(WORDS, 3 + i % 5)), f"label{i % 2}", i) for i in range(7)
    ]
    settings = FinetuneSettings(epochs=2, batch_size=4, learning_rate=1e-3, max_length=16)
    task = task_kind("classification").build(still.tokenizer, examples, settings)
    features, losses = task.encode(examples), []
    for at_once in (None, 1, 3):
        runtime = Runtime.start(RuntimeSettings(device="cpu", precision="fp32", micro_batch_size=at_once))
        model = task_model(task, still.model, StreamName(0) / "head")
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        losses.append(finetune(model, features, np.arange(7), settings, runtime, StreamName(0)).loss)
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-4)


def launch(n: int, *words: str | Path) -> str:
    """The standard output of all of n processes, which torchrun starts, as `accelerate launch` does on GPUs."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(n)]
    run = subprocess.run(
        [*launcher, "-m", "nmg", *map(str, words)], capture_output=True, text=True, timeout=200, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


@pytest.mark.slow
def test_two_processes_adapt_and_compare_as_one_does(inputs: Inputs, tmp_path: Path):
    """A fifth of a minute for each of four commands. Without dropout the loss is that of one process within 1e-4."""
    model = save_tiny_bert(tmp_path / "still", WORDS, hidden=16)
    texts = [json.loads(line)["text"] for line in inputs.train.read_text().splitlines()]
    (tmp_path / "domain.txt").write_text("\n".join(texts))
    inputs.write_config(tmp_path / "config.yaml", model={"name": str(model)}, adapt={"batch_size": 16})
    config = tmp_path / "config.yaml"
    said, loaded = [], []
    for n in (1, 2):
        out = tmp_path / f"adapted-{n}"
        words = ("adapt", "--config", config, "--corpus", tmp_path / "domain.txt", "--out", out, "--adapt.epochs", "4")
        said.append(launch(n, *words).replace(str(out), "OUT"))
        loaded.append(load_pretrained(ModelSettings(name=str(out))).model.state_dict())
    assert said[0].count("OUT") == said[1].count("OUT") == 1, "one process speaks"
    losses = [float(text.rsplit(" ", 1)[1]) for text in said]
    assert losses[1] == pytest.approx(losses[0], abs=2e-3)
    for name, tensor in loaded[0].items():
        torch.testing.assert_close(tensor, loaded[1][name], rtol=1e-2, atol=1e-3, msg=name)
    assert not is_same(*loaded), "sums of gradients are rounded otherwise"
    scores = []
    for n in (1, 2):
        out = tmp_path / f"compared-{n}"
        launch(n, "compare", config, "--maskings", "none,random", "--seeds", "2", "--out", out)
        cells = read_trials(out / TRIALS)
        assert len(cells) == 4
        scores.append([cell.scores["loss"] for cell in cells.values()])
    assert scores[1] == pytest.approx(scores[0], rel=0.05)
