"""Extractive question answering as in SQuAD: an answer is a span of its context.

The rules are those of SQuAD 2.0 if a training question has no answer, and those of SQuAD 1.1 otherwise. A row is a
window `[CLS] question [SEP] piece of the context [SEP]` (or the tokenizer's template). A context too long for one row
gives several windows. The step between them is `stride` tokens, or half a window if that is less.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nmg.base.errors import UserError
from nmg.base.training_settings import FinetuneSettings
from nmg.base.types import Example, FloatArray, IntArray
from nmg.data.formats.hub import HUB
from nmg.data.formats.mrqa import write_mrqa
from nmg.data.formats.newsqa import COLUMN as NEWSQA_COLUMN
from nmg.data.formats.newsqa import TOKENS_COLUMN
from nmg.data.formats.question_files import read_question_json, read_question_lines, read_question_table
from nmg.data.formats.question_rows import read_question_rows
from nmg.data.formats.questions import QAExample
from nmg.data.formats.squad import write_squad
from nmg.data.formats.subjqa import COLUMN as SUBJQA_COLUMN
from nmg.data.framing import vocabulary_size
from nmg.data.words import has_no_spaces
from nmg.tasks import qa_remarks
from nmg.tasks.base import Evaluation, Format, TaskKind, model_with_head, only
from nmg.tasks.frame import Frame
from nmg.tasks.offsets import mended_offsets
from nmg.tasks.qa_windows import QAFeatures, answer_tokens, gold_windows, score_index
from nmg.tasks.rows import RowBuilder, TaskFeatures
from nmg.tasks.spans import best_spans
from nmg.tasks.squad_metrics import Normalize, normalize_answer, normalize_characters, scores_1, scores_2

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


class QuestionAnsweringTask:
    """Predicts a span of the context, or no answer if `may_abstain`; `evaluate` explains the scores."""

    default_metric = "index_accuracy"
    reward_metrics: tuple[str, ...] = ("index_accuracy", "window_accuracy")
    table_metrics: tuple[str, ...] = ("f1", "exact_match", "loss")
    outputs: tuple[str, ...] = ("start_logits", "end_logits")
    outputs_are_per_token = True

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", settings: FinetuneSettings, may_abstain: bool = False
    ) -> None:
        self.may_abstain = may_abstain
        if may_abstain:
            self.table_metrics = ("f1", "exact_match", "answered_f1", "abstained", "loss")
        self._tokenizer = tokenizer
        self._settings = settings
        self._frame = Frame.of(tokenizer)
        if settings.max_length - settings.max_question_length - self._frame.n_special < 1:
            raise UserError(
                f"finetune.max_length {settings.max_length} leaves no room for the context: max_question_length is "
                f"{settings.max_question_length}, and there are {self._frame.n_special} special tokens. Raise "
                "max_length or lower max_question_length."
            )

    def encode(self, examples: Sequence[Example]) -> QAFeatures:
        """Encode each example as windows, from left to right."""
        chosen = only(QAExample, examples)
        questions = self._tokenize([example.question for example in chosen])
        contexts = self._tokenize([example.context for example in chosen])
        builder = RowBuilder(self._tokenizer)
        places: list[tuple[int, int, int, int]] = []
        for index, example in enumerate(chosen):
            # Keep the end of a long question, as in the original: it usually contains what is asked.
            question = questions[example.question].ids[-self._settings.max_question_length :]
            context = contexts[example.context].ids
            first_column = len(self._frame.before) + len(question) + len(self._frame.between)
            room = self._settings.max_length - self._frame.n_special - len(question)
            step = min(self._settings.stride, max(1, room // 2))
            # A window is needed only if the previous one did not reach the end.
            for start in range(0, max(1, len(context) - room + step), step):
                input_ids, token_types = self._frame.fill(question, context[start : start + room])
                builder.add(input_ids, token_types)
                places.append((index, start, first_column, self._cls_column(input_ids)))
        example_index, context_start, first_columns, cls_columns = np.array(places, dtype=np.int64).reshape(-1, 4).T

        lengths = builder.lengths
        context_columns = np.stack([first_columns, lengths - len(self._frame.after)], axis=1)
        offsets = [contexts[example.context].offsets for example in chosen]
        columns = answer_tokens(chosen, offsets)[example_index] + (first_columns - context_start)[:, None]
        is_inside = (columns[:, 0] >= context_columns[:, 0]) & (columns[:, 1] < context_columns[:, 1])
        columns = np.where(is_inside[:, None], columns, cls_columns[:, None])
        return QAFeatures(
            lengths=lengths,
            example_index=example_index,
            tokens=builder.tokens,
            targets={"start_positions": columns[:, 0], "end_positions": columns[:, 1]},
            context_columns=context_columns,
            context_start=context_start,
            is_answer_inside=is_inside,
            cls_columns=cls_columns,
            offsets=offsets,
        )

    def _tokenize(self, texts: Sequence[str]) -> dict[str, "_Tokens"]:
        """Return text → its tokens, without special tokens. Each distinct text is tokenized once."""
        distinct = list(dict.fromkeys(texts))
        if not distinct:
            return {}
        encoded = self._tokenizer(
            distinct,
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # no warning about contexts longer than the model's limit: they are split into windows
        )
        offsets = [np.array(spans, dtype=np.int64).reshape(-1, 2) for spans in encoded["offset_mapping"]]
        ids: list[list[int]] = encoded["input_ids"]
        texts_of_tokens: dict[int, str] = {}

        def surface(token: int) -> str:
            if token not in texts_of_tokens:
                texts_of_tokens[token] = self._tokenizer.decode([token]).strip().removeprefix("##")
            return texts_of_tokens[token]

        mended = [mended_offsets(*one, surface) for one in zip(distinct, ids, offsets, strict=True)]
        return dict(zip(distinct, map(_Tokens, ids, mended), strict=True))

    def _cls_column(self, input_ids: list[int]) -> int:
        """Return the column of the CLS token; 0 for tokenizers without one."""
        cls_token = self._tokenizer.cls_token_id
        return input_ids.index(cls_token) if cls_token in input_ids else 0

    def without_tokens(self, _examples: Sequence[Example], /) -> Sequence[Example]:
        """Return an empty sequence, because a text without tokens is a valid row."""
        return ()

    def new_model(self, config: "PreTrainedConfig", *, trust_remote_code: bool = False) -> "PreTrainedModel":
        from transformers import AutoModelForQuestionAnswering

        model = model_with_head(
            AutoModelForQuestionAnswering, config, trust_remote_code=trust_remote_code, num_labels=2
        )
        if "global_attention_mask" in signature(model.forward).parameters:
            end = self._frame.between[0] if self._frame.between else None
            model.register_forward_pre_hook(partial(_attend_to_question, end), with_kwargs=True)
        return model

    def remarks(self, name: str, examples: Sequence[Example], /) -> list[str]:
        """Return messages on unreachable answers, on questions without an answer, and on how answers are compared."""
        chosen = only(QAExample, examples)
        lines = qa_remarks.read_back(name, chosen, self, self._settings)
        if name != "data.train":
            lines += [] if self.may_abstain else qa_remarks.without_answer(name, chosen)
            lines += qa_remarks.on_characters(name, chosen, self._settings)
        return lines

    def evaluate(
        self, outputs: Mapping[str, Tensor], features: TaskFeatures, examples: Sequence[Example]
    ) -> Evaluation:
        """Score the outputs.

        - `exact_match`, `f1` (0 to 1): scores of the best span over all windows, by the SQuAD 1.1 script, or by the 2.0
          script if the task may abstain. In that case `answered_f1` is the `f1` of questions with an answer, and
          `abstained` is the `f1` of questions without one.
        - `index_accuracy`: on the gold window, the mean accuracy of the argmax of start and end logits over all
          columns.
        - `loss`: mean negative log-likelihood of gold start and end in the gold window, in nats, as in training.
        - `window_accuracy`: `index_accuracy` over all windows. If a window does not contain the answer, its gold start
          and end are the CLS column. This score is the reward in the original code. It is not a mean over examples.

        The gold window is the first that holds the whole first answer. If no window does, it is the first window, with
        the CLS column as gold start and end.

        Args:
            outputs: `start_logits` and `end_logits`, float32 [F, T] on the CPU, in row order; −inf after the end of a
                row.
            features: The encoding of `examples`.
            examples: The examples to score.

        Returns:
            The scores and predictions.

        Raises:
            TypeError: If the features do not come from `encode` of this task.
        """
        if not isinstance(features, QAFeatures):
            raise TypeError("the features must come from `encode` of this task")
        chosen = only(QAExample, examples)
        answers = self._predict(outputs["start_logits"], outputs["end_logits"], features, chosen)
        rows = gold_windows(features)
        pairs = (("start_logits", "start_positions"), ("end_logits", "end_positions"))
        heads = [score_index(outputs[name], features.targets[gold].astype(np.int64), rows) for name, gold in pairs]
        exact, overlap = self._score_answers(answers, chosen)
        example_scores = {
            "exact_match": exact,
            "f1": overlap,
            "index_accuracy": np.mean([accuracy for accuracy, _ in heads], axis=0),
            "loss": np.mean([loss for _, loss in heads], axis=0),
        }
        scores = {name: float(values.mean()) for name, values in example_scores.items()}
        is_right = [outputs[name].argmax(dim=1).numpy() == features.targets[gold] for name, gold in pairs]
        scores["window_accuracy"] = float(np.mean(is_right))
        if self.may_abstain:
            has_answer = np.array([bool(example.answers) for example in chosen])
            for name, part in (("answered_f1", overlap[has_answer]), ("abstained", overlap[~has_answer])):
                scores[name] = float(part.mean()) if len(part) else 0.0
        return Evaluation(
            scores=scores,
            example_scores=example_scores,
            predictions={example.id: answer for example, answer in zip(chosen, answers, strict=True)},
        )

    def _score_answers(self, answers: Sequence[str], examples: Sequence[QAExample]) -> tuple[FloatArray, FloatArray]:
        """Return exact match, float64 [E], and F1, float64 [E], of predicted answers.

        Both are 0 for a question without an answer if the task cannot abstain.
        """
        of_context = {context: self._normalize(context) for context in {example.context for example in examples}}
        scores = scores_2 if self.may_abstain else scores_1
        pairs = [scores(answer, e.accepted, of_context[e.context]) for answer, e in zip(answers, examples, strict=True)]
        exact, overlap = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
        return exact, overlap

    def _normalize(self, context: str) -> Normalize:
        """Return the function that normalizes answers from `context`."""
        tokens = self._settings.f1_tokens
        is_by_character = tokens == "characters" or (tokens == "auto" and has_no_spaces(context))
        return normalize_characters if is_by_character else normalize_answer

    def _predict(
        self, start_logits: Tensor, end_logits: Tensor, features: QAFeatures, examples: Sequence[QAExample]
    ) -> list[str]:
        """Predict the answer of every example: the text of the best span of its windows.

        If the task may abstain, SQuAD 2.0's rule with a threshold of 0 applies. The sum of start and end logit at CLS
        is taken from the window with the smallest sum. If it exceeds the score of the best span, the answer is empty.

        Args:
            start_logits: float32 [F, T].
            end_logits: float32 [F, T].
            features: The encoding of `examples`.
            examples: The examples.

        Returns:
            One answer per example; "" if the task abstains or the context has no tokens.
        """
        columns = torch.arange(start_logits.shape[1])
        context = torch.from_numpy(features.context_columns)
        is_context = (columns >= context[:, :1]) & (columns < context[:, 1:])
        spans = best_spans(start_logits, end_logits, is_context, self._settings.max_answer_length)
        # Sort the rows of an example by score, best first; ties go to the earlier window.
        order = np.lexsort((-spans.score, features.example_index))
        _, firsts = np.unique(features.example_index[order], return_index=True)
        needed = np.full(len(examples), -np.inf)
        if self.may_abstain:
            rows = torch.arange(len(features)), torch.from_numpy(features.cls_columns)
            no_answer = (start_logits[rows].double() + end_logits[rows].double()).numpy()
            needed = np.minimum.reduceat(no_answer, np.searchsorted(features.example_index, np.arange(len(examples))))
        answers = []
        for example, row, at_least in zip(examples, order[firsts], needed, strict=True):
            if spans.score[row] == -np.inf or at_least > spans.score[row]:  # −inf: a context without tokens
                answers.append("")
                continue
            first, end = features.characters(row, spans.first[row], spans.last[row])
            answers.append(example.context[first:end].strip())  # a token may include the space before it
        return answers


def _attend_to_question(
    end: int | None, _model: "PreTrainedModel", args: tuple[Any, ...], inputs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give the question global attention in a Longformer (a forward pre-hook).

    Longformer itself finds the question only in rows with exactly three separators. It fails if a passage contains
    "</s>" or if the tokenizer puts one separator between question and context.

    Args:
        end: Id of the first token after the question; if None, only position 0 has global attention.
        _model: The model; unused.
        args: Positional inputs of the model, returned unchanged.
        inputs: Named inputs of the model.

    Returns:
        `args`, and `inputs` with `global_attention_mask`, int64 [B, T]: 1 at all tokens before `end`, else 0.
    """
    ids = inputs["input_ids"]
    ends = (ids == end).int().argmax(dim=1, keepdim=True) if end is not None else ids.new_ones(len(ids), 1)
    is_global = torch.arange(ids.shape[1], device=ids.device) < ends
    return args, {**inputs, "global_attention_mask": is_global.long()}


class _Tokens(NamedTuple):
    ids: list[int]
    offsets: IntArray


def _describe(examples: Sequence[QAExample]) -> list[tuple[str, str]]:
    counts = Counter(len(example.answers) for example in examples)
    first = examples[0]
    return [
        ("answers per question", "\n".join(f"{n}: {counts[n]} questions" for n in sorted(counts))),
        ("sample", f"{first.context}\n? {first.question}\n= {' | '.join(first.answers) or '(no answer)'}"),
    ]


PRIOR_TOKENS = 20.0
"""Pseudo-count per token: number of assumed occurrences in passages, with the average share in answers."""


def token_relevance(tokenizer: "PreTrainedTokenizerBase", examples: Sequence[QAExample]) -> FloatArray:
    """Return float [V]: log ratio of a token's share in answers to the average share, smoothed by `PRIOR_TOKENS`."""

    def counted(texts: Sequence[str]) -> FloatArray:
        encoded = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids = [index for row in encoded["input_ids"] for index in row]
        return np.bincount(np.array(ids, dtype=np.int64), minlength=vocabulary_size(tokenizer)).astype(np.float64)

    in_answers = counted([example.answers[0] for example in examples if example.answers])
    in_passages = counted([example.context for example in examples])
    if not in_answers.any():
        return in_answers
    overall = in_answers.sum() / max(in_passages.sum(), 1)
    share = (in_answers + PRIOR_TOKENS * overall) / (np.maximum(in_passages, in_answers) + PRIOR_TOKENS)
    relevance: FloatArray = np.log(share / overall)
    return relevance


_JSON = Format(
    "questions in JSON", lambda path, *_: read_question_json(path), lambda rows, path, _: write_squad(rows, path)
)
_TABLE = Format("questions, NewsQA or SubjQA", lambda path, *_: read_question_table(path))
_ROWS = Format("questions in rows", lambda path, *_: read_question_rows(path))
_LINES = Format(
    "questions, MRQA or rows", lambda path, *_: read_question_lines(path), lambda rows, path, _: write_mrqa(rows, path)
)
_OWN_FIELDS = {
    *("header", "qas", "answers", "paragraphs", "questions", "data"),
    *(NEWSQA_COLUMN, TOKENS_COLUMN, SUBJQA_COLUMN),
}
QUESTION_ANSWERING = TaskKind(
    name="qa",
    formats={".json": _JSON, ".jsonl": _LINES, ".csv": _TABLE, ".parquet": _ROWS, HUB: _ROWS},
    formats_text=".json (SQuAD, NewsQA, emrQA, rows), .jsonl (MRQA, rows), .csv (NewsQA, SubjQA) or .parquet",
    owns=lambda record: not _OWN_FIELDS.isdisjoint(record),
    check_train=lambda _examples, _settings: None,
    label_of=lambda example: None if only(QAExample, [example])[0].answers else "no answer",
    few_labels="labelled_examples",
    few_labels_text="",
    build=lambda tokenizer, examples, settings: QuestionAnsweringTask(
        tokenizer, settings, may_abstain=any(not example.answers for example in only(QAExample, examples))
    ),
    relevance=token_relevance,
    describe=_describe,
)
