"""`nmg learn`: learns a masking policy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nmg.meta_training.loop import EpisodeRecord


def learn(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Argument(help="Configuration file (YAML), or the name of a built-in one.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the new run.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Folder of an interrupted run to continue.")] = None,
) -> None:
    """Learn a masking policy from the scores of models that were adapted with its masks.

    Start with CONFIG --out RUN and continue with --resume RUN. Any setting can be overridden: --section.field value;
    nmg settings lists them. The paper's name of this command, meta-train, works too.
    """
    from nmg.base.errors import UserError
    from nmg.cli.words import config_and_settings
    from nmg.config import load_config
    from nmg.jobs.console import progress_console

    config, overrides = config_and_settings(config, context.args)
    if (resume is None) != (config is not None and out is not None) or (resume is not None and (config or out)):
        raise UserError("give either CONFIG.yaml --out RUN, or --resume RUN")
    settings = load_config(config, overrides) if resume is None else None

    from nmg.jobs.learn import PAGE
    from nmg.jobs.learn import learn as run_learn
    from nmg.meta_training.run import episode_line, recorded_config

    folder = resume or out
    assert folder is not None
    settings = settings or recorded_config(folder, overrides)

    with progress_console() as console:

        def on_episode(record: "EpisodeRecord", episodes: int) -> None:
            console.notify(episode_line(record, episodes))

        run_learn(settings, folder, resume=resume is not None, reporter=console, on_episode=on_episode)
    from nmg.meta_training.log import read_run
    from nmg.report.terminal import show
    from nmg.report.verdicts import learn_verdict

    typer.echo(f"policy: {folder}/policy   log: {folder}/metrics.jsonl   page: {folder}/{PAGE}")
    show([learn_verdict(read_run(folder), folder)])
