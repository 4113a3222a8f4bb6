"""Properties of a tokenizer that blocks depend on: special tokens, padding and word boundaries."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nmg.base.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class SpecialTokens:
    """The tokens that frame a block, the ids that are never masked, and how the tokenizer finds words."""

    prefix: tuple[int, ...]
    """Token ids before the text of a block."""
    suffix: tuple[int, ...]
    """Token ids after the text of a block."""
    padding: int
    """Token id that pads shorter blocks."""
    unmaskable: frozenset[int]
    """All special tokens except the unknown token, which represents a piece of the text."""
    only_spaces: bool
    """Whether the tokenizer splits words only at spaces (`data.words`)."""

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> "SpecialTokens":
        """Read the properties from a tokenizer.

        Raises UserError for a tokenizer without offsets (a slow one) or without a padding token.
        """
        if not tokenizer.is_fast:
            raise UserError(
                f"tokenizer '{tokenizer.name_or_path}': is not a fast tokenizer. Choose a model with a tokenizer.json."
            )
        if tokenizer.pad_token_id is None:
            raise UserError(f"tokenizer '{tokenizer.name_or_path}': has no padding token. Choose another model.")
        probe = tokenizer("a", return_special_tokens_mask=True)
        ids, is_added = probe["input_ids"], probe["special_tokens_mask"]
        n_before = is_added.index(0) if 0 in is_added else len(ids)
        n_after = is_added[::-1].index(0) if 0 in is_added else 0
        framing = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id, tokenizer.pad_token_id}
        unmaskable = set(tokenizer.all_special_ids)
        if tokenizer.unk_token_id not in framing:
            unmaskable.discard(tokenizer.unk_token_id)
        return cls(
            prefix=tuple(ids[:n_before]),
            suffix=tuple(ids[len(ids) - n_after :]),
            padding=tokenizer.pad_token_id,
            unmaskable=frozenset(unmaskable),
            only_spaces=_knows_only_spaces(tokenizer),
        )


def _knows_only_spaces(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Return whether the tokenizer splits text only at spaces before it looks for word pieces (SentencePiece)."""
    splitter = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"]
    return splitter is None or "Metaspace" in json.dumps(splitter)


def vocabulary_size(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Return the largest token id + 1. This exceeds the number of tokens if ids are missing."""
    return int(max(tokenizer.get_vocab().values())) + 1
