"""`nmg validate`: checks a configuration without loading a model or data."""

from pathlib import Path
from typing import Annotated

import typer


def validate(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML), or the name of a built-in one.")],
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not print the resolved settings.")] = False,
) -> None:
    """Check a configuration: keys, values, and that the files it names exist. Loads no model and no data.

    Settings can be overridden as in every command: --section.field value.
    """
    from nmg.base.errors import UserError
    from nmg.base.files import is_there, user_path
    from nmg.cli.words import required_config
    from nmg.config import load_config

    config, overrides = required_config(config, context.args)
    settings = load_config(config, overrides)
    for field in ("train", "validation", "test", "corpus"):
        file = getattr(settings.data, field)
        if file is not None and not is_there(user_path(file)):
            raise UserError(f"data.{field}: the file {file} does not exist")
    if not quiet:
        typer.echo(settings.to_yaml(), nl=False)
    typer.secho(f"{config}: valid (digest {settings.digest})", fg=typer.colors.GREEN, err=True)
