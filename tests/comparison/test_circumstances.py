"""Cells of one folder made in different environments: said beforehand, marked in tables, told in the reading."""

from dataclasses import replace
from pathlib import Path

import pytest

from nmg.base.trial import TrialResult
from nmg.comparison.environment import described, differing, mixed_seeds
from nmg.comparison.plan import Plan
from nmg.comparison.results import ComparisonResults
from nmg.report.comparison import pairs_table
from nmg.report.comparison_files import cells_csv
from nmg.report.comparison_page import comparison_page
from nmg.report.comparison_summary import reading
from nmg.report.latex import as_latex
from nmg.report.markdown import as_markdown
from support.runs import Inputs, Notes

from .helpers import compare, plan, quick, written
from .test_results import CELLS, PLAN, analysed, by_name

HERE = {"device": "cpu", "precision": "fp32", "threads": "1", "torch": "2.13.0"}


def made(there: dict[str, str], *maskings: str, seeds: tuple[int, ...] = (0, 1, 2)) -> list[TrialResult]:
    """All cells made here, but those of these maskings and seeds."""
    return [
        replace(cell, environment=HERE | (there if cell.spec.masking in maskings and cell.spec.seed in seeds else {}))
        for cell in CELLS
    ]


def test_what_differs():
    assert differing([HERE, HERE]) == {}
    assert differing([]) == {}
    other = HERE | {"precision": "bf16", "threads": "2"}
    assert differing([HERE, other, HERE]) == {"precision": ["fp32", "bf16"], "threads": ["1", "2"]}
    assert differing([HERE, {}])["device"] == ["cpu", "not recorded"]
    assert described({"a": ["1", "2"], "b": ["3", "4"], "c": ["5", "6"]}) == "a (1, 2), b (3, 4) and c (5, 6)"
    assert described({"a": ["1", "2"]}) == "a (1, 2)"


@pytest.mark.parametrize("there", [{name: "another"} for name in HERE], ids=list(HERE))
def test_a_masking_made_elsewhere_is_marked_in_its_pairs_alone(there: dict[str, str]):
    results = analysed(made(there, "idf"), PLAN)
    assert {names: pair.mixed_seeds for names, pair in by_name(results).items()} == {
        ("random", "none"): (),
        ("idf", "none"): (0, 1, 2),
        ("idf", "random"): (0, 1, 2),
    }
    table = pairs_table(results, results.settings)
    assert [row[0] for row in table.rows] == ["random − none", "idf − none†", "idf − random†"]
    assert any(note.startswith("†: in at least one seed the two trials ran") for note in table.notes)
    (name,) = there
    told = f"they differ in {name} ({HERE[name]}, another). In 2 pairs, marked †, they differ within a seed"
    assert told in reading(results)
    assert told in as_markdown(comparison_page(results))
    assert "†" in str(comparison_page(results))
    assert r"$\dagger$" in as_latex(comparison_page(results).tables())
    facts = results.to_json()
    assert facts["parts"][0]["environment_mismatch"] == {name: [HERE[name], "another"]}
    assert [pair["mixed_seeds"] for pair in facts["results"][0]["pairs"]] == [[], [0, 1, 2], [0, 1, 2]]


def test_one_seed_is_enough():
    results = analysed(made({"precision": "bf16"}, "idf", seeds=(1,)), PLAN)
    assert by_name(results)["idf", "none"].mixed_seeds == (1,)
    of = {
        name: {cell.spec.seed: cell for cell in results.cells if cell.spec.masking == name} for name in ("idf", "none")
    }
    assert mixed_seeds(of["idf"], {seed: of["none"][seed] for seed in (0, 2)}) == ()


def test_whole_seeds_made_elsewhere_are_paired_as_ever():
    results = analysed(made({"precision": "bf16"}, "none", "random", "idf", seeds=(2,)), PLAN)
    assert not any(pair.mixed_seeds for pair in results.pairs)
    assert "differ in precision (fp32, bf16). Within each seed they are the same," in reading(results)
    assert "†" not in as_markdown(comparison_page(results))


def unmarked(results: ComparisonResults) -> bool:
    return "†" not in as_markdown(comparison_page(results)) and "environment" not in reading(results)


def test_nothing_is_said_where_nothing_differs():
    assert unmarked(analysed(made({}), PLAN))


def test_the_file_of_cells_says_where_each_was_made():
    lines = cells_csv(analysed(made({"precision": "bf16"}, "idf"), PLAN)).splitlines()
    assert lines[0].endswith(",device,precision,threads")
    assert {line.rsplit(",", 3)[-1] for line in lines[1:]} == {"1"}
    assert {line.split(",")[0] for line in lines if ",bf16," in line} == {"idf"}


def test_another_precision_in_the_same_folder(inputs: Inputs, tmp_path: Path):
    first = compare(quick(inputs), plan(["none", "random"], 1), tmp_path)
    assert {cell.environment["precision"] for cell in first.cells} == {"fp32"}
    kept = written(tmp_path)["none.seed-0"].environment
    assert {"device", "precision", "threads", "nmg", "torch", "transformers"} <= set(kept)
    notes, bf16 = Notes(), quick(inputs, runtime={"precision": "bf16"})
    both = compare(bf16, plan(["none", "random", "idf"], 1), tmp_path, notes)
    assert [cell.environment["precision"] for cell in both.cells] == ["fp32", "fp32", "bf16"]
    assert any("different environment from the next ones: precision (fp32, bf16)" in line for line in notes.lines)

    notes, files = Notes(), written(tmp_path)
    compare(bf16, plan(["none", "random"], 1), tmp_path, notes)
    assert not any("precision" in line for line in notes.lines), "nothing is made in another environment"
    assert written(tmp_path) == files


@pytest.mark.slow
def test_a_comparison_that_goes_on_gives_each_cell_as_many_threads(inputs: Inputs, tmp_path: Path):
    """Although a single cell is missing, for which all threads were free."""
    config = quick(inputs, runtime={"threads": 2})
    asked = Plan.of(["none", "random"], {}, range(1))
    whole = compare(config, asked, tmp_path)
    first = (tmp_path / "trials.jsonl").read_text().splitlines(keepends=True)[0]
    (tmp_path / "trials.jsonl").write_text(first)
    again = compare(config, asked, tmp_path)
    assert [cell.environment for cell in again.cells] == [cell.environment for cell in whole.cells]
    assert {cell.environment["threads"] for cell in again.cells} == {"1"}
