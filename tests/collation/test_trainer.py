"""The collator in transformers' Trainer and in sentence-transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, Trainer, TrainingArguments

from nmg import MaskingCollator
from support.planted import WORDS
from support.runs import Inputs, is_same


def trained(inputs: Inputs, out: Path, workers: int, seed: int = 0) -> tuple[Any, list[float]]:
    """The model after two epochs, and its losses on held-out text: twice before, once after."""
    tokenizer = AutoTokenizer.from_pretrained(inputs.model)
    model = AutoModelForMaskedLM.from_pretrained(inputs.model)
    rows = [dict(tokenizer(" ".join(WORDS[i : i + 8]))) for i in range(24)]
    collator = MaskingCollator(tokenizer, "whole-word", 0.3, seed, texts=rows)
    arguments = TrainingArguments(
        str(out),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        learning_rate=5e-3,
        dataloader_num_workers=workers,
        dataloader_pin_memory=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = Trainer(model, arguments, data_collator=collator, train_dataset=rows, eval_dataset=collator.fix(rows[:8]))
    losses = [trainer.evaluate()["eval_loss"], trainer.evaluate()["eval_loss"]]
    trainer.train()
    return model, [*losses, trainer.evaluate()["eval_loss"]]


@pytest.mark.parametrize("workers", [0, 2])
def test_trainer_draws_masks_and_evaluates_on_fixed_ones(inputs: Inputs, tmp_path: Path, workers: int):
    model, losses = trained(inputs, tmp_path, workers)
    assert losses[0] == losses[1]
    assert losses[2] < losses[0]
    same, _ = trained(inputs, tmp_path, workers)
    assert is_same(model, same), "the same seed, the same model"
    if not workers:
        other, _ = trained(inputs, tmp_path, workers, seed=1)
        assert not is_same(model, other)


def test_the_tokenizer_of_a_sentence_transformer(inputs: Inputs):
    library = pytest.importorskip("sentence_transformers")
    modules = library.sentence_transformer.modules if hasattr(library, "sentence_transformer") else library.models
    transformer = modules.Transformer(str(inputs.model), max_seq_length=32)
    encoder = library.SentenceTransformer(modules=[transformer, modules.Pooling(16)], device="cpu")
    batch = MaskingCollator(encoder.tokenizer, "whole-word", 0.3)([" ".join(WORDS[:8])] * 2)
    assert (batch["labels"] != -100).sum(dim=1).tolist() == [2, 2]
    model = AutoModelForMaskedLM.from_pretrained(inputs.model)
    assert torch.isfinite(model(**batch).loss)
