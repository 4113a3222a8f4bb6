"""The collator in transformers' Trainer and in sentence-transformers."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertTokenizerFast, Trainer, TrainingArguments

from nmg import MaskingCollator
from nmg.base.errors import UserError
from support.families import family
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


def chinese_rows() -> tuple[Any, list[dict[str, list[int]]], list[int]]:
    """A tokenizer of Chinese characters, rows with the words of a segmenter, and the words of one row."""
    characters = "阿司匹林抑制环氧合酶减轻疼痛"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {token: number for number, token in enumerate([*special, *dict.fromkeys(characters)])}
    tokenizer = BertTokenizerFast(vocab=vocabulary)
    words = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4]
    row = dict(tokenizer(characters))
    assert len(row["input_ids"]) == len(words) + 2
    return tokenizer, [row | {"word_ids": [None, *words, None]} for _ in range(8)], words


@pytest.mark.parametrize("keeps_columns", [False, True])
@pytest.mark.parametrize("is_data_set", [False, True])
def test_words_of_a_segmenter_reach_the_collator_where_trainer_keeps_columns(
    keeps_columns: bool, is_data_set: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Trainer drops `word_ids`, which no model takes, by default: then the collator says so, once."""
    tokenizer, rows, words = chinese_rows()
    collator = Watched(MaskingCollator(tokenizer, "whole-word", 0.5))
    train: Any = Dataset.from_list(rows) if is_data_set else rows
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=4,
        per_device_train_batch_size=4,
        remove_unused_columns=not keeps_columns,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    model = AutoModelForMaskedLM.from_config(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
        )
    )
    Trainer(model, arguments, data_collator=collator, train_dataset=train).train()
    cut = 0
    for batch in collator.batches:
        for places in (batch["labels"] != -100).tolist():
            masked = [word for word, is_masked in zip(words, places[1:-1], strict=True) if is_masked]
            cut += sum(masked.count(word) != words.count(word) for word in set(masked))
    n_rows = sum(len(batch["labels"]) for batch in collator.batches)
    assert (cut <= n_rows) if keeps_columns else (cut > n_rows), "at most one word of a row is cut at its budget"
    assert caplog.text.count("remove_unused_columns=False") == (0 if keeps_columns else 1)


class Watched:
    """A collator that keeps its batches."""

    def __init__(self, collator: MaskingCollator) -> None:
        self._collator = collator
        self.batches: list[dict[str, torch.Tensor]] = []

    def __call__(self, features: Any) -> dict[str, torch.Tensor]:
        self.batches.append(self._collator(features))
        return self.batches[-1]


@pytest.mark.parametrize("keeps_columns", [False, True])
def test_fixed_rows_of_a_data_set_are_evaluated_or_refused(inputs: Inputs, tmp_path: Path, keeps_columns: bool):
    tokenizer = AutoTokenizer.from_pretrained(inputs.model)
    collator = MaskingCollator(tokenizer, "whole-word", 0.3)
    fixed = Dataset.from_list(collator.fix([" ".join(WORDS[i : i + 8]) for i in range(8)]))
    arguments = TrainingArguments(
        str(tmp_path), remove_unused_columns=not keeps_columns, use_cpu=True, report_to=[], disable_tqdm=True
    )
    model = AutoModelForMaskedLM.from_pretrained(inputs.model)
    trainer = Trainer(model, arguments, data_collator=collator, eval_dataset=fixed)
    if keeps_columns:
        assert trainer.evaluate()["eval_loss"] == trainer.evaluate()["eval_loss"]
    else:
        with pytest.raises(UserError, match="remove_unused_columns=False"):
            trainer.evaluate()


@pytest.mark.parametrize(
    ("name", "says"), [("WordPiece", "阿司匹林"), ("byte-level BPE", "阿司匹林"), ("byte-level BPE", "हिन्दी")]
)
def test_a_guess_of_words_is_said_once_also_by_workers(
    name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = logging.FileHandler(tmp_path / "log.txt")  # workers are processes: a file shows what all of them say
    monkeypatch.setattr(logging.getLogger("nmg"), "handlers", [log])
    collator = MaskingCollator(family(name), "whole-word", 0.3)
    collator(["The inhibitor's dose: 3.5 mg/kg", "déjà vu — naïf", "Ингибитор рецептора"])
    assert "words are guessed" not in (tmp_path / "log.txt").read_text()
    for _ in range(2):
        list(DataLoader([says] * 4, batch_size=2, collate_fn=collator, num_workers=1))
    collator([says])
    MaskingCollator(family(name), "random", 0.3)([says])  # needs no words
    assert (tmp_path / "log.txt").read_text().count("words are guessed") == 1
