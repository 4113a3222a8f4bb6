"""What a tokenizer puts around a block, and what else a block has to know of it."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nmg.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class SpecialTokens:
    """What a block is framed with, which ids may not be masked wherever they stand, and what a word is."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    padding: int
    unmaskable: frozenset[int]
    """All special tokens but the unknown token: a piece the vocabulary lacks is a piece of the text all the same."""
    only_spaces: bool
    """whether the tokenizer knows words by spaces alone (`data.words`)"""

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> "SpecialTokens":
        """Raises UserError for a tokenizer without offsets (a slow one) or without a padding token."""
        if not tokenizer.is_fast:
            raise UserError(f"tokenizer '{tokenizer.name_or_path}': a fast tokenizer is needed (tokenizer.json)")
        if tokenizer.pad_token_id is None:
            raise UserError(f"tokenizer '{tokenizer.name_or_path}': has no padding token")
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
    """Whether it looks for pieces in all that stands between spaces, as SentencePiece does."""
    splitter = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"]
    return splitter is None or "Metaspace" in json.dumps(splitter)


def vocabulary_size(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Ids that the tokenizer gives, from 0; if some are missing in between, more than it has tokens."""
    return int(max(tokenizer.get_vocab().values())) + 1
