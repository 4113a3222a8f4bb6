"""The command line: one small module per command. Heavy imports happen inside the commands."""

import os
import signal
import sys
import traceback
from importlib.metadata import version
from types import FrameType
from typing import Annotated

import typer

from nmg.base.distributed import FailedTogether, is_main_process
from nmg.base.errors import UserError, printable
from nmg.cli import (
    adapt,
    audit,
    check_collator,
    compare,
    data,
    demo,
    estimate,
    init,
    inspect,
    learn,
    maskings,
    report,
    settings,
    share,
    validate,
    vocabulary,
)
from nmg.cli.commands import Entry

app = typer.Typer(
    name="nmg",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

START, DECIDE, ADAPT, LEARN, PROVE, LOOK = "Start", "Decide", "Adapt", "Learn", "Prove", "Look up and check"
"""Panels of `nmg --help`, in their order."""

COMMANDS = (
    Entry("init", init.init, START, "nmg init train.csv --model bert-base-uncased", has_settings=False),
    Entry("demo", demo.demo, START, "nmg demo --out demo"),
    Entry("audit", audit.audit, DECIDE, "nmg audit nmg.yaml --out audit --minutes 10"),
    Entry("estimate", estimate.estimate, DECIDE, "nmg estimate nmg.yaml"),
    Entry("adapt", adapt.adapt, ADAPT, "nmg adapt --corpus texts.txt --model bert-base-uncased --out adapted"),
    Entry("vocabulary", vocabulary.vocabulary, ADAPT, "nmg vocabulary texts.txt --model bert-base-uncased"),
    Entry("share", share.share, ADAPT, "nmg share adapted OWNER/NAME", has_settings=False),
    Entry("learn", learn.learn, LEARN, "nmg learn nmg.yaml --out run"),
    Entry("compare", compare.compare, PROVE, "nmg compare nmg.yaml --policy run --seeds 5 --out comparison"),
    Entry(
        "inspect", inspect.inspect, PROVE, "nmg inspect --text texts.txt --policy run --model MODEL --out masks.html"
    ),
    Entry("report", report.report, PROVE, "nmg report run --watch 30", has_settings=False),
    Entry("settings", settings.settings, LOOK, "nmg settings adapt.lora", has_settings=False),
    Entry("validate", validate.validate, LOOK, "nmg validate nmg.yaml --masking.rate 0.15"),
    Entry("maskings", maskings.maskings, LOOK, "nmg maskings", has_settings=False),
    Entry(
        "check-collator",
        check_collator.check_collator,
        LOOK,
        "nmg check-collator my_collators:build --model bert-base-uncased",
        has_settings=False,
    ),
    Entry("meta-train", learn.learn, LEARN, "nmg meta-train nmg.yaml --out run", is_hidden=True),
    Entry("meta-test", compare.compare, PROVE, "nmg meta-test nmg.yaml --policy run --out comparison", is_hidden=True),
)
"""All commands, in the order of `nmg --help`. The hidden ones are the paper's names of other commands."""


def _say_version(is_asked: bool) -> None:
    """Print the version and exit if `--version` was given."""
    if is_asked:
        typer.echo(f"nmg {version('nmg')}")
        raise typer.Exit


@app.callback(epilog="[bold]First:[/bold] nmg demo, or with your data: nmg init train.csv")
def nmg(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Learn which tokens to mask when adapting a language model, and measure how much it helps."""


for entry in COMMANDS:
    entry.register(app)
    if entry.name == "demo":
        app.add_typer(
            data.app, name="data", help="Describe, convert and extract text from data files.", rich_help_panel=START
        )


def main() -> None:
    """Run the command line. Exit codes: 0 success, 2 invalid input, 130 interrupted, 143 ended by SIGTERM."""
    # Forked processes would conflict with the tokenizers' threads, but nmg forks no process.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    for library in ("HF_HUB", "DATASETS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")  # nmg reports errors in one line
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # also the bars of transformers
    os.environ["NMG_COMMAND"] = "1"  # see `runtime.keep_memory`
    signal.signal(signal.SIGTERM, _end)
    try:
        app()
    except UserError as error:
        if os.environ.get("NMG_DEBUG"):
            typer.echo(printable("".join(traceback.format_exception(error))), err=True)
        if is_main_process() or not isinstance(error, FailedTogether):
            typer.secho(f"error: {printable(str(error))}", fg=typer.colors.RED, err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)


def _end(number: int, _frame: FrameType | None) -> None:
    """Exit through SystemExit, so that processes end, locks are released and trackers close."""
    sys.exit(128 + number)
