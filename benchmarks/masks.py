"""Drawing masks: rules against transformers' collator, and every masking against the training step that it feeds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorForLanguageModeling

from benchmarks.adaptation import BATCH, LENGTH, RATE
from benchmarks.models import minilm
from benchmarks.pairs import alternate, median, ratio
from benchmarks.texts import long_text
from nmg.base.seeding import StreamName
from nmg.base.settings import MaskingSettings, RuntimeSettings
from nmg.base.training_settings import AdaptSettings, FinetuneSettings
from nmg.data.corpus import Corpus
from nmg.masking.base import Masking
from nmg.masking.corrupt import Vocabulary, corrupt
from nmg.masking.planned import plan_ahead
from nmg.masking.registry import build_masking
from nmg.masking.rules import RandomMasking
from nmg.policies.attention import AttentionConfig, AttentionPolicy
from nmg.policies.sampling import PolicyMasking
from nmg.training.adapt import adapt
from nmg.training.context import TrainingContext
from nmg.training.masks import FixedMasks
from nmg.training.runtime import Runtime

EPOCHS = 4
"""of an adaptation whose learned masks are chosen before its first step"""
RULES = ("random", "whole-word", "span", "punctuation", "idf")


def run(quick: bool, cache: Path) -> dict[str, Any]:
    """Contexts of 128 tokens a second, in batches of 16, corruption included; share of an LM step in bf16 if there."""
    rounds = 5 if quick else 30
    lm = minilm()
    corpus = Corpus.build(long_text(), lm.tokenizer, LENGTH - 2, cache)
    rows = np.flatnonzero(corpus.lengths == LENGTH)[:BATCH]
    vocabulary, settings = Vocabulary.from_tokenizer(lm.tokenizer), MaskingSettings(rate=RATE)
    step = AdaptSettings(epochs=EPOCHS, batch_size=BATCH, learning_rate=1e-5)
    context = TrainingContext(
        lm.model, vocabulary, settings, step, FinetuneSettings(), Runtime.start(RuntimeSettings())
    )
    encode = context.reader
    rng = np.random.default_rng(0)
    policy = AttentionPolicy(AttentionConfig(hidden_size=lm.hidden_size, num_attention_heads=12)).eval()
    maskings: dict[str, Masking] = {name: build_masking(name, lm.tokenizer, corpus, settings) for name in RULES}
    maskings["neural"] = PolicyMasking(policy, greedy=True)

    def masked(name: str) -> Callable[[], object]:
        def draw() -> object:
            blocks = corpus.blocks(rows)
            return corrupt(blocks, maskings[name].plan(blocks, RATE, rng, encode), vocabulary, settings, rng)

        return draw

    examples = [{"input_ids": row} for row in corpus.blocks(rows).input_ids]
    words = [_with_offsets(corpus, int(row)) for row in rows]
    arms: dict[str, Callable[[], object]] = {name: masked(name) for name in maskings}
    collator = DataCollatorForLanguageModeling(lm.tokenizer, mlm_probability=RATE)
    arms["collator"] = lambda: collator(examples)
    whole_word = DataCollatorForLanguageModeling(lm.tokenizer, mlm_probability=RATE, whole_word_mask=True)
    arms["collator whole-word"] = lambda: whole_word([dict(example) for example in words])

    blocks = corpus.blocks(rows)
    fixed = FixedMasks(blocks, RandomMasking().plan(blocks, RATE, rng))
    few = Corpus.build(long_text()[:12], lm.tokenizer, LENGTH - 2, cache)
    planned_at_once = context.runtime.evaluation_batch_size
    arms["planning"] = lambda: plan_ahead(maskings["neural"], few, RATE, rng, encode, planned_at_once)
    arms["lm step"] = lambda: adapt(context, fixed, StreamName(0))
    seconds = alternate(arms, rounds)
    seconds["lm step"] = [value / EPOCHS for value in seconds["lm step"]]
    steps_planned = EPOCHS * len(few) / BATCH
    planning = seconds.pop("planning")
    once = [drawn + plan / steps_planned for drawn, plan in zip(seconds["random"], planning, strict=True)]
    lm.model.train(False)
    result: dict[str, Any] = {}
    for name, values in seconds.items():
        key = name.replace("-", "_").replace(" ", "_")
        if name != "lm step":
            result[f"masks_per_second_{key}"] = BATCH / median(values)
            result[_share_key(key)] = 1 / ratio(seconds, "lm step", name)
    share = ratio({**seconds, "once": once}, "once", "lm step")
    result[f"neural_mask_share_of_meta_test_step_planned_for_{EPOCHS}_epochs"] = share
    result["masks_ratio_random"] = ratio(seconds, "collator", "random")
    result["masks_ratio_whole_word"] = ratio(seconds, "collator whole-word", "whole-word")
    return result


def _share_key(key: str) -> str:
    """A policy that looks at the LM before each step of a meta-test; in an episode it looks once (`episode`)."""
    return "neural_mask_share_of_meta_test_step" if key == "neural" else f"{key}_mask_share_of_lm_step"


def _with_offsets(corpus: Corpus, row: int) -> dict[str, Any]:
    """What the whole-word collator wants."""
    ids = corpus.blocks(np.array([row])).input_ids[0]
    return {"input_ids": ids, "offset_mapping": torch.from_numpy(np.asarray(corpus.offsets(row)))}
