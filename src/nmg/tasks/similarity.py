"""Similarity: ranks pairs of texts by the cosine of their embeddings. Nothing is trained on the numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from nmg.base.errors import bad_input
from nmg.base.settings import DataSettings
from nmg.base.training_settings import FinetuneSettings
from nmg.base.types import Example, FloatArray
from nmg.data.formats.regression import RegressionExample
from nmg.tasks.base import Evaluation, Format, only
from nmg.tasks.regression import REGRESSION, numbers_of, pearson, spearman
from nmg.tasks.rows import RowBuilder, TaskFeatures

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


class SimilarityTask:
    """Scores how well cosines of embeddings agree with the numbers of pairs. Each pair has two rows, one per text."""

    default_metric = "spearman"
    reward_metrics: tuple[str, ...] = ()
    table_metrics: tuple[str, ...] = ("spearman", "pearson", "loss")
    outputs: tuple[str, ...] = ("embedding",)
    outputs_are_per_token = False

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", settings: FinetuneSettings) -> None:
        self._tokenizer = tokenizer
        self._max_length = settings.max_length

    def encode(self, examples: Sequence[Example]) -> TaskFeatures:
        """Encode two rows per example, its first and its second text, each truncated to `max_length`."""
        builder = RowBuilder(self._tokenizer)
        chosen = only(RegressionExample, examples)
        if chosen:
            encoded = self._tokenizer(
                [text for one in chosen for text in (one.text, one.pair or "")],
                truncation=True,
                max_length=self._max_length,
                padding=False,
                return_token_type_ids=True,
            )
            for input_ids, token_types in zip(encoded["input_ids"], encoded["token_type_ids"], strict=True):
                builder.add(input_ids, token_types)
        targets = {"labels": np.repeat(numbers_of(chosen), 2)}
        return TaskFeatures(builder.lengths, np.repeat(np.arange(len(chosen)), 2), builder.tokens, targets)

    def without_tokens(self, _examples: Sequence[Example], /) -> Sequence[Example]:
        """Return an empty sequence, because a text without tokens still has special tokens."""
        return ()

    def remarks(self, name: str, examples: Sequence[Example], /) -> list[str]:
        """Return a warning if all pairs of a file have the same number."""
        if not len(examples) or np.ptp(numbers_of(examples)) > 0:
            return []
        return [f"warning: {name}: all pairs have the same number, so every correlation is 0"]

    def new_model(self, config: "PreTrainedConfig", *, trust_remote_code: bool = False) -> "PreTrainedModel":  # noqa: ARG002
        """Raise TypeError, because the task reads embeddings of the LM's encoder itself."""
        raise TypeError("the task 'similarity' trains no model")

    def evaluate(
        self, outputs: Mapping[str, Tensor], features: TaskFeatures, examples: Sequence[Example]
    ) -> Evaluation:
        """Score the embeddings.

        Args:
            outputs: `embedding`, float64 [F, D] on the CPU: the first and the second text of each pair in turn.
            features: The encoding of `examples`.
            examples: The pairs to score.

        Returns:
            Correlations of cosines and numbers, both 0 if either is constant. `loss` is the mean squared difference of
            both, each standardised over `examples`: 2 (1 − Pearson's correlation). The predictions are cosines.
            `example_scores` has `loss`.
        """
        first, second = outputs["embedding"][0::2], outputs["embedding"][1::2]
        cosines: FloatArray = F.cosine_similarity(first, second, dim=1).numpy()
        gold = np.asarray(features.targets["labels"][0::2], dtype=np.float64)
        loss = np.square(_standardised(cosines) - _standardised(gold))
        return Evaluation(
            scores={
                "spearman": spearman(gold, cosines),
                "pearson": pearson(gold, cosines),
                "loss": float(loss.mean()),
            },
            example_scores={"loss": loss},
            predictions={one.id: f"{cosine:.6g}" for one, cosine in zip(examples, cosines, strict=True)},
        )


def _standardised(values: FloatArray) -> FloatArray:
    """Return values with mean 0 and standard deviation 1; zeros if all are equal."""
    centred: FloatArray = values - values.mean()
    return centred / values.std() if np.ptp(values) > 0 else centred * 0.0


def _with_pairs(found: Format) -> Format:
    """Return a format of `REGRESSION` that requires pairs."""

    def read(path: Path, settings: DataSettings, train: Sequence[Example] | None) -> Sequence[Example]:
        if settings.pair_field is None:
            problem = "similarity compares two texts. Name the field of the second one (data.pair_field)."
            raise bad_input(path, problem, field="data.pair_field")
        return found.read(path, settings, train)

    return replace(found, name="pairs of texts with numbers", read=read)


SIMILARITY = replace(
    REGRESSION,
    name="similarity",
    formats={ending: _with_pairs(found) for ending, found in REGRESSION.formats.items()},
    build=lambda tokenizer, _train, settings: SimilarityTask(tokenizer, settings),
    is_trained=False,
)
"""Pairs of texts with a number, in the files of `regression`."""
