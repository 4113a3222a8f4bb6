"""Examples of what a model predicts for masked words of held-out texts, before and after its adaptation."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from nmg.adaptation.held_out import HeldOutLoss
from nmg.base.types import IGNORED_LABEL
from nmg.training.context import TrainingContext
from nmg.training.lm import masked_logits

EXAMPLES = 8
"""Maximum number of texts that are shown."""
MAX_TOKENS = 40
"""Maximum number of tokens that are shown of a text."""


@dataclass(frozen=True)
class Guesses:
    """The most probable token at each masked position of a few held-out blocks."""

    tokens: list[list[int]]
    """Original ids of each block."""
    guessed: list[dict[int, int]]
    """Position → id of the guess, per block."""

    @classmethod
    def of(cls, held_out: HeldOutLoss, context: TrainingContext) -> "Guesses":
        """Read the first held-out blocks with the current model, in evaluation mode. The model is left unchanged.

        Args:
            held_out: Held-out blocks with their masks.
            context: Context with the model.

        Returns:
            The guesses.
        """
        batch = held_out.batch(np.arange(min(EXAMPLES, len(held_out.lengths))))
        is_masked = batch.labels != IGNORED_LABEL
        was_training = context.model.training
        context.model.eval()
        with torch.inference_mode(), context.runtime.autocast():
            logits = masked_logits(context.model, batch.input_ids, batch.is_token, is_masked)
        context.model.train(was_training)
        original = torch.where(is_masked, batch.labels, batch.input_ids)
        tokens = [ids[is_token].tolist() for ids, is_token in zip(original, batch.is_token, strict=True)]
        guessed: list[dict[int, int]] = [{} for _ in tokens]
        for (row, column), guess in zip(is_masked.nonzero().tolist(), logits.argmax(dim=1).tolist(), strict=True):
            guessed[row][column] = guess
        return cls(tokens, guessed)


def compared(before: Guesses, after: Guesses, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """Return the texts with the guesses before and after the adaptation.

    Args:
        before: Guesses of the model before its adaptation.
        after: Guesses of the adapted model on the same blocks.
        tokenizer: Names the tokens.

    Returns:
        Per text: `text` with masked words in brackets, and lists of texts, one per masked word: `masked`, `before`,
        `after`. Texts without a masked word among those shown are left out.
    """
    special, texts = set(tokenizer.all_special_ids), []
    for ids, first, last in zip(before.tokens, before.guessed, after.guessed, strict=True):
        shown = [place for place, token in enumerate(ids) if token not in special][:MAX_TOKENS]
        masked = [place for place in shown if place in first]
        if not masked:
            continue
        parts: list[str] = []
        for place in shown:
            token = tokenizer.convert_ids_to_tokens(ids[place])
            parts.append(f"[{_plain(token)}]" if place in first else token)
        text = tokenizer.convert_tokens_to_string(parts)
        columns = {"masked": (ids[place] for place in masked)}
        columns |= {"before": (first[place] for place in masked), "after": (last[place] for place in masked)}
        texts.append({"text": text, **{name: _names(tokenizer, values) for name, values in columns.items()}})
    return texts


def _names(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> list[str]:
    return [_plain(token) for token in tokenizer.convert_ids_to_tokens(list(ids))]


def _plain(token: str) -> str:
    """Return a token without the mark of the beginning of a word."""
    return token.lstrip("Ġ▁") or token
