"""`nmg adapt`: continues the pre-training of a masked LM on a corpus."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nmg.config import Config


def adapt(
    context: typer.Context,
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="Texts: .txt (one per line), .jsonl, .parquet, a folder of .txt files, hub:OWNER/NAME@SPLIT, stream:…"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write the adapted model to.")] = None,
    model: Annotated[str | None, typer.Option(help="Masked LM: a hub name or a folder.")] = None,
    masking: Annotated[
        str | None,
        typer.Option(help="Name of a masking (see nmg maskings), or folder of a run or policy. Default: random."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file (YAML). Default: built-in settings.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe that supplies the settings you do not give: default, modern (for ModernBERT, Ettin, mmBERT) "
            "or paper."
        ),
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Folder of an adaptation to continue.")] = None,
    auto: Annotated[
        bool,
        typer.Option(
            "--auto",
            help="Decide by the task in CONFIG.yaml: audit, learn masks, compare, and adapt only if that pays.",
        ),
    ] = False,
    minutes: Annotated[float | None, typer.Option(help="With --auto: duration in minutes. Default: 60.")] = None,
) -> None:
    """Continue the training of a masked LM on a corpus, with new masks at every step.

    Load the result in transformers with pipeline("fill-mask", OUT). Any setting can be overridden:
    --section.field value, e.g. --masking.rate 0.15 --adapt.epochs 3 --adapt.batch_size 16 --adapt.block_size 126.
    Continue an interrupted run with --resume OUT.

    nmg adapt --auto CONFIG.yaml --out DIR --minutes 60 decides by the task whether adapting pays, and with which masks.
    """
    from nmg.base.distributed import is_main_process
    from nmg.base.errors import UserError
    from nmg.base.files import is_there
    from nmg.cli.adapt_auto import adapt_auto, refuse_others
    from nmg.cli.words import config_and_settings
    from nmg.jobs.console import progress_console

    named, words = config_and_settings(None, context.args)
    if named is not None and config is not None:
        raise UserError(f"{named}: give one configuration file, here or as --config")
    config = config or named
    given = [f"--data.corpus={corpus}"] if corpus else []
    given += [f"--adapt.recipe={recipe}"] if recipe else []
    overrides = [*words, *given, *([f"--model.name={model}"] if model else [])]
    if auto or (resume is not None and is_there(resume / "auto.json")):
        refuse_others({"--masking": masking, "--recipe": recipe})
        return adapt_auto(config, overrides, out, resume, minutes)
    if minutes is not None:
        raise UserError("--minutes: only --auto accepts it. Use --adapt.minutes for the length of one adaptation.")
    if resume is not None and out not in (None, resume):
        raise UserError(f"--resume {resume}: the run continues in its own folder; leave out --out {out}")
    folder = resume or out
    if folder is None:
        raise UserError("give --out FOLDER for a new adaptation, or --resume FOLDER to continue one")
    if resume is None:
        from nmg.config import load_config

        settings = load_config(config, overrides)
        if settings.data.corpus is None:
            raise UserError("give the text to adapt on: --corpus FILE, or data.corpus in the configuration")
    else:
        settings, masking = _recorded(folder, config, overrides, masking)

    from nmg.jobs.adapt import adapt as run_adapt

    with progress_console() as console:
        result = run_adapt(settings, masking or "random", folder, reporter=console, resume=resume is not None)
    if is_main_process():
        from nmg.report.terminal import show
        from nmg.report.verdicts import adapt_verdict

        typer.echo(result.summary())
        if result.terms is not None and result.terms.measured:
            from nmg.adaptation.term_rows import SHOWN
            from nmg.report.terms import terms_table

            show([terms_table(result.terms.to_json(), SHOWN)])
        show([adapt_verdict(result)])


def _recorded(folder: Path, config: Path | None, overrides: list[str], masking: str | None) -> "tuple[Config, str]":
    """Return the settings and the masking of an interrupted run.

    Args:
        folder: The folder of the run.
        config: A configuration file that replaces the one of the run, or None.
        overrides: Words '--section.field value' that override the configuration file.
        masking: A masking that replaces the one of the run, or None.

    Returns:
        The settings, and the name of the masking.

    Raises:
        UserError: If `folder` contains no run, or a setting is invalid.
    """
    from nmg.adaptation.folder import AdaptationFolder
    from nmg.config import load_config

    run = AdaptationFolder(folder)
    run.recorded()  # raises UserError if there is no run
    settings = load_config(config or folder / "config.yaml", overrides)
    return settings, masking or str(run.facts()["masking"])
