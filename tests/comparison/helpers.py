"""Small comparisons, and what of their cells must be equal."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nmg.base.progress import Reporter, Silent
from nmg.base.seeding import StreamName, torch_stream
from nmg.base.trial import TrialResult
from nmg.comparison.analysis import analyse, compared
from nmg.comparison.parts import Part
from nmg.comparison.plan import Plan
from nmg.comparison.results import ComparisonResults, trial_json
from nmg.comparison.run import Comparison, Finished, TrialEvent
from nmg.config import Config
from nmg.policies.attention import AttentionConfig, AttentionPolicy
from nmg.policies.maskings import load_masking
from nmg.tasks.loaded import LoadedData, load_corpus_texts
from nmg.training.adapt import adapt
from nmg.training.finetune import evaluate, finetune, task_model
from nmg.training.masks import DrawnMasks
from nmg.training.probe import probe
from nmg.trials.session import Session
from nmg.trials.store import TRIALS, read_trials
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
    on_cell: Callable[[TrialEvent], None] = lambda _event: None,
    *,
    save_models: bool = False,
) -> Finished:
    return Comparison.open(config, plan, out, notes or Silent(), save_models=save_models).with_head().run(on_cell)


def results_of(config: Config, plan: Plan, metrics: tuple[str, ...], finished: Finished) -> ComparisonResults:
    """The results of a comparison of one part."""
    return compared([analyse(Part.alone(config, plan), metrics, finished)])


def facts(cells: Sequence[TrialResult]) -> list[dict[str, Any]]:
    """All but the seconds."""
    return [{name: value for name, value in trial_json(cell).items() if name != "seconds"} for cell in cells]


def written(out: Path) -> dict[str, TrialResult]:
    """Name of each stored trial, and its result with all seconds, which no second run repeats."""
    return {spec.name: result for spec, result in read_trials(out / TRIALS).items()}


def by_hand(config: Config, name: str, seed: int, policy: Path | None) -> dict[str, Any]:
    """What a cell must hold, from the parts alone and with a model of its own."""
    session, randomness = Session.prepare(config, Silent()), StreamName(seed) / "meta-test"
    corpus = session.corpus(load_corpus_texts(config.data))
    adapted = None
    if name != "none":
        masking = load_masking(name, session.lm, corpus, config.masking, policy)
        adapted = adapt(session.context, DrawnMasks(corpus, masking), randomness)
    data = LoadedData(config.data).sample(config.data, seed)
    assert data.test is not None
    train = session.task.encode(data.train)
    test, rows, task_steps = session.task.encode(data.test), np.arange(len(train)), 0
    if config.test.evaluation == "linear-probe":
        outputs = probe(session.context, session.task, train, rows, test)
        evaluation = session.task.evaluate(outputs, test, data.test)
    else:
        model = task_model(session.task, session.lm.model, randomness / "head")
        task_steps = finetune(model, train, rows, config.finetune, session.runtime, randomness / "finetune").steps
        evaluation = evaluate(model, session.task, test, data.test, session.runtime)
    return {
        "scores": evaluation.scores,
        "lm_loss": adapted.loss if adapted else None,
        "lm_steps": adapted.steps if adapted else 0,
        "task_steps": task_steps,
        "masked_tokens": adapted.masked_tokens if adapted else 0,
    }
