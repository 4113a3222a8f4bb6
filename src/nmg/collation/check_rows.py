"""The rows that `check_collator` passes to a collator, and the comparison of its batches with the rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nmg.base.errors import UserError
from nmg.base.seeding import stream
from nmg.base.types import IGNORED_LABEL, NO_POSITION, BoolArray, IntArray, TokenBlocks
from nmg.collation.rows import RowReader
from nmg.masking.corrupt import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

N_TEXTS = 512
"""Number of generated texts."""
SHORTEST, LONGEST = 4, 80
"""Minimum and maximum number of pieces in a generated text."""
_MARKS = "▁Ġ#"
"""Characters that mark word pieces."""


def vocabulary_texts(tokenizer: "PreTrainedTokenizerBase", seed: int, n: int = N_TEXTS) -> list[str]:
    """Generate texts of randomly drawn pieces of the vocabulary, so that a check needs no corpus.

    Pieces that continue a word form words of several pieces. The texts have no meaning.

    Args:
        tokenizer: a tokenizer with a mask token.
        seed: seed of the texts.
        n: number of texts.

    Returns:
        The texts.
    """
    ids = Vocabulary.from_tokenizer(tokenizer).replacement_ids.numpy()
    tokens = tokenizer.convert_ids_to_tokens(ids.tolist())
    is_word = np.array([token.isascii() and token.isalpha() for token in _bare(tokens)], dtype=np.bool_)
    ids = ids[is_word] if is_word.sum() > 1 else ids
    rng = stream(seed, "check-collator", "texts")
    lengths = rng.integers(SHORTEST, LONGEST + 1, n)
    return [str(tokenizer.decode(ids[rng.integers(0, len(ids), length)].tolist())) for length in lengths]


def _bare(tokens: Iterable[str]) -> list[str]:
    """Return `tokens` without the marks of word pieces."""
    return [token.strip(_MARKS) for token in tokens]


def tokenized(
    texts: Iterable[str], tokenizer: "PreTrainedTokenizerBase", max_length: int, *, with_offsets: bool
) -> list[dict[str, Any]]:
    """Return a row per text that has tokens: `input_ids`, `attention_mask` and the tokenizer's other columns.

    Args:
        texts: the texts.
        tokenizer: a fast tokenizer.
        max_length: maximum number of tokens in a row.
        with_offsets: whether rows have the column `offset_mapping`, which transformers' `whole_word_mask` reads. They
            are then padded to `max_length`, because transformers does not pad this column.

    Returns:
        One mapping per row, from column names to lists.

    Raises:
        UserError: If no text has tokens that may be masked.
    """
    padding = "max_length" if with_offsets else False
    options = {"truncation": True, "max_length": max_length, "padding": padding, "return_offsets_mapping": with_offsets}
    n_added = tokenizer.num_special_tokens_to_add()
    rows = [dict(tokenizer(text, **options)) for text in texts]
    kept = [row for row in rows if sum(row["attention_mask"]) > n_added]
    if not kept:
        raise UserError("check-collator: the text has no tokens that may be masked: pass another text")
    return kept


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """A data set that returns a new copy of a row each time, because some collators change their rows."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {name: list(values) for name, values in self._rows[number].items()}


@dataclass
class RowCounts:
    """Counts of the words and tokens of each of R rows, by what a collator did. All fields are int64 [R]."""

    words: IntArray
    """Words that may be masked."""
    maskable: IntArray
    """Tokens that may be masked."""
    unknown: IntArray
    """Unknown tokens that may be masked."""
    masked: IntArray
    """Maskable tokens with a label."""
    unknown_masked: IntArray
    """Masked unknown tokens."""
    mask_tokens: IntArray
    """Masked tokens that became the mask token."""
    random_tokens: IntArray
    """Masked tokens that became another token."""
    unchanged: IntArray
    """Masked tokens that are unchanged."""
    special: IntArray
    """Special tokens."""
    special_masked: IntArray
    """Special tokens that have a label or were changed."""
    padding: IntArray
    """Positions of padding."""
    padding_masked: IntArray
    """Positions of padding with the mask token."""
    padding_labels: IntArray
    """Positions of padding with a label."""
    wrong_labels: IntArray
    """Masked tokens whose label is not the original token."""
    changed: IntArray
    """Maskable tokens that were changed but have no label."""
    masked_words: IntArray
    """Words of several tokens of which at least one is masked."""
    cut_words: IntArray
    """Words of several tokens of which some but not all tokens are masked."""

    @classmethod
    def joined(cls, parts: "Sequence[RowCounts]") -> "RowCounts":
        """Return the counts of the rows of all parts, one part after the other."""
        return cls(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})

    @property
    def candidates(self) -> IntArray:
        """int64 [R]: tokens that the collator may mask. Transformers treats unknown tokens as special, nmg as text."""
        return self.maskable if self.unknown_masked.any() else self.maskable - self.unknown

    def epochs(self, n: int) -> "RowCounts":
        """Return the counts of each row, summed over `n` passes over the same rows."""
        return RowCounts(**{name: values.reshape(n, -1).sum(axis=0) for name, values in vars(self).items()})

    def rows(self, n: int) -> "RowCounts":
        """Return the counts of the first `n` rows."""
        return RowCounts(**{name: values[:n] for name, values in vars(self).items()})


class Comparison:
    """Compares the batches of a collator with the rows that it was given."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", name: str) -> None:
        """Prepare to compare rows of `tokenizer`; `name` is the name of the collator in error messages."""
        self._reader = RowReader(tokenizer, None)
        self._mask_id = int(tokenizer.mask_token_id)
        self._unknown_id = tokenizer.unk_token_id
        self._is_left = tokenizer.padding_side == "left"
        self._name = name

    def counts(self, batch: Any, given: Sequence[Mapping[str, Any]]) -> RowCounts:
        """Return the counts of the rows of one batch.

        Args:
            batch: what the collator returned.
            given: the rows that it was given, in the same order.

        Raises:
            UserError: If the batch has no `input_ids` and `labels`, or does not contain the rows in their order.
        """
        found, labels = self.columns(batch)
        blocks = self._reader.blocks(self._reader.rows(given))
        lengths = [len(row["input_ids"]) for row in given]
        if len(found) == 1 < len(given) and found.shape[1] == sum(lengths):  # as DataCollatorWithFlattening
            found, labels = (_split(values[0], lengths, fill) for values, fill in ((found, 0), (labels, IGNORED_LABEL)))
            is_left = False
        else:
            is_left = self._is_left
        if len(found) != len(given) or found.shape[1] < max(lengths):
            raise UserError(
                f"{self._name}: returned {' × '.join(map(str, found.shape))} tokens for {len(given)} rows of up to "
                f"{max(lengths)}. A check needs one row per row, in the same order and not cut (see --max-length)."
            )
        counts = self._counted(found, labels, _Originals.of(blocks, lengths, found.shape[1], is_left))
        n_same = counts.maskable.sum() - counts.mask_tokens.sum() - counts.random_tokens.sum() - counts.changed.sum()
        n_known = n_same + counts.masked.sum() - counts.wrong_labels.sum()
        if 2 * n_known < counts.maskable.sum():
            raise UserError(f"{self._name}: its batches do not contain the rows it was given, in their order")
        return counts

    def columns(self, batch: Any) -> tuple[IntArray, IntArray]:
        """Return `input_ids` and `labels` of a batch, int64 [B, W] each. Raises UserError if one is missing."""
        if not isinstance(batch, Mapping) or not {"input_ids", "labels"} <= set(batch):
            there = f"the columns {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else type(batch).__name__
            raise UserError(f"{self._name}: must return a mapping with input_ids and labels, not {there}")
        ids, labels = (np.asarray(batch[name], dtype=np.int64) for name in ("input_ids", "labels"))
        if ids.ndim != 2 or ids.shape != labels.shape:
            raise UserError(
                f"{self._name}: input_ids and labels must have the same shape [rows, tokens], not {list(ids.shape)} "
                f"and {list(labels.shape)}"
            )
        return ids, labels

    def _counted(self, found: IntArray, labels: IntArray, given: "_Originals") -> RowCounts:
        """Return the counts for `found` and `labels`, int64 [B, W]."""
        has_label, is_mask, differs = labels != IGNORED_LABEL, found == self._mask_id, found != given.ids
        is_masked = has_label & given.is_maskable
        is_special, is_padding = given.is_token & ~given.is_maskable, ~given.is_token
        words = [_words(*row) for row in zip(given.word_index, is_masked, strict=True)]
        flags = {
            "maskable": given.is_maskable,
            "unknown": given.is_maskable & (given.ids == self._unknown_id),
            "masked": is_masked,
            "unknown_masked": is_masked & (given.ids == self._unknown_id),
            "mask_tokens": is_masked & is_mask,
            "random_tokens": is_masked & differs & ~is_mask,
            "unchanged": is_masked & ~differs,
            "special": is_special,
            "special_masked": is_special & (has_label | differs),
            "padding": is_padding,
            "padding_masked": is_padding & is_mask,
            "padding_labels": is_padding & has_label,
            "wrong_labels": is_masked & (labels != given.ids),
            "changed": given.is_maskable & ~has_label & differs,
        }
        of_words = dict(zip(("words", "masked_words", "cut_words"), np.array(words, np.int64).T, strict=True))
        return RowCounts(**of_words, **{name: values.sum(axis=1) for name, values in flags.items()})


@dataclass(frozen=True)
class _Originals:
    """The rows that a collator was given, padded like its batch: [B, W] each."""

    ids: IntArray
    is_token: BoolArray
    is_maskable: BoolArray
    word_index: IntArray

    @classmethod
    def of(cls, blocks: TokenBlocks, lengths: Sequence[int], width: int, is_left: bool) -> "_Originals":
        """Pad rows as a batch is padded.

        Args:
            blocks: The rows, padded on the right.
            lengths: Number of tokens of each row, without padding.
            width: Width W of the batch.
            is_left: Whether the batch is padded on the left.

        Returns:
            The padded rows.
        """

        def placed(values: torch.Tensor, fill: int) -> Any:
            padded = np.full((len(lengths), width), fill, dtype=values.numpy().dtype)
            for b, n in enumerate(lengths):
                first = width - n if is_left else 0
                padded[b, first : first + n] = values[b, :n].numpy()
            return padded

        index = placed(blocks.word_index, NO_POSITION)
        return cls(placed(blocks.input_ids, 0), placed(blocks.is_token, 0), placed(blocks.is_maskable, 0), index)


def _split(values: IntArray, lengths: Sequence[int], fill: int) -> IntArray:
    """Return one long row as int64 [rows, longest]: rows of the given lengths, padded with `fill`."""
    rows = np.full((len(lengths), max(lengths)), fill, dtype=np.int64)
    for b, part in enumerate(np.split(values, np.cumsum(lengths)[:-1])):
        rows[b, : len(part)] = part
    return rows


def _words(word_index: IntArray, is_masked: BoolArray) -> tuple[int, int, int]:
    """Return three numbers for a row: words, masked words of several tokens, and such words that are cut."""
    is_known = word_index != NO_POSITION
    sizes = np.bincount(word_index[is_known])
    n_masked = np.bincount(word_index[is_known], weights=is_masked[is_known])
    is_long = (sizes > 1) & (n_masked > 0)
    return int((sizes > 0).sum()), int(is_long.sum()), int((is_long & (n_masked < sizes)).sum())
