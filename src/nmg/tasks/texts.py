"""Tasks of texts and pairs of texts, with one row per example."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nmg.base.errors import UserError
from nmg.base.training_settings import FinetuneSettings
from nmg.base.types import Example, FloatArray, IntArray
from nmg.data.formats.labelled_texts import Texts
from nmg.tasks.base import model_with_head
from nmg.tasks.rows import RowBuilder, TaskFeatures

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

PRIOR_TEXTS = 5.0
"""Pseudo-count per token: number of texts that are assumed to contain it, with the overall label distribution."""


class TextTask:
    """What the tasks of texts and pairs of texts share: one row per example, and a head on the whole text."""

    outputs: tuple[str, ...] = ("logits",)
    outputs_are_per_token = False
    problem_type: str
    """The `problem_type` of transformers for the head."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", labels: Sequence[str], settings: FinetuneSettings) -> None:
        self.labels = tuple(labels)
        """Index of a logit → label."""
        self._index = {label: index for index, label in enumerate(labels)}
        self._tokenizer = tokenizer
        self._max_length = settings.max_length

    def _label_index(self, example_id: str, label: str) -> int:
        """Return the index of a label. Raises UserError for a label not seen in training."""
        if label not in self._index:
            raise UserError(
                f"example '{example_id}' has the label '{label}', which no training example has "
                f"(known: {', '.join(self.labels)})"
            )
        return self._index[label]

    def without_tokens(self, _examples: Sequence[Example], /) -> Sequence[Example]:
        """Return an empty sequence, because a text without tokens is a valid row."""
        return ()

    def remarks(self, _name: str, _examples: Sequence[Example], /) -> list[str]:
        return []

    def new_model(self, config: "PreTrainedConfig", *, trust_remote_code: bool = False) -> "PreTrainedModel":
        from transformers import AutoModelForSequenceClassification

        return model_with_head(
            AutoModelForSequenceClassification,
            config,
            trust_remote_code=trust_remote_code,
            id2label=dict(enumerate(self.labels)),
            label2id=dict(self._index),
            problem_type=self.problem_type,
        )


def encode_texts(
    tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Texts], max_length: int, targets: IntArray | FloatArray
) -> TaskFeatures:
    """Encode one row per example.

    Args:
        tokenizer: The tokenizer, which joins the texts of a pair.
        examples: Texts, or pairs of texts.
        max_length: Maximum number of tokens of a row, special tokens included; longer rows are truncated.
        targets: The target of each row, [F] or [F, C] (`TaskFeatures.targets`).

    Returns:
        The rows with their `labels`.
    """
    builder = RowBuilder(tokenizer)
    if examples:
        encoded = tokenizer(
            [example.text for example in examples],
            [example.pair for example in examples if example.pair is not None] or None,
            truncation=True,
            max_length=max_length,
            padding=False,
            return_token_type_ids=True,
        )
        for input_ids, token_types in zip(encoded["input_ids"], encoded["token_type_ids"], strict=True):
            builder.add(input_ids, token_types)
    return TaskFeatures(builder.lengths, np.arange(len(examples)), builder.tokens, {"labels": targets})


def token_sets(tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Texts]) -> list[list[int]]:
    """Return the distinct token ids of each example, without special tokens."""
    texts = [example.passage for example in examples]
    encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    return [list(set(ids)) for ids in encoded]
