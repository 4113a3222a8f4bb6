"""Describes the facts of an adaptation in words, for the terminal, the model card and the page."""

import math
from collections.abc import Mapping
from typing import Any

from nmg.adaptation.forgetting import trade_in_words
from nmg.base.numerals import duration_text


def in_words(facts: Mapping[str, Any]) -> dict[str, str]:
    """Describe the settings, the amount of training and the losses of an adaptation.

    Args:
        facts: Content of nmg.json.

    Returns:
        Name of a fact → its text. Facts that were not measured are missing.
    """
    words: dict[str, str] = {}
    if facts["held_out"] is not None:
        words["held-out loss"] = _losses(facts["held_out"], is_best=facts["is_best"])
    if facts["general"] is not None:
        words["general text"] = trade_in_words(facts["held_out"], facts["general"], is_best=facts["is_best"])
    if facts["steps"]:
        words["training loss"] = f"{facts['loss']:.3f} (last epoch, on its own masks)"
    words["trained"] = (
        f"{facts['steps']:,} steps, {facts['documents']:,} documents, {facts['tokens']:,} tokens, "
        f"{facts['masked_tokens']:,} of them masked, {duration_text(facts['seconds'])}"
    )
    words["recipe"] = _recipe(facts)
    if facts["lora_rank"]:
        words["LoRA"] = f"rank {facts['lora_rank']}, merged into the model"
    if facts["near_duplicates"]:
        words["left out"] = f"{facts['near_duplicates']:,} documents that nearly equal a held-out one"
    return words


def _recipe(facts: Mapping[str, Any]) -> str:
    """Return the name of the recipe, the values used, and the settings that the user changed."""
    adapt, masking = facts["settings"]["adapt"], facts["settings"]["masking"]
    rate = f"{masking['rate']:.3g}"
    if masking["rate_schedule"] != "constant":
        rate += f" → {masking['rate_end']:.3g} ({masking['rate_schedule']})"
    joined = f" × {adapt['block_size']} tokens of joined documents" if adapt["join_documents"] else ""
    changed = f"; changed: {', '.join(facts['recipe_changed'])}" if facts["recipe_changed"] else ""
    return (
        f"{facts['recipe']}: masking rate {rate}, learning rate {adapt['learning_rate']:.3g} ({adapt['schedule']}, "
        f"{adapt['optimiser']}), batches of {adapt['batch_size']}{joined}{changed}"
    )


def _losses(held_out: Mapping[str, Any], *, is_best: bool) -> str:
    """Return the losses and perplexities on held-out text, in words."""
    before, after = (
        f"{loss:.3f} (perplexity {perplexity(loss):,.1f})" for loss in (held_out["before"], held_out["after"])
    )
    words = f"{before} → {after}"
    if held_out["best"] < held_out["after"]:
        words += f"; best {held_out['best']:.3f} at step {held_out['best_step']}"
        words += (
            ", whose weights were saved"
            if is_best
            else "; these weights were not saved (set adapt.patience to save the best ones)"
        )
    return words


def perplexity(loss: float) -> float:
    """Return exp(loss), the number of equally likely words that would have the same loss; infinite from 700 nats.

    >>> perplexity(0.0)
    1.0
    """
    return math.exp(loss) if loss < 700 else math.inf
