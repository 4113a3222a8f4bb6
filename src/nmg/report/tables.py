"""Results of several maskings over several seeds: means, paired comparisons, and one table wherever they are shown.

A cell is one (masking, seed): adapt, fine-tune, score. All cells of a seed share everything but the masking, hence
maskings are compared by their differences within seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import rich.table
from rich.markup import escape

from nmg.statistics import estimate, t_p_value
from nmg.types import FloatArray

RAW_METRICS = frozenset({"loss", "held_out_loss"})
"""metrics shown as they are; every other one is a fraction, shown × 100"""


@dataclass(frozen=True)
class ResultCell:
    """What one masking scored under one seed, and what it cost."""

    masking: str
    seed: int
    scores: Mapping[str, float]
    """metric name → score on the test set"""
    lm_loss: float | None
    """mean masked-LM loss over the last epoch of the adaptation; None without adaptation"""
    lm_steps: int
    task_steps: int
    masked_tokens: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    """phase → seconds; `total`, where given, covers all phases"""

    @property
    def total_seconds(self) -> float:
        return self.seconds.get("total", sum(self.seconds.values()))


@dataclass(frozen=True)
class Difference:
    """Mean of (masking − baseline) over the seeds that have both."""

    mean: float
    n: int
    """pairs"""
    low: float | None = None
    """bounds of the 95 % t interval; None with fewer than two pairs, or where all differences are equal"""
    high: float | None = None
    p_value: float | None = None
    """two-sided paired t test; None as above"""


@dataclass(frozen=True)
class Row:
    """One masking's results over its seeds."""

    masking: str
    n_seeds: int
    mean: Mapping[str, float]
    deviation: Mapping[str, float | None]
    """standard deviation over seeds (n − 1); None for one seed"""
    difference: Mapping[str, Difference | None]
    """None at the baseline itself, and where no seed has both"""
    masked_tokens: float
    """mean over seeds"""
    seconds: float
    """mean over seeds, all phases together"""


@dataclass(frozen=True)
class Table:
    """Text cells, ready to print; the first column names the row."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def summarise(cells: Sequence[ResultCell], metrics: Sequence[str], baseline: str = "random") -> list[Row]:
    """One row a masking, in the order in which maskings first appear; every cell must hold every metric.

    Raises ValueError if a (masking, seed) comes twice.
    """
    by_masking: dict[str, dict[int, ResultCell]] = {}
    for cell in cells:
        of_masking = by_masking.setdefault(cell.masking, {})
        if cell.seed in of_masking:
            raise ValueError(f"masking '{cell.masking}' has two results for seed {cell.seed}")
        of_masking[cell.seed] = cell
    rivals = by_masking.get(baseline, {})
    rows = []
    for masking, of_masking in by_masking.items():
        scores = {metric: np.array([cell.scores[metric] for cell in of_masking.values()]) for metric in metrics}
        n_seeds = len(of_masking)
        rows.append(
            Row(
                masking=masking,
                n_seeds=n_seeds,
                mean={metric: float(values.mean()) for metric, values in scores.items()},
                deviation={m: float(values.std(ddof=1)) if n_seeds > 1 else None for m, values in scores.items()},
                difference={m: None if masking == baseline else _compare(of_masking, rivals, m) for m in metrics},
                masked_tokens=float(np.mean([cell.masked_tokens for cell in of_masking.values()])),
                seconds=float(np.mean([cell.total_seconds for cell in of_masking.values()])),
            )
        )
    return rows


def _compare(own: Mapping[int, ResultCell], rivals: Mapping[int, ResultCell], metric: str) -> Difference | None:
    pairs = [(own[seed].scores[metric], rivals[seed].scores[metric]) for seed in own if seed in rivals]
    return paired_difference(np.array([a - b for a, b in pairs])) if pairs else None


def paired_difference(differences: FloatArray) -> Difference:
    """Mean, 95 % t interval and two-sided p value of paired differences [n], n ≥ 1."""
    of_difference = estimate(differences)
    return Difference(
        of_difference.mean, of_difference.n, of_difference.low, of_difference.high, t_p_value(differences)
    )


def shown_scale(metric: str) -> int:
    """What a score is multiplied by wherever people read it."""
    return 1 if metric in RAW_METRICS else 100


def results_table(rows: Sequence[Row], metrics: Sequence[str], baseline: str = "random") -> Table:
    """The rows as text: mean ± deviation of each metric, behind the first its paired difference and p; then the costs.

    Only the first metric, the one that was chosen beforehand, is tested: a test for each would invite picking.
    """
    header = ["masking"]
    for number, metric in enumerate(metrics):
        header += [metric] if number else [metric, f"Δ {baseline} [95 %]", "p"]
    header += ["masked tokens", "time"]
    return Table(tuple(header), tuple(_text_cells(row, metrics) for row in rows), _notes(rows, metrics, baseline))


def markdown_table(rows: Sequence[Row], metrics: Sequence[str], baseline: str = "random") -> str:
    """A table of GitHub's Markdown, its notes behind it."""
    return as_markdown(results_table(rows, metrics, baseline))


def rich_table(rows: Sequence[Row], metrics: Sequence[str], title: str, baseline: str = "random") -> rich.table.Table:
    """The same table for a terminal."""
    return as_rich(results_table(rows, metrics, baseline), title)


def as_markdown(table: Table) -> str:
    """Any table as GitHub's Markdown, its notes behind it."""
    lines = [_markdown_row(table.header), _markdown_row(["---"] + ["---:"] * (len(table.header) - 1))]
    lines += [_markdown_row(row) for row in table.rows]
    return "\n".join([*lines, "", *table.notes]) + "\n"


def as_rich(table: Table, title: str) -> rich.table.Table:
    """Any table for a terminal."""
    printed = rich.table.Table(title=title, caption=" ".join(table.notes), caption_justify="left", title_justify="left")
    for number, name in enumerate(table.header):
        printed.add_column(name, justify="left" if number == 0 else "right")
    for row in table.rows:
        printed.add_row(*map(escape, row))  # brackets in a name are no markup
    return printed


def _text_cells(row: Row, metrics: Sequence[str]) -> tuple[str, ...]:
    cells = [row.masking]
    for number, metric in enumerate(metrics):
        cells.append(mean_text(row.mean[metric], row.deviation[metric], metric))
        if number == 0:
            difference = row.difference[metric]
            cells.append(_difference_text(difference, metric))
            cells.append(p_text(difference.p_value if difference else None))
    return (*cells, f"{row.masked_tokens:,.0f}", seconds_text(row.seconds))


def _notes(rows: Sequence[Row], metrics: Sequence[str], baseline: str) -> tuple[str, ...]:
    counts = sorted({row.n_seeds for row in rows})
    n_seeds = "–".join(str(n) for n in dict.fromkeys([counts[0], counts[-1]])) if counts else "0"
    unit = "Scores × 100" + (" (loss as it is)" if set(metrics) & RAW_METRICS else "")
    return (
        f"{unit}: mean ± standard deviation over n = {n_seeds} seeds.",
        f"Δ: difference of {metrics[0] if metrics else 'scores'} to '{baseline}' within the same seeds, with its "
        "95 % t interval; p: two-sided paired t test.",
        "Masked tokens and time: mean of a run.",
    )


def score_text(value: float, metric: str, sign: str = "") -> str:
    return f"{value * shown_scale(metric):{sign}.{3 if metric in RAW_METRICS else 1}f}".replace("-", "−")


def mean_text(mean: float, deviation: float | None, metric: str) -> str:
    return score_text(mean, metric) + ("" if deviation is None else f" ± {score_text(deviation, metric)}")


def _difference_text(difference: Difference | None, metric: str) -> str:
    return "–" if difference is None else difference_text(difference.mean, difference.low, difference.high, metric)


def difference_text(mean: float, low: float | None, high: float | None, metric: str) -> str:
    """A signed difference with its interval, where it has one."""
    return score_text(mean, metric, "+") + (f" {interval_text(low, high, metric, '+')}" if low is not None else "")


def interval_text(low: float | None, high: float | None, metric: str, sign: str = "") -> str:
    if low is None or high is None:
        return "–"
    return f"[{score_text(low, metric, sign)}, {score_text(high, metric, sign)}]"


def p_text(p_value: float | None) -> str:
    if p_value is None:
        return "–"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def seconds_text(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
