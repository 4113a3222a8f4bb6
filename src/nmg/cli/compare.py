"""`nmg compare`: compares maskings and policies over seeds, with statistics."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nmg.comparison.results import ComparisonResults
    from nmg.comparison.run import TrialEvent
    from nmg.config import Config


def compare(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder of the comparison. An interrupted one continues.")],
    config: Annotated[
        Path | None,
        typer.Argument(
            help="Configuration file (YAML), or the name of a built-in one. Several make a grid.", show_default=False
        ),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="Table of scores made elsewhere (method, seed, item, score), in place of CONFIG. Nothing is trained.",
            show_default=False,
        ),
    ] = None,
    maskings: Annotated[str, typer.Option(help="Names of maskings, separated by commas.")] = "none,random,whole-word",
    policy: Annotated[
        Path | None, typer.Option(help="Folder of a run or policy. Tables call it 'learned'.", show_default=False)
    ] = None,
    policies: Annotated[
        str,
        typer.Option(
            help="Folders of several runs or policies, separated by commas, each FOLDER or NAME=FOLDER.",
            show_default=False,
        ),
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, starting at --run.seed.")] = 5,
    shots: Annotated[
        str | None,
        typer.Option(help="Learning curve over labelled examples (per class in classification), e.g. 4,16,64,all."),
    ] = None,
    adapt_steps: Annotated[
        str | None, typer.Option(help="Learning curve over adaptation steps, e.g. 50,100,200.")
    ] = None,
    lora_ranks: Annotated[
        str | None, typer.Option(help="Ranks of LoRA to compare, 0 for training the whole model, e.g. 0,8.")
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="Models of a grid, separated by commas, each MODEL or NAME=MODEL.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Masking to test all others against. Default: all pairs; in a grid, random.")
    ] = None,
    save_models: Annotated[bool, typer.Option("--save-models", help="Save the adapted LMs of the first seed.")] = False,
) -> None:
    """Compare maskings over seeds: means, intervals, tests of every pair, costs, learning curves.

    Each masking with each seed is a trial, which runs once and is stored in OUT/trials.jsonl. Run the command again to
    continue after an interruption, to retry failed trials, or to add seeds and maskings.

    Several configurations or --models make a grid, with one comparison per folder OUT/NAME and a common table in OUT.
    Any setting can be overridden: --section.field value. The paper's name of this command, meta-test, works too.
    """
    from nmg.cli.words import named_configs, named_models, required_configs, split_names
    from nmg.config import load_config

    if scores is not None:
        return _compare_scores(context, scores, out, baseline)
    words, overrides = required_configs(config, context.args)
    is_grid = len(words) > 1 or models is not None
    files = named_configs(words) if is_grid else {"": Path(words[0])}
    configs = {name: load_config(file, overrides) for name, file in files.items()}

    from nmg.comparison.plan import parse_labelled, parse_ranks, parse_steps
    from nmg.masking.names import LEARNED
    from nmg.policies.maskings import parse_policies

    run_comparison(
        configs if is_grid else configs[""],
        split_names(maskings),
        out,
        models=None if models is None else named_models(models),
        baseline=baseline,
        policies={
            **({} if policy is None else {LEARNED: policy}),
            **parse_policies(policies.split(","), "--policies"),
        },
        seeds=seeds,
        labelled=(None,) if shots is None else parse_labelled(shots),
        adapt_steps=(None,) if adapt_steps is None else parse_steps(adapt_steps),
        lora_ranks=(None,) if lora_ranks is None else parse_ranks(lora_ranks),
        save_models=save_models,
    )


def _compare_scores(context: typer.Context, scores: Path, out: Path, baseline: str | None) -> None:
    """Compare scores made elsewhere and show the results. Raises UserError for what does not fit `--scores`."""
    from nmg.base.errors import UserError
    from nmg.cli.words import configs_and_settings
    from nmg.config import load_config
    from nmg.jobs.compare_scores import compare_scores

    given = [name for name in context.params if name not in {"scores", "out", "baseline", "config"}]
    for name in given:
        if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE":
            raise UserError(f"--{name.replace('_', '-')}: does not fit --scores, which trains nothing")
    configs, words = configs_and_settings(context.params["config"], context.args)
    if configs:
        raise UserError(f"{configs[0]}: --scores needs no configuration")
    if other := next((word for word in words if word.startswith("--") and not word.startswith("--test.margin")), None):
        raise UserError(f"{other.partition('=')[0]}: does not fit --scores; the only setting is --test.margin")
    margin = load_config(overrides=words).test.margin
    show_results(compare_scores(scores, out, baseline=baseline, margin=margin), out)


def run_comparison(config: "Config | dict[str, Config]", maskings: list[str], out: Path, **options: Any) -> None:
    """Run a comparison, show its progress and its results, and exit with code 1 if a trial or a part failed.

    Args:
        config: The settings or, for a grid, name → settings.
        maskings: Names of the maskings.
        out: Folder of the comparison.
        **options: The other arguments of `jobs.compare.compare`.

    Raises:
        typer.Exit: If a trial or a part failed.
    """
    from nmg.jobs.compare import compare as compare_maskings
    from nmg.jobs.console import progress_console

    with progress_console() as console:

        def on_cell(event: "TrialEvent", _missing: int) -> None:
            if not event.was_there:
                console.notify(event.line())

        results = compare_maskings(config, maskings, out, reporter=console, on_cell=on_cell, **options)
    show_results(results, out)
    if results.failures:
        raise typer.Exit(1)


def show_results(results: "ComparisonResults", out: Path) -> None:
    """Print tables and summary to standard output and failures to standard error, on the main process only."""
    from nmg.base.distributed import is_main_process

    if not is_main_process():
        return
    from nmg.report.comparison import terminal_tables
    from nmg.report.terminal import notes_once, show
    from nmg.report.verdicts import compare_verdict

    show(notes_once(terminal_tables(results)))
    typer.echo(f"results: {out}/index.html, results.md, results.json, results.csv, results.tex")
    show([compare_verdict(results)])
    for name, problem in results.failures.items():
        part, _, cell = name.rpartition("/")
        file = f"{name}.error.txt" if name in results.failed_parts else f"{part}/errors/{cell}.txt".lstrip("/")
        typer.secho(f"failed: {name}: {problem} ({out}/{file})", fg=typer.colors.RED, err=True)
