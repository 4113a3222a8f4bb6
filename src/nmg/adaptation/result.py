"""The result of an adaptation, as a Python object, as JSON and as text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nmg.adaptation.facts import in_words, perplexity
from nmg.adaptation.forgetting import GeneralResult
from nmg.adaptation.terms import TermsResult
from nmg.config import Config


@dataclass(frozen=True)
class HeldOutResult:
    """Losses on held-out text, in nats per masked token, all on the same blocks and masks."""

    before: float
    """Loss of the model before the first step."""
    after: float
    """Loss of the model after the last step."""
    best: float
    """Lowest loss that was measured."""
    best_step: int
    """Number of steps after which `best` was measured; 0 for the model before the adaptation."""
    documents: int
    """Number of held-out documents that were measured."""
    blocks: int
    """Number of held-out blocks that were measured."""
    masked_tokens: int
    """Number of masked tokens that the loss is averaged over."""

    def to_json(self) -> dict[str, Any]:
        """Return the losses, their perplexities exp(loss), and the size of the measured text."""
        losses = {"before": self.before, "after": self.after, "best": self.best}
        return {**asdict(self), "perplexity": {name: perplexity(loss) for name, loss in losses.items()}}


@dataclass(frozen=True)
class AdaptationResult:
    """The result of `nmg.adapt`."""

    out: Path
    """Folder of the adapted model."""
    config: Config
    """The settings of the run, with the values of its recipe."""
    recipe_changed: tuple[str, ...]
    """Names of the settings whose values are not those of the recipe `config.adapt.recipe`."""
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
    blocks: int
    """Number of blocks that the documents were cut into."""
    tokens: int
    """Number of tokens trained on, special tokens included, over all epochs."""
    masked_tokens: int
    """Number of masked positions trained on, over all epochs."""
    lora_rank: int
    """Rank of the trained matrices (`adapt.lora.rank`), which are merged; 0 if the whole model was trained."""
    is_best: bool
    """Whether the saved weights are those with the lowest held-out loss (`adapt.patience`), not the last ones."""
    near_duplicates: int
    """Number of documents left out because they are near duplicates of held-out documents."""
    held_out: HeldOutResult | None
    """Loss on held-out text; None if no text was held out."""
    general: GeneralResult | None = None
    """Loss on general text; None without `adapt.general_corpus`."""
    terms: TermsResult | None = None
    """How well the model predicts terms; None without `adapt.terms`."""
    masked: Mapping[str, Any] | None = None
    """How often tokens were masked, see `MaskCounts.extremes`; None without a step."""
    examples: Sequence[Mapping[str, Any]] = ()
    """A few held-out texts with the model's guesses before and after, see `examples.compared`."""

    def to_json(self) -> dict[str, Any]:
        """Return the result as an entry of nmg.json, without the path of the folder."""
        measured = {"held_out": self.held_out, "general": self.general, "terms": self.terms}
        facts = {name: value for name, value in vars(self).items() if name not in {"out", "config", *measured}}
        facts |= {name: None if one is None else one.to_json() for name, one in measured.items()}
        return {"recipe": self.config.adapt.recipe, **facts, "settings": self.config.model_dump(mode="json")}

    def summary(self) -> str:
        """Return a few lines of text: losses before and after, amount of training, and how to use the model."""
        words = in_words(self.to_json())
        words["next"] = f"AutoModelForMaskedLM.from_pretrained('{self.out}'), or --model.name {self.out}"
        lines = [f"  {name:<15} {text}" for name, text in words.items()]
        return "\n".join([f"{self.out}: adapted with masking '{self.masking}'", *lines])
