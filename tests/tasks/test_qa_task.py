import copy
import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import BertConfig, DistilBertConfig, PreTrainedTokenizerBase, RobertaConfig

from nmg.base.errors import UserError
from nmg.base.seeding import torch_stream
from nmg.base.training_settings import FinetuneSettings
from nmg.data.formats.questions import QAExample
from nmg.tasks.qa import QuestionAnsweringTask
from nmg.tasks.qa_windows import QAFeatures
from nmg.tasks.registry import task_kind
from nmg.tasks.rows import TaskFeatures
from nmg.tasks.spans import best_spans

SETTINGS = FinetuneSettings(max_length=48, stride=12, max_question_length=16, max_answer_length=30)
FILLER = "Naïve café owners in Zürich paid 1,234.50 € for a re-used coffee-maker (日本) in 1999. "


def example(name: str, context: str, *answers: str, question: str = "Who paid for the coffee-maker?") -> QAExample:
    return QAExample(name, question, context, answers, tuple(context.index(answer) for answer in answers), 0)


LONG = FILLER.replace("Zürich", "Bern") * 4 + "Then the quick brown fox jumped. " + FILLER * 2
EXAMPLES = [
    example("start", FILLER, "Naïve café owners", "owners"),
    example("end", FILLER.strip(), "1999."),
    example("middle of a word", FILLER, "ür", "Zürich"),
    example("wide characters", FILLER, "日本"),
    example("long context", LONG, "brown fox"),
    example("very last", LONG + "Zebra", "Zebra"),
    example("no question", LONG, "Zürich", question=""),
    example("long question", LONG, "€ for a", question="Who paid, and " * 30),
]


def encode(tokenizer: PreTrainedTokenizerBase, settings: FinetuneSettings = SETTINGS) -> QAFeatures:
    features = task_kind("qa").build(tokenizer, EXAMPLES, settings).encode(EXAMPLES)
    assert isinstance(features, QAFeatures)
    return features


def row_ids(features: QAFeatures, row: int) -> list[int]:
    return features.batch(np.array([row]))["input_ids"][0].tolist()


def perfect_outputs(features: QAFeatures) -> dict[str, Tensor]:
    """Logits of a model that knows the targets; a window without the answer is surer of its CLS token than of any."""
    outputs = {}
    behind = np.arange(features.lengths.max()) >= features.lengths[:, None]
    for name in ("start", "end"):
        logits = np.zeros(behind.shape, dtype=np.float32)
        logits[np.arange(len(features)), features.targets[f"{name}_positions"]] = 9.0
        outputs[f"{name}_logits"] = torch.from_numpy(np.where(behind, -np.inf, logits).astype(np.float32))
    return outputs


def widened(tokenizer: PreTrainedTokenizerBase, example: QAExample) -> str:
    """The first answer, widened to whole tokens by walking over characters."""
    spans = tokenizer(example.context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    inside = range(example.answer_starts[0], example.answer_starts[0] + len(example.answers[0]))
    touched = [span for span in spans if any(span[0] <= character < span[1] for character in inside)]
    return example.context[touched[0][0] : touched[-1][1]].strip()


def test_windows_equal_the_tokenizers_own(tokenizer: PreTrainedTokenizerBase) -> None:
    features = encode(tokenizer)
    row = 0
    for index, example in enumerate(EXAMPLES[:-1]):  # the last one's question is cut, see below
        whole = tokenizer(example.question, example.context)
        room = SETTINGS.max_length - whole.sequence_ids(0).count(0) - whole.sequence_ids(0).count(None)
        encoded = tokenizer(
            example.question,
            example.context,
            truncation="only_second",
            max_length=SETTINGS.max_length,
            stride=room - min(SETTINGS.stride, room // 2),  # theirs is what two windows share
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        for window in range(len(encoded["input_ids"])):
            assert features.example_index[row] == index
            batch = features.batch(np.array([row]))
            assert set(batch) == {*tokenizer.model_input_names, "start_positions", "end_positions"}
            for name in tokenizer.model_input_names:
                assert batch[name][0].tolist() == encoded[name][window]
            columns = [column for column, part in enumerate(encoded.sequence_ids(window)) if part == 1]
            assert features.context_columns[row].tolist() == [columns[0], columns[-1] + 1]
            for column in columns:
                ours, theirs = features.characters(row, column, column), encoded["offset_mapping"][window][column]
                assert example.context[slice(*ours)].strip() == example.context[slice(*theirs)].strip()
                # Offsets differ by the space before a word at most, which the tokenizer cuts in first windows only.
                assert max(abs(ours[0] - theirs[0]), abs(ours[1] - theirs[1])) <= 1
            row += 1
    assert np.all(features.example_index[row:] == len(EXAMPLES) - 1)


@pytest.mark.parametrize("stride", [1, 12, 20, 128])
@pytest.mark.parametrize("max_length", [40, 48, 49, 500])
def test_every_context_token_is_in_a_window(tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int) -> None:
    features = encode(tokenizer, SETTINGS.model_copy(update={"max_length": max_length, "stride": stride}))
    assert features.lengths.max() <= max_length
    for index, offsets in enumerate(features.offsets):
        rows = np.flatnonzero(features.example_index == index)
        widths = features.context_columns[rows, 1] - features.context_columns[rows, 0]
        starts, ends = features.context_start[rows], features.context_start[rows] + widths
        assert (starts[0], ends[-1]) == (0, len(offsets))
        # `stride` is the step, as in the original, but never more than half a window.
        assert np.all(np.diff(starts) == min(stride, widths[0] // 2))
        assert np.all(ends[:-1] < len(offsets))  # no window more than needed


def test_question_is_truncated(tokenizer: PreTrainedTokenizerBase) -> None:
    features, example = encode(tokenizer), EXAMPLES[-1]
    question = tokenizer(example.question, add_special_tokens=False)["input_ids"][-16:]
    for row in np.flatnonzero(features.example_index == len(EXAMPLES) - 1):
        ids, first = row_ids(features, row), features.context_columns[row, 0]
        before = 1
        assert ids[before : before + 16] == question
        assert set(ids[before + 16 : first]) == {tokenizer.sep_token_id}


def test_targets_decode_to_the_answer(tokenizer: PreTrainedTokenizerBase) -> None:
    features = encode(tokenizer)
    starts, ends = features.targets["start_positions"], features.targets["end_positions"]
    for row, index in enumerate(features.example_index):
        if features.is_answer_inside[row]:
            first, end = features.characters(row, starts[row], ends[row])
            assert EXAMPLES[index].context[first:end] == widened(tokenizer, EXAMPLES[index])
        else:
            assert starts[row] == ends[row] == 0
            assert row_ids(features, row)[0] == tokenizer.cls_token_id
    assert set(features.example_index[features.is_answer_inside]) == set(range(len(EXAMPLES)))
    assert not features.is_answer_inside.all()


@pytest.mark.parametrize("max_length", [48, 500])
def test_perfect_logits_give_the_gold_answers(tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
    settings = SETTINGS.model_copy(update={"max_length": max_length})
    task, features = task_kind("qa").build(tokenizer, EXAMPLES, settings), encode(tokenizer, settings)
    assert (len(features) > len(EXAMPLES)) == (max_length == 48)
    evaluation = task.evaluate(perfect_outputs(features), features, EXAMPLES)
    assert evaluation.predictions == {e.id: widened(tokenizer, e) for e in EXAMPLES}
    assert evaluation.scores["index_accuracy"] == 1.0
    assert evaluation.scores["loss"] < 0.1
    for index, e in enumerate(EXAMPLES):
        is_whole = widened(tokenizer, e) in e.answers
        assert evaluation.example_scores["exact_match"][index] == float(is_whole)
    assert evaluation.example_scores["exact_match"].sum() >= len(EXAMPLES) - 1
    assert {name: values.shape for name, values in evaluation.example_scores.items()} == dict.fromkeys(
        ("exact_match", "f1", "index_accuracy", "loss"), (len(EXAMPLES),)
    )
    for name, values in evaluation.example_scores.items():
        assert evaluation.scores[name] == values.mean()


def test_scores_by_hand(wordpiece: PreTrainedTokenizerBase) -> None:
    """Row: [CLS] who ? [SEP] the quick red fox [SEP]; gold tokens 5 to 7, start is predicted right, the end is 6."""
    examples = [example("0", "the quick red fox", "quick red fox", "fox", question="who?")]
    task = task_kind("qa").build(wordpiece, examples, SETTINGS)
    features = task.encode(examples)
    assert features.targets["start_positions"].tolist() == [5]
    assert features.targets["end_positions"].tolist() == [7]
    start, end = torch.zeros(1, 9), torch.zeros(1, 9)
    start[0, 5], end[0, 6] = 3.0, 2.0
    evaluation = task.evaluate({"start_logits": start, "end_logits": end}, features, examples)
    assert evaluation.predictions == {"0": "quick red"}
    loss = (math.log(math.e**3 + 8) - 3 + math.log(math.e**2 + 8)) / 2
    assert evaluation.scores == pytest.approx(
        {"exact_match": 0.0, "f1": 0.8, "index_accuracy": 0.5, "window_accuracy": 0.5, "loss": loss}
    )


def test_window_accuracy_counts_every_window(wordpiece: PreTrainedTokenizerBase) -> None:
    """The target of a window without the answer is its CLS column; `index_accuracy` looks at the gold window alone."""
    examples = [example("0", LONG, "brown fox")]
    task = task_kind("qa").build(wordpiece, examples, SETTINGS)
    features = task.encode(examples)
    assert isinstance(features, QAFeatures)
    outputs = perfect_outputs(features)
    assert task.evaluate(outputs, features, examples).scores["window_accuracy"] == 1.0
    wrong = int(np.flatnonzero(~features.is_answer_inside)[0])
    outputs["start_logits"][wrong, 5] = 99.0
    scores = task.evaluate(outputs, features, examples).scores
    assert scores["index_accuracy"] == 1.0
    assert scores["window_accuracy"] == pytest.approx(1 - 0.5 / len(features))


def scored(tokenizer: PreTrainedTokenizerBase, examples: list[QAExample], **settings: object) -> list[float]:
    """F1 of each example whose first token alone is predicted."""
    task = task_kind("qa").build(tokenizer, examples, SETTINGS.model_copy(update=settings))
    features = task.encode(examples)
    assert isinstance(features, QAFeatures)
    logits = torch.zeros(len(features), int(features.lengths.max()))
    logits[np.arange(len(features)), features.context_columns[:, 0]] = 9.0
    outputs = {"start_logits": logits, "end_logits": logits}
    return task.evaluate(outputs, features, examples).example_scores["f1"].tolist()


def test_f1_by_characters_is_for_passages_without_spaces(wordpiece: PreTrainedTokenizerBase) -> None:
    """A few foreign words in a passage with spaces change nothing: it is scored by SQuAD's own rules."""
    chinese, english = example("zh", "日本人", "日本"), example("en", "the fox saw 日本", "the fox")
    assert scored(wordpiece, [chinese, english]) == pytest.approx([2 / 3, 0.0])
    assert scored(wordpiece, [chinese, english], f1_tokens="words") == [0.0, 0.0]
    assert scored(wordpiece, [chinese, english], f1_tokens="characters") == pytest.approx([2 / 3, 2 / 3])


def test_predictions_are_scored_by_the_accepted_texts(wordpiece: PreTrainedTokenizerBase) -> None:
    plain = example("0", "fox and hound", "hound")
    assert scored(wordpiece, [plain]) == [0.0]
    assert scored(wordpiece, [dataclasses.replace(plain, accepted_texts=("a fox", "hounds"))]) == [1.0]


def test_padding_counts_for_nothing(wordpiece: PreTrainedTokenizerBase) -> None:
    task, features = task_kind("qa").build(wordpiece, EXAMPLES, SETTINGS), encode(wordpiece)
    outputs = perfect_outputs(features)
    wider = {name: torch.nn.functional.pad(logits, (0, 5), value=-torch.inf) for name, logits in outputs.items()}
    first, second = (task.evaluate(each, features, EXAMPLES) for each in (outputs, wider))
    assert first.predictions == second.predictions
    assert first.scores == pytest.approx(second.scores)


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_are_padded_on_the_right(tokenizer: PreTrainedTokenizerBase, side: str) -> None:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.padding_side = tokenizer.truncation_side = side
    features = encode(tokenizer)
    assert features.lengths.tolist() == encode(copy.deepcopy(tokenizer)).lengths.tolist()
    rows = np.array([len(features) - 1, 0, 5])
    batch = features.batch(rows)
    for position, row in enumerate(rows):
        length = int(features.lengths[row])
        ids = batch["input_ids"][position].tolist()
        assert ids[:length] == row_ids(features, row)
        assert set(ids[length:]) <= {tokenizer.pad_token_id}
        assert batch["attention_mask"][position].tolist() == [int(column < length) for column in range(len(ids))]


def test_tokenizer_without_special_tokens(bytelevel: PreTrainedTokenizerBase) -> None:
    bare = copy.deepcopy(bytelevel)
    bare.backend_tokenizer.post_processor = None
    bare.cls_token = None
    features = encode(bare)
    assert set(features.targets["start_positions"][~features.is_answer_inside]) == {0}
    evaluation = task_kind("qa").build(bare, EXAMPLES, SETTINGS).evaluate(perfect_outputs(features), features, EXAMPLES)
    assert evaluation.scores["index_accuracy"] == 1.0
    # Its tokens begin with the space before a word; answers do not.
    assert evaluation.predictions["long context"] == "brown fox"


def test_context_and_answer_without_tokens(wordpiece: PreTrainedTokenizerBase) -> None:
    examples = [example("blank", " \u200b ", "\u200b"), example("lost answer", "a fox \u200b", "\u200b")]
    task = task_kind("qa").build(wordpiece, examples, SETTINGS)
    features = task.encode(examples)
    assert features.is_answer_inside.tolist() == [False, False]
    width = int(features.lengths.max())
    logits = torch.zeros(2, width)
    logits[1, features.context_columns[1, 0] + 1] = 1.0
    evaluation = task.evaluate({"start_logits": logits, "end_logits": logits}, features, examples)
    assert evaluation.predictions == {"blank": "", "lost answer": "fox"}


def test_answer_longer_than_every_window(wordpiece: PreTrainedTokenizerBase) -> None:
    examples = [example("0", LONG, LONG[:400])]
    task = task_kind("qa").build(wordpiece, examples, SETTINGS)
    features = task.encode(examples)
    assert not features.is_answer_inside.any()
    evaluation = task.evaluate(perfect_outputs(features), features, examples)
    assert evaluation.scores["index_accuracy"] == 1.0  # the first window, at its CLS token


def test_what_a_user_can_get_wrong(wordpiece: PreTrainedTokenizerBase) -> None:
    with pytest.raises(UserError, match=r"max_length 48 leaves no room for the context: .* is 45, .* 3 special tokens"):
        task_kind("qa").build(wordpiece, EXAMPLES, SETTINGS.model_copy(update={"max_question_length": 45}))
    narrow = SETTINGS.model_copy(update={"max_question_length": 44})  # a window of one token for a long question
    task_kind("qa").build(wordpiece, EXAMPLES, narrow).encode(EXAMPLES)


def test_the_defaults_do_for_questions(tokenizer: PreTrainedTokenizerBase) -> None:
    features = encode(tokenizer, FinetuneSettings())
    assert features.lengths.max() <= FinetuneSettings().max_length
    assert set(features.example_index[features.is_answer_inside]) == set(range(len(EXAMPLES)))


def test_no_examples(tokenizer: PreTrainedTokenizerBase) -> None:
    assert len(task_kind("qa").build(tokenizer, [], SETTINGS).encode([])) == 0


TINY: Mapping[str, int] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}
CONFIGS = [
    BertConfig(vocab_size=40_000, num_labels=5, **TINY),
    DistilBertConfig(vocab_size=40_000, dim=8, n_layers=1, n_heads=2, hidden_dim=8, num_labels=5),
    RobertaConfig(vocab_size=40_000, type_vocab_size=2, max_position_embeddings=64, **TINY),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_model_and_evaluation_agree_on_the_loss(tokenizer: PreTrainedTokenizerBase, config: BertConfig) -> None:
    task = task_kind("qa").build(tokenizer, EXAMPLES, SETTINGS)
    before = config.to_dict()
    with torch_stream(0, "head"):
        model = task.new_model(config).eval()
    assert config.to_dict() == before
    features = task.encode(EXAMPLES)
    assert isinstance(features, QAFeatures)
    gold = np.array(
        [
            next(row for row in np.flatnonzero(features.example_index == index) if features.is_answer_inside[row])
            for index in range(len(EXAMPLES))
        ]
    )
    everything = features.batch(np.arange(len(features)))
    behind = everything["attention_mask"] == 0
    with torch.inference_mode():
        outputs = model(**everything)
        # one by one: nothing is padded, so the model's own loss has no padding in it
        losses = [model(**features.batch(gold[i : i + 1])).loss.item() for i in range(len(gold))]
    logits = {name: outputs[name].masked_fill(behind, -torch.inf) for name in ("start_logits", "end_logits")}
    evaluation = task.evaluate(logits, features, EXAMPLES)
    assert evaluation.example_scores["loss"] == pytest.approx(losses, rel=1e-4)


def slow_best_span(start: Tensor, end: Tensor, is_allowed: Tensor, max_length: int) -> tuple[float, int, int]:
    columns = [column for column, allowed in enumerate(is_allowed) if allowed]
    spans = [(first, last) for first in columns for last in columns if first <= last < first + max_length]
    scored = [(float(start[first] + end[last]), -first, -last) for first, last in spans]
    score, first, last = max(scored)
    return score, -first, -last


@given(st.integers(1, 12), st.integers(1, 15), st.integers(0, 2**32 - 1))
def test_best_spans_equal_the_slow_search(n_columns: int, max_length: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    start, end = (torch.from_numpy(rng.integers(-4, 5, (3, n_columns)) / 2).float() for _ in range(2))
    is_allowed = torch.from_numpy(rng.random((3, n_columns)) < 0.6)
    spans = best_spans(start, end, is_allowed, max_length)
    for row in range(3):
        if not is_allowed[row].any():
            assert spans.score[row] == -np.inf
            continue
        expected = slow_best_span(start[row], end[row], is_allowed[row], max_length)
        assert (spans.score[row], spans.first[row], spans.last[row]) == expected


def test_features_of_another_task_are_refused(wordpiece: PreTrainedTokenizerBase) -> None:
    task = task_kind("qa").build(wordpiece, EXAMPLES, SETTINGS)
    assert isinstance(task, QuestionAnsweringTask)
    assert (task_kind("qa").name, task.default_metric) == ("qa", "index_accuracy")
    features = encode(wordpiece)
    plain = TaskFeatures(features.lengths, features.example_index, features.tokens, features.targets)
    with pytest.raises(TypeError, match="must come from `encode`"):
        task.evaluate({}, plain, EXAMPLES)
