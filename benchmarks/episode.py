"""One episode with replay running, of the size that the original code was timed with (118 s on two cores, fp32).

BERT of 2 layers × 128 with random weights, 200 contexts of a sentence or two, 3 LM epochs in batches of 16 at 5 %
masks, their 200 examples for 5 task epochs, 417 validation examples, three players, 10 updates of 64 for two policies.
`NMG_BENCH_TASK=train.jsonl` takes the contexts from a file (ChemProt's, say) in the place of news sentences.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from benchmarks.flops import EncoderSize
from benchmarks.machine import matmul_rate
from benchmarks.models import save_random_bert
from benchmarks.pairs import median
from benchmarks.texts import write_task
from nmg.base.progress import Silent
from nmg.base.types import PHASES
from nmg.config import Config
from nmg.meta_training.loop import EpisodeRecord, MetaTraining
from nmg.tasks.registry import task_kind
from nmg.trials.session import Session

ORIGINAL_SECONDS = 118.0
"""the original code on two cores like those of docs/performance.md"""
WARM_UP = 3
"""episodes until the replay has started and the opponent plays"""
SHORT = 3
"""steps of their trainings"""
OTHERS = (
    ("episode_seconds_corpus", "auto", "corpus"),
    ("episode_seconds_fp32", "fp32", "all"),
    ("episode_seconds_fp32_corpus", "fp32", "corpus"),
)
"""Keys, `runtime.precision` and `adapt.vocabulary` of the same episode otherwise; fp32 is what many machines have."""


def open_training(
    folder: Path,
    cache: Path,
    n_validation: int,
    runtime: Mapping[str, Any] = MappingProxyType({}),
    vocabulary: str = "all",
) -> MetaTraining:
    """A run of these sizes, before its first episode."""
    folder.mkdir()
    train, validation = write_task(folder, n_train=1500, n_validation=n_validation)
    file = os.environ.get("NMG_BENCH_TASK")
    data = {"train": file} if file else {"train": str(train), "validation": str(validation)}
    config = Config.model_validate(
        {
            "model": {"name": str(save_random_bert(folder / "model", layers=2, hidden=128))},
            "data": data,
            "adapt": {"epochs": 3, "batch_size": 16, "block_size": 126, "vocabulary": vocabulary},
            "finetune": {"epochs": 5, "batch_size": 16, "max_length": 128},
            "meta": {
                "contexts": 200,
                "examples": 200,
                "max_validation_examples": n_validation,
                "validation_fraction": 0.3,
            },
            "policy": {"kind": "attention"},
            "learner": {"kind": "actor-critic"},
            "runtime": {"cache_dir": str(cache), **runtime},
        }
    )
    return MetaTraining(Session.prepare(config, Silent()))


def run(quick: bool, cache: Path) -> dict[str, Any]:
    training = open_training(cache / "episode", cache, n_validation=417)
    phases = _seconds(training, 2 if quick else 6)
    result: dict[str, Any] = {
        "episode_seconds": sum(phases[name] for name in PHASES),
        "episode_seconds_of_the_original": ORIGINAL_SECONDS,
        "episode_player_processes": training.engine.processes,
        "episode_precision": training.context.runtime.precision,
        "neural_mask_share_of_lm_step": phases["masks"] / phases["adapt"],
    }
    result |= {f"episode_seconds_{name.replace(' ', '_')}": value for name, value in phases.items()}
    result |= _shares(training, phases)
    for key, precision, vocabulary in OTHERS[:2] if quick else OTHERS:
        other = open_training(cache / key, cache, 417, {"precision": precision}, vocabulary)
        found = _seconds(other, 1 if quick else 4)
        result[key] = sum(found[name] for name in PHASES)
    return result


def _seconds(training: MetaTraining, episodes: int) -> dict[str, float]:
    """Of each phase, the median over so many episodes."""
    records = measured_episodes(training, episodes)
    return {name: median([record.seconds[name] for record in records]) for name in records[0].seconds}


def measured_episodes(training: MetaTraining, episodes: int) -> list[EpisodeRecord]:
    """The records of so many episodes after the first ones, which do not count."""
    with training.engine:
        for left in reversed(range(WARM_UP)):
            training.trial = training.trial.limited(
                SHORT if left else None
            )  # the last one is whole, as those that count
            training.episode()
        records = [training.episode() for _ in range(episodes)]
    updates = {"learner_update", "opponent_update"}
    assert all(updates <= set(record.learning) for record in records), "the replay has not started"
    return records


def _shares(training: MetaTraining, phases: dict[str, float]) -> dict[str, float]:
    """Share of the machine's matrix-product rate that LM training, fine-tuning and evaluation reach."""
    context, config, n_players = training.context, training.config, 3
    size = EncoderSize.of(context.model.config)
    is_bf16 = context.runtime.precision == "bf16"
    rate = matmul_rate(torch.bfloat16 if is_bf16 else torch.float32, context.runtime.device)
    task = task_kind(config.data.task).build(training.lm.tokenizer, training.data.train, config.finetune)
    train, validation = (task.encode(e) for e in (training.data.train, training.split.validation_examples))
    block, row, held_out = (float(f.mean()) for f in (training.corpus.lengths, train.lengths, validation.lengths))
    lm = config.meta.contexts * config.adapt.epochs * block * size.train_lm(block, config.masking.rate)
    tuning = config.meta.examples * config.finetune.epochs * row * size.train_classifier(row)
    scoring = len(validation) * held_out * size.classify(held_out)
    work = {"adapt": lm, "finetune": tuning, "evaluate": scoring}
    return {f"episode_matmul_share_{name}": n_players * work[name] / phases[name] / rate for name in work}
