"""`nmg check-collator`: tests any collator for masked language models."""

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmg.base.errors import UserError, problem_line

if TYPE_CHECKING:
    from nmg.collation.check import CollatorReport


def check_collator(
    collator: Annotated[
        str, typer.Argument(metavar="MODULE:NAME", help="A collator, or a function (tokenizer) that returns one.")
    ],
    model: Annotated[str, typer.Option(help="Masked LM, of which only the tokenizer is read: a hub name or a folder.")],
    corpus: Annotated[
        Path | None, typer.Option(help="Text file. Without it, texts are random pieces of the vocabulary.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Fraction of tokens that should be masked. Default: the rate that the collator claims."),
    ] = None,
    whole_words: Annotated[bool, typer.Option("--whole-words", help="Count cut words as faults.")] = False,
    workers: Annotated[int, typer.Option(help="Number of worker processes; 0 skips the checks that use them.")] = 2,
    epochs: Annotated[int, typer.Option(help="Number of epochs.")] = 2,
    batch_size: Annotated[int, typer.Option(help="Rows per batch.")] = 16,
    max_length: Annotated[int, typer.Option(help="Maximum number of tokens in a row.")] = 128,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of texts of the corpus.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the texts and of the global random generators.")] = 0,
    json: Annotated[Path | None, typer.Option("--json", help="JSON file to write the results to.")] = None,
) -> None:
    """Check a collator: rate, replacements, special tokens, padding, labels, cut words, and repeated masks.

    The module is imported from the current folder, as `python -m` does. Exit code 1 means that a fault was found.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a data loader may fork its workers
    found = load_object(collator)

    from itertools import islice

    from nmg.base.files import as_json, write_text
    from nmg.base.outputs import check_file
    from nmg.base.settings import ModelSettings
    from nmg.collation.check import check_collator as check
    from nmg.data.formats.text import read_texts
    from nmg.jobs.console import quiet_libraries
    from nmg.training.lm import load_tokenizer

    if json is not None:
        check_file(json)
    texts = None if corpus is None else list(islice(read_texts(corpus), limit))
    options = {"workers": workers, "epochs": epochs, "batch_size": batch_size, "max_length": max_length, "seed": seed}
    with quiet_libraries():
        tokenizer = load_tokenizer(ModelSettings(name=model))
        report = check(found, tokenizer, texts=texts, rate=rate, whole_words=whole_words, name=collator, **options)
    if json is not None:
        write_text(json, as_json(report.as_dict(), indent=2) + "\n")
    _show(report)
    if report.faults:
        raise typer.Exit(1)


def load_object(name: str) -> Any:
    """Import the object that `name` describes as 'module:object'. The current folder is searched first.

    Raises:
        UserError: If `name` has another form, or if the module cannot be imported or does not contain the object.
    """
    module_name, colon, attribute = name.partition(":")
    if not module_name or not attribute or not colon:
        raise UserError(f"'{name}': write MODULE:NAME, for example my_collators:build for build in my_collators.py")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(f"'{name}': importing {module_name} failed ({problem_line(error)})") from error
        raise UserError(
            f"'{name}': there is no module {module_name}, neither installed nor in the current folder"
        ) from error
    except Exception as error:
        raise UserError(f"'{name}': importing {module_name} failed ({problem_line(error)})") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UserError(f"'{name}': the module {module_name} has no {attribute}")
        found = getattr(found, part)
    return found


def _show(report: "CollatorReport") -> None:
    """Print the table of checks and the verdict."""
    from nmg.report.document import Table
    from nmg.report.terminal import show
    from nmg.report.verdicts import collator_verdict

    rows = tuple((check.name, check.verdict, check.sentence) for check in report.checks)
    marked = frozenset((row, 1) for row, check in enumerate(report.checks) if check.verdict == "fault")
    caption = f"{report.collator}: {report.rows} rows ({report.text}), {report.epochs} epochs, {report.workers} workers"
    show([Table(("check", "verdict", "what was found"), rows, caption=caption, n_words=3, highlighted=marked)])
    show([collator_verdict(report)])
