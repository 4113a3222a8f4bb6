"""Interfaces of tasks. A `TaskKind` describes the data of a task and builds a `Task` for a tokenizer.

Generic code does not depend on the name of a task. Shape letters are defined in `tasks.rows`.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

from nmg.base.errors import UserError
from nmg.base.settings import DataSettings
from nmg.base.training_settings import FinetuneSettings
from nmg.base.types import Example, FloatArray
from nmg.tasks.rows import TaskFeatures

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

AnyExample = TypeVar("AnyExample")


@dataclass(frozen=True)
class Evaluation:
    """Scores of a task model.

    Every score except `loss` is at most 1, and tables show it times 100. `loss` is in nats for labels and a squared
    error for numbers.
    """

    scores: Mapping[str, float]
    """Metric name → score; higher is better for every metric except `loss`, which is always included."""
    example_scores: Mapping[str, FloatArray]
    """Metric name → float [E], for metrics that are means over examples."""
    predictions: Mapping[str, str]
    """Id of an example → predicted label or answer."""


class Task(Protocol):
    """Defines how examples become model inputs, which model reads them, and how its outputs are scored."""

    default_metric: str
    """The score that players are compared by."""
    reward_metrics: tuple[str, ...]
    """Scores that players may be compared by and that tables do not show."""
    table_metrics: tuple[str, ...]
    """The scores in tables, the most informative first."""
    outputs: tuple[str, ...]
    """Names of the model outputs that `evaluate` reads."""
    outputs_are_per_token: bool
    """Whether outputs have the shape [F, T, ...]; otherwise it is [F, ...]."""

    def encode(self, examples: Sequence[Example]) -> TaskFeatures:
        """Encode each example as one or more rows, in the order of the examples.

        Raises UserError for an example that cannot be encoded.
        """
        ...

    def without_tokens(self, examples: Sequence[Example], /) -> Sequence[Example]:
        """Return the examples that cannot be encoded because the tokenizer produces no tokens for their text."""
        ...

    def remarks(self, name: str, examples: Sequence[Example], /) -> list[str]:
        """Return messages about the examples of a file that users should see before training.

        `name` is the setting that names the file: `data.train`, `data.validation` or `data.test`.
        """
        ...

    def new_model(self, config: "PreTrainedConfig", *, trust_remote_code: bool = False) -> "PreTrainedModel":
        """Create a float32 model with a head for the task, with weights drawn from torch's global generator.

        `config` describes the encoder and is not changed. `trust_remote_code`: whether to use the class that comes with
        the encoder, if it has one.
        """
        ...

    def evaluate(
        self, outputs: Mapping[str, Tensor], features: TaskFeatures, examples: Sequence[Example]
    ) -> Evaluation:
        """Score the outputs for all rows.

        Args:
            outputs: Output name → float32 on the CPU, in row order. Outputs per token are −inf after the end of a row.
            features: The encoding of `examples`.
            examples: The examples to score.

        Returns:
            The scores and predictions.
        """
        ...


Reader: TypeAlias = Callable[[Path, DataSettings, Sequence[Example] | None], Sequence[Example]]
"""Function from (path, settings, training examples) to the examples of the file, with `context_id` −1.

The settings name the fields. The training examples are None if they are what is read.
"""
Writer: TypeAlias = Callable[[Sequence[Any], Path, DataSettings], None]
"""Function of (examples, path, settings) that writes a file with the field names of the settings."""


@dataclass(frozen=True)
class Format:
    """A format of a task's files, for one file extension, plain or compressed (.gz)."""

    name: str
    """Description of the format for users."""
    read: Reader
    write: Writer | None = None
    """Function that writes such files; None if they can only be read."""
    needs_task: bool = False
    """Whether the task must be named to read such a file, because the extension usually means something else."""


@dataclass(frozen=True)
class TaskKind:
    """A kind of task: its data formats, its labels, and functions that need no tokenizer or receive one."""

    name: str
    formats: Mapping[str, Format]
    """File extension → format."""
    formats_text: str
    """The accepted file extensions, as text for users."""
    owns: Callable[[Mapping[str, Any]], bool]
    """Whether a file belongs to this task, by its first record. Used if several tasks accept the file extension.

    If none of those tasks owns the file, it belongs to the first of them in the registry.
    """
    check_train: Callable[[Sequence[Example], DataSettings], None]
    """Function of (training examples, settings). Raises UserError if the examples cannot be a complete training set."""
    label_of: Callable[[Example], str | None]
    """Function from an example to the label by which few-shot samples are balanced; None for no label."""
    few_labels: str
    """The field of `DataSettings` that holds the number of labelled examples."""
    few_labels_text: str
    """Text to append to "n labelled examples", such as " of each class", or an empty string."""
    build: Callable[["PreTrainedTokenizerBase", Sequence[Example], FinetuneSettings], Task]
    """Function of (tokenizer, training examples, settings) that builds the task.

    Raises UserError if `finetune.max_length` is too small for the task.
    """
    relevance: Callable[["PreTrainedTokenizerBase", Sequence[Any]], FloatArray]
    """Function of (tokenizer, training examples): how informative each token is, float [V]; 0 for not informative."""
    describe: Callable[[Sequence[Any]], list[tuple[str, str]]]
    """Function from examples to the (name, value) pairs that `nmg data describe` shows besides their number."""
    loss_unit: str = "nats"
    """Unit of the score `loss`."""
    is_trained: bool = True
    """Whether a model is trained for the task. If not, `Task.evaluate` takes `embedding`, float64 [F, D]: one embedding
    of each row."""
    doubts: Callable[[Sequence[Any]], list[str]] = lambda _examples: []
    """Function from examples to sentences on why they are probably not what the user intended (`data.plausibility`)."""


def only(kind: type[AnyExample], examples: Sequence[Any]) -> list[AnyExample]:
    """Return `examples` as a list of `kind`; raise TypeError if one has another type."""
    chosen = [example for example in examples if isinstance(example, kind)]
    if len(chosen) != len(examples):
        raise TypeError(f"expected only examples of type {kind.__name__}")
    return chosen


def model_with_head(
    auto_class: Any, config: "PreTrainedConfig", *, trust_remote_code: bool, **changes: Any
) -> "PreTrainedModel":
    """Create a new float32 model with a task head.

    Args:
        auto_class: An auto class of transformers.
        config: The configuration of the encoder; it is not changed.
        trust_remote_code: Whether to use a class that comes with the checkpoint.
        **changes: Attributes to set in a copy of `config`.

    Returns:
        The model, with random weights.

    Raises:
        UserError: If transformers has no such head for this type of model.
    """
    config = copy.deepcopy(config)
    for name, value in changes.items():
        setattr(config, name, value)
    try:
        # Mixed precision keeps float32 weights, whatever the dtype of the checkpoint.
        return auto_class.from_config(config, dtype=torch.float32, trust_remote_code=trust_remote_code)
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        raise UserError(
            f"model.name: a model of type '{config.model_type}' does not support this task (no {auto_class.__name__}). "
            "Choose another model or another data.task."
        ) from error
