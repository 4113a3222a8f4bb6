"""Tables, files and page of a comparison: the numbers as they are, and sentences that say no more than they do."""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from comparison import helpers
from nmg.base.trial import Condition, Labelled, TrialResult
from nmg.base.types import FloatArray
from nmg.comparison.plan import Plan
from nmg.comparison.results import ComparisonResults, MetaTrainingCost
from nmg.comparison.run import Finished
from nmg.comparison.statistics import estimate
from nmg.config import Config
from nmg.report.comparison import costs_table, pairs_table, scope, scores_table, setting_text, terminal_tables
from nmg.report.comparison_files import cells_csv, write_comparison
from nmg.report.comparison_page import comparison_page
from nmg.report.comparison_summary import reading
from nmg.report.curve_plots import score_curves
from nmg.report.document import Figure, Table
from nmg.report.html import render_html
from nmg.report.latex import as_latex, escape, latex_table
from nmg.report.markdown import as_markdown, table_lines
from nmg.report.numbers import p_text
from nmg.report.terminal import as_rich, notes_once
from nmg.report.verdicts import compare_verdict
from support.trials import compared

from .helpers import svgs


def cell(
    masking: str,
    seed: int,
    accuracy: float,
    labelled: Labelled = None,
    steps: int | None = None,
    n_labelled: int = 40,
    held_out: float | None = 4.25,
) -> TrialResult:
    scores, condition = {"accuracy": accuracy, "loss": 2 - accuracy}, Condition(labelled, steps)
    more: dict[str, Any] = {"n_labelled": n_labelled, "held_out": held_out, "adapts": masking != "none"}
    return compared(masking, seed, scores, condition, **more)


def results_of(cells: Sequence[TrialResult], failures: dict[str, str] | None = None) -> ComparisonResults:
    settings = list(dict.fromkeys(c.spec.condition for c in cells if c.spec.masking != "none"))
    plan = Plan.of(
        list(dict.fromkeys(c.spec.masking for c in cells)),
        {},
        sorted({c.spec.seed for c in cells}),
        labelled=list(dict.fromkeys(one.labelled for one in settings)) or (None,),
        adapt_steps=list(dict.fromkeys(one.adapt_steps for one in settings)) or (None,),
    )
    return helpers.results_of(Config(), plan, ("accuracy", "loss"), Finished(list(cells), failures or {}))


@pytest.fixture(autouse=True)
def _quick_correction(monkeypatch: pytest.MonkeyPatch) -> None:
    """statsmodels collects garbage at every correction, which takes longer than the rest."""
    monkeypatch.setattr("gc.collect", lambda: 0)


SCORES = {"none": [0.50, 0.60, 0.70], "random": [0.51, 0.62, 0.73], "idf": [0.49, 0.66, 0.74]}
PLAIN = [cell(name, seed, score) for name, scores in SCORES.items() for seed, score in enumerate(scores)]


def curves() -> list[TrialResult]:
    rng = np.random.default_rng(0)
    sizes: dict[Labelled, int] = {4: 16, "all": 500}
    cells = [cell("none", s, rng.uniform(), k, None, n) for s in range(3) for k, n in sizes.items()]
    cells += [
        cell(name, s, rng.uniform(), k, steps, n)
        for name in ("random", "idf")
        for s in range(3)
        for k, n in sizes.items()
        for steps in (50, 200)
    ]
    return cells


def test_scores_by_hand():
    table = scores_table(results_of(PLAIN).settings[0], ("accuracy", "loss"))
    assert table.header == (
        *("masking", "seeds", "accuracy", "95 %", "loss", "held-out LM loss", "masked tokens", "time"),
    )
    # t(.975, 2) · 10 / √3 = 24.84
    none, random, _ = table.rows
    assert none == ("none", "3", "60.0 ± 10.0", "[35.2, 84.8]", "1.400 ± 0.100", "4.250 ± 0.000", "0", "7.0 s")
    assert random[6] == "1,200"
    assert "losses as they are" in table.notes[0]


def test_the_best_row_is_marked_and_no_number_is_there_twice():
    """A metric that equals another in every row is left out, with a note that says so."""
    condition = results_of(PLAIN).settings[0]
    twice = [replace(one, estimates={**one.estimates, "f1": one.estimates["accuracy"]}) for one in condition.maskings]
    table = scores_table(replace(condition, maskings=twice), ("accuracy", "f1", "loss"))
    assert table.header[2:5] == ("accuracy", "95 %", "loss")
    assert table.notes[-1] == "f1 equals accuracy."
    means = [one.estimates["accuracy"].mean for one in condition.maskings]
    assert table.marks == ((means.index(max(means)), "best"),)


def test_significant_pairs_are_marked():
    results = results_of([*shifted(["none", "random"], 0.1)])
    table = pairs_table(results, results.settings)
    assert [table.mark(row) for row in range(len(table.rows))] == [
        "significant" if pair.differs else "" for pair in results.pairs
    ]
    assert "significant" in table.mark(0)


def test_scores_without_held_out_text():
    cells = [cell(one.spec.masking, one.spec.seed, one.scores["accuracy"], held_out=None) for one in PLAIN]
    table = scores_table(results_of(cells).settings[0], ("accuracy",))
    assert table.header == ("masking", "seeds", "accuracy", "95 %", "masked tokens", "time")
    assert not any("Held-out" in note for note in table.notes)


def test_pairs_by_hand():
    results = results_of(PLAIN)
    table = pairs_table(results, results.settings)
    assert [row[0] for row in table.rows] == ["random − none", "idf − none", "idf − random"]
    # Differences 1, 2, 3: mean 2, deviation 1, t = 2 √3: p .0742, times three pairs. All positive: 2 / 8.
    assert table.rows[0] == ("random − none", "+2.0 [−0.5, +4.5]", "–", "0.223", "0.750", "+2.00", "3/0/0")
    assert table.rows[1][6] == "2/0/1"
    assert len(table.header) == len(table.rows[0])
    assert "over all 3 planned pairs of this comparison" in " ".join(table.notes)
    assert "eeds needed" not in " ".join([*table.header, *table.notes]), "three seeds say too little of it"
    one_pair = pairs_table(replace(results, families={"accuracy": 1}), results.settings)
    assert "over the one planned pair of this comparison" in " ".join(one_pair.notes)
    one_seed = results_of([one for one in PLAIN if one.spec.seed == 0])
    assert pairs_table(one_seed, one_seed.settings).rows[0] == (
        *("random − none", "+1.0", "–", "–", "–", "–", "1/0/0"),
    )


def test_the_number_of_seeds_is_in_the_table_of_pairs_only_if_that_of_the_scores_does_not_say_it():
    results = results_of(PLAIN)
    assert "n" not in pairs_table(results, results.settings).header
    fewer = results_of([one for one in PLAIN if one.spec.seed != 2 or one.spec.masking != "idf"])
    table = pairs_table(fewer, fewer.settings)
    assert [row[table.header.index("n")] for row in table.rows] == ["3", "2", "2"]


def test_costs_by_hand():
    condition = results_of(PLAIN).settings[0]
    assert costs_table(condition, {}).rows[1] == ("random", "4,800", "1,200", "4.0 s", "0.5 s", "2.0 s", "7.0 s")
    with_policies = costs_table(condition, {"idf": MetaTrainingCost(7200.0, 40)})
    assert with_policies.rows[1][-2:] == ("–", "–")
    assert with_policies.rows[2][-2:] == ("2.0 h", "3.0 min")
    assert len(with_policies.header) == len(with_policies.rows[2])


@pytest.mark.parametrize(
    ("condition", "task", "text"),
    [
        (Condition(), "qa", ""),
        (Condition(16), "classification", "16 labelled examples of each class"),
        (Condition(1, 1), "classification", "1 labelled example of each class, 1 adaptation step"),
        (Condition(16, 50), "qa", "16 labelled examples, 50 adaptation steps"),
        (Condition("all"), "classification", "all labelled examples"),
    ],
)
def test_settings_in_words(condition: Condition, task: str, text: str):
    assert setting_text(condition, task) == text


def test_reading_without_a_finding():
    text = reading(results_of(PLAIN))
    assert text.startswith(
        "No pair differs on accuracy at 5 % after Holm's correction over 3 planned pairs with n = 3 seeds."
    )
    assert "does not show equality" in text
    assert "The smallest p value is that of random − none (+2.0 [−0.5, +4.5], corrected p = 0.223)." in text
    assert "power" not in text, "three seeds say too little of it"


def test_seeds_needed_are_told_from_five_seeds_on():
    """The differences vary, so a number of seeds is computed; it is shown only if enough seeds were run."""
    rng = np.random.default_rng(0)
    for n_seeds in (4, 5):
        cells = [cell(name, seed, float(rng.random())) for name, seed in product(("none", "random"), range(n_seeds))]
        results = results_of(cells)
        table = pairs_table(results, results.settings)
        assert (table.header[-1] == "seeds needed") is (n_seeds == 5)
        assert ("80 % power" in reading(results)) is (n_seeds == 5)


def shifted(names: Sequence[str], shift: float, n_seeds: int = 8) -> list[TrialResult]:
    """Each masking better than the one before by `shift` and a little noise."""
    rng = np.random.default_rng(0)
    level = rng.normal(0.5, 0.05, n_seeds)
    return [
        cell(name, seed, level[seed] + number * shift + rng.normal(0, 0.001))
        for number, name in enumerate(names)
        for seed in range(n_seeds)
    ]


def test_reading_with_findings():
    text = reading(results_of(shifted(["none", "random"], 0.02)))
    assert re.match(r"1 of 1 planned pair differs on accuracy at 5 % .*with n = 8 seeds: random − none \(\+\d", text)
    assert "corrected p < 0.001" in text
    assert "equal" not in text
    many = reading(results_of(shifted(["none", "random", "idf", "span", "entity"], -0.02)))
    assert many.startswith("10 of 10 planned pairs differ on accuracy")
    assert many.count("corrected p") == 6
    assert many.endswith("; and 4 more in the table.")


def with_texts(cells: Sequence[TrialResult], interval: tuple[float, float], margin: float = 0.0) -> ComparisonResults:
    """The results of a comparison in which every pair has this interval over seeds and texts."""
    results = results_of(cells)
    (part,), (setting,) = results.parts, results.settings
    pairs = [replace(pair, seeds_and_texts=interval, margin=margin) for pair in setting.pairs]
    return replace(results, parts=[replace(part, settings=[replace(setting, pairs=pairs, without_texts=None)])])


def test_both_intervals_are_shown_once():
    results = with_texts(PLAIN, (-0.012, 0.052))
    table = pairs_table(results, results.settings)
    assert table.header[1:3] == ("Δ accuracy [95 %]", "95 %, seeds and texts")
    assert table.rows[0][1:3] == ("+2.0 [−0.5, +4.5]", "[−1.2, +5.2]")
    assert "other test texts" in " ".join(table.notes)
    assert "(+2.0 [−0.5, +4.5] over seeds, [−1.2, +5.2] over seeds and texts, corrected p = 0.223)" in reading(results)
    assert "Only the interval over seeds and texts covers other test texts." in scope(results.parts[0])


def test_a_table_says_why_there_is_no_interval_over_texts():
    results = results_of(PLAIN)
    notes = " ".join(pairs_table(results, results.settings).notes)
    assert (
        "No interval over other texts: accuracy is a score of the whole test set, not a mean over its texts." in notes
    )
    assert "seeds and texts" not in table_lines(pairs_table(results, results.settings))


def test_what_other_texts_may_undo_is_not_called_significant():
    cells = shifted(["none", "random"], 0.1)
    for interval, is_shown in [((0.05, 0.15), True), ((-0.05, 0.25), False)]:
        results = with_texts(cells, interval)
        table = pairs_table(results, results.settings)
        assert ("significant" in table.mark(0)) is is_shown
        assert bool(table.highlighted) is is_shown
        text, answer = reading(results), compare_verdict(results)
        assert ("1 of 1 planned pair differs" in text) is is_shown
        assert (
            "This difference holds over seeds; over other texts it may not: random − none (" in text
        ) is not is_shown
        assert answer.verdict.startswith("Maskings differ.") is is_shown
        assert answer.verdict.startswith("Maskings differ over seeds; over other texts they may not.") is not is_shown
        assert bool(answer.command) is is_shown


def test_practically_equal_maskings():
    results = with_texts(shifted(["none", "random"], 0.002), (-0.001, 0.005), margin=0.005)
    table = pairs_table(results, results.settings)
    assert table.mark(0) == "practically equal"
    assert table.notes[-1] == "Practically equal: that interval is within ±0.5 points (test.margin)."
    text = reading(results)
    assert text.startswith("Practically equal, within ±0.5 points over seeds and texts: random − none (")
    assert "does not show" not in text
    assert compare_verdict(results).verdict.startswith("The maskings are practically equal.")
    assert not compare_verdict(results).command
    wide = with_texts(PLAIN, (-0.001, 0.009), margin=0.005)
    assert not pairs_table(wide, wide.settings).mark(0)


def test_reading_of_too_little():
    single = [one for one in PLAIN if one.spec.seed == 0]
    assert "One seed cannot separate differences from chance" in reading(results_of(single))
    assert "no pair of maskings" in reading(results_of([one for one in PLAIN if one.spec.masking == "none"]))
    same = [cell(name, seed, 0.5) for name in ("none", "random") for seed in range(3)]
    assert reading(results_of(same)).startswith("All maskings have the same accuracy in every seed")
    fewer = [one for one in PLAIN if (one.spec.masking, one.spec.seed) != ("idf", 0)]
    text = reading(results_of(fewer, {"idf.seed-0": "RuntimeError: x"}))
    assert "n = 2–3 seeds" in text
    assert text.endswith("1 trial failed and is left out of these results.")
    assert "2 trials failed" in reading(results_of(single, {"a": "x", "b": "y"}))


def test_a_difference_that_is_the_same_in_every_seed():
    """t is undefined; signs are not."""

    def constant(n_seeds: int) -> ComparisonResults:
        return results_of([cell(m, s, level) for m, level in (("none", 0.5), ("random", 0.75)) for s in range(n_seeds)])

    assert "The smallest p value is that of random − none (+25.0 in every seed, corrected p = 0.250)" in reading(
        constant(3)
    )
    found = constant(7)
    assert "1 of 1 planned pair differs" in reading(found)
    assert "random − none (+25.0 in every seed, corrected p = 0.016)" in reading(found)
    table = pairs_table(found, found.settings)
    assert table.rows[0][3:5] == ("0.016", "0.016")
    assert any(
        "t is undefined and the corrected p comes from the exact signed-rank test" in note for note in table.notes
    )


@pytest.mark.parametrize(
    ("data", "labelled", "provenance", "expected"),
    [
        ({}, (None,), {}, "with this test set and this training set, but not other test texts or other"),
        ({"labelled_per_class": 4}, (None,), {}, "with this test set, but not other test texts."),
        ({}, (4,), {}, "with this test set, but not other test texts."),
        ({}, (4, "all"), {}, "with this test set and this training set (if all its labels are used), but"),
        ({}, (4,), {"policy 'a'": "0"}, "or other policies of the same learners."),
    ],
)
def test_what_intervals_and_p_values_are_about(data: dict, labelled: tuple, provenance: dict[str, str], expected: str):
    cells = [
        replace(cell(name, seed, seed / 10, labelled=count), provenance=provenance)
        for name in ("none", "random")
        for seed in range(3)
        for count in labelled
    ]
    plan = Plan.of(["none", "random"], {}, range(3), labelled=labelled)
    config = Config.model_validate({"data": data})
    results = helpers.results_of(config, plan, ("accuracy", "loss"), Finished(cells, {}))
    text = scope(results.parts[0])
    assert text.startswith("Intervals and p values cover other seeds with this test set")
    assert expected in text
    assert text in as_markdown(comparison_page(results))
    assert text in Tags(render_html(comparison_page(results))).text


def test_every_number_of_the_curves_is_that_of_the_cells(monkeypatch: pytest.MonkeyPatch):
    """Tables of each point, and the points of each curve, against the cells themselves."""
    drawn: list[dict[str, list[tuple[float, float]]]] = []

    def remember(curves: Any, *_arguments: Any, **_named: Any) -> str:
        drawn.append({name: [(at, value.mean) for at, value in points] for name, points in curves.items()})
        return "<svg></svg>"

    monkeypatch.setattr("nmg.report.comparison_page.score_curves", remember)
    cells = curves()
    results = results_of(cells)

    def scores(masking: str, labelled: Labelled, steps: int | None) -> FloatArray:
        chosen = [c for c in cells if c.spec.masking == masking and c.spec.condition.labelled == labelled]
        chosen = [c for c in chosen if masking == "none" or c.spec.condition.adapt_steps == steps]
        return np.array([c.scores["accuracy"] for c in sorted(chosen, key=lambda c: c.spec.seed)])

    for condition in results.settings:
        point = condition.condition.labelled, condition.condition.adapt_steps
        for row in scores_table(condition, ("accuracy",)).rows:
            values = 100 * scores(row[0], *point)
            low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
            assert row[1:4] == (
                "3",
                f"{values.mean():.1f} ± {values.std(ddof=1):.1f}",
                f"[{low:.1f}, {high:.1f}]".replace("-", "−"),
            )
        for row, pair in zip(pairs_table(results, [condition]).rows, condition.pairs, strict=True):
            first, second = row[0].split(" − ")
            test = stats.ttest_rel(scores(first, *point), scores(second, *point))
            assert pair.test.t_p == pytest.approx(test.pvalue)
            assert row[4] == p_text(pair.t_p_holm)
    comparison_page(results)
    over_labels, over_steps = drawn[:2], drawn[2:]
    for steps, curve in zip((50, 200), over_labels, strict=True):
        for name, points in curve.items():
            assert [at for at, _ in points] == [16, 500]
            assert [mean for _, mean in points] == pytest.approx([scores(name, k, steps).mean() for k in (4, "all")])
    for labelled, curve in zip((4, "all"), over_steps, strict=True):
        assert set(curve) == {"random", "idf"}
        for name, points in curve.items():
            assert [mean for _, mean in points] == pytest.approx([scores(name, labelled, n).mean() for n in (50, 200)])


def test_headings_say_how_many_labels_there_were():
    results = results_of(curves())
    titles = [table.caption for table in comparison_page(results).tables()]
    assert "Scores on the test set: 4 labelled examples of each class (16 in all), 50 adaptation steps" in titles
    assert "Scores on the test set: all 500 labelled examples, 50 adaptation steps" in titles
    captions = [
        block.caption
        for section in comparison_page(results).sections
        for block in section.blocks
        if isinstance(block, Figure)
    ]
    over_steps = (
        "Scores by number of adaptation steps, 4 labelled examples of each class (16 in all), with 95 % intervals."
    )
    assert over_steps in captions


def test_reading_names_the_setting():
    text = reading(results_of(curves()))
    assert "over 12 planned pairs" in text
    assert re.search(r"corrected p = \S+, with .* labelled examples.*, \d+ adaptation steps\)", text)


def test_every_cell_is_a_line_of_csv():
    results = results_of(curves())
    lines = list(csv.DictReader(cells_csv(results).splitlines()))
    assert len(lines) == len(results.cells) == 30
    first, last = lines[0], lines[-1]
    assert (first["masking"], first["labelled"], first["adapt_steps"], first["lm_loss"]) == ("none", "4", "", "")
    assert (last["masking"], last["labelled"], last["adapt_steps"], last["n_labelled"]) == ("idf", "all", "200", "500")
    assert float(last["accuracy"]) == results.cells[-1].scores["accuracy"]
    assert (last["seconds_masks"], last["held_out_loss"]) == ("0.5", "4.25")
    assert cells_csv(results_of([])).count("\n") == 1


def test_latex_is_whole_and_escaped():
    table = Table(("a_b", "[x]"), (("50 % & more", "[1, 2]"), ("x\\y", "−1 ± 2")), ("Δ: {#}.",), "Pairs_1")
    lines = latex_table(table).splitlines()
    assert lines == [
        r"\begin{table}",
        r"\caption{Pairs\_1. $\Delta$: \{\#\}.}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"a\_b & {}[x] \\",
        r"\midrule",
        r"50 \% \& more & {}[1, 2] \\",
        r"x\textbackslash{}y & $-$1 $\pm$ 2 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    assert escape("~^<>") == r"\textasciitilde{}\textasciicircum{}$<$$>$"
    text = as_latex(comparison_page(results_of(curves())).tables())
    assert text.isascii(), "any engine sets it"
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3 * 4
    for line in text.splitlines():
        if line.endswith(r"\\"):
            assert line.count(" & ") in {5, 6, 7}


def test_markdown_has_all_tables():
    results = results_of(curves())
    page = comparison_page(results)
    text = as_markdown(page)
    assert reading(results) in text
    assert text.count("\n### ") == 3 * 4
    assert "\n### Scores on the test set: 4 labelled examples of each class (16 in all), 50 adaptation steps" in text
    assert all(table_lines(table) in text for table in page.tables())


def test_terminal_tables_are_narrow_and_say_notes_once():
    tables = list(notes_once(terminal_tables(results_of(curves()))))
    assert len(tables) == 8
    assert [bool(table.notes) for table in tables] == [False] * 6 + [True] * 2
    assert max(len(table.header) for table in tables) == 7
    assert tables[1].header == ("difference", "Δ accuracy [95 %]", "95 %, seeds and texts", "p (Holm)", "w/t/l")
    results = results_of(PLAIN)
    full = pairs_table(results, results.settings).rows[0]
    short = terminal_tables(results)[1].rows[0]
    assert short == (full[0], full[1], full[2], full[3], full[6])


def test_brackets_in_a_name_reach_the_terminal():
    console = Console(width=80)
    with console.capture() as capture:
        console.print(as_rich(Table(("masking", "n"), (("runs/[b]/policy", "[1, 2]"),), caption="T")))
    assert "runs/[b]/policy" in capture.get()
    assert "[1, 2]" in capture.get()


class Tags(HTMLParser):
    """Opened tags; checks that each is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in {"meta", "link"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def headings(results: ComparisonResults) -> list[str]:
    return [section.heading for section in comparison_page(results).sections]


def test_the_page_of_a_plain_comparison():
    results = results_of(PLAIN)
    assert headings(results) == ["The answer", "Scores", "Costs", "Method"]
    page = Tags(render_html(comparison_page(results)))
    assert page.seen.count("table") == 3
    assert page.seen.count("figure") == 1
    assert reading(results) in page.text
    assert "learning_rate" in page.text


def test_the_page_with_curves_and_failures():
    results = results_of(curves(), {"idf.seed-9": "RuntimeError: <out> of memory"})
    assert headings(results) == [
        *("The answer", "Learning curves", "Scores", "Costs", "Failures", "Method"),
    ]
    html = render_html(comparison_page(results))
    page = Tags(html)
    assert page.seen.count("table") == 3 * 4
    assert page.seen.count("figure") == 4 + 2 + 2, "scores by condition, curves by steps, curves by labels"
    assert "idf.seed-9: RuntimeError: <out> of memory" in page.text
    assert "<out>" not in html


def test_the_page_of_nothing():
    assert "no pair" in render_html(comparison_page(results_of([], {"none.seed-0": "ValueError"})))


def lines_of(svg: str, colour: str) -> list[list[tuple[float, float]]]:
    """The points of each line of the wide figure in a series' colour, without those to labels; y grows downwards."""
    svg = svg.partition('<svg class="on-narrow"')[0]
    paths = re.findall(rf'<path d="([^"Q]*)"[^>]*style="fill: none;[^"]*stroke: var\(--{colour},', svg)
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", path)] for path in paths]


def test_curves_with_intervals_and_levels():
    low, high = estimate(np.array([0.4, 0.5, 0.6])), estimate(np.array([0.7, 0.8, 0.9]))
    single = estimate(np.array([0.6]))
    curves = {"random": [(10.0, low), (1000.0, high)], "idf": [(10.0, low), (100.0, single)]}
    svg = score_curves(curves, "accuracy", "labelled examples", {"none": 0.3}, title="T")
    wide = svgs(svg)[0]
    assert wide.get("aria-label") == "T"
    texts = set(re.findall(r">([^<>]+)</text>", svg))
    assert {
        "random",
        "idf",
        "none",
        "labelled examples",
        "accuracy × 100 (higher is better)",
        "10",
        "100",
        "1000",
    } <= texts

    (level,), (random, *of_random), (idf, *of_idf) = (lines_of(svg, f"series-{n}") for n in (1, 2, 3))
    assert level[0][1] == level[1][1], "a score without x runs across"
    assert random[0][0] < random[1][0]
    assert random[0][1] > random[1][1], "the higher a score, the higher it stands"
    a_point = (random[1][1] - random[0][1]) / (80 - 50)
    assert level[0][1] == pytest.approx(random[0][1] + a_point * (30 - 50), abs=1e-3)
    assert idf[1][0] == pytest.approx((random[0][0] + random[1][0]) / 2, abs=3), "x is logarithmic"
    assert idf[0][0] != random[0][0], "intervals stand beside each other"
    assert len(of_idf) == 1, "one seed has no interval"
    for (x, y), ((x_low, y_low), (x_high, y_high)) in zip(random, of_random, strict=True):
        assert x_low == x_high == x
        assert (y_low + y_high) / 2 == pytest.approx(y, abs=1e-4)
    assert len(svgs(score_curves({}, "loss", "steps"))) == 2


def test_without_masks_there_are_no_steps_to_draw_over():
    page = comparison_page(results_of(curves()))
    plots = [block for section in page.sections if section.heading == "Learning curves" for block in section.blocks]
    over_steps = [plot.svg for plot in plots if isinstance(plot, Figure) and "by number of adaptation" in plot.caption]
    assert len(over_steps) == 2
    for svg in over_steps:
        (none,) = lines_of(svg, "series-1")
        assert none[0][1] == none[1][1]
        assert len(lines_of(svg, "series-2")) == 3, "a curve and two intervals"


def test_all_files_are_written(tmp_path: Path):
    results = results_of(PLAIN)
    write_comparison(tmp_path, results)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("results.json", "results.md", "results.csv", "results.tex", "index.html"),
    }
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(results.to_json()))
    assert (tmp_path / "results.md").read_text(encoding="utf-8") == as_markdown(comparison_page(results))
