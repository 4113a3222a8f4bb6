"""Settings of trainings: optimiser, low-rank adaptation, adaptation and fine-tuning.

Defaults are the published settings for classification with BERT; docs/paper_map.md gives the source of each.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from nmg.base.section import (
    LARGEST_COUNT,
    Count,
    CountOrZero,
    NamedContent,
    NonNegative,
    Positive,
    PositiveShare,
    Section,
    Share,
    ShareBelowOne,
)

AUTO_WORDS = re.compile(r"auto:([1-9]\d{0,5})")
"""Pattern of `auto:N`, which means the N words that suit the setting best."""


def _file_or_auto(value: str, line: str) -> str:
    if not value.strip() or (value.startswith("auto:") and not AUTO_WORDS.fullmatch(value)):
        raise ValueError(f"must be auto:N with N from 1 to 999999, or the name of a file with one {line} per line")
    return value


def _words_to_add(value: str) -> str:
    return _file_or_auto(value, "word")


def _terms(value: str) -> str:
    return _file_or_auto(value, "term")


RecipeName = Literal["default", "modern", "paper"]
"""Names of the recipes of `nmg adapt` (`configs/recipes/`)."""


class OptimiserSettings(Section):
    """Settings of an optimiser and its learning rate.

    The learning rate rises linearly over the first `warmup_ratio` of the steps, then follows `schedule`.
    """

    epochs: CountOrZero
    """Number of passes through the data."""
    batch_size: Count
    """Number of rows per step."""
    learning_rate: Positive
    """Highest learning rate of the run."""
    warmup_ratio: Share = 0.0
    """Fraction of the steps over which the learning rate rises."""
    schedule: Literal["linear", "constant", "cosine", "warmup-stable-decay"] = "linear"
    """How the learning rate falls to 0 after the warm-up. `constant`: not at all. `warmup-stable-decay`: only over the
    last `decay_ratio` of the steps, as 1 − √progress."""
    decay_ratio: PositiveShare = 0.2
    """Fraction of the steps that are the decay phase of `schedule: warmup-stable-decay`. In `adapt`, they are also the
    second phase of `masking.rate_schedule: two-phase`."""
    optimiser: Literal["adamw", "stable-adamw"] = "adamw"
    """`stable-adamw` limits the size of each weight matrix's step. It needs the extra `stable-adamw`."""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay."""
    max_grad_norm: Positive = 1.0
    """Norm to which gradients are clipped."""


class LoraSettings(Section):
    """Settings of low-rank adaptation (LoRA): two small matrices are trained per linear layer and merged at the end."""

    rank: CountOrZero = 0
    """Rank of the trained matrices; 0 trains the whole model."""
    alpha: Positive = 8.0
    """Scale of the change: alpha / rank times the product of the two matrices."""
    dropout: ShareBelowOne = 0.0
    """Dropout probability of the inputs of the trained matrices."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Linear layers to adapt: `all-linear` for all of the encoder, or their names, such as query and value."""


class AdaptSettings(OptimiserSettings):
    """Settings of domain adaptation (masked-LM training)."""

    epochs: CountOrZero = 3
    """Number of passes through the text."""
    batch_size: Count = 8
    """Number of blocks per step."""
    learning_rate: Positive = 2e-5
    """Highest learning rate of the run."""
    block_size: Count = 254
    """Number of word pieces per block, excluding special tokens."""
    join_documents: bool = False
    """Whether a batch has as many documents as fit into about `batch_size` times `block_size` tokens, instead of
    `batch_size` blocks. Documents never attend to each other. It is for texts much shorter than `block_size`."""
    vocabulary: Literal["all", "corpus"] = "all"
    """`corpus` limits the trained word embeddings and the random replacements to word pieces that occur in the
    corpus. This is faster for small models and changes results slightly."""
    dropout: ShareBelowOne | None = None
    """Dropout probability of the model during adaptation; its own if not given. 0 saves up to a third of a step."""
    lora: LoraSettings = LoraSettings()
    recipe: RecipeName = "default"
    """`nmg adapt`: source of masking rate, learning rate, schedule, optimiser, weight decay and batch size if they are
    not set. Other commands use the defaults above."""
    held_out: ShareBelowOne = 0.05
    """`nmg adapt`: fraction of the text to measure the loss on instead of training on it, at most 512 blocks; 0 for no
    held-out text."""
    steps: Count | None = None
    """`nmg adapt`: number of steps, instead of `epochs`."""
    minutes: Positive | None = None
    """`nmg adapt`: approximate duration of the whole command in minutes, instead of `epochs`. The number of steps is
    computed from the measured speed of a few steps."""
    evaluate_every: Count | None = None
    """`nmg adapt`: number of steps between measurements of the held-out loss. If not given, a run has about ten
    measurements."""
    patience: Count | None = None
    """`nmg adapt`: number of measurements without a new lowest held-out loss after which training stops. The best
    weights are then saved. If not given, all steps are taken and the last weights are saved."""
    add_words: Annotated[str, NamedContent("data"), AfterValidator(_words_to_add)] | None = None
    """`nmg adapt`: whole words to add to the vocabulary before training, from a file with one word per line. `auto:N`
    adds the N words that save the most tokens on the corpus."""
    general_corpus: Annotated[str, NamedContent("data")] | None = None
    """`nmg adapt`: general text, in the formats of `data.corpus`. Its masked-LM loss is measured before and after, to
    show what the model forgets."""
    replay: ShareBelowOne = 0.0
    """`nmg adapt`: fraction of the blocks of every epoch that come from `general_corpus`."""
    terms: Annotated[str, NamedContent("data"), AfterValidator(_terms)] | None = None
    """`nmg adapt`: terms whose prediction in held-out text is measured before and after, from a file with one term per
    line. `auto:N` measures the N words that are most typical of the corpus."""

    @model_validator(mode="after")
    def _has_text_to_replay(self) -> Self:
        if self.replay and self.general_corpus is None:
            raise ValueError("replay: needs general text. Set adapt.general_corpus to a file, or adapt.replay to 0.")
        return self

    @model_validator(mode="after")
    def _has_one_length(self) -> Self:
        given = [name for name in ("steps", "minutes") if getattr(self, name) is not None]
        if given and self.epochs != type(self).model_fields["epochs"].default:
            given.append("epochs")
        if len(given) > 1:
            raise ValueError(f"{given[0]}: give either {' or '.join(f'adapt.{name}' for name in given)}, not both")
        return self


class FinetuneSettings(OptimiserSettings):
    """Settings of fine-tuning on the task."""

    epochs: CountOrZero = 5
    """Number of passes through the training examples."""
    batch_size: Count = 8
    """Number of model inputs per step."""
    learning_rate: Positive = 2e-5
    """Highest learning rate of the run."""
    max_length: Annotated[int, Field(ge=8, le=LARGEST_COUNT)] = 128
    """Maximum number of tokens of a task input, including special tokens."""
    stride: Count = 128
    """Number of tokens between the starts of consecutive windows of a long context; limited to half a window (question
    answering)."""
    max_question_length: Count = 64
    """Maximum number of question tokens; only the last tokens of a longer question are kept."""
    max_answer_length: Count = 30
    """Maximum number of tokens in a predicted answer."""
    f1_tokens: Literal["auto", "words", "characters"] = "auto"
    """Unit of exact match and F1 (question answering): `words` between spaces, as in SQuAD; `characters` for scripts
    without spaces, as in MLQA for Chinese; `auto` chooses `characters` if the passages are in such scripts."""
