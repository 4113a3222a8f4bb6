"""Corruption of the selected tokens by BERT's 80/10/10 rule (Devlin et al. 2019, section 3.1)."""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from nmg.base.errors import UserError
from nmg.base.settings import MaskingSettings
from nmg.base.types import IGNORED_LABEL, CorruptedBlocks, MaskPlan, TokenBlocks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PLACEHOLDER = re.compile(r"\W*unused\W?\d+\W*|madeupword\d+")
"""Matches unused entries of a vocabulary, e.g. [unused17] (BERT), madeupword0001 (RoBERTa)."""


@dataclass(frozen=True)
class Vocabulary:
    """The token ids that `corrupt` can write."""

    mask_id: int
    """Id of the mask token."""
    replacement_ids: Tensor
    """int64 [R]: ids of ordinary tokens in ascending order, without special tokens and placeholders."""

    @classmethod
    def from_tokenizer(cls, tokenizer: "PreTrainedTokenizerBase") -> Self:
        """Return the vocabulary of a tokenizer. Raises UserError if the tokenizer has no mask token."""
        if tokenizer.mask_token_id is None:
            raise UserError(
                f"the tokenizer of '{tokenizer.name_or_path}' has no mask token: choose a masked language model"
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
        """Return a copy whose random replacements come only from `ids` (int64, any shape).

        Raises UserError if no replacements remain.
        """
        kept = self.replacement_ids[torch.isin(self.replacement_ids, ids.cpu())]
        if not len(kept):
            raise UserError(
                "adapt.vocabulary corpus: the text contains only special tokens, so no other token can be predicted: "
                "choose a model whose vocabulary covers the text, or set adapt.vocabulary all"
            )
        return replace(self, replacement_ids=kept)


def corrupt(
    blocks: TokenBlocks,
    plan: MaskPlan,
    vocabulary: Vocabulary,
    settings: MaskingSettings,
    rng: np.random.Generator,
) -> CorruptedBlocks:
    """Replace each selected token with the mask token or a random token, or leave it unchanged.

    A random number and a random token are drawn for every position, selected or not. Two plans with equal generator
    states therefore corrupt a shared position in the same way. All positions of a group share the random number of the
    group's first position, but each draws its own random token. No tensor of `blocks` is changed.

    Args:
        blocks: B blocks of T tokens.
        plan: the positions to corrupt.
        vocabulary: the mask token and the tokens that can replace others.
        settings: `mask_replace_prob` and `random_replace_prob` are the probabilities of the two kinds of replacement.
        rng: source of all randomness.

    Returns:
        Input ids int64 [B, T], and labels int64 [B, T] with `IGNORED_LABEL` at positions that are not selected.
    """
    ids, device = blocks.input_ids, blocks.input_ids.device
    shape = tuple(ids.shape)
    coin = torch.from_numpy(rng.random(shape)).to(device)
    draws = torch.from_numpy(rng.integers(0, len(vocabulary.replacement_ids), shape)).to(device)
    random_ids = vocabulary.replacement_ids.to(device)[draws]
    if plan.group is not None and plan.group.numel():
        coin = _share_coins(coin, plan.positions, plan.group)

    is_chosen = plan.is_masked(shape[1])
    becomes_mask = is_chosen & (coin < settings.mask_replace_prob)
    becomes_random = is_chosen & ~becomes_mask & (coin < settings.mask_replace_prob + settings.random_replace_prob)
    return CorruptedBlocks(
        input_ids=torch.where(becomes_random, random_ids, ids).masked_fill(becomes_mask, vocabulary.mask_id),
        is_token=blocks.is_token,
        labels=torch.where(is_chosen, ids, IGNORED_LABEL),
    )


def _share_coins(coin: Tensor, positions: Tensor, group: Tensor) -> Tensor:
    """Return `coin` [B, T] with the first value of each group at all its positions (`positions`, `group`: [B, K])."""
    # An extra column receives the entries after a row's budget and is removed at the end.
    columns = torch.where(positions >= 0, positions, coin.shape[1])
    is_same_group = group[:, :, None] == group[:, None, :]
    first = torch.where(is_same_group, columns[:, None, :], coin.shape[1]).amin(dim=2)
    padded = torch.nn.functional.pad(coin, (0, 1))
    return padded.scatter(1, columns, padded.gather(1, first))[:, :-1]
