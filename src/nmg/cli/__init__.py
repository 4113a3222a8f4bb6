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
    inspect,
    maskings,
    meta_test,
    meta_train,
    report,
    share,
    validate,
    vocabulary,
)
from nmg.cli.commands import Command, SettingsCommand

app = typer.Typer(
    name="nmg",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
WITH_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Context settings of commands that accept '--section.field value' in addition to their options."""


def _say_version(is_asked: bool) -> None:
    """Print the version and exit if `--version` was given."""
    if is_asked:
        typer.echo(f"nmg {version('nmg')}")
        raise typer.Exit


@app.callback()
def nmg(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Learn which tokens to mask when adapting a language model, and measure how much it helps."""


app.command("demo", cls=SettingsCommand, context_settings=WITH_SETTINGS)(demo.demo)
app.command("validate", cls=SettingsCommand, context_settings=WITH_SETTINGS)(validate.validate)
app.command("estimate", cls=SettingsCommand, context_settings=WITH_SETTINGS)(estimate.estimate)
app.command("audit", cls=SettingsCommand, context_settings=WITH_SETTINGS)(audit.audit)
app.command("meta-train", cls=SettingsCommand, context_settings=WITH_SETTINGS)(meta_train.meta_train)
app.command("meta-test", cls=SettingsCommand, context_settings=WITH_SETTINGS)(meta_test.meta_test)
app.command("compare", cls=SettingsCommand, context_settings=WITH_SETTINGS)(compare.compare)
app.command("adapt", cls=SettingsCommand, context_settings=WITH_SETTINGS)(adapt.adapt)
app.command("inspect", cls=SettingsCommand, context_settings=WITH_SETTINGS)(inspect.inspect)
app.command("vocabulary", cls=SettingsCommand, context_settings=WITH_SETTINGS)(vocabulary.vocabulary)
app.command("report", cls=Command)(report.report)
app.command("maskings", cls=Command)(maskings.maskings)
app.command("check-collator", cls=Command)(check_collator.check_collator)
app.command("share", cls=Command)(share.share)
app.add_typer(data.app, name="data", help="Describe data files, convert them, and extract a corpus.")


def main() -> None:
    """Run the command line. Exit codes: 0 success, 2 invalid input, 130 interrupted, 143 ended by SIGTERM."""
    # Forked processes would conflict with the tokenizers' threads, but nmg forks no process.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    for library in ("HF_HUB", "DATASETS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")  # nmg reports errors in one line
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
