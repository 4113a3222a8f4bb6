"""Meta-testing: adapt a fresh LM under each masking, fine-tune it on the whole training set, score it on the test set.

Everything but the masks is the same for all maskings of a seed: initial weights, texts, block order, masked-token
budget, task head, fine-tuning order, dropout. So the difference between two maskings of a seed is the masks' alone.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nmg.config import Config, MaskingSettings
from nmg.data.corpus import Corpus
from nmg.data.task_data import TaskData, load_corpus_texts, load_task_data
from nmg.errors import UserError
from nmg.files import write_text
from nmg.inner.adapt import AdaptResult, adapt, dynamic_masks, state_encoder
from nmg.inner.finetune import evaluate, finetune, task_model
from nmg.inner.lm import ModelState, PretrainedLM, copy_state
from nmg.inner.runtime import Runtime
from nmg.masking.base import MaskingPolicy
from nmg.masking.corrupt import Vocabulary
from nmg.masking.neural import NeuralMasking
from nmg.masking.registry import RULES, build_masking, unknown_masking
from nmg.report.tables import ResultCell, markdown_table, summarise
from nmg.reporter import Reporter
from nmg.rl.network import check_fits, load_policy
from nmg.seeding import StreamName
from nmg.setup import build_corpus, open_bench, warm_up_missing_head
from nmg.tasks.base import Task, build_task

OnCell = Callable[[ResultCell], None]


def find_policy(folder: Path) -> Path:
    """The policy folder itself, or the one inside a run's folder."""
    return folder / "policy" if (folder / "policy" / "config.json").is_file() else folder


def resolve_masking(
    name: str, lm: PretrainedLM, corpus: Corpus, settings: MaskingSettings, policy_folder: Path | None
) -> MaskingPolicy:
    """A masking by its registered name, or a learned one.

    `neural` stands for the policy in `policy_folder`; any other name that is a folder is taken for a policy of its own.
    A learned policy acts greedily (top k). Raises UserError for an unknown name, and for a policy that is missing or
    does not fit the model.
    """
    if name in RULES:  # also where a folder of that name happens to be there
        return build_masking(name, lm.tokenizer, corpus, settings)
    folder = policy_folder if name == "neural" else Path(name) if Path(name).is_dir() else None
    if name == "neural" and folder is None:
        raise UserError("--maskings neural: name the trained policy with --policy RUN")
    if folder is None:
        raise unknown_masking(name)
    policy = load_policy(find_policy(folder))
    check_fits(policy, lm.hidden_size)
    return NeuralMasking(policy.to(lm.model.device), greedy=True)


def adapt_lm(
    lm: PretrainedLM,
    corpus: Corpus,
    policy: MaskingPolicy,
    config: Config,
    runtime: Runtime,
    randomness: StreamName,
    reporter: Reporter,
) -> AdaptResult:
    """Train `lm.model` in place on the whole corpus, masks drawn anew at every step."""
    masks = dynamic_masks(
        corpus,
        policy,
        state_encoder(lm.model, runtime),
        Vocabulary.from_tokenizer(lm.tokenizer),
        config.masking,
        randomness / "masks",
    )
    progress = reporter.steps(f"adapting · {policy.name}")
    return adapt(lm.model, corpus.lengths, masks, config.adapt, runtime, randomness / "adapt", progress=progress)


@dataclass(frozen=True)
class MetaTest:
    """What the cells of a meta-test share."""

    config: Config
    lm: PretrainedLM
    pretrained: ModelState
    corpus: Corpus
    runtime: Runtime
    maskings: dict[str, MaskingPolicy]
    table_metrics: tuple[str, ...]
    reporter: Reporter

    @classmethod
    def prepare(cls, config: Config, maskings: Sequence[str], policy: Path | None, reporter: Reporter) -> "MetaTest":
        """Read and check everything. Raises UserError for anything wrong, before any training."""
        if policy is not None:
            load_policy(find_policy(policy))
        config = config.for_meta_test()
        if config.data.test is None:
            raise UserError("data.test: meta-test needs a test set: --data.test FILE")
        bench, texts = open_bench(config), load_corpus_texts(config.data)
        corpus = build_corpus(config, bench.lm, texts)
        built = {name: resolve_masking(name, bench.lm, corpus, config.masking, policy) for name in maskings}
        warm_up_missing_head(bench.lm, config, bench.runtime, texts, reporter)
        return cls(
            config,
            bench.lm,
            copy_state(bench.lm.model),
            corpus,
            bench.runtime,
            built,
            bench.task.table_metrics,
            reporter,
        )

    def run(self, seeds: Sequence[int], out: Path, on_cell: OnCell, *, save_models: bool = False) -> list[ResultCell]:
        """Run every masking with every seed; `out` holds all finished cells at any moment."""
        cells: list[ResultCell] = []
        for seed in seeds:
            data = load_task_data(self.config.data, seed)
            task = build_task(self.config.data.task, self.lm.tokenizer, data.train, self.config.finetune)
            for name in self.maskings:
                cell = self.cell(name, seed, data, task)
                if save_models and seed == seeds[0]:
                    save_lm(self.lm, out / "models" / name.strip("/").replace("/", "-"))  # it may be a folder
                cells.append(cell)
                write_results(out, self.config, cells, self.table_metrics)
                on_cell(cell)
        return cells

    def cell(self, name: str, seed: int, data: TaskData, task: Task) -> ResultCell:
        """Adapt, fine-tune, evaluate once."""
        assert data.test is not None, "prepare() has checked that there is a test set"
        randomness = StreamName(seed) / "meta-test"
        model, began = self.lm.model, time.perf_counter()
        model.load_state_dict(self.pretrained)
        adapted: AdaptResult | None = None
        if name != "none":
            adapted = adapt_lm(
                self.lm, self.corpus, self.maskings[name], self.config, self.runtime, randomness, self.reporter
            )
        tuned_model = task_model(task, model, randomness / "head")
        features = task.encode(data.train)
        tuned = finetune(
            tuned_model,
            features,
            np.arange(len(features)),
            self.config.finetune,
            self.runtime,
            randomness / "finetune",
            self.reporter.steps(f"fine-tuning · {name}"),
        )
        evaluating = time.perf_counter()
        evaluation = evaluate(tuned_model, task, task.encode(data.test), data.test, self.runtime)
        ended = time.perf_counter()
        return ResultCell(
            masking=name,
            seed=seed,
            scores=dict(evaluation.scores),
            lm_loss=adapted.fit.loss if adapted else None,
            lm_steps=adapted.fit.steps if adapted else 0,
            task_steps=tuned.steps,
            masked_tokens=adapted.masked_tokens if adapted else 0,
            seconds={
                "adapt": adapted.fit.seconds if adapted else 0.0,
                "finetune": tuned.seconds,
                "evaluate": ended - evaluating,
                "total": ended - began,
            },
        )


def write_results(out: Path, config: Config, cells: Sequence[ResultCell], metrics: Sequence[str]) -> None:
    """results.json (cells and settings) and results.md (the table)."""
    out.mkdir(parents=True, exist_ok=True)
    results = {"settings": config.model_dump(mode="json"), "cells": [asdict(cell) for cell in cells]}
    write_text(out / "results.json", json.dumps(results, indent=1) + "\n")
    write_text(out / "results.md", markdown_table(summarise(cells, metrics), metrics))


def save_lm(lm: PretrainedLM, folder: Path, texts: Mapping[str, str] | None = None) -> None:
    """A folder that `transformers` loads (`pipeline("fill-mask", folder)`), complete from the moment it exists.

    `texts`: further files, name → content.
    """
    aside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    lm.model.save_pretrained(aside)
    lm.tokenizer.save_pretrained(aside)
    for name, text in (texts or {}).items():
        (aside / name).write_text(text, encoding="utf-8")
    if folder.is_dir():
        folder.rmdir()  # an empty folder the user made
    aside.rename(folder)
