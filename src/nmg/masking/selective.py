"""The rule `selective`: tokens that are important for a task first (Train No Evil, Gu et al. 2020, arXiv 2004.09733).

The paper marks the tokens in labelled texts without which a classifier would be less confident of the label. A *token
classifier* trained on these marks then predicts which tokens of unlabelled text are important. The setting
`masking.selective_model` names that token classifier (`AutoModelForTokenClassification`; its last label means
"important"). `important_tokens` computes the marks.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nmg.base.errors import UserError
from nmg.base.hub import first_line, is_only_local
from nmg.base.types import MaskPlan, TokenBlocks
from nmg.masking.base import Draw, MaskingContext, choose, position_noise

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IMPORTANT = 0.5
"""Minimum probability for a token to count as important."""
LEAST_GAIN = 0.05
"""δ of the paper: a token is important if P(label | whole text) − P(label | unimportant tokens and this token) is below
this value."""


def draw_important(
    blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, importance: Callable[[TokenBlocks], Tensor]
) -> MaskPlan:
    """Mask important tokens first, then other tokens if the budget is not used up, each group in random order.

    Args:
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.
        rng: source of all randomness.
        importance: maps blocks to float [B, T], the probability that a token is important. A token counts as important
            if its probability is at least `IMPORTANT`.

    Returns:
        A plan with `blocks.budgets(rate)` positions per block.
    """
    matters = (importance(blocks) >= IMPORTANT).to(blocks.input_ids.device)
    return choose(position_noise(blocks, rng) + matters, blocks, rate)


def selective_masking(ingredients: MaskingContext) -> Draw:
    """Build the rule `selective`.

    Raises UserError if the classifier is not named, cannot be loaded, or has a smaller vocabulary than the tokenizer.
    """
    name = ingredients.settings.selective_model
    if name is None:
        raise UserError("the masking 'selective' needs a token classifier: set masking.selective_model")
    model = load_token_classifier(name)
    if model.config.vocab_size < len(ingredients.tokenizer):
        raise UserError(
            f"masking.selective_model: '{name}' has a vocabulary of {model.config.vocab_size} tokens, but the "
            f"tokenizer has {len(ingredients.tokenizer)}: choose a classifier that was trained from the same model"
        )
    return partial(draw_important, importance=partial(_importance, model))


def load_token_classifier(name: str) -> "PreTrainedModel":
    """Load a token classifier from a folder or the hub, in evaluation mode. Raises UserError if this fails."""
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
    """Return float [B, T]: the probability of the last label at each token."""
    if not blocks.input_ids.numel():
        return torch.zeros(blocks.input_ids.shape)
    device = model.device
    logits = model(input_ids=blocks.input_ids.to(device), attention_mask=blocks.is_token.to(device).long()).logits
    return logits.softmax(dim=-1)[..., -1]  # type: ignore[no-any-return]


def important_tokens(
    tokens: Sequence[str], confidence: Callable[[Sequence[Sequence[str]]], Sequence[float]], least: float = LEAST_GAIN
) -> list[bool]:
    """Mark the tokens of a labelled text that make the classifier nearly as confident as the whole text does.

    Each token, from left to right, is appended to the unimportant tokens before it. The token is important if
    P(label | whole text) − P(label | unimportant tokens, token) < `least`. Important tokens are excluded from the
    following steps (section 2.2 of the paper).

    Args:
        tokens: the text.
        confidence: maps texts (lists of tokens) to the classifier's probability of the text's label.
        least: threshold δ of the paper.

    Returns:
        True for each important token.
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
