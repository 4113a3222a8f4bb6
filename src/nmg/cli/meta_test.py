"""nmg meta-test: adapt, fine-tune and evaluate under several maskings."""

from pathlib import Path
from typing import Annotated

import typer


def meta_test(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML).")],
    out: Annotated[Path, typer.Option(help="Folder for results.json and results.md.")],
    policy: Annotated[Path | None, typer.Option(help="Run or policy folder: the masking 'neural'.")] = None,
    maskings: Annotated[
        str, typer.Option(help="Names separated by commas; a folder is taken for a policy.")
    ] = "none,random,whole-word,neural",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, counted up from --run.seed.")] = 3,
    save_models: Annotated[bool, typer.Option("--save-models", help="Keep the adapted LMs of the first seed.")] = False,
) -> None:
    """Adapt a fresh model under each masking, fine-tune it on the training set, evaluate it on the test set.

    Budget, steps, initial weights and order are the same for every masking of a seed. Any setting can be overridden:
    --section.field value.
    """
    from nmg.cli.console import progress_console
    from nmg.cli.words import required_config
    from nmg.config import load_config
    from nmg.setup import check_output

    config, overrides = required_config(config, context.args)
    settings = load_config(config, overrides)
    check_output(out, "results of another run")
    names = split_names(maskings)

    from nmg.meta_test import MetaTest
    from nmg.report.tables import ResultCell, rich_table, summarise

    with progress_console() as console:
        test = MetaTest.prepare(settings, names, policy, console)
        done = 0

        def on_cell(cell: ResultCell) -> None:
            nonlocal done
            done += 1
            score = "  ".join(f"{name} {value:.4f}" for name, value in cell.scores.items())
            console.notify(f"{cell.masking}  seed {cell.seed}  {score}  {cell.total_seconds:.0f} s")
            console.overall(f"run {done}/{len(names) * seeds}", done, len(names) * seeds)

        console.overall("masking × seed", 0, len(names) * seeds)
        first = settings.run.seed
        cells = test.run(range(first, first + seeds), out, on_cell, save_models=save_models)
    metrics = test.table_metrics
    from rich import print as show

    show(rich_table(summarise(cells, metrics), metrics, "Scores on the test set"))
    typer.echo(f"results: {out}/results.md, {out}/results.json")


def split_names(maskings: str) -> list[str]:
    """The names, each once. Raises UserError for none."""
    from nmg.errors import UserError

    names = list(dict.fromkeys(name.strip() for name in maskings.split(",") if name.strip()))
    if not names:
        raise UserError("--maskings: name at least one masking")
    return names
