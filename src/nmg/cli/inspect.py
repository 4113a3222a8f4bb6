"""`nmg inspect`: writes a page that shows what maskings and policies mask."""

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    context: typer.Context,
    text: Annotated[
        Path,
        typer.Option(help="Texts: .txt (one per line), .jsonl, a folder of .txt files, or the data file of a task."),
    ],
    out: Annotated[Path, typer.Option(help="Page to write (.html).")],
    policy: Annotated[
        list[str] | None, typer.Option(help="Folder of a run or policy, or NAME=FOLDER. Repeat it for several.")
    ] = None,
    maskings: Annotated[str, typer.Option(help="Rules to compare with, separated by commas.")] = "random,idf",
    model: Annotated[str | None, typer.Option(help="Masked LM: a hub name or a folder.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Fraction of tokens to mask. Default: the rate of the first policy.")
    ] = None,
    draws: Annotated[int, typer.Option(min=2, max=10_000, help="Number of masks drawn per text and masking.")] = 100,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of texts. A larger file is sampled.")] = 10_000,
    tags: Annotated[bool, typer.Option(help="Show parts of speech and named entities if spaCy is installed.")] = True,
    config: Annotated[Path | None, typer.Option(help="Configuration file (YAML). Default: built-in settings.")] = None,
) -> None:
    """Show which tokens policies and maskings mask, in each text and over the whole corpus.

    OUT is one page that needs no network. Any setting can be overridden: --section.field value, e.g.
    --adapt.block_size 126 --masking.idf_unit word.
    """
    from nmg.base.errors import UserError
    from nmg.cli.words import split_names
    from nmg.config import load_config
    from nmg.jobs.console import progress_console

    given = {"model.name": model, "masking.rate": rate}
    overrides = [*context.args, *(f"--{name}={value}" for name, value in given.items() if value is not None)]
    settings = load_config(config, overrides)
    if out.suffix != ".html" or out.is_dir():
        raise UserError(f"--out {out}: name a file that ends in .html")
    if "name" not in settings.model.model_fields_set:
        raise UserError("--model: name the masked LM whose states the policy reads (a hub name or a folder)")
    rules = split_names(maskings) if maskings.strip() else []

    from nmg.base.outputs import check_file
    from nmg.inspection.page import inspect_page
    from nmg.inspection.render import write_inspect_page
    from nmg.inspection.run import inspect_texts
    from nmg.policies.maskings import parse_policies

    check_file(out)
    folders = parse_policies(policy or [], "--policy")
    with progress_console() as console:
        seen = inspect_texts(settings, text, folders, rules, console, draws=draws, limit=limit, with_tags=tags)
    write_inspect_page(out, inspect_page(seen))
    size = out.stat().st_size / 1e6
    typer.echo(f"page: {out} ({seen.n_texts:,} texts, {size:.1f} MB)")
    from nmg.report.document import Verdict
    from nmg.report.terminal import show

    show([Verdict(f"{out} shows which tokens are masked.", "Open it in a browser; it needs no network.")])
