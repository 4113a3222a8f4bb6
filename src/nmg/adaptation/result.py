"""What an adaptation did, as Python, as JSON and in words."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nmg.adaptation.forgetting import GeneralResult, trade_in_words


@dataclass(frozen=True)
class HeldOutResult:
    """Loss on held-out text, in nats per masked token, for the same blocks and masks each time."""

    before: float
    """Loss of the model before the first step."""
    after: float
    """Loss of the model after the last step."""
    best: float
    """Lowest loss that was measured."""
    best_step: int
    """Number of steps before `best` was measured; 0 is the model as it was."""
    documents: int
    """Number of held-out documents that were measured."""
    blocks: int
    """Number of held-out blocks that were measured."""
    masked_tokens: int
    """Number of masked tokens that the loss is averaged over."""

    def to_json(self) -> dict[str, Any]:
        """Return the losses, their perplexities exp(loss), and the size of the text."""
        losses = {"before": self.before, "after": self.after, "best": self.best}
        return {**asdict(self), "perplexity": {name: perplexity(loss) for name, loss in losses.items()}}


def perplexity(loss: float) -> float:
    """Return exp(loss): the number of equally likely words that would have the same loss.

    >>> perplexity(0.0)
    1.0
    """
    return math.exp(loss) if loss < 700 else math.inf


@dataclass(frozen=True)
class AdaptationResult:
    """Result of `nmg.adapt`."""

    out: Path
    """Folder of the adapted model."""
    masking: str
    """Name of the masking."""
    steps: int
    """Number of optimiser steps."""
    loss: float
    """Mean masked-LM loss on the training masks over the last epoch, in nats; NaN without a step."""
    seconds: float
    """Wall time of the training, in seconds."""
    documents: int
    """Number of documents trained on."""
    tokens: int
    """Number of tokens trained on, special tokens included, over all epochs."""
    masked_tokens: int
    """Number of masked positions trained on, over all epochs."""
    lora_rank: int
    """Rank of the trained matrices (`adapt.lora.rank`), which are merged; 0 if the whole model was trained."""
    is_best: bool
    """Whether the saved weights are those with the lowest held-out loss (`adapt.patience`), not the last ones."""
    near_duplicates: int
    """Number of documents left out because they nearly equal a held-out one."""
    held_out: HeldOutResult | None
    """Loss on held-out text; None if no text was held out."""
    general: GeneralResult | None = None
    """Loss on general text; None without `adapt.general_corpus`."""

    def to_json(self) -> dict[str, Any]:
        """Return the facts of nmg.json, without the place of the folder."""
        measured = {"held_out": self.held_out, "general": self.general}
        facts = {name: value for name, value in vars(self).items() if name not in {"out", *measured}}
        return {**facts, **{name: None if one is None else one.to_json() for name, one in measured.items()}}

    def summary(self) -> str:
        """Return a few lines for people: losses before and after, amount of training, and how to use the model."""
        lines = [f"{self.out}: adapted with masking '{self.masking}'"]
        if self.held_out is not None:
            lines.append(_losses_in_words(self.held_out, is_best=self.is_best))
        if self.general is not None:
            facts = self.to_json()
            trade = trade_in_words(facts["held_out"], facts["general"], is_best=self.is_best)
            lines.append(f"  general text    {trade}")
        if self.steps:
            lines.append(f"  training loss   {self.loss:.3f} (last epoch, on its own masks)")
        lines.append(
            f"  trained         {self.steps:,} steps, {self.documents:,} documents, {self.tokens:,} tokens, "
            f"{self.masked_tokens:,} of them masked, {_duration(self.seconds)}"
        )
        if self.lora_rank:
            lines.append(f"  LoRA            rank {self.lora_rank}, merged into the model")
        lines.append(
            f"  next            AutoModelForMaskedLM.from_pretrained('{self.out}'), or --model.name {self.out}"
        )
        return "\n".join(lines)


def _losses_in_words(held_out: HeldOutResult, *, is_best: bool) -> str:
    """Return one line: losses and perplexities on held-out text."""
    before, after = (f"{loss:.3f} (perplexity {perplexity(loss):,.1f})" for loss in (held_out.before, held_out.after))
    line = f"  held-out loss   {before} → {after}"
    if held_out.best < held_out.after:
        line += f"; best {held_out.best:.3f} at step {held_out.best_step}"
        line += ", whose weights were saved" if is_best else ": adapt.patience would have kept it"
    return line


def _duration(seconds: float) -> str:
    """Return seconds as text.

    >>> _duration(59.6), _duration(754), _duration(7260)
    ('60 s', '12 min 34 s', '2 h 1 min')
    """
    minutes, left = divmod(round(seconds), 60)
    if minutes < 2:
        return f"{round(seconds)} s"
    return f"{minutes} min {left} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
