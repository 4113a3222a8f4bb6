"""`nmg adapt --auto`: decides whether a model should be adapted, and adapts it if so."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from nmg.base.errors import UserError

STAGES = ("audit", "learn", "comparison", "adapted")
"""The stages in their order, for the progress bar."""


def adapt_auto(
    config: Path | None, overrides: Sequence[str], out: Path | None, resume: Path | None, minutes: float | None
) -> None:
    """Run `nmg adapt --auto`.

    Args:
        config: Configuration file; for a resumed run, None.
        overrides: Words '--section.field value' that override the configuration.
        out: Folder of a new run.
        resume: Folder of a run to continue.
        minutes: Duration in minutes; None for the default or, for a resumed run, the recorded one.

    Raises:
        UserError: The words do not fit together, or an input is invalid.
    """
    from nmg.config import load_config
    from nmg.jobs.console import progress_console

    if (resume is None) != (config is not None and out is not None) or (resume is not None and config is not None):
        raise UserError("--auto: give either CONFIG.yaml --out FOLDER, or --resume FOLDER")
    folder = resume or out
    assert folder is not None

    from nmg.auto.folder import recorded_config
    from nmg.auto.run import PAGE, adapt_automatically
    from nmg.report.terminal import show

    settings = load_config(config, overrides) if resume is None else recorded_config(folder, list(overrides))
    with progress_console() as console:

        def on_progress(stage: str, what: str, done: int, total: int) -> None:
            number = f"{STAGES.index(stage) + 1}/{len(STAGES)}"
            console.overall(f"{number} {stage} · {what} {done}/{total}", done, total)

        result = adapt_automatically(
            settings,
            folder,
            minutes=minutes,
            resume=resume is not None,
            reporter=console,
            on_progress=on_progress,
        )
    show([result.verdict])
    typer.echo(f"page: {folder}/{PAGE}   decision: {folder}/auto.json")


def refuse_others(given: dict[str, Any]) -> None:
    """Raise UserError for an option that `--auto` decides itself; `given` maps options to values."""
    for option, value in given.items():
        if value is not None:
            raise UserError(f"{option}: --auto decides this itself. Leave out {option} or --auto.")
