"""`nmg inspect`: writes a page that shows what maskings and policies mask."""

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    context: typer.Context,
    text: Annotated[
        Path, typer.Option(help="Texts: .txt (one a line), .jsonl, a folder of .txt files, or the data file of a task.")
    ],
    out: Annotated[Path, typer.Option(help="The page to write (.html).")],
    policy: Annotated[
        list[str] | None, typer.Option(help="Run or policy folder, or NAME=FOLDER; may be given several times.")
    ] = None,
    maskings: Annotated[str, typer.Option(help="Rules to show beside, separated by commas.")] = "random,idf",
    model: Annotated[str | None, typer.Option(help="Hub name or folder of the masked LM.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Share of tokens to mask; that of the first policy where not given.")
    ] = None,
    draws: Annotated[int, typer.Option(min=2, max=10_000, help="Masks drawn of every text, for each masking.")] = 100,
    limit: Annotated[int, typer.Option(min=1, help="Texts looked at; a random sample where there are more.")] = 10_000,
    tags: Annotated[bool, typer.Option(help="Parts of speech and named entities, where spaCy is installed.")] = True,
    config: Annotated[Path | None, typer.Option(help="Configuration file (YAML); defaults otherwise.")] = None,
) -> None:
    """Show which tokens policies and maskings mask: on every text, and over the whole corpus.

    OUT is one page that needs no network. Settings: --adapt.block_size 126 --masking.idf_unit word ...
    """
    from nmg.base.errors import UserError
    from nmg.cli.console import progress_console
    from nmg.cli.words import split_names
    from nmg.config import load_config

    given = {"model.name": model, "masking.rate": rate}
    overrides = [*context.args, *(f"--{name}={value}" for name, value in given.items() if value is not None)]
    settings = load_config(config, overrides)
    if out.suffix != ".html" or out.is_dir():
        raise UserError(f"--out {out}: must be a file that ends in .html")
    if "name" not in settings.model.model_fields_set:
        raise UserError("--model: name the masked LM whose states the policy reads (a hub name or a folder)")
    rules = split_names(maskings) if maskings.strip() else []

    from nmg.base.outputs import check_file
    from nmg.inspection.page import inspect_page
    from nmg.inspection.run import inspect_texts
    from nmg.policies.maskings import parse_policies
    from nmg.report.inspect_page import write_inspect_page

    check_file(out)
    folders = parse_policies(policy or [], "--policy")
    with progress_console() as console:
        seen = inspect_texts(settings, text, folders, rules, console, draws=draws, limit=limit, with_tags=tags)
    write_inspect_page(out, inspect_page(seen))
    size = out.stat().st_size / 1e6
    typer.echo(f"page: {out} ({seen.n_texts:,} texts, {size:.1f} MB)")
