"""`nmg estimate`: predicts the time, memory and disk space of a meta-training run before it starts."""

from pathlib import Path
from typing import Annotated

import typer


def estimate(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML), or the name of a built-in one.")],
    out: Annotated[Path | None, typer.Option(help="File to write the numbers to (JSON).")] = None,
) -> None:
    """Estimate the time, memory and disk space of `nmg learn CONFIG` on this machine from a few measured steps.

    Writes only the tokenised corpus to the cache. Any setting can be overridden: --section.field value.
    """
    from nmg.cli.words import required_config
    from nmg.config import load_config
    from nmg.jobs.console import progress_console

    config, overrides = required_config(config, context.args)
    settings = load_config(config, overrides)

    import json

    from nmg.base.files import write_text
    from nmg.meta_training.estimate import estimate as estimate_run

    with progress_console() as console:
        found = estimate_run(settings, console)
    head = f", including up to {found.head_steps} steps that train a missing LM head" if found.head_steps else ""
    typer.echo(
        f"minutes: {found.minutes:.1f} ({found.episodes} episodes, {found.trials} inner loops{head})\n"
        f"memory: {found.peak_mib:.0f} MiB\ndisk: {found.disk_mib:.1f} MiB"
    )
    from nmg.report.terminal import show
    from nmg.report.verdicts import estimate_verdict

    if out is not None:
        write_text(out, json.dumps(found.to_json(), indent=1) + "\n")
    show([estimate_verdict(found, config)])
