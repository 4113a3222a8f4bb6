"""Small comparisons, and what of their cells must be equal."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nmg.comparison.cells import Cell, CellEvent
from nmg.comparison.plan import Plan
from nmg.comparison.run import Comparison, Finished
from nmg.config import Config
from nmg.inner.adapt import adapt
from nmg.inner.finetune import evaluate, finetune, task_model
from nmg.inner.masks import DrawnMasks
from nmg.inner.probe import probe
from nmg.policies.attention import AttentionConfig, AttentionPolicy
from nmg.policies.named import load_masking
from nmg.reporter import Reporter, Silent
from nmg.seeding import StreamName, torch_stream
from nmg.tasks.load import load_corpus_texts, load_task_data
from nmg.workbench import Workbench
from support.runs import Inputs

RULES = ("none", "random", "idf")


def save_policy(folder: Path, seed: int = 0, hidden_size: int = 16) -> Path:
    with torch_stream(seed, "policy"):
        policy = AttentionPolicy(AttentionConfig(hidden_size=hidden_size, num_attention_heads=2, head_hidden=8))
        policy.reset_parameters()
    policy.save_pretrained(folder)
    return folder


def quick(inputs: Inputs, **changes: dict[str, Any]) -> Config:
    """Two steps an epoch, of the adaptation and of the fine-tuning, with some settings changed."""
    for section in ("adapt", "finetune"):
        changes[section] = {"batch_size": 20, **changes.get(section, {})}
    return inputs.config(**changes)


def plan(
    maskings: Sequence[str] = RULES, seeds: int = 2, policies: dict[str, Path] | None = None, **curves: Any
) -> Plan:
    return Plan.of(maskings, policies or {}, range(seeds), **curves)


def compare(
    config: Config,
    plan: Plan,
    out: Path,
    notes: Reporter | None = None,
    on_cell: Callable[[CellEvent], None] = lambda _event: None,
    *,
    save_models: bool = False,
) -> Finished:
    return Comparison.prepare(config, plan, out, notes or Silent(), save_models=save_models).run(on_cell)


def facts(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """All but the seconds."""
    return [{name: value for name, value in asdict(cell).items() if name != "seconds"} for cell in cells]


def written(out: Path) -> dict[str, float]:
    """Name of each file of a cell, and when it was written."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}


def by_hand(config: Config, name: str, seed: int, policy: Path | None) -> dict[str, Any]:
    """What a cell must hold, from the parts alone and with a model of its own."""
    bench, randomness = Workbench.prepare(config, Silent()), StreamName(seed) / "meta-test"
    corpus = bench.corpus(load_corpus_texts(config.data))
    adapted = None
    if name != "none":
        masking = load_masking(name, bench.lm, corpus, config.masking, policy)
        adapted = adapt(bench.arena, DrawnMasks(corpus, masking), randomness)
    data = load_task_data(config.data, seed)
    assert data.test is not None
    train = bench.task.encode(data.train)
    test, rows, task_steps = bench.task.encode(data.test), np.arange(len(train)), 0
    if config.test.measure == "probe":
        outputs = probe(bench.arena, bench.task, train, rows, test)
        evaluation = bench.task.evaluate(outputs, test, data.test)
    else:
        model = task_model(bench.task, bench.lm.model, randomness / "head")
        task_steps = finetune(model, train, rows, config.finetune, bench.runtime, randomness / "finetune").steps
        evaluation = evaluate(model, bench.task, test, data.test, bench.runtime)
    return {
        "scores": evaluation.scores,
        "lm_loss": adapted.fit.loss if adapted else None,
        "lm_steps": adapted.fit.steps if adapted else 0,
        "task_steps": task_steps,
        "masked_tokens": adapted.masked_tokens if adapted else 0,
    }
