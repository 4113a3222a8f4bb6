"""Encoding of texts and pairs of texts, with one row per example."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nmg.base.types import FloatArray, IntArray
from nmg.data.formats.labelled_texts import Texts
from nmg.tasks.rows import RowBuilder, TaskFeatures

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PRIOR_TEXTS = 5.0
"""Pseudo-count per token: number of texts that are assumed to contain it, with the overall label distribution."""


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
