"""`nmg data`: describes data files and converts them to other formats."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmg.base.errors import UserError, bad_input, printable
from nmg.base.files import is_folder, is_there
from nmg.cli.commands import Command, example_line

if TYPE_CHECKING:
    from nmg.base.settings import DataSettings
    from nmg.base.types import Example
    from nmg.tasks.base import TaskKind

app = typer.Typer(help="Describe data files, convert them, and extract a corpus.", no_args_is_help=True)

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="Data file of a task, folder, hub:OWNER/NAME@SPLIT, or text file.")
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="File to write; it must not exist.")]
TaskOption = Annotated[
    str | None,
    typer.Option(
        "--task", help="Task of the file. Default: guessed from its extension and, if needed, its first record."
    ),
]
TextField = Annotated[str, typer.Option(help="Field (column) of the text, for all tasks except question answering.")]
LabelField = Annotated[
    str, typer.Option(help="Field (column) of the label or number, for all tasks except question answering.")
]
PairField = Annotated[str | None, typer.Option(help="Field (column) of the second text, for pairs of texts.")]
WordColumn = Annotated[
    int, typer.Option(help="Column of the words in CoNLL files (one word per line), counted from 1.")
]
TagColumn = Annotated[
    int | None, typer.Option(help="Column of the tags in CoNLL files, counted from 1. Default: the last.")
]


@app.command(cls=Command, epilog=example_line("nmg data describe train.csv"))
def describe(
    file: File,
    task: TaskOption = None,
    text_field: TextField = "text",
    label_field: LabelField = "label",
    pair_field: PairField = None,
    word_column: WordColumn = 1,
    tag_column: TagColumn = None,
) -> None:
    """Print the format of a data file, counts, lengths, labels or answers, and a sample."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    if task is None and _is_plain_text(file):
        rows = _describe_texts(file)
    else:
        rows = _describe_examples(
            file, *_read(file, task, _fields(text_field, label_field, pair_field, word_column, tag_column))
        )
    table = Table(title=escape(printable(str(file))), show_header=False)
    for name, value in rows:
        table.add_row(printable(name), Text(printable(value)))  # Text: brackets in the data are not markup
    Console().print(table)


@app.command(cls=Command, epilog=example_line("nmg data convert train.csv train.jsonl"))
def convert(
    file: File,
    out: Out,
    task: TaskOption = None,
    text_field: TextField = "text",
    label_field: LabelField = "label",
    pair_field: PairField = None,
    word_column: WordColumn = 1,
    tag_column: TagColumn = None,
) -> None:
    """Convert the examples to another format of the same task, chosen by the file extension of OUT."""
    from nmg.base.outputs import check_file
    from nmg.data.formats.tables import ending_of

    _refuse_existing(out)
    check_file(out)
    fields = _fields(text_field, label_field, pair_field, word_column, tag_column)
    kind, examples = _read(file, task, fields)
    found = kind.formats.get(ending_of(out))
    if found is None or found.write is None:
        endings = ", ".join(ending for ending, one in kind.formats.items() if one.write)
        raise bad_input(out, f"use an ending that the task '{kind.name}' can write: {endings}")
    found.write(examples, out, fields)
    typer.echo(f"{out}: {len(examples)} examples")


@app.command(cls=Command, epilog=example_line("nmg data corpus train.csv texts.txt"))
def corpus(
    file: File,
    out: Out,
    task: TaskOption = None,
    text_field: TextField = "text",
    label_field: LabelField = "label",
    pair_field: PairField = None,
    word_column: WordColumn = 1,
    tag_column: TagColumn = None,
) -> None:
    """Write the distinct contexts of a task file as a text corpus, .jsonl or .txt (one per line)."""
    from nmg.base.outputs import check_file
    from nmg.data.formats.text import write_texts
    from nmg.data.task_data import distinct_texts

    _refuse_existing(out)
    check_file(out)
    texts = distinct_texts(_read(file, task, _fields(text_field, label_field, pair_field, word_column, tag_column))[1])
    write_texts(texts, out)
    typer.echo(f"{out}: {len(texts)} contexts")


def _fields(
    text_field: str, label_field: str, pair_field: str | None, word_column: int, tag_column: int | None
) -> "DataSettings":
    """Convert options of the command line to settings.

    Args:
        text_field: Field of the text or the words.
        label_field: Field of the label or the labels.
        pair_field: Field of the second text of a pair; None for single texts.
        word_column: Column of the words in CoNLL files, from 1.
        tag_column: Column of the tags in CoNLL files, from 1; None for the last.

    Returns:
        The settings.

    Raises:
        UserError: If a column is below 1.
    """
    from nmg.base.settings import DataSettings

    for name, column in (("--word-column", word_column), ("--tag-column", tag_column)):
        if column is not None and column < 1:
            raise UserError(f"{name} {column}: columns are counted from 1")
    return DataSettings(
        text_field=text_field,
        label_field=label_field,
        pair_field=pair_field,
        word_column=word_column,
        tag_column=tag_column,
    )


def _read(file: Path, task: str | None, fields: "DataSettings") -> "tuple[TaskKind, Sequence[Example]]":
    """Return the task kind of a file, which is guessed from the file if `task` is None, and its examples."""
    from nmg.tasks.load import guess_task, read_examples
    from nmg.tasks.registry import task_kind

    kind = guess_task(file) if task is None else task_kind(task)
    return kind, read_examples(file, kind, fields)


def _is_plain_text(file: Path) -> bool:
    return any(file.glob("*.txt")) if is_folder(file) else file.name.removesuffix(".gz").endswith(".txt")


def _refuse_existing(out: Path) -> None:
    """Raise UserError if `out` exists."""
    if is_there(out):
        raise UserError(f"{out}: already exists; remove it or choose another name")


def _describe_texts(file: Path) -> list[tuple[str, str]]:
    from nmg.data.formats.text import read_texts

    texts = list(read_texts(file))
    rows = [("format", "text"), ("contexts", f"{len(texts)} ({len(set(texts))} distinct)")]
    return [*rows, *_lengths("context", texts), ("sample", _short(texts[0]))]


def _describe_examples(file: Path, kind: "TaskKind", examples: "Sequence[Example]") -> list[tuple[str, str]]:
    from nmg.data.formats.tables import ending_of
    from nmg.data.task_data import distinct_texts
    from nmg.tasks.load import format_of

    texts = distinct_texts(examples)
    return [
        ("format", f"{format_of(file, kind).name} ({ending_of(file)})"),
        ("examples", str(len(examples))),
        ("contexts", f"{len(texts)} distinct"),
        *_lengths("context", texts),
        *((name, _short(value) if name == "sample" else value) for name, value in kind.describe(examples)),
    ]


def _lengths(name: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Return table rows, (name, value), with the lengths of the texts in words and characters."""
    from statistics import mean, median

    def row(unit: str, sizes: list[int]) -> tuple[str, str]:
        numbers = f"mean {mean(sizes):.1f}, median {median(sizes):g}, shortest {min(sizes)}, longest {max(sizes)}"
        return f"{name}: {unit}", numbers

    rows = [row("words", [len(text.split()) for text in texts]), row("characters", [len(text) for text in texts])]
    if name == "context":
        rows.append(("longest context", _short(max(texts, key=len))))
    return rows


def _short(text: str, width: int = 300) -> str:
    """Return the text with single blanks, cut to `width` characters."""
    flat = "\n".join(" ".join(line.split()) for line in text.splitlines())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
