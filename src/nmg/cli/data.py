"""`nmg data`: look at data files and turn them into other formats."""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmg.errors import UserError, bad_input

if TYPE_CHECKING:
    from nmg.types import ClassificationExample, Example, QAExample

app = typer.Typer(help="Look at data files and convert them.", no_args_is_help=True)


class TaskChoice(StrEnum):
    classification = "classification"
    qa = "qa"


File = Annotated[
    Path, typer.Argument(metavar="FILE", help="SQuAD .json, MRQA .jsonl, labelled .jsonl/.csv/.tsv, or text.")
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="File to write; it must not be there yet.")]
TaskOption = Annotated[TaskChoice | None, typer.Option("--task", help="Guessed from the file where not given.")]
TextField = Annotated[str, typer.Option(help="Field (column) of the text, for classification.")]
LabelField = Annotated[str, typer.Option(help="Field (column) of the label, for classification.")]


@app.command()
def describe(
    file: File, task: TaskOption = None, text_field: TextField = "text", label_field: LabelField = "label"
) -> None:
    """Print counts, lengths, labels or answers, and a sample."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if task is None and _is_plain_text(file):
        rows = _describe_texts(file)
    else:
        rows = _describe_examples(file, _read(file, task, text_field, label_field))
    table = Table(title=str(file), show_header=False)
    for name, value in rows:
        table.add_row(name, Text(value))  # Text: brackets in the data are no markup
    Console().print(table)


@app.command()
def convert(
    file: File, out: Out, task: TaskOption = None, text_field: TextField = "text", label_field: LabelField = "label"
) -> None:
    """Write the examples in another format of the same task, by the ending of OUT."""
    from nmg.data.formats.classification import write_classification
    from nmg.data.formats.mrqa import write_mrqa
    from nmg.data.formats.squad import write_squad

    _refuse_existing(out)
    examples = _read(file, task, text_field, label_field)
    questions = _questions(examples)
    if questions and out.suffix == ".json":
        write_squad(questions, out)
    elif questions and out.name.endswith((".jsonl", ".jsonl.gz")):
        write_mrqa(questions, out)
    elif not questions and out.suffix in {".jsonl", ".csv", ".tsv"}:
        write_classification(_labelled(examples), out, text_field, label_field)
    elif questions:
        raise bad_input(out, "questions can be written as .json (SQuAD 1.1), .jsonl or .jsonl.gz (MRQA)")
    else:
        raise bad_input(out, "labelled texts can be written as .jsonl, .csv or .tsv")
    typer.echo(f"{out}: {len(examples)} examples")


@app.command()
def corpus(
    file: File, out: Out, task: TaskOption = None, text_field: TextField = "text", label_field: LabelField = "label"
) -> None:
    """Write the distinct contexts of a task file as a text corpus, .jsonl or .txt (one a line)."""
    from nmg.data.formats.text import write_texts
    from nmg.data.task_data import distinct_texts

    _refuse_existing(out)
    texts = distinct_texts(_read(file, task, text_field, label_field))
    write_texts(texts, out)
    typer.echo(f"{out}: {len(texts)} contexts")


def _read(file: Path, task: TaskChoice | None, text_field: str, label_field: str) -> "Sequence[Example]":
    from nmg.data.task_data import TaskName, read_examples

    name: TaskName = "qa" if (task or _guess_task(file)) is TaskChoice.qa else "classification"
    return read_examples(file, name, text_field, label_field)


def _guess_task(file: Path) -> TaskChoice:
    """By the ending; a .jsonl file is MRQA if its first line has a header or questions."""
    from nmg.data.formats.reading import read_json_lines

    name = file.name.removesuffix(".gz")
    if name.endswith((".csv", ".tsv")):
        return TaskChoice.classification
    if name.endswith(".json"):
        return TaskChoice.qa
    if name.endswith(".jsonl"):
        _, first = next(read_json_lines(file))
        return TaskChoice.qa if "header" in first or "qas" in first else TaskChoice.classification
    raise bad_input(file, "cannot tell the task from this ending (.json, .jsonl, .csv, .tsv); give --task")


def _is_plain_text(file: Path) -> bool:
    return file.is_dir() or file.name.removesuffix(".gz").endswith(".txt")


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise UserError(f"{out}: is there already; remove it or choose another name")


def _questions(examples: "Sequence[Example]") -> "list[QAExample]":
    from nmg.types import QAExample

    return [example for example in examples if isinstance(example, QAExample)]


def _labelled(examples: "Sequence[Example]") -> "list[ClassificationExample]":
    from nmg.types import ClassificationExample

    return [example for example in examples if isinstance(example, ClassificationExample)]


def _describe_texts(file: Path) -> list[tuple[str, str]]:
    from nmg.data.formats.text import read_texts

    texts = read_texts(file)
    rows = [("format", "text"), ("contexts", f"{len(texts)} ({len(set(texts))} distinct)")]
    return [*rows, *_lengths("context", texts), ("sample", _short(texts[0]))]


def _describe_examples(file: Path, examples: "Sequence[Example]") -> list[tuple[str, str]]:
    from nmg.data.task_data import distinct_texts

    texts = distinct_texts(examples)
    questions, labelled = _questions(examples), _labelled(examples)
    kind = file.name.removesuffix(".gz").rpartition(".")[2]
    rows = [("examples", str(len(examples))), ("contexts", f"{len(texts)} distinct"), *_lengths("context", texts)]
    if questions:
        answers = Counter(len(question.answers) for question in questions)
        rows.insert(0, ("format", "questions, " + ("SQuAD 1.1" if kind == "json" else "MRQA")))
        rows += _lengths("question", [question.question for question in questions])
        rows += _lengths("answer", [answer for question in questions for answer in question.answers])
        rows.append(("answers a question", "\n".join(f"{n}: {answers[n]} questions" for n in sorted(answers))))
        first = questions[0]
        rows.append(("sample", f"{_short(first.context)}\n? {first.question}\n= {' | '.join(first.answers)}"))
    else:
        counts = Counter(example.label for example in labelled)
        rows.insert(0, ("format", f"labelled texts, {kind}"))
        shares = (f"{label}: {count} ({count / len(examples):.1%})" for label, count in counts.most_common())
        rows.append((f"{len(counts)} labels", "\n".join(shares)))
        rows.append(("sample", f"{_short(labelled[0].text)}\n= {labelled[0].label}"))
    return rows


def _lengths(name: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    from statistics import mean, median

    def row(unit: str, sizes: list[int]) -> tuple[str, str]:
        numbers = f"mean {mean(sizes):.1f}, median {median(sizes):g}, shortest {min(sizes)}, longest {max(sizes)}"
        return f"{name}: {unit}", numbers

    rows = [row("words", [len(text.split()) for text in texts]), row("characters", [len(text) for text in texts])]
    if name == "context":
        rows.append(("longest context", _short(max(texts, key=len))))
    return rows


def _short(text: str, width: int = 300) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
