"""Messages shown before training on question answering: limits of the scores, and how answers are compared."""

from collections.abc import Sequence

import numpy as np
import torch

from nmg.base.training_settings import FinetuneSettings
from nmg.data.formats.questions import QAExample
from nmg.data.words import has_no_spaces
from nmg.tasks.base import Task
from nmg.tasks.rows import TaskFeatures

MOST = 1000
"""Maximum number of answers per file that are checked, evenly spaced in the file."""
LEAST_SHARE = 0.99
"""Minimum fraction of answers that must be reproduced exactly; the user is warned if the fraction is lower."""
SHOWN = 3
"""Maximum number of answers in a message."""


def without_answer(name: str, examples: Sequence[QAExample]) -> list[str]:
    """Return a warning about questions without an answer, which score 0 if the task cannot abstain; or []."""
    n_missing = sum(not example.answers for example in examples)
    if not n_missing:
        return []
    return [
        f"warning: {name}: {n_missing} of {len(examples)} questions have no answer, but every training question has "
        "one. So the model cannot abstain, and these questions score 0. Remove them from the file, or add questions "
        "without an answer to data.train."
    ]


def on_characters(name: str, examples: Sequence[QAExample], settings: FinetuneSettings) -> list[str]:
    """Return a message about questions that are or should be compared by characters.

    Args:
        name: The setting that names the file.
        examples: All questions of the file.
        settings: The unit of F1 (`f1_tokens`).

    Returns:
        One sentence, or an empty list if all passages have spaces or `f1_tokens` is already "characters".
    """
    is_unspaced = {context: has_no_spaces(context) for context in {example.context for example in examples}}
    n_unspaced = sum(is_unspaced[example.context] for example in examples)
    if not n_unspaced or settings.f1_tokens == "characters":
        return []
    found = f"{name}: {n_unspaced} of {len(examples)} questions are on passages without spaces between words"
    if settings.f1_tokens == "auto":
        return [
            f"{found}. For these questions, exact match and F1 compare characters, as MLQA does (finetune.f1_tokens)."
        ]
    advice = "Set --finetune.f1_tokens auto to compare characters."
    return [f"warning: {found}. For these questions, F1 by words equals exact match. {advice}"]


def read_back(name: str, examples: Sequence[QAExample], task: Task, settings: FinetuneSettings) -> list[str]:
    """Find gold answers that a perfect model could not predict, by decoding perfect logits.

    Args:
        name: The setting that names the file.
        examples: All questions of the file.
        task: The task that encodes and scores the questions, with the targets `start_positions` and `end_positions`.
        settings: Limits that may truncate an answer.

    Returns:
        One sentence with samples, or an empty list if enough answers are reproduced.
    """
    answered = [example for example in examples if example.answers]
    chosen = answered[:: -(-len(answered) // MOST)] if answered else []
    if not chosen:
        return []
    features = task.encode(chosen)
    evaluation = task.evaluate(
        {f"{end}_logits": _perfect(features, f"{end}_positions") for end in ("start", "end")}, features, chosen
    )
    is_exact = evaluation.example_scores["exact_match"] == 1
    if is_exact.mean() >= LEAST_SHARE:
        return []
    lost = [example for example, exact in zip(chosen, is_exact, strict=True) if not exact]
    pairs = [f"{_short(e.answers[0])} becomes {_short(evaluation.predictions[e.id])}" for e in lost[:SHOWN]]
    return [
        f"warning: {name}: this model's tokens reproduce {is_exact.mean():.1%} of {len(chosen)} gold answers exactly, "
        f"and no exact match can be higher. For example, {'; '.join(pairs)}. Choose a model with another tokenizer, "
        f"correct the answers, or raise finetune.max_answer_length ({settings.max_answer_length}) if they are long."
    ]


def _perfect(features: TaskFeatures, target: str) -> torch.Tensor:
    """Return float32 [F, T]: 1 at the target of each row, else 0; −inf after the end of the row."""
    columns = np.arange(features.lengths.max())
    logits = (columns == features.targets[target][:, None]).astype(np.float32)
    return torch.from_numpy(np.where(columns < features.lengths[:, None], logits, -np.inf).astype(np.float32))


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:40]} … {text[-15:]}")
