"""Tokens that matter to a task first (Train No Evil, Gu et al. 2020, arXiv 2004.09733).

The paper marks, in labelled texts, the tokens without which a classifier would be less sure of the label, trains a
*token classifier* on these marks, and lets it say which tokens of unlabelled text matter. Here
`masking.selective_model` names that token classifier (`AutoModelForTokenClassification`; its last label means
"matters"); `important_tokens` makes the marks.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nmg.errors import UserError
from nmg.hub import first_line, is_only_local
from nmg.masking.base import Draw, Ingredients, choose, position_noise
from nmg.types import MaskPlan, TokenBlocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IMPORTANT = 0.5
"""probability from which a token counts as one that matters"""
LEAST_GAIN = 0.05
"""δ of the paper: a token matters where, with it, what is left of the classifier's confidence to win is less"""


def draw_important(
    blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, importance: Callable[[TokenBlocks], Tensor]
) -> MaskPlan:
    """Tokens that matter in random order, then the others in random order.

    Args:
        importance: blocks → float [B, T], the probability that a token matters.
    """
    matters = (importance(blocks) >= IMPORTANT).to(blocks.input_ids.device)
    return choose(position_noise(blocks, rng) + matters, blocks, rate)


def selective_masking(ingredients: Ingredients) -> Draw:
    """Raises UserError where the classifier is not named, does not load, or has another vocabulary."""
    name = ingredients.settings.selective_model
    if name is None:
        raise UserError("the masking 'selective' needs a token classifier: masking.selective_model")
    model = load_token_classifier(name)
    if model.config.vocab_size < len(ingredients.tokenizer):
        raise UserError(
            f"masking.selective_model: '{name}' knows {model.config.vocab_size} word pieces, but the tokenizer has "
            f"{len(ingredients.tokenizer)}: it must be made from the same model"
        )
    return partial(draw_important, importance=partial(_importance, model))


def load_token_classifier(name: str) -> "PreTrainedModel":
    """The model of a folder or a hub name, in evaluation mode. Raises UserError if it does not load."""
    from transformers import AutoModelForTokenClassification

    try:
        model = AutoModelForTokenClassification.from_pretrained(
            name, dtype=torch.float32, trust_remote_code=False, local_files_only=is_only_local(name)
        )
    except (UserError, OSError, ValueError, KeyError, RuntimeError) as error:
        problem = f"cannot load a token classifier '{name}': {first_line(error)}"
        raise UserError(f"masking.selective_model: {problem}") from error
    return model.eval()


@torch.no_grad()
def _importance(model: "PreTrainedModel", blocks: TokenBlocks) -> Tensor:
    if not blocks.input_ids.numel():
        return torch.zeros(blocks.input_ids.shape)
    device = model.device
    logits = model(input_ids=blocks.input_ids.to(device), attention_mask=blocks.is_token.to(device).long()).logits
    return logits.softmax(dim=-1)[..., -1]  # type: ignore[no-any-return]


def important_tokens(
    tokens: Sequence[str], confidence: Callable[[Sequence[Sequence[str]]], Sequence[float]], least: float = LEAST_GAIN
) -> list[bool]:
    """Which tokens of a labelled text matter: those after which the classifier is nearly as sure as of the whole text.

    From left to right each token is put behind those that do not matter. Where P(label | whole) − P(label | those,
    token) < `least`, the token matters and is left out of what follows; else it stays (section 2.2 of the paper).

    Args:
        confidence: texts, as lists of tokens → the classifier's probability of the text's label, for each.
    """
    whole = confidence([tokens])[0]
    kept: list[str] = []
    matters = []
    for token in tokens:
        is_enough = whole - confidence([[*kept, token]])[0] < least
        matters.append(is_enough)
        if not is_enough:
            kept.append(token)
    return matters
