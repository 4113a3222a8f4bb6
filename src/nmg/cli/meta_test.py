"""`nmg meta-test`: adapts, fine-tunes and evaluates models under several maskings."""

from pathlib import Path
from typing import Annotated

import typer


def meta_test(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML).")],
    out: Annotated[Path, typer.Option(help="Folder of the results. An interrupted run continues.")],
    policy: Annotated[
        Path | None, typer.Option(help="Folder of a run or policy to use as the masking 'neural'.")
    ] = None,
    maskings: Annotated[
        str, typer.Option(help="Names of maskings or folders of policies, separated by commas.")
    ] = "none,random,whole-word,neural",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, starting at --run.seed.")] = 3,
    save_models: Annotated[bool, typer.Option("--save-models", help="Save the adapted LMs of the first seed.")] = False,
) -> None:
    """Adapt a fresh model under each masking, fine-tune it on the training set, and evaluate it on the test set.

    With the same seed, all maskings have the same masking rate, steps, initial weights and order of examples. Each
    result is saved, and all pairs of maskings are tested. Any setting can be overridden: --section.field value.
    """
    from nmg.cli.compare import run_comparison
    from nmg.cli.words import required_config, split_names
    from nmg.config import load_config

    config, overrides = required_config(config, context.args)
    settings = load_config(config, overrides)
    names = split_names(maskings)

    run_comparison(
        settings,
        names,
        out,
        policies={"neural": policy} if policy is not None and "neural" in names else {},
        seeds=seeds,
        save_models=save_models,
    )
