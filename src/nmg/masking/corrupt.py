"""The one corruption step: what becomes of chosen tokens (BERT's 80/10/10 rule, Devlin et al. 2019, section 3.1)."""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from nmg.errors import UserError
from nmg.settings import MaskingSettings
from nmg.types import IGNORED_LABEL, CorruptedBlocks, MaskPlan, TokenBlocks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PLACEHOLDER = re.compile(r"\W*unused\W?\d+\W*|madeupword\d+")
"""Entries that fill up a vocabulary and stand for no text, e.g. [unused17] (BERT), madeupword0001 (RoBERTa)."""


@dataclass(frozen=True)
class Vocabulary:
    """The token ids that corruption writes."""

    mask_id: int
    replacement_ids: Tensor
    """int64 [R], ascending: ordinary tokens, neither special nor placeholders"""

    @classmethod
    def from_tokenizer(cls, tokenizer: "PreTrainedTokenizerBase") -> Self:
        """Raises UserError where the tokenizer has no mask token."""
        if tokenizer.mask_token_id is None:
            raise UserError(
                f"The tokenizer of '{tokenizer.name_or_path}' has no mask token; choose a masked language model."
            )
        special = set(tokenizer.all_special_ids)
        special |= {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        ordinary = sorted(
            index
            for token, index in tokenizer.get_vocab().items()
            if index not in special and not _PLACEHOLDER.fullmatch(token)
        )
        return cls(int(tokenizer.mask_token_id), torch.tensor(ordinary, dtype=torch.int64))

    def within(self, ids: Tensor) -> Self:
        """The same without replacements that are not among `ids` (int64, any shape). Raises UserError for none."""
        kept = self.replacement_ids[torch.isin(self.replacement_ids, ids.cpu())]
        if not len(kept):
            raise UserError(
                "adapt.vocabulary corpus: the text holds special tokens alone, no piece that the model knows. Is it "
                "the right model? adapt.vocabulary all trains on it all the same"
            )
        return replace(self, replacement_ids=kept)


def corrupt(
    blocks: TokenBlocks,
    plan: MaskPlan,
    vocabulary: Vocabulary,
    settings: MaskingSettings,
    rng: np.random.Generator,
) -> CorruptedBlocks:
    """Replace chosen tokens by the mask token (`mask_share`) or a random token (`random_share`), or leave them.

    Coins and random tokens are drawn for every position, chosen or not: two plans under the same stream corrupt a
    shared position alike. Positions of one group of the plan fall under the coin of the group's first position; where
    they become random tokens, each its own. No tensor of `blocks` is changed.
    """
    ids, device = blocks.input_ids, blocks.input_ids.device
    shape = tuple(ids.shape)
    coin = torch.from_numpy(rng.random(shape)).to(device)
    draws = torch.from_numpy(rng.integers(0, len(vocabulary.replacement_ids), shape)).to(device)
    random_ids = vocabulary.replacement_ids.to(device)[draws]
    if plan.group is not None and plan.group.numel():
        coin = _share_coins(coin, plan.positions, plan.group)

    is_chosen = plan.is_masked(shape[1])
    becomes_mask = is_chosen & (coin < settings.mask_share)
    becomes_random = is_chosen & ~becomes_mask & (coin < settings.mask_share + settings.random_share)
    return CorruptedBlocks(
        input_ids=torch.where(becomes_random, random_ids, ids).masked_fill(becomes_mask, vocabulary.mask_id),
        is_token=blocks.is_token,
        labels=torch.where(is_chosen, ids, IGNORED_LABEL),
    )


def _share_coins(coin: Tensor, positions: Tensor, group: Tensor) -> Tensor:
    """`coin` [B, T] with each group's first coin at all of its positions; `positions` and `group` are [B, K]."""
    # One column more takes the entries behind a row's budget, then is cut off.
    columns = torch.where(positions >= 0, positions, coin.shape[1])
    is_same_group = group[:, :, None] == group[:, None, :]
    first = torch.where(is_same_group, columns[:, None, :], coin.shape[1]).amin(dim=2)
    padded = torch.nn.functional.pad(coin, (0, 1))
    return padded.scatter(1, columns, padded.gather(1, first))[:, :-1]
