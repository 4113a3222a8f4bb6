"""Adaptation of MiniLM against transformers' Trainer: same model, blocks, batch and masking rate, in turn.

The Trainer runs as in run_mlm. nmg runs as in `nmg adapt`: without dropout, and freed memory is kept.
"""

import contextlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

from benchmarks.flops import EncoderSize
from benchmarks.machine import matmul_rate
from benchmarks.models import minilm
from benchmarks.pairs import median, ratio
from benchmarks.texts import long_text
from nmg.base.seeding import StreamName, stream
from nmg.base.settings import MaskingSettings, RuntimeSettings
from nmg.base.training_settings import AdaptSettings, FinetuneSettings
from nmg.base.types import IntArray
from nmg.data.corpus import Corpus
from nmg.masking.corrupt import Vocabulary, corrupt
from nmg.masking.rules import RandomMasking
from nmg.training.adapt import adapt
from nmg.training.context import TrainingContext
from nmg.training.lm import PretrainedLM, copy_state, masked_logits
from nmg.training.masks import DrawnMasks
from nmg.training.runtime import Runtime

BATCH, LENGTH, RATE = 16, 128, 0.15
LEARNING_RATE = 5e-5


ARMS = ("trainer", "fp32", "bf16", "packed")
"""`packed`: without padding, in the precision that nmg chooses here; the other arms' blocks need hardly any.

Left out, their keys null: `packed` in a quick run, `bf16` where the machine would emulate it, at a hundredth of the
speed of fp32."""


def run(quick: bool, cache: Path) -> dict[str, Any]:
    """Tokens a second of each arm, ratios, share of the matrix-product rate, and the held-out loss both ways.

    Every arm is a process of its own, as nmg asks the C library to keep freed memory for the whole process.
    """
    steps, rounds = (6, 2) if quick else (24, 4)
    best = Runtime.start(RuntimeSettings()).precision
    left_out = {"packed": quick, "bf16": best != "bf16"}
    arms = [arm for arm in ARMS if not left_out.get(arm)]
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    losses: dict[str, float] = {}
    for _ in range(rounds):
        for arm in arms:
            command = [sys.executable, "-m", "benchmarks.adaptation", arm, str(steps), str(cache)]
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            measured = json.loads(line)
            seconds[arm].append(measured["seconds"])
            losses[arm] = measured["loss"]
    tokens = BATCH * steps * LENGTH
    size = EncoderSize.of(minilm().model.config)
    result: dict[str, Any] = {
        f"adapt_ratio_{arm}": ratio(seconds, "trainer", arm) if arm in arms else None for arm in ARMS[1:]
    }
    for name in ARMS:
        result[f"adapt_tokens_per_second_{name}"] = tokens / median(seconds[name]) if name in arms else None
        result[f"adapt_held_out_loss_{name}"] = losses.get(name)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        rate = matmul_rate(dtype, device)
        speed = result[f"adapt_tokens_per_second_{precision}"]
        result[f"matmul_gflops_{precision}"] = rate / 1e9
        result[f"adapt_matmul_share_{precision}"] = speed and speed * size.train_lm(LENGTH, RATE) / rate
    used = result["adapt_tokens_per_second_trainer"] * size.train_lm_full(LENGTH)
    result["adapt_matmul_share_trainer"] = used / result["matmul_gflops_fp32"] / 1e9
    result["adapt_matmul_share"] = result[f"adapt_matmul_share_{best}"]
    return result


def measure(arm: str, steps: int, cache: Path) -> dict[str, float]:
    """Seconds of one training, after two steps that do not count, and the held-out loss behind it."""
    lm = minilm()
    if torch.cuda.is_available():
        lm.model.to("cuda")
    corpus = Corpus.build(long_text(), lm.tokenizer, LENGTH - 2, cache)
    full = np.flatnonzero(corpus.lengths == LENGTH)
    train, held_out = full[: BATCH * steps], full[-64:]
    start = copy_state(lm.model)

    def work(rows: IntArray) -> None:
        if arm == "trainer":
            _trainer(lm, corpus, rows, len(rows) // BATCH)
        else:
            form: dict[str, Any] = {"packing": True} if arm == "packed" else {"precision": arm}
            _nmg(lm, corpus, rows, Runtime.start(RuntimeSettings(keep_memory=True, **form)))

    work(train[: 2 * BATCH])
    lm.model.load_state_dict(start)
    began = time.perf_counter()
    work(train)
    return {"seconds": time.perf_counter() - began, "loss": _held_out_loss(lm, corpus, held_out)}


def _nmg(lm: PretrainedLM, corpus: Corpus, rows: IntArray, runtime: Runtime) -> None:
    context = TrainingContext(
        lm.model,
        Vocabulary.from_tokenizer(lm.tokenizer),
        MaskingSettings(rate=RATE),
        AdaptSettings(epochs=1, batch_size=BATCH, learning_rate=LEARNING_RATE, dropout=0.0),
        FinetuneSettings(),
        runtime,
    )
    adapt(context, DrawnMasks(corpus.subset(rows), RandomMasking()), StreamName(0) / "benchmark")


def _trainer(lm: PretrainedLM, corpus: Corpus, rows: IntArray, steps: int) -> None:
    ids = corpus.blocks(rows).input_ids
    data = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in ids]
    arguments = TrainingArguments(
        output_dir="unused",
        per_device_train_batch_size=BATCH,
        max_steps=steps,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="linear",
        use_cpu=not torch.cuda.is_available(),
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        seed=0,
    )
    collator = DataCollatorForLanguageModeling(lm.tokenizer, mlm_probability=RATE)
    with contextlib.redirect_stdout(io.StringIO()):
        Trainer(lm.model, arguments, train_dataset=data, data_collator=collator).train()


@torch.no_grad()
def _held_out_loss(lm: PretrainedLM, corpus: Corpus, rows: IntArray) -> float:
    """Masked-LM loss on blocks that nobody trained on, under the same masks for all, in fp32."""
    lm.model.eval()
    blocks = corpus.blocks(rows)
    plan = RandomMasking().plan(blocks, RATE, stream(0, "benchmark", "held out"))
    vocabulary, settings = Vocabulary.from_tokenizer(lm.tokenizer), MaskingSettings(rate=RATE)
    corrupted = corrupt(blocks, plan, vocabulary, settings, stream(0, "benchmark", "corruption"))
    is_masked = corrupted.labels >= 0
    total = 0.0
    for first in range(0, len(rows), 32):
        part = slice(first, first + 32)
        device = lm.model.device
        logits = masked_logits(
            lm.model,
            corrupted.input_ids[part].to(device),
            corrupted.is_token[part].to(device),
            is_masked[part].to(device),
        )
        labels = corrupted.labels[part][is_masked[part]].to(device)
        total += float(cross_entropy(logits.float(), labels, reduction="sum"))
    return total / int(is_masked.sum())


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
