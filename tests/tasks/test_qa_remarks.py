"""What users learn about their questions before any training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from nmg.base.training_settings import FinetuneSettings
from nmg.data.formats.questions import QAExample
from nmg.data.formats.squad import write_squad
from nmg.tasks.registry import task_kind
from nmg.trials.session import Session
from support.planted import WORDS
from support.runs import Inputs, Notes
from support.tiny import save_tiny_bert, word_tokenizer

CONTEXT = " ".join(f"w{number}" for number in range(12))
TOKENIZER = word_tokenizer(["who", *CONTEXT.split()])
ANSWERED = [QAExample(str(i), "who", CONTEXT, (f"w{i}",), (CONTEXT.index(f"w{i}"),), 0) for i in range(10)]
UNANSWERED = QAExample("none", "who", CONTEXT, (), (), 0)
SETTINGS = FinetuneSettings(max_length=32, max_question_length=4)


def remarks(
    name: str,
    examples: list[QAExample],
    train: list[QAExample] = ANSWERED,
    tokenizer: PreTrainedTokenizerBase = TOKENIZER,
    **settings: Any,
) -> list[str]:
    task = task_kind("qa").build(tokenizer, train, SETTINGS.model_copy(update=settings))
    return task.remarks(name, examples)


def test_nothing_to_say():
    for name in ("data.train", "data.validation", "data.test"):
        assert remarks(name, ANSWERED) == []
        assert remarks(name, []) == []
    assert task_kind("classification").build is not None


def test_questions_without_answer_that_nobody_can_abstain_from():
    (line,) = remarks("data.test", [*ANSWERED, UNANSWERED, replace(UNANSWERED, id="other")])
    assert line.startswith("warning: data.test: 2 of 12 questions have no answer, but every training question has one.")
    assert remarks("data.test", [*ANSWERED, UNANSWERED], train=[*ANSWERED, UNANSWERED]) == []


def test_answers_that_do_not_come_back():
    """A word is a token: half a word comes back as the whole. Of 100 answers one may be lost."""
    half = replace(ANSWERED[0], id="half", answers=("w",))
    (line,) = remarks("data.train", [*ANSWERED, half])
    assert line.startswith("warning: data.train: this model's tokens reproduce 90.9% of 11 gold answers exactly")
    assert "'w' becomes 'w0'" in line
    many = [replace(ANSWERED[i % 10], id=str(i)) for i in range(99)]
    assert remarks("data.train", [*many, half]) == []
    assert len(remarks("data.train", [*many[:98], half])) == 1


def test_answers_longer_than_predictions_may_be():
    long = [replace(one, answers=(" ".join(CONTEXT.split()[i : i + 3]),)) for i, one in enumerate(ANSWERED)]
    (line,) = remarks("data.test", long, max_answer_length=2)
    assert "0.0% of 10" in line
    assert "raise finetune.max_answer_length (2)" in line
    assert "'w0 w1 w2' becomes 'w0 w1'" in line or "'w0 w1 w2' becomes" in line


def test_characters_are_compared_for_passages_without_spaces(wordpiece: PreTrainedTokenizerBase):
    chinese = [QAExample("1", "?", "日本", ("日本",), (0,), 0), *ANSWERED[:1]]
    (line,) = remarks("data.test", chinese, tokenizer=wordpiece)
    assert line.startswith(
        "data.test: 1 of 2 questions are on passages without spaces between words. For these questions, exact match"
    )
    (line,) = remarks("data.test", chinese, tokenizer=wordpiece, f1_tokens="words")
    assert line.startswith("warning: data.test: 1 of 2 questions")
    assert remarks("data.test", chinese, tokenizer=wordpiece, f1_tokens="characters") == []
    assert remarks("data.train", chinese, tokenizer=wordpiece) == []


@pytest.mark.parametrize("task", ["classification", "qa"])
def test_a_run_says_so_before_it_trains(inputs: Inputs, tmp_path: Path, task: str):
    notes = Notes()
    if task == "classification":
        Session.open_all(inputs.config(), notes).preflight()
        assert notes.lines == []
        return
    context = " ".join(WORDS[:8])
    of_words = [replace(one, context=context, answers=(WORDS[0],), answer_starts=(0,)) for one in ANSWERED]
    write_squad(of_words, tmp_path / "train.json")
    write_squad([*of_words, replace(UNANSWERED, context=context)], tmp_path / "test.json")
    data = {"task": "qa", "train": str(tmp_path / "train.json"), "test": str(tmp_path / "test.json")}
    model = {"name": str(save_tiny_bert(tmp_path / "model", WORDS))}
    finetune = {"max_length": 32, "max_question_length": 8}
    config = inputs.config(data=data, model=model, finetune=finetune, reward={"metric": None})
    Session.open_all(config, notes).preflight()
    (line,) = notes.lines
    assert "1 of 11 questions have no answer" in line
