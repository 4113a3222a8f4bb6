"""`nmg adapt`: further pre-training only."""

from pathlib import Path
from typing import Annotated

import typer


def adapt(
    context: typer.Context,
    corpus: Annotated[
        Path,
        typer.Option(
            help="Texts: .txt (one per line), .jsonl, .parquet, a folder of .txt files, or hub:OWNER/NAME@SPLIT."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the adapted model to.")],
    model: Annotated[str | None, typer.Option(help="Masked LM: a hub name or a folder.")] = None,
    masking: Annotated[
        str, typer.Option(help="Name of a masking (see nmg maskings), or folder of a run or policy.")
    ] = "random",
    config: Annotated[Path | None, typer.Option(help="Configuration file (YAML). Default: built-in settings.")] = None,
) -> None:
    """Continue the training of a masked LM on a corpus, with new masks at every step.

    Load the result in transformers with pipeline("fill-mask", OUT). Any setting can be overridden:
    --section.field value, e.g. --masking.rate 0.15 --adapt.epochs 3 --adapt.batch_size 16 --adapt.block_size 126.
    """
    from nmg.base.distributed import is_main_process
    from nmg.cli.console import progress_console
    from nmg.config import load_config

    overrides = [*context.args, f"--data.corpus={corpus}", *([f"--model.name={model}"] if model else [])]
    settings = load_config(config, overrides)

    from nmg.jobs.adapt import adapt as run_adapt

    with progress_console() as console:
        result = run_adapt(settings, masking, out, console)
    if is_main_process():
        typer.echo(result.summary())
