"""`nmg adapt`: further pre-training only."""

from pathlib import Path
from typing import Annotated

import typer


def adapt(
    context: typer.Context,
    corpus: Annotated[
        Path,
        typer.Option(
            help="Text: .txt (a text a line), .jsonl, .parquet, a folder of .txt files, hub:OWNER/NAME@SPLIT."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the adapted model.")],
    model: Annotated[str | None, typer.Option(help="Hub name or folder of a masked LM.")] = None,
    masking: Annotated[
        str, typer.Option(help="A masking's name (nmg maskings), or the folder of a run or policy.")
    ] = "random",
    config: Annotated[Path | None, typer.Option(help="Configuration file (YAML); defaults otherwise.")] = None,
) -> None:
    """Continue the training of a masked LM on a corpus, with new masks at every step.

    OUT loads in transformers: pipeline("fill-mask", OUT). Any setting can be overridden: --section.field value, e.g.
    --masking.rate 0.15 --adapt.epochs 3 --adapt.batch_size 16 --adapt.block_size 126.
    """
    from nmg.base.distributed import is_main_process
    from nmg.cli.console import progress_console
    from nmg.config import load_config

    overrides = [*context.args, f"--data.corpus={corpus}", *([f"--model.name={model}"] if model else [])]
    settings = load_config(config, overrides)

    from nmg.jobs.adapt import adapt as run_adapt

    with progress_console() as console:
        result = run_adapt(settings, masking, out, console)
    loss = f", masked-LM loss {result.fit.loss:.3f}" if result.fit.steps else ""
    if not is_main_process():
        return
    typer.echo(
        f"{out}: {result.fit.steps} steps, {result.masked_tokens:,} masked tokens, {result.fit.seconds:.0f} s{loss}"
    )
