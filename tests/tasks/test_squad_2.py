"""Questions without an answer: the rules of SQuAD 2.0, by hand and by an independent version of its script."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nmg.base.training_settings import FinetuneSettings
from nmg.data.formats.questions import QAExample
from nmg.tasks.qa import QuestionAnsweringTask
from nmg.tasks.qa_windows import QAFeatures
from nmg.tasks.registry import task_kind
from nmg.tasks.squad_metrics import normalize_answer, scores_2
from support.tiny import word_tokenizer

WORDS = ["who", "what", *(f"w{number}" for number in range(12))]
CONTEXT = " ".join(f"w{number}" for number in range(12))
EXAMPLES = [
    QAExample("a", "who", CONTEXT, ("w3",), (9,), 0),
    QAExample("b", "what", CONTEXT, (), (), 0),
]
SETTINGS = FinetuneSettings(max_length=12, max_question_length=2, stride=2, max_answer_length=3)


def slow_scores(prediction: str, answers: list[str]) -> tuple[float, float]:
    """As the official script goes: word by word, the best of the answers that something is left of."""
    gold = [answer for answer in answers if normalize_answer(answer)]
    if not gold:
        gold = [""]
    best_exact, best_f1 = 0.0, 0.0
    for answer in gold:
        wanted, found = normalize_answer(answer).split(), normalize_answer(prediction).split()
        best_exact = max(best_exact, float(normalize_answer(answer) == normalize_answer(prediction)))
        common = sum((Counter(wanted) & Counter(found)).values())
        if not wanted or not found:
            score = float(wanted == found)
        elif common == 0:
            score = 0.0
        else:
            precision, recall = common / len(found), common / len(wanted)
            score = 2 * precision * recall / (precision + recall)
        best_f1 = max(best_f1, score)
    return best_exact, best_f1


@pytest.mark.parametrize(
    ("prediction", "answers", "scores"),
    [
        ("", (), (1, 1)),
        ("Rome", (), (0, 0)),
        ("", ("Rome",), (0, 0)),
        ("the", ("Rome",), (0, 0)),
        ("the", ("a",), (1, 1)),  # nothing is left of the one answer: there is none
        ("old Rome", ("a", "Rome"), (0, 2 / 3)),
    ],
)
def test_by_hand(prediction: str, answers: tuple[str, ...], scores: tuple[float, float]):
    assert scores_2(prediction, answers) == pytest.approx(scores)


texts = st.lists(st.sampled_from(["the", "a", "Rome", "old", "city", "?"]), max_size=4).map(" ".join)


@given(texts, st.lists(texts, max_size=3))
def test_scores_are_those_of_the_script(prediction: str, answers: list[str]):
    assert scores_2(prediction, answers) == pytest.approx(slow_scores(prediction, answers))


def build(examples: list[QAExample]) -> QuestionAnsweringTask:
    task = task_kind("qa").build(word_tokenizer(WORDS), examples, SETTINGS)
    assert isinstance(task, QuestionAnsweringTask)
    return task


def logits_of(features: QAFeatures) -> dict[str, torch.Tensor]:
    shape = len(features), int(features.lengths.max())
    return {name: torch.zeros(shape) for name in ("start_logits", "end_logits")}


def test_a_task_may_abstain_if_a_training_question_has_no_answer():
    assert build(EXAMPLES).may_abstain
    assert not build(EXAMPLES[:1]).may_abstain
    assert build(EXAMPLES[:1]).table_metrics == ("f1", "exact_match", "loss")
    assert [task_kind("qa").label_of(example) for example in EXAMPLES] == [None, "no answer"]


def test_without_answer_the_target_is_cls_in_every_window():
    features = build(EXAMPLES).encode(EXAMPLES)
    rows = features.example_index == 1
    assert rows.sum() > 1
    assert (features.targets["start_positions"][rows] == 0).all()
    assert not features.is_answer_inside[rows].any()


def test_cls_must_win_in_every_window():
    """The smallest sum at CLS over the windows is compared with the best span of all windows."""
    task = build(EXAMPLES)
    features = task.encode(EXAMPLES)
    logits = logits_of(features)
    rows = np.flatnonzero(features.example_index == 1)
    first_column = features.context_columns[rows[0], 0]
    logits["start_logits"][rows[0], first_column] = 3.0
    for cls_scores, answer in (((4.0, 4.0), ""), ((9.0, 2.0), "w0"), ((3.0, 9.0), "w0"), ((3.1, 9.0), "")):
        for row, score in zip(rows, cls_scores, strict=False):
            logits["start_logits"][row, 0] = score
        for row in rows[2:]:
            logits["start_logits"][row, 0] = 9.0
        assert task.evaluate(logits, features, EXAMPLES).predictions["b"] == answer


def test_scores_of_both_kinds_of_questions():
    task = build(EXAMPLES)
    features = task.encode(EXAMPLES)
    logits = logits_of(features)
    answered = np.flatnonzero(features.example_index == 0)
    logits["start_logits"][
        torch.from_numpy(answered), torch.from_numpy(features.targets["start_positions"][answered])
    ] = 9
    logits["end_logits"][torch.from_numpy(answered), torch.from_numpy(features.targets["end_positions"][answered])] = 9
    logits["start_logits"][answered[-1], 0] = 0.0
    logits["end_logits"][answered[-1], 0] = 0.0
    rows = features.example_index == 1
    logits["start_logits"][torch.from_numpy(rows), 0] = 5.0
    evaluation = task.evaluate(logits, features, EXAMPLES)
    assert evaluation.predictions == {"a": "w3", "b": ""}
    assert {name: evaluation.scores[name] for name in task.table_metrics[:4]} == dict.fromkeys(
        task.table_metrics[:4], 1.0
    )
    logits["start_logits"][torch.from_numpy(rows), 0] = -5.0
    scores = task.evaluate(logits, features, EXAMPLES).scores
    assert (scores["f1"], scores["answered_f1"], scores["abstained"]) == (0.5, 1.0, 0.0)


def test_a_task_that_cannot_abstain_gets_nothing_for_such_questions():
    task = build(EXAMPLES[:1])
    features = task.encode(EXAMPLES)
    logits = logits_of(features)
    logits["start_logits"][:, 0] = 9.0
    evaluation = task.evaluate(logits, features, EXAMPLES)
    assert evaluation.predictions["b"] != ""
    assert evaluation.example_scores["f1"][1] == 0
    assert set(evaluation.scores) == {"f1", "exact_match", "index_accuracy", "window_accuracy", "loss"}


def test_relevance_and_description_do_without_answers():
    kind, tokenizer = task_kind("qa"), word_tokenizer(WORDS)
    both, one = (kind.relevance(tokenizer, part) for part in (EXAMPLES, [EXAMPLES[0], EXAMPLES[0]]))
    assert np.isfinite(both).all()
    assert both.argmax() == one.argmax()
    assert kind.describe([EXAMPLES[1]])[1][1].endswith("= (no answer)")
    assert replace(EXAMPLES[1]).passage == CONTEXT
