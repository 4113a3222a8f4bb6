"""Classification of texts, or of pairs of texts, with one row per example."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from nmg.base.errors import UserError, bad_input
from nmg.base.settings import DataSettings
from nmg.base.training_settings import FinetuneSettings
from nmg.base.types import Example, FloatArray, IntArray
from nmg.data.formats.classification import (
    ClassificationExample,
    read_classification,
    read_label_folders,
    write_classification,
)
from nmg.data.formats.hub import HUB
from nmg.data.framing import vocabulary_size
from nmg.data.plausibility import label_doubts
from nmg.tasks.base import Evaluation, Format, TaskKind, only
from nmg.tasks.rows import TaskFeatures
from nmg.tasks.texts import PRIOR_TEXTS, TextTask, encode_texts, token_sets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ClassificationTask(TextTask):
    """Predicts one of several labels for each text.

    Players are compared by `accuracy`. `micro_f1` equals it if every text has one label. Both are reported because
    publications report one or the other; `macro_f1` shows the effect of rare labels.
    """

    default_metric = "accuracy"
    reward_metrics: tuple[str, ...] = ()
    table_metrics: tuple[str, ...] = ("accuracy", "micro_f1", "macro_f1", "loss")
    problem_type = "single_label_classification"

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", labels: Sequence[str], settings: FinetuneSettings) -> None:
        if len(set(labels)) < 2:
            raise UserError(f"classification needs training examples of at least two labels (found: {list(labels)})")
        super().__init__(tokenizer, labels, settings)

    def encode(self, examples: Sequence[Example]) -> TaskFeatures:
        """Encode one row per example, truncated to `max_length`. Raises UserError for a label not seen in training."""
        chosen = only(ClassificationExample, examples)
        labels = np.array([self._label_index(e.id, e.label) for e in chosen], dtype=np.int64)
        return encode_texts(self._tokenizer, chosen, self._max_length, labels)

    def evaluate(
        self, outputs: Mapping[str, Tensor], features: TaskFeatures, examples: Sequence[Example]
    ) -> Evaluation:
        """Score the outputs.

        Args:
            outputs: `logits`, float32 [F, C] on the CPU, in row order.
            features: The encoding of `examples`.
            examples: The examples to score.

        Returns:
            The scores and predictions. `loss` is the mean negative log-likelihood of the gold labels, in nats.
            `example_scores` contains `accuracy` and `loss`.
        """
        log_probs = outputs["logits"].double().log_softmax(dim=1).numpy()
        gold, predicted = features.targets["labels"].astype(np.int64), log_probs.argmax(axis=1)
        accuracy = (predicted == gold).astype(np.float64)
        loss = -log_probs[np.arange(len(gold)), gold]
        micro_f1, macro_f1 = f1_scores(gold, predicted, len(self.labels))
        return Evaluation(
            scores={
                "accuracy": float(accuracy.mean()),
                "micro_f1": micro_f1,
                "macro_f1": macro_f1,
                "loss": float(loss.mean()),
            },
            example_scores={"accuracy": accuracy, "loss": loss},
            predictions={e.id: self.labels[label] for e, label in zip(examples, predicted, strict=True)},
        )


def f1_scores(gold: IntArray, predicted: IntArray, n_classes: int) -> tuple[float, float]:
    """Return micro F1 and macro F1.

    F1 of a class is 2·TP / (2·TP + FP + FN). Macro F1 is its mean over the classes that occur in `gold` or `predicted`
    (as in scikit-learn by default). Micro F1 first sums TP, FP and FN over all classes.

    Args:
        gold: int64 [E]: indices of the gold labels.
        predicted: int64 [E]: indices of the predicted labels.
        n_classes: Number of classes.

    Returns:
        Micro F1 and macro F1, from 0 to 1.
    """
    true_positives = np.bincount(gold[gold == predicted], minlength=n_classes)
    occurrences = np.bincount(gold, minlength=n_classes) + np.bincount(predicted, minlength=n_classes)
    occurs = occurrences > 0  # 2·TP + FP + FN
    macro = np.mean(2 * true_positives[occurs] / occurrences[occurs])
    return float(2 * true_positives.sum() / occurrences.sum()), float(macro)


def _read(path: Path, settings: DataSettings, train: Sequence[Example] | None) -> Sequence[Example]:
    known = None if train is None else labels(train)
    return read_classification(path, settings.text_field, settings.label_field, known, settings.pair_field)


def _write(examples: Sequence[ClassificationExample], path: Path, settings: DataSettings) -> None:
    write_classification(examples, path, settings.text_field, settings.label_field, settings.pair_field)


def labels(examples: Sequence[Example]) -> list[str]:
    """Return the distinct labels, sorted."""
    return sorted({example.label for example in only(ClassificationExample, examples)})


def _check_train(examples: Sequence[Example], settings: DataSettings) -> None:
    found = labels(examples)
    if len(found) < 2:
        problem = f"classification needs at least two labels, but all examples have '{found[0]}'"
        raise bad_input(str(settings.train), problem, field=settings.label_field)


def _describe(examples: Sequence[ClassificationExample]) -> list[tuple[str, str]]:
    counts = Counter(example.label for example in examples)
    shares = (f"{label}: {count} ({count / len(examples):.1%})" for label, count in counts.most_common())
    first = examples[0]
    texts = first.text if first.pair is None else f"{first.text}\n+ {first.pair}"
    return [(f"{len(counts)} labels", "\n".join(shares)), ("sample", f"{texts}\n= {first.label}")]


def token_relevance(tokenizer: "PreTrainedTokenizerBase", examples: Sequence[ClassificationExample]) -> FloatArray:
    """Return float [V]: KL divergence (nats) of the labels of texts with a token from the labels of all texts.

    It is Σ p(label | token) ln(p(label | token) / p(label)). Each token counts once per text. Probabilities are
    smoothed by `PRIOR_TEXTS`.
    """
    names = {label: number for number, label in enumerate(labels(examples))}
    counts = np.zeros((vocabulary_size(tokenizer), len(names)))
    for example, ids in zip(examples, token_sets(tokenizer, examples), strict=True):
        counts[ids, names[example.label]] += 1
    overall = np.bincount([names[example.label] for example in examples], minlength=len(names)) / len(examples)
    share = (counts + PRIOR_TEXTS * overall) / (counts.sum(axis=1, keepdims=True) + PRIOR_TEXTS)
    relevance: FloatArray = (share * np.log(share / overall)).sum(axis=1)
    return relevance


_TABLE = Format("labelled texts", _read, _write)
_ROWS = Format("labelled texts", _read)
_FOLDERS = Format(
    "a folder of texts for each label",
    lambda path, _, train: read_label_folders(path, None if train is None else labels(train)),
)
CLASSIFICATION = TaskKind(
    name="classification",
    formats={
        **{".jsonl": _TABLE, ".json": _ROWS, ".csv": _TABLE, ".tsv": _TABLE, ".parquet": _ROWS},
        **{"/": _FOLDERS, HUB: _ROWS},
    },
    formats_text=".jsonl, .json, .csv, .tsv or .parquet, or be a folder of folders",
    owns=lambda _record: False,
    check_train=_check_train,
    label_of=lambda example: only(ClassificationExample, [example])[0].label,
    few_labels="labelled_per_class",
    few_labels_text=" of each class",
    build=lambda tokenizer, examples, settings: ClassificationTask(tokenizer, labels(examples), settings),
    relevance=token_relevance,
    describe=_describe,
    doubts=lambda examples: label_doubts([example.label for example in examples]),
)
