"""`nmg init`: looks at data and writes a commented configuration for it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer


def init(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Labelled training data (.csv, .tsv, .jsonl, .json, .parquet, .conll, …) or plain text.",
        ),
    ],
    model: Annotated[str | None, typer.Option(help="Masked LM: a hub name or a folder.")] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="Unlabelled text to adapt on. Default: the training texts.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File to write; it must not exist.")] = Path("nmg.yaml"),
    frozen: Annotated[
        bool | None, typer.Option("--frozen/--finetune", help="How you will use the model.", show_default=False)
    ] = None,
    task: Annotated[str | None, typer.Option(help="Task of the data. Default: guessed.")] = None,
    text_field: Annotated[str | None, typer.Option(help="Field (column) of the text. Default: guessed.")] = None,
    label_field: Annotated[str | None, typer.Option(help="Field (column) of the label. Default: guessed.")] = None,
    pair_field: Annotated[str | None, typer.Option(help="Field (column) of the second text, for pairs.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask no questions.")] = False,
) -> None:
    """Look at your data and write a commented configuration for it, scaled to its size.

    Files next to FILE that are named dev or validation, and test, are used, too. On a terminal, up to three questions
    are asked.
    """
    from nmg.base.errors import UserError
    from nmg.base.files import is_there
    from nmg.jobs.console import quiet_libraries
    from nmg.jobs.init import init as write_config
    from nmg.jobs.init import look
    from nmg.report.terminal import show
    from nmg.tasks.guess import no_choice

    if is_there(out):
        raise UserError(f"{out}: already exists. Remove it, or give another name with --out.")
    quiet_libraries()
    may_ask = not yes and sys.stdin.isatty() and sys.stdout.isatty()
    fields = {"text_field": text_field, "label_field": label_field, "pair_field": pair_field}
    found = look(file, corpus, task, fields, _choose if may_ask else no_choice)
    if model is None:
        model = typer.prompt("Masked LM (hub name or folder)", default=found.model) if may_ask else found.model
    if frozen is None:
        has_task = found.facts.kind is not None
        frozen = may_ask and has_task and typer.confirm("Will the encoder stay frozen in use?", default=False)
    show([write_config(found, out, str(model), is_frozen=frozen)])


def _choose(what: str, names: Sequence[str]) -> str:
    """Ask which field is the label or the text."""
    while True:
        name = str(typer.prompt(f"Which field is the {what}? ({', '.join(names)})"))
        if name in names:
            return name
