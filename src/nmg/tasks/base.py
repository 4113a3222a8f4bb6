"""What a task is: a kind, which owns all facts about its data, and the task that a kind makes for a tokenizer.

Generic code knows no task's name. Shape letters as in `tasks.rows`.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

from nmg.errors import UserError
from nmg.settings import DataSettings, FinetuneSettings
from nmg.tasks.rows import TaskFeatures
from nmg.types import Example, FloatArray

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

AnyExample = TypeVar("AnyExample")


@dataclass(frozen=True)
class Evaluation:
    """Scores of a task model. All are shares from 0 to 1, but `loss`; tables show them times 100."""

    scores: Mapping[str, float]
    """metric name → score; for every metric more is better, except `loss`, which is always there"""
    example_scores: Mapping[str, FloatArray]
    """metric name → [E], where the metric is a mean over examples"""
    predictions: Mapping[str, str]
    """id of the example → predicted label or answer"""


@dataclass(frozen=True)
class Dropped:
    """What a tokenizer drops of examples, if the task cannot do without it."""

    examples: Sequence[Example] = ()
    """examples of whose text no token is left: they cannot be encoded"""
    note: str = ""
    """a sentence on what no model can reach because of it; empty if there is nothing to say"""


class Task(Protocol):
    """A way to use an encoder: how examples become model inputs, which model takes them, what its outputs score."""

    default_metric: str
    """the score that players are compared by"""
    reward_metrics: tuple[str, ...]
    """scores that players may be compared by and tables do not show"""
    table_metrics: tuple[str, ...]
    """the scores that tables show, the most telling first"""
    outputs: tuple[str, ...]
    """the outputs of the model that `evaluate` reads"""
    outputs_are_per_token: bool
    """whether they are [F, T, ...], else [F, ...]"""

    def encode(self, examples: Sequence[Example]) -> TaskFeatures:
        """Every example has at least one row; rows keep the examples' order. UserError for an example that cannot be
        encoded."""
        ...

    def dropped(self, examples: Sequence[Example]) -> Dropped:
        """What the tokenizer drops of the examples; nothing if the task works without it."""
        ...

    def remarks(self, name: str, examples: Sequence[Example], /) -> list[str]:
        """What users should know of the examples of a file before any training, a sentence each.

        `name`: the setting that names the file, `data.train`, `data.validation` or `data.test`.
        """
        ...

    def new_model(self, config: "PreTrainedConfig", *, trust_remote_code: bool = False) -> "PreTrainedModel":
        """A float32 model of transformers' own class for the encoder `config` describes (which stays as it is);
        every weight is drawn from torch's generator. `trust_remote_code`: of the class that comes with the encoder,
        where it has one."""
        ...

    def evaluate(
        self, outputs: Mapping[str, Tensor], features: TaskFeatures, examples: Sequence[Example]
    ) -> Evaluation:
        """Scores of the outputs for all rows of `features`, the encoding of `examples`, in row order.

        `outputs`: float32 on the CPU, −inf after a row's length where they have a number a token.
        """
        ...


Reader: TypeAlias = Callable[[Path, DataSettings, Sequence[Example] | None], Sequence[Example]]
"""file, names of fields, training examples where the file holds others → examples, every `context_id` -1"""
Writer: TypeAlias = Callable[[Sequence[Any], Path, DataSettings], None]


@dataclass(frozen=True)
class Format:
    """How a task's examples stand in files of one ending, plain or packed (.gz)."""

    name: str
    read: Reader
    write: Writer | None = None
    """None: such files are only read"""
    needs_task: bool = False
    """whether such a file is read only if the task is named: its ending says more of other files"""


@dataclass(frozen=True)
class TaskKind:
    """A task before there is a tokenizer: all that the rest of the program asks of its data."""

    name: str
    formats: Mapping[str, Format]
    """ending → format"""
    formats_text: str
    """what a file may end in, for people"""
    owns: Callable[[Mapping[str, Any]], bool]
    """whether a file whose ending several tasks know is this task's, by its first record; what no task owns is that of
    the first in the registry"""
    check_train: Callable[[Sequence[Example], DataSettings], None]
    """Raises UserError where these cannot be all the training examples."""
    label_of: Callable[[Example], str | None]
    """by what few-shot samples are balanced; None where examples have no label"""
    few_labels: str
    """the field of `DataSettings` that "n labelled examples" sets"""
    few_labels_text: str
    """what stands after "n labelled examples": of each class, or nothing"""
    build: Callable[["PreTrainedTokenizerBase", Sequence[Example], FinetuneSettings], Task]
    """Make the task for a tokenizer, its training examples and settings. Raises UserError for settings without room."""
    relevance: Callable[["PreTrainedTokenizerBase", Sequence[Any]], FloatArray]
    """[V] how much each token of the tokenizer tells of the task, from these training examples; 0: nothing"""
    describe: Callable[[Sequence[Any]], list[tuple[str, str]]]
    """(name, value) of what `nmg data describe` shows of examples beside their number and passages"""
    doubts: Callable[[Sequence[Any]], list[str]] = lambda _examples: []
    """sentences that say why examples, which were read, are probably not what was meant (`data.plausibility`)"""


def only(kind: type[AnyExample], examples: Sequence[Any]) -> list[AnyExample]:
    """`examples` as a list of `kind`; TypeError if one is of another kind."""
    chosen = [example for example in examples if isinstance(example, kind)]
    if len(chosen) != len(examples):
        raise TypeError(f"expected only {kind.__name__}")
    return chosen


def model_with_head(
    auto_class: Any, config: "PreTrainedConfig", *, trust_remote_code: bool, **changes: Any
) -> "PreTrainedModel":
    """A new float32 model of `auto_class` (of transformers) for a copy of `config` with `changes` made."""
    config = copy.deepcopy(config)
    for name, value in changes.items():
        setattr(config, name, value)
    try:
        # Mixed precision keeps its weights in float32, whatever the checkpoint was stored in.
        return auto_class.from_config(config, dtype=torch.float32, trust_remote_code=trust_remote_code)
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        raise UserError(
            f"model.name: a model of type '{config.model_type}' cannot do this task (no {auto_class.__name__}); choose "
            "another model, or another data.task"
        ) from error
