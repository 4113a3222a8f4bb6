"""Multi-label classification of texts, or of pairs of texts: any number of labels per text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nmg.base.errors import UserError, bad_input
from nmg.base.settings import DataSettings
from nmg.base.training_settings import FinetuneSettings
from nmg.base.types import BoolArray, Example, FloatArray
from nmg.data.formats.hub import HUB
from nmg.data.formats.labelled_texts import TextFields
from nmg.data.formats.multi_label import SEPARATOR, MultiLabelExample, read_multi_label, write_multi_label
from nmg.data.framing import vocabulary_size
from nmg.tasks.base import Evaluation, Format, TaskKind, only
from nmg.tasks.rows import TaskFeatures
from nmg.tasks.texts import PRIOR_TEXTS, TextTask, encode_texts, token_sets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class MultiLabelTask(TextTask):
    """Decides for each label whether a text has it: at a probability above 0.5."""

    default_metric = "micro_f1"
    reward_metrics: tuple[str, ...] = ()
    table_metrics: tuple[str, ...] = ("micro_f1", "macro_f1", "subset_accuracy", "loss")
    problem_type = "multi_label_classification"

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", labels: Sequence[str], settings: FinetuneSettings) -> None:
        if not labels:
            raise UserError("multi-label classification needs a training example with a label")
        super().__init__(tokenizer, labels, settings)

    def encode(self, examples: Sequence[Example]) -> TaskFeatures:
        """Encode one row per example, truncated to `max_length`. Raises UserError for a label not seen in training."""
        chosen = only(MultiLabelExample, examples)
        targets = np.zeros((len(chosen), len(self.labels)))
        for row, example in zip(targets, chosen, strict=True):
            for label in example.labels:
                row[self._label_index(example.id, label)] = 1.0
        return encode_texts(self._tokenizer, chosen, self._max_length, targets)

    def evaluate(
        self, outputs: Mapping[str, Tensor], features: TaskFeatures, examples: Sequence[Example]
    ) -> Evaluation:
        """Score the outputs.

        Args:
            outputs: `logits`, float32 [F, C] on the CPU, in row order.
            features: The encoding of `examples`.
            examples: The examples to score.

        Returns:
            The scores and predictions. `subset_accuracy` is the fraction of texts whose labels are all correct. `loss`
            is the mean negative log-likelihood of the decisions on all labels, in nats. `example_scores` has both.
        """
        logits, gold = outputs["logits"].double(), torch.from_numpy(features.targets["labels"]).double()
        loss = F.binary_cross_entropy_with_logits(logits, gold, reduction="none").mean(dim=1).numpy()
        is_gold, is_predicted = gold.numpy() > 0.5, logits.numpy() > 0
        is_correct = (is_gold == is_predicted).all(axis=1).astype(np.float64)
        micro_f1, macro_f1 = multi_label_f1(is_gold, is_predicted)
        names = np.array(self.labels, dtype=object)
        return Evaluation(
            scores={
                "micro_f1": micro_f1,
                "macro_f1": macro_f1,
                "subset_accuracy": float(is_correct.mean()),
                "loss": float(loss.mean()),
            },
            example_scores={"subset_accuracy": is_correct, "loss": loss},
            predictions={e.id: SEPARATOR.join(names[row]) for e, row in zip(examples, is_predicted, strict=True)},
        )


def multi_label_f1(is_gold: BoolArray, is_predicted: BoolArray) -> tuple[float, float]:
    """Return micro F1 and macro F1, as in scikit-learn with `zero_division=0`.

    F1 of a label is 2·TP / (2·TP + FP + FN), and 0 if the label is neither gold nor predicted for any text. Macro F1 is
    its mean over all labels. Micro F1 first sums TP, FP and FN over all labels.

    Args:
        is_gold: bool [E, C]: whether the text has the label.
        is_predicted: bool [E, C]: whether the model says so.

    Returns:
        Micro F1 and macro F1, from 0 to 1.
    """
    hits = (is_gold & is_predicted).sum(axis=0)
    occurrences = is_gold.sum(axis=0) + is_predicted.sum(axis=0)  # 2·TP + FP + FN
    macro = np.mean(2 * hits / np.maximum(occurrences, 1))
    return float(2 * hits.sum() / max(occurrences.sum(), 1)), float(macro)


def token_relevance(tokenizer: "PreTrainedTokenizerBase", examples: Sequence[MultiLabelExample]) -> FloatArray:
    """Return float [V]: KL divergence (nats) of the labels of texts with a token from the labels of all texts.

    It is the sum over labels of the divergence of p(label | token) from p(label). Each token counts once per text.
    Probabilities are smoothed by `PRIOR_TEXTS`.
    """
    index = {label: number for number, label in enumerate(label_set(examples))}
    n_texts = np.zeros(vocabulary_size(tokenizer))
    counts = np.zeros((len(n_texts), len(index)))
    overall = np.zeros(len(index))
    for example, ids in zip(examples, token_sets(tokenizer, examples), strict=True):
        columns = [index[label] for label in example.labels]
        overall[columns] += 1 / len(examples)
        n_texts[ids] += 1
        counts[np.ix_(ids, columns)] += 1
    varies = (overall > 0) & (overall < 1)  # a label of all texts, or of none, says nothing
    counts, overall = counts[:, varies], overall[varies]
    share = (counts + PRIOR_TEXTS * overall) / (n_texts[:, None] + PRIOR_TEXTS)
    relevance: FloatArray = (share * np.log(share / overall) + (1 - share) * np.log((1 - share) / (1 - overall))).sum(
        axis=1
    )
    return relevance


def label_set(examples: Sequence[Example]) -> tuple[str, ...]:
    """Return all labels of the training file that the examples come from, sorted."""
    chosen = only(MultiLabelExample, examples)
    return tuple(sorted({label for example in chosen for label in (*example.label_set, *example.labels)}))


def _fields(settings: DataSettings) -> TextFields:
    return TextFields(settings.text_field, settings.label_field, settings.pair_field)


def _read(path: Path, settings: DataSettings, train: Sequence[Example] | None) -> Sequence[Example]:
    return read_multi_label(path, _fields(settings), None if train is None else label_set(train))


def _check_train(examples: Sequence[Example], settings: DataSettings) -> None:
    if not label_set(examples):
        raise bad_input(str(settings.train), "no example has a label", field=settings.label_field)


def _describe(examples: Sequence[MultiLabelExample]) -> list[tuple[str, str]]:
    counts = Counter(label for example in examples for label in example.labels)
    shares = (f"{label}: {count} ({count / len(examples):.1%})" for label, count in counts.most_common())
    per_text = sum(counts.values()) / len(examples)
    n_empty = sum(not example.labels for example in examples)
    first = examples[0]
    texts = first.text if first.pair is None else f"{first.text}\n+ {first.pair}"
    return [
        (f"{len(counts)} labels", "\n".join(shares) or "none"),
        ("labels per text", f"{per_text:.2f} ({n_empty} texts without a label)"),
        ("sample", f"{texts}\n= {', '.join(first.labels) or '(no label)'}"),
    ]


def _owns(record: Mapping[str, object]) -> bool:
    lists = [value for value in record.values() if isinstance(value, list)]
    return len(lists) == 1 and all(isinstance(label, str | int) for label in lists[0])


_TABLE = Format("texts with lists of labels", _read, lambda rows, path, it: write_multi_label(rows, path, _fields(it)))
_CELLS = Format("texts with labels separated by |", _TABLE.read, _TABLE.write, needs_task=True)
_ROWS = Format("texts with lists of labels", _read)
MULTI_LABEL = TaskKind(
    name="multi-label",
    formats={".jsonl": _TABLE, ".json": _ROWS, ".csv": _CELLS, ".tsv": _CELLS, ".parquet": _ROWS, HUB: _ROWS},
    formats_text=".jsonl, .json, .csv, .tsv or .parquet",
    owns=_owns,
    check_train=_check_train,
    label_of=lambda _example: None,
    few_labels="labelled_examples",
    few_labels_text="",
    build=lambda tokenizer, examples, settings: MultiLabelTask(tokenizer, label_set(examples), settings),
    relevance=token_relevance,
    describe=_describe,
)
"""Texts or pairs of texts with any number of labels, in lists or in tables."""
