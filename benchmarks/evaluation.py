"""Evaluation of a fine-tuned MiniLM: sorted batches in the machine's precision against padded batches in fp32."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.flops import EncoderSize
from benchmarks.machine import matmul_rate
from benchmarks.models import minilm
from benchmarks.pairs import alternate, median, ratio
from benchmarks.texts import write_task
from nmg.base.seeding import StreamName
from nmg.base.settings import DataSettings, RuntimeSettings
from nmg.base.training_settings import FinetuneSettings
from nmg.data.formats.classification import ClassificationExample
from nmg.tasks.loaded import LoadedData
from nmg.tasks.registry import task_kind
from nmg.training.finetune import evaluate, task_model
from nmg.training.runtime import Runtime

BATCH = 64


def run(quick: bool, cache: Path) -> dict[str, Any]:
    folder = cache / "evaluation"
    folder.mkdir()
    train, validation = write_task(folder, 100, 256 if quick else 1024)
    settings = DataSettings(train=str(train), validation=str(validation))
    data = LoadedData(settings).sample(settings, seed=0)
    assert data.validation is not None
    runtime, lm = Runtime.start(RuntimeSettings()), minilm()
    task = task_kind("classification").build(lm.tokenizer, data.train, FinetuneSettings(max_length=128))
    model = task_model(task, lm.model, StreamName(0))
    features = task.encode(data.validation)
    texts = [example.text for example in data.validation if isinstance(example, ClassificationExample)]
    losses: dict[str, float] = {}

    def ours() -> None:
        losses["nmg"] = evaluate(model, task, features, data.validation or (), runtime).scores["loss"]

    @torch.no_grad()
    def plain() -> None:
        model.eval()
        logits = []
        for first in range(0, len(texts), BATCH):
            batch = lm.tokenizer(
                texts[first : first + BATCH], truncation=True, max_length=128, padding="max_length", return_tensors="pt"
            )
            logits.append(model(**batch).logits)
        gold = torch.from_numpy(features.targets["labels"])
        losses["plain"] = float(torch.nn.functional.cross_entropy(torch.cat(logits), gold))

    seconds = alternate({"plain": plain, "nmg": ours}, 2 if quick else 5)
    tokens, length = int(features.lengths.sum()), float(features.lengths.mean())
    rate = matmul_rate(torch.bfloat16 if runtime.precision == "bf16" else torch.float32, runtime.device)
    per_second = tokens / median(seconds["nmg"])
    return {
        "evaluation_ratio": ratio(seconds, "plain", "nmg"),
        "evaluation_tokens_per_second": per_second,
        "evaluation_matmul_share": per_second * EncoderSize.of(lm.model.config).classify(length) / rate,
        "evaluation_loss_nmg": losses["nmg"],
        "evaluation_loss_plain": losses["plain"],
    }
