"""Compares the scores of runs made elsewhere: `nmg.compare_scores`. No model is loaded and nothing is trained."""

from pathlib import Path

from nmg.base.files import user_path
from nmg.base.outputs import check_output, output_lock
from nmg.comparison.analysis import analyse, compared
from nmg.comparison.parts import Part, chosen_baseline
from nmg.comparison.plan import Plan
from nmg.comparison.run import Finished
from nmg.comparison.scores import METRIC, read_scores
from nmg.config import load_config
from nmg.config.sources import AnyPath
from nmg.jobs.results import Compared
from nmg.report.comparison_files import FILES, write_comparison


def compare_scores(scores: AnyPath, out: AnyPath, *, baseline: str | None = None, margin: float = 0.0) -> Compared:
    """Compare methods by the scores of runs made elsewhere, and write all files into `out`.

    Args:
        scores: A table (.csv, .tsv, .jsonl, .json or .parquet) with the columns `method`, `seed`, `item` and `score`.
            Scores are from −1 to 1, higher is better, and every method has all seeds and items.
        out: Folder of the results. Those of an earlier call are replaced.
        baseline: The method that all others are tested against. None tests all pairs.
        margin: Largest difference that does not matter, in points: scores × 100 (`test.margin`).

    Returns:
        All scores and tests, with `summary()` and `to_frame()`.

    Raises:
        UserError: The table, the baseline, the margin or the folder is invalid. The message names file, line and field.

    Example:
        ```python
        print(nmg.compare_scores("scores.csv", "comparison", baseline="random").summary())
        ```
    """
    file, folder = user_path(scores), user_path(out)
    config = load_config(overrides={"test.margin": margin})
    _check_folder(folder)
    trials = read_scores(file)
    methods, seeds = dict.fromkeys(one.spec.masking for one in trials), {one.spec.seed for one in trials}
    plan = Plan(dict.fromkeys(methods), sorted(seeds))
    part = Part("", file.name, "", config, plan, is_external=True)
    if baseline is not None:
        baseline = chosen_baseline(baseline, [part])
    results = compared([analyse(part, (METRIC,), Finished(trials, {}))], baseline)
    with output_lock(folder):
        write_comparison(folder, results)
    return Compared(**vars(results), out=folder)


def _check_folder(out: Path) -> None:
    """Raise UserError if `out` has other files than those of an earlier comparison of scores."""
    if not out.is_dir() or {path.name for path in out.iterdir() if path.name[0] != "."} - FILES:
        check_output(out, "files that do not belong to a comparison of scores")
