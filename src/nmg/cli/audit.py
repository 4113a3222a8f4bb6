"""`nmg audit`: tests whether adaptation helps, how much maskings differ, and which reward shows the differences."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nmg.auditing.trials import AuditTrial


def audit(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML), or the name of a built-in one.")],
    out: Annotated[Path, typer.Option(help="Folder of the audit. An interrupted audit continues.")],
    seeds: Annotated[int, typer.Option(min=2, help="Number of seeds that each masking is tried with.")] = 3,
    minutes: Annotated[float, typer.Option(min=1, help="Approximate duration in minutes.")] = 10.0,
) -> None:
    """Test within minutes whether adaptation helps, how much maskings differ, and which reward distinguishes them.

    Writes OUT/audit.json, OUT/recommended.yaml and OUT/index.html. The test set is not read. Any setting can be
    overridden: --section.field value.
    """
    from nmg.cli.words import required_config
    from nmg.config import load_config
    from nmg.jobs.console import progress_console

    config, overrides = required_config(config, context.args)
    settings = load_config(config, overrides)

    from nmg.jobs.audit import audit as run_audit
    from nmg.report.audit_page import audit_tables, verdict
    from nmg.report.terminal import show

    with progress_console() as console:

        def on_trial(trial: "AuditTrial", _done: int, _in_all: int) -> None:
            console.notify(f"{trial.name}  {sum(trial.seconds.values()):.1f} s")

        result = run_audit(settings, out, seeds=seeds, minutes=minutes, reporter=console, on_trial=on_trial)
    show(audit_tables(result))
    typer.echo(f"written: {out}/audit.json, recommended.yaml, index.html")
    show([verdict(result, out)])
