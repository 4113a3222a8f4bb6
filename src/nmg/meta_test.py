"""Meta-testing: adapt a fresh LM under each masking, fine-tune it on the whole training set, score it on the test set.

Everything but the masks is the same for all maskings of a seed: initial weights, texts, block order, masked-token
budget, task head, fine-tuning order, dropout. So the difference between two maskings of a seed is the masks' alone.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from nmg.config import Config, MaskingSettings
from nmg.data.corpus import Corpus
from nmg.data.task_data import load_corpus_texts, load_task_data
from nmg.errors import UserError
from nmg.files import write_text
from nmg.inner.adapt import AdaptResult, adapt, dynamic_masks, state_encoder
from nmg.inner.finetune import evaluate, finetune, task_model
from nmg.inner.lm import ModelState, PretrainedLM, copy_state
from nmg.inner.rollout import Encoded
from nmg.inner.runtime import Runtime
from nmg.masking.base import MaskingPolicy
from nmg.masking.corrupt import Vocabulary
from nmg.masking.neural import NeuralMasking, plan_ahead
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
    steps: int | None = None,
) -> AdaptResult:
    """Train `lm.model` in place on the whole corpus, masks drawn anew at every step.

    With `test.policy_sees` = `start` a learned policy chooses once, before the first step, for all epochs.

    `steps`: train so many steps, with a learning rate that reaches 0 at the last; `config.adapt.epochs` otherwise.
    """
    settings = config.adapt
    if steps is not None:
        steps_an_epoch = -(-len(corpus) // settings.batch_size)
        settings = settings.model_copy(update={"epochs": -(-steps // steps_an_epoch)})
    encode = state_encoder(lm.model, runtime)
    if config.test.policy_sees == "start" and getattr(policy, "reads_states", False):
        rng = (randomness / "plan").generator()
        policy = plan_ahead(policy, corpus, config.masking.rate, rng, encode, runtime.evaluation_batch_size)
    masks = dynamic_masks(
        corpus,
        policy,
        encode,
        Vocabulary.from_tokenizer(lm.tokenizer),
        config.masking,
        randomness / "masks",
    )
    progress = reporter.steps(f"adapting · {policy.name}")
    return adapt(
        lm.model, corpus.lengths, masks, settings, runtime, randomness / "adapt", max_steps=steps, progress=progress
    )


@dataclass(frozen=True)
class SeedData:
    """What the cells of one seed (and number of labels) share: training set and test set, encoded once."""

    seed: int
    task: Task
    train: Encoded
    test: Encoded

    @classmethod
    def load(
        cls, settings: Config, tokenizer: PreTrainedTokenizerBase, seed: int, known: "SeedData | None" = None
    ) -> "SeedData":
        """`known`: any other of the same files; its test set serves again where it is the same."""
        data = load_task_data(settings.data, seed)
        assert data.test is not None, "there is a test set: `MetaTest.open` has checked it"
        task = build_task(settings.data.task, tokenizer, data.train, settings.finetune)
        train = Encoded(data.train, task.encode(data.train))
        if known is not None and known.test.examples == data.test:
            return cls(seed, task, train, known.test)
        return cls(seed, task, train, Encoded(data.test, task.encode(data.test)))


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
        return cls.open(config, maskings, {} if policy is None else {"neural": policy}, reporter).with_head()

    @classmethod
    def open(
        cls, config: Config, maskings: Sequence[str], policies: Mapping[str, Path], reporter: Reporter
    ) -> "MetaTest":
        """All of `prepare` but training. `policies`: name → folder of the maskings that are learned."""
        for folder in policies.values():
            load_policy(find_policy(folder))
        config = config.for_meta_test()
        if config.data.test is None:
            raise UserError("data.test: meta-test needs a test set: --data.test FILE")
        bench = open_bench(config)
        corpus = build_corpus(config, bench.lm, load_corpus_texts(config.data))
        built = {
            name: resolve_masking(
                "neural" if name in policies else name, bench.lm, corpus, config.masking, policies.get(name)
            )
            for name in maskings
        }
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

    def with_head(self) -> "MetaTest":
        """The same with a missing LM head warmed up."""
        if not self.lm.new_parameters:
            return self
        warm_up_missing_head(self.lm, self.config, self.runtime, self.corpus, self.reporter)
        return replace(self, pretrained=copy_state(self.lm.model))

    def run(self, seeds: Sequence[int], out: Path, on_cell: OnCell, *, save_models: bool = False) -> list[ResultCell]:
        """Run every masking with every seed; `out` holds all finished cells at any moment."""
        cells: list[ResultCell] = []
        data: SeedData | None = None
        for seed in seeds:
            data = SeedData.load(self.config, self.lm.tokenizer, seed, data)
            for name in self.maskings:
                cell = self.cell(name, data)
                if save_models and seed == seeds[0]:
                    save_lm(self.lm, out / "models" / name.strip("/").replace("/", "-"))  # it may be a folder
                cells.append(cell)
                write_results(out, self.config, cells, self.table_metrics)
                on_cell(cell)
        return cells

    def cell(self, name: str, data: SeedData) -> ResultCell:
        """Adapt, fine-tune, evaluate once."""
        began = time.perf_counter()
        adapted = self.adapt(self.maskings[name], data.seed)
        cell = self.score(name, data, adapted)
        return replace(cell, seconds={**cell.seconds, "total": time.perf_counter() - began})

    def adapt(self, policy: MaskingPolicy, seed: int, steps: int | None = None) -> AdaptResult | None:
        """Bring `lm.model` from the pre-trained weights to those adapted under `policy`; None for the rule `none`."""
        self.lm.model.load_state_dict(self.pretrained)
        if policy.name == "none":
            return None
        randomness = StreamName(seed) / "meta-test"
        return adapt_lm(self.lm, self.corpus, policy, self.config, self.runtime, randomness, self.reporter, steps)

    def score(self, name: str, data: SeedData, adapted: AdaptResult | None) -> ResultCell:
        """Fine-tune a copy of `lm.model`, as `adapt` left it, and evaluate it on the test set."""
        randomness = StreamName(data.seed) / "meta-test"
        model = task_model(data.task, self.lm.model, randomness / "head")
        tuned = finetune(
            model,
            data.train.features,
            np.arange(len(data.train.features)),
            self.config.finetune,
            self.runtime,
            randomness / "finetune",
            self.reporter.steps(f"fine-tuning · {name}"),
        )
        evaluating = time.perf_counter()
        evaluation = evaluate(model, data.task, data.test.features, data.test.examples, self.runtime)
        return ResultCell(
            masking=name,
            seed=data.seed,
            scores=dict(evaluation.scores),
            lm_loss=adapted.fit.loss if adapted else None,
            lm_steps=adapted.fit.steps if adapted else 0,
            task_steps=tuned.steps,
            masked_tokens=adapted.masked_tokens if adapted else 0,
            seconds={
                "adapt": adapted.fit.seconds if adapted else 0.0,
                "finetune": tuned.seconds,
                "evaluate": time.perf_counter() - evaluating,
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
