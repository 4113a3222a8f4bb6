"""Every reader: hand values, and each way a file can be wrong with the file, the line and the field in the message."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmg.base.errors import UserError
from nmg.data.formats.classification import ClassificationExample, read_classification, write_classification
from nmg.data.formats.mrqa import read_mrqa, write_mrqa
from nmg.data.formats.questions import QAExample
from nmg.data.formats.reading import read_lines, read_text
from nmg.data.formats.squad import read_squad, write_squad
from nmg.data.formats.text import read_texts, write_texts

Write = Callable[[str, str], Path]
READERS = {
    "a.txt": lambda path: list(read_texts(path)),
    "a.jsonl": read_classification,
    "a.csv": read_classification,
    "a.json": read_squad,
}


def message(read: Callable[..., Any], path: Path, *args: Any) -> str:
    """What the reader complains about, which must begin with the file."""
    with pytest.raises(UserError) as error:
        read(path, *args)
    text = str(error.value)
    assert text.startswith(str(path))
    return text.removeprefix(str(path))


# ---- files as such


@pytest.mark.parametrize("name", [*READERS, "m.jsonl"])
class TestAnyFile:
    def reader(self, name: str) -> Callable[..., Any]:
        return READERS.get(name, read_mrqa)

    def test_missing(self, name: str, tmp_path: Path) -> None:
        assert message(self.reader(name), tmp_path / name) == ": cannot be read: No such file or directory"

    @pytest.mark.parametrize("content", ["", " \n\n", "\ufeff"])
    def test_empty(self, name: str, content: str, write: Write) -> None:
        assert message(self.reader(name), write(name, content)) == ": is empty"

    def test_undecodable(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        path.write_bytes(b" \ncaf\xe9\n")
        assert (
            message(self.reader(name), path)
            == ", line 2: is not UTF-8: byte 0xe9 cannot be decoded. Save the file as UTF-8."
        )


def test_broken_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"context": "a"}\n' * 20)
    for content in [b"plain", whole[:-12], whole[:20] + b"\xff\xff" + whole[22:]]:
        path = tmp_path / "a.jsonl.gz"
        path.write_bytes(content)
        assert ": is not a complete gzip file" in message(lambda path: list(read_lines(path)), path)
        assert ": is not a complete gzip file" in message(read_text, path)


@pytest.mark.parametrize("read", [read_classification, read_mrqa, lambda path: list(read_texts(path))])
def test_broken_json_line(read: Callable[..., Any], write: Write) -> None:
    path = write("a.jsonl", '\n{"text": \n')
    assert message(read, path) == ", line 2: is not valid JSON: Expecting value (column 10)"
    path = write("a.jsonl", '["text"]\n')
    assert message(read, path).startswith(", line 1: must be a JSON object")
    assert ", line 1: cannot be read as JSON" in message(read, write("a.jsonl", "[" * 100_000))


# ---- text


def test_text_lines(write: Write) -> None:
    assert list(read_texts(write("a.txt", "\ufeffone\r\n\n two \u2028 lines\n"))) == ["one", " two \u2028 lines"]


def test_text_jsonl(write: Write) -> None:
    assert list(read_texts(write("a.jsonl", '{"id": 7, "text": "one"}\n\n{"text": "two\\nlines"}'))) == [
        "one",
        "two\nlines",
    ]


def test_text_folder_is_read_by_file_name(write: Write) -> None:
    write("folder/b.txt", "two\n\nlines")
    write("folder/c.md", "no")
    path = write("folder/a.txt", "one").parent
    assert list(read_texts(path)) == ["one", "two\n\nlines"]


def test_text_errors(write: Write, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert message(read_texts, tmp_path / "empty") == ": the folder contains no .txt files"
    assert "must be a .txt, .jsonl, .json or .parquet file" in message(read_texts, write("a.pdf", "x"))
    assert message(lambda path: list(read_texts(path)), write("a.jsonl", '{"text": "a"}\n{"id": 1}')).startswith(
        ", line 2, field 'text': is missing (found: 'id')"
    )


def test_blank_texts_are_left_out_and_counted(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    records = write("a.jsonl", '{"text": "one"}\n{"text": " \\n"}\n{"text": null}\n{"text": "two"}\n')
    write("f/a.txt", "one"), write("f/b.txt", " \n"), write("f/c.txt", "two")
    folder = records.parent / "f"
    for path in (records, folder):
        texts = read_texts(path)
        assert list(texts) == list(texts) == ["one", "two"]
        assert len(texts) == 2
    assert caplog.messages == [
        f"warning: {records}: records without text are left out: 2",
        f"warning: {folder}: files without text are left out: 1",
    ]
    assert message(read_texts, write("b.jsonl", '{"text": ""}\n')) == ": contains no texts"
    assert "field 'text': is missing" in message(read_texts, write("c.jsonl", '{"text": "a"}\n{"txt": "b"}\n'))


def test_text_round_trip(tmp_path: Path) -> None:
    write_texts(["one", "two\r\nlines\rthree\n"], tmp_path / "a.txt")
    assert list(read_texts(tmp_path / "a.txt")) == ["one", "two lines three "]
    write_texts(["one", "two\nlines é"], tmp_path / "a.jsonl")
    assert list(read_texts(tmp_path / "a.jsonl")) == ["one", "two\nlines é"]
    assert json.loads((tmp_path / "a.jsonl").read_text().splitlines()[1])["id"] == 1
    assert "must end in" in message(lambda path: write_texts(["a"], path), tmp_path / "a.csv")


# ---- classification


def test_classification_jsonl(write: Write) -> None:
    path = write("a.jsonl", '{"text": "one ", "label": "x"}\n\n{"text": "two", "label": 1, "id": 9}\n')
    assert read_classification(path) == [
        ClassificationExample("1", "one ", "x", -1),
        ClassificationExample("9", "two", "1", -1),
    ]


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.tsv", "\t")])
def test_classification_table(name: str, mark: str, write: Write) -> None:
    rows = ["sentence,other,class", '"one, ""1""\r\nline",,x', "", "two,,y"]
    path = write(name, "\r\n".join(rows).replace(",", mark))
    assert read_classification(path, "sentence", "class") == [
        ClassificationExample("2", f'one{mark} "1"\r\nline', "x", -1),
        ClassificationExample("5", "two", "y", -1),
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv"])
def test_pairs_of_texts(tmp_path: Path, name: str) -> None:
    examples = [ClassificationExample(str(n), f"p {n}", "yes", -1, pair) for n, pair in ((1, 'h, "1"'), (2, "h 2"))]
    path = tmp_path / name
    write_classification(examples, path, "premise", "gold", "hypothesis")
    assert read_classification(path, "premise", "gold", pair_field="hypothesis") == examples
    assert [example.passage for example in examples] == ['p 1 h, "1"', "p 2 h 2"]
    assert "field 'other'" in message(lambda path: read_classification(path, "premise", "gold", None, "other"), path)


def test_long_cell(write: Write) -> None:
    assert read_classification(write("a.csv", f"text,label\n{'a' * 200_000},x\n"))[0].label == "x"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"label": "x"}', ", line 2, field 'text': is missing (found: 'label')"),
        ('{"text": null, "label": "x"}', ", line 2, field 'text': is missing"),
        ('{"text": "a"}', ", line 2, field 'label': is missing"),
        ('{"text": 3, "label": "x"}', ", line 2, field 'text': must be a string, not 3"),
        ('{"text": "a", "label": 1.5}', ", line 2, field 'label': contains the number 1.5, but labels must be classes"),
        ('{"text": "a", "label": {}}', ", line 2, field 'label': must be a string, not an object"),
        ('{"text": " ", "label": "x"}', ", line 2, field 'text': is empty"),
        ('{"text": "a\\ud800", "label": "x"}', ", line 2, field 'text': contains a lone surrogate at character 1"),
        ('{"text": "a", "label": "x", "id": 7}', ", line 2, field 'id': '7' is also the id of line 1"),
    ],
)
def test_classification_jsonl_errors(line: str, problem: str, write: Write) -> None:
    path = write("a.jsonl", '{"text": "first", "label": "x", "id": "7"}\n' + line)
    assert message(read_classification, path).startswith(problem)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("text,label", ": contains no examples"),
        ("words,label\na,x", ", line 2, field 'text': is missing (found: 'words', 'label')"),
        ("text,label\na,x\nb", ", line 3, field 'label': is missing"),
        ("text,label\na,x\n,y", ", line 3, field 'text': is empty"),
        ("text,label\na,x\nb,x,y", ", line 3: has 3 cells, but the header has 2"),
        ("text,label,text\na,x,b", ", line 1, field 'text': two columns have this name"),
        ('text,label\n"a" b,x', ", line 2: is not a valid table: ',' expected after '\"'"),
        ('text,label\na,x\n"b,x', ", line 3: is not a valid table: unexpected end of data"),
    ],
)
def test_table_errors(table: str, problem: str, write: Write) -> None:
    assert message(read_classification, write("a.csv", table)).startswith(problem)


def test_unknown_label(write: Write) -> None:
    path = write("a.csv", "text,kind\na,x\nb,z\n")
    problem = message(read_classification, path, "text", "kind", {"x", "y"})
    assert problem == ", line 3, field 'kind': no training example has the label 'z'"


@pytest.mark.parametrize("name", ["b.jsonl", "b.csv", "b.tsv"])
def test_classification_round_trip(name: str, tmp_path: Path) -> None:
    examples = [ClassificationExample("1", 'a "b",\tc\nd é', "x", -1), ClassificationExample("z", "e", "y", -1)]
    write_classification(examples, tmp_path / name, "words", "kind")
    assert read_classification(tmp_path / name, "words", "kind") == examples


# ---- SQuAD


def test_squad(write: Write, squad_json: str) -> None:
    examples = read_squad(write("a.json", squad_json))
    assert [example.id for example in examples] == ["q1", "q2", "q3"]
    assert examples[1] == QAExample("q2", "How is it?", "Rome is old.", ("old", "is old"), (8, 5), -1)


def change(content: Any, path: list[str | int], value: Any) -> str:
    """The JSON with one place changed (or taken out: value ...)."""
    content = json.loads(content)
    node = content
    for name in path[:-1]:
        node = node[name]
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return json.dumps(content)


FIRST: list[str | int] = ["data", 0, "paragraphs", 0]
SECOND_QUESTION = [*FIRST, "qas", 1]
PLACE = "field 'data[0].paragraphs[0].qas[1]"


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (["data"], ..., "field 'data': is missing or not a list"),
        (["data"], [], "contains no questions"),
        (["data", 0], 3, "field 'data[0]': must be an object"),
        (["data", 0, "paragraphs"], {}, "field 'data[0].paragraphs': is missing or not a list"),
        ([*FIRST, "context"], ..., "field 'data[0].paragraphs[0].context': is missing"),
        ([*FIRST, "context"], " ", "field 'data[0].paragraphs[0].context': is empty"),
        ([*FIRST, "qas"], ..., "field 'data[0].paragraphs[0].qas': is missing or not a list"),
        ([*SECOND_QUESTION, "id"], "q1", f"{PLACE}.id': 'q1' is also the id of data[0].paragraphs[0].qas[0]"),
        ([*SECOND_QUESTION, "question"], 1, f"{PLACE}.question': must be a string, not 1"),
        ([*SECOND_QUESTION, "answers"], [], f"{PLACE}.answers': question 'q2' has no answer"),
        ([*SECOND_QUESTION, "answers", 0, "text"], "", f"{PLACE}.answers[0].text': is empty"),
        (
            [*SECOND_QUESTION, "answers", 0, "answer_start"],
            7,
            f"{PLACE}.answers[0].answer_start': question 'q2': the context has ' ol' at 7, but the answer is 'old'",
        ),
        (
            [*SECOND_QUESTION, "answers", 1, "answer_start"],
            -7,
            f"{PLACE}.answers[1].answer_start': question 'q2': must",
        ),
        (
            [*SECOND_QUESTION, "answers", 1, "answer_start"],
            "5",
            f"{PLACE}.answers[1].answer_start': question 'q2': must",
        ),
        ([*SECOND_QUESTION, "answers", 1, "answer_start"], 99, "the context has '' at 99"),
    ],
)
def test_squad_errors(path: list[str | int], value: Any, problem: str, write: Write, squad_json: str) -> None:
    assert problem in message(read_squad, write("a.json", change(squad_json, path, value)))


def test_squad_broken_json(write: Write) -> None:
    path = write("a.json", '{"data": [\n  {"title" "t"}]}')
    assert message(read_squad, path) == ", line 2: is not valid JSON: Expecting ':' delimiter (column 12)"
    assert message(read_squad, write("a.json", "[]")) == ": contains no questions"
    assert ", field 'data': is missing or not a list" in message(read_squad, write("a.json", "{}"))


def test_squad_round_trip(write: Write, squad_json: str, tmp_path: Path) -> None:
    examples = read_squad(write("a.json", squad_json))
    write_squad(examples, tmp_path / "b.json")
    assert read_squad(tmp_path / "b.json") == examples
    assert len(json.loads((tmp_path / "b.json").read_text())["data"][0]["paragraphs"]) == 2


def test_real_squad(shared: Path) -> None:
    assert len(read_squad(shared / "xquad/xquad.en.json")) == 1190


# ---- MRQA

HEADER = '{"header": {"dataset": "T"}}'
MRQA = {
    "context": "Rome  is OLD. Rome!",
    "qas": [
        {"qid": "a", "question": "Which?", "detected_answers": [{"text": "rome", "char_spans": [[0, 3], [14, 17]]}]},
        {"qid": "b", "question": "How?", "detected_answers": [{"text": "is old", "char_spans": [[6, 11]]}]},
    ],
}


def mrqa(path: list[str | int] | None = None, value: Any = ...) -> str:
    return HEADER + "\n" + (json.dumps(MRQA) if path is None else change(json.dumps(MRQA), path, value))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("has_header", [True, False])
def test_mrqa_takes_the_contexts_own_words(name: str, has_header: bool, tmp_path: Path) -> None:
    content = (mrqa() if has_header else json.dumps(MRQA)).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    context = str(MRQA["context"])
    assert read_mrqa(tmp_path / name) == [
        QAExample("a", "Which?", context, ("Rome", "Rome"), (0, 14), -1),
        QAExample("b", "How?", context, ("is OLD",), (6,), -1),
    ]


ANSWER: list[str | int] = ["qas", 1, "detected_answers", 0]


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (["context"], ..., ", line 2, field 'context': is missing (found: 'qas')"),
        (["qas"], "no", ", line 2, field 'qas': is missing or not a list"),
        (["qas"], [], ": contains no questions"),
        (["qas", 1], 1, ", line 2, field 'qas[1]': must be an object"),
        (["qas", 1, "qid"], "a", ", line 2, field 'qas[1].qid': 'a' is also the id of a question in line 2"),
        (["qas", 1, "question"], "", ", line 2, field 'qas[1].question': is empty"),
        (["qas", 1, "detected_answers"], [], ", line 2, field 'qas[1].detected_answers': question 'b' has no answer"),
        ([*ANSWER, "text"], ..., ", line 2, field 'qas[1].detected_answers[0].text': is missing"),
        (
            [*ANSWER, "text"],
            "is cold",
            ", line 2, field 'qas[1].detected_answers[0].char_spans': question 'b': the context has 'is OLD' there, "
            "but the answer is 'is cold'",
        ),
        (
            [*ANSWER, "char_spans"],
            ...,
            ", line 2, field 'qas[1].detected_answers[0].char_spans': is missing or not a list",
        ),
        (
            [*ANSWER, "char_spans"],
            [[6]],
            ", line 2, field 'qas[1].detected_answers[0].char_spans': [6] is not a [first, last] span",
        ),
        (
            [*ANSWER, "char_spans"],
            [[-13, 11]],
            "char_spans': [-13, 11] is not a [first, last] span of a context of 19",
        ),
        ([*ANSWER, "char_spans"], [[11, 6]], "char_spans': [11, 6] is not"),
        ([*ANSWER, "char_spans"], [[6, 19]], "char_spans': [6, 19] is not"),
        ([*ANSWER, "char_spans"], [[True, 11]], "char_spans': [True, 11] is not"),
        (["qas", 1, "answers"], "is old", ", line 2, field 'qas[1].answers': must be a list of texts"),
        (["qas", 1, "answers"], [1], ", line 2, field 'qas[1].answers': must be a list of texts"),
    ],
)
def test_mrqa_errors(path: list[str | int], value: Any, problem: str, write: Write) -> None:
    assert problem in message(read_mrqa, write("a.jsonl", mrqa(path, value)))


def test_mrqa_header_is_no_context(write: Write) -> None:
    assert message(read_mrqa, write("a.jsonl", HEADER)) == ": contains no questions"
    assert message(read_mrqa, write("a.jsonl", HEADER + "\n" + HEADER)).startswith(
        ", line 2, field 'context': is missing"
    )


def test_mrqa_is_scored_by_its_answers_as_officially(write: Write) -> None:
    """They may hold texts that the passage lacks; spans are what is learned."""
    content = mrqa(["qas", 1, "answers"], ["old", "ancient", "old"])
    _, example = read_mrqa(write("a.jsonl", content))
    assert (example.answers, example.accepted) == (("is OLD",), ("old", "ancient"))
    for same in (["is OLD"], []):
        _, example = read_mrqa(write("a.jsonl", mrqa(["qas", 1, "answers"], same)))
        assert (example.accepted, example.accepted_texts) == (("is OLD",), ())


@pytest.mark.parametrize("name", ["b.jsonl", "b.jsonl.gz"])
@pytest.mark.parametrize("accepted", [[], ["old", "ancient"]])
def test_mrqa_round_trip(name: str, accepted: list[str], write: Write, tmp_path: Path) -> None:
    examples = read_mrqa(write("a.jsonl", mrqa(["qas", 1, "answers"], accepted)))
    write_mrqa(examples, tmp_path / name)
    assert read_mrqa(tmp_path / name) == examples


def test_real_mrqa(shared: Path) -> None:
    examples = read_mrqa(shared / "mrqa_sample/NewsQA_sample.jsonl")
    assert len(examples) == 17
    for example in examples:
        for text, start in zip(example.answers, example.answer_starts, strict=True):
            assert example.context[start : start + len(text)] == text
