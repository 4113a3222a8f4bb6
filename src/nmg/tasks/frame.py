"""The special tokens that a tokenizer adds to a pair of texts."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Frame(NamedTuple):
    """The special tokens around a question and its context, and the token type of each part of a row."""

    before: list[int]
    """Token ids before the question."""
    between: list[int]
    """Token ids between question and context."""
    after: list[int]
    """Token ids after the context."""
    types: tuple[int, int, int, int, int]
    """Token types of the five parts of a row: before, question, between, context, after."""

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> "Frame":
        """Derive the frame from an encoded pair, so that it follows the template of any tokenizer."""
        pair = tokenizer("a", "a", return_token_type_ids=True)
        ids, types, parts = list(pair["input_ids"]), list(pair["token_type_ids"]), pair.sequence_ids(0)
        first, second = np.flatnonzero(np.equal(parts, 0)), np.flatnonzero(np.equal(parts, 1))
        before, between, after = slice(0, first[0]), slice(first[-1] + 1, second[0]), slice(second[-1] + 1, None)
        # The type of an empty part is never used.
        special = [(types[part] or [0])[0] for part in (before, between, after)]
        kinds = (special[0], types[first[0]], special[1], types[second[0]], special[2])
        return cls(ids[before], ids[between], ids[after], kinds)

    @property
    def n_special(self) -> int:
        """Number of special tokens per row."""
        return len(self.before) + len(self.between) + len(self.after)

    def fill(self, question: list[int], context: list[int]) -> tuple[list[int], list[int]]:
        """Return the token ids and the token types of a row."""
        parts = (self.before, question, self.between, context, self.after)
        input_ids = [token for part in parts for token in part]
        token_types = [kind for part, kind in zip(parts, self.types, strict=True) for _ in part]
        return input_ids, token_types
