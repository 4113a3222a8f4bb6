"""Tokenizers whose offsets are off at the first token of a word, and tokens that hold the space before a word."""

from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from nmg.base.training_settings import FinetuneSettings
from nmg.data.formats.questions import QAExample
from nmg.tasks.offsets import mended_offsets
from nmg.tasks.qa_windows import QAFeatures
from nmg.tasks.registry import task_kind

CONTEXT = "Rouen is a city in Normandy which lies in France today."
SETTINGS = FinetuneSettings(max_length=96, stride=24, max_question_length=32)


def questions(*answers: str, context: str = CONTEXT) -> list[QAExample]:
    return [QAExample(str(i), "Where?", context, (a,), (context.index(a),), 0) for i, a in enumerate(answers)]


def gold_spans(tokenizer: PreTrainedTokenizerBase, examples: list[QAExample]) -> list[str]:
    """The text under the targets of each example's first window."""
    features = task_kind("qa").build(tokenizer, examples, SETTINGS).encode(examples)
    assert isinstance(features, QAFeatures)
    found = []
    for row in np.unique(features.example_index, return_index=True)[1]:
        start, end = (int(features.targets[f"{side}_positions"][row]) for side in ("start", "end"))
        first, last = features.characters(row, start, end)
        found.append(examples[features.example_index[row]].context[first:last])
    return found


def with_words(*steps: Any) -> PreTrainedTokenizerBase:
    """A byte-level tokenizer whose tokens are the words of the context, each with the space before it.

    `steps`: more post-processors, which change offsets.
    """
    special = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=list(special.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([CONTEXT] * 3, trainer)
    framing = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=bool(steps))
    backend.post_processor = processors.Sequence([*steps, framing])
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def trimmed_twice() -> PreTrainedTokenizerBase:
    """Two steps each trim the space before a word, so the first token of a word begins one late."""
    return with_words(processors.ByteLevel(trim_offsets=True))


def test_the_offsets_of_the_test_are_off():
    encoded = trimmed_twice()(CONTEXT, add_special_tokens=False, return_offsets_mapping=True)
    covered = {position for start, end in encoded["offset_mapping"] for position in range(start, end)}
    assert CONTEXT.index("Normandy") not in covered


def test_answers_lose_no_letters_if_offsets_are_off():
    answers = ("Normandy", "city in Normandy", "a city", "France", "Rouen")
    assert gold_spans(trimmed_twice(), questions(*answers)) == list(answers)
    task = task_kind("qa").build(trimmed_twice(), questions(*answers), SETTINGS)
    assert task.remarks("data.train", questions(*answers)) == []


@pytest.mark.parametrize("answer", ["Normandy", "Normandy ", " Normandy", " Normandy "])
def test_blanks_around_an_answer_take_no_other_word_in(answer: str):
    (found,) = gold_spans(with_words(), questions(answer))
    assert found == " Normandy"


SURFACES = dict(enumerate(["the", "fox", "caf", "e", "s", "[UNK]"]))


@pytest.mark.parametrize(
    ("text", "ids", "offsets", "mended"),
    [
        ("the fox", [0, 1], [(0, 3), (5, 7)], [(0, 3), (4, 7)]),
        ("the fox", [0, 1], [(0, 3), (5, 8)], [(0, 3), (4, 7)]),  # the whole token one late
        ("the fox", [0, 1], [(0, 3), (4, 6)], [(0, 3), (4, 7)]),
        ("The Fox", [0, 1], [(1, 3), (5, 7)], [(0, 3), (4, 7)]),  # a tokenizer that lower-cases
        ("Cafés", [2, 3, 4], [(1, 3), (3, 4), (4, 5)], [(0, 3), (3, 4), (4, 5)]),  # and drops accents
        ("the ☃ fox", [0, 5, 1], [(0, 3), (4, 5), (7, 9)], [(0, 3), (4, 5), (6, 9)]),  # an unknown token stays
        ("the fox", [0, 5], [(0, 3), (5, 7)], [(0, 3), (5, 7)]),  # nothing known fits: as it is
        ("a dog", [0, 1], [(0, 1), (3, 5)], [(0, 1), (3, 5)]),
    ],
)
def test_offsets_by_hand(text: str, ids: list[int], offsets: list[tuple[int, int]], mended: list[tuple[int, int]]):
    found = mended_offsets(text, ids, np.array(offsets), SURFACES.__getitem__)
    assert found.tolist() == [list(span) for span in mended]


def test_right_offsets_stay(tokenizer: PreTrainedTokenizerBase):
    text = "Naïve café owners in Zürich (日本) paid 1,234.50 €\u200b – \U0001f600!"
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = np.array(encoded["offset_mapping"])

    def never(_token: int) -> str:
        raise AssertionError("every letter is in one token")

    assert mended_offsets(text, encoded["input_ids"], offsets, never) is offsets
