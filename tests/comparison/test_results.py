"""What a comparison concludes from cells made by hand."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from nmg.base.trial import Condition, Labelled, TrialResult
from nmg.comparison.plan import Plan
from nmg.comparison.results import ComparisonResults, Pair, SettingResult, trial_json
from nmg.comparison.run import Finished
from nmg.comparison.statistics import crossed_interval, holm, paired_comparison
from nmg.config import Config
from nmg.policies.linear import LinearConfig, LinearPolicy
from nmg.report.comparison import condition_tables
from support.trials import compared

from .helpers import results_of

METRICS = ("accuracy", "loss")


def cell(
    masking: str,
    seed: int,
    accuracy: float,
    *,
    labelled: Labelled = None,
    steps: int | None = None,
    held_out: float | None = 4.0,
    factor: float = 1.0,
) -> TrialResult:
    scores = {"accuracy": accuracy, "loss": 2 - accuracy}
    return compared(masking, seed, scores, Condition(labelled, steps), held_out=held_out, factor=factor)


def analysed(cells: list[TrialResult], plan: Plan, failures: dict[str, str] | None = None) -> ComparisonResults:
    return results_of(Config(), plan, METRICS, Finished(cells, failures or {}))


@pytest.fixture(autouse=True)
def _quick_correction(monkeypatch: pytest.MonkeyPatch) -> None:
    """statsmodels collects garbage at every correction, which takes longer than the rest."""
    monkeypatch.setattr("gc.collect", lambda: 0)


SCORES = {"none": [0.50, 0.60, 0.70], "random": [0.52, 0.65, 0.71], "idf": [0.40, 0.66, 0.72]}
CELLS = [cell(name, seed, SCORES[name][seed]) for seed, name in product(range(3), SCORES)]
PLAN = Plan.of(list(SCORES), {}, range(3))


def by_name(results: ComparisonResults) -> dict[tuple[str, str], Pair]:
    return {(pair.first, pair.second): pair for pair in results.pairs}


def test_means_and_costs():
    (condition,) = analysed(CELLS, PLAN).settings
    assert condition.condition == Condition()
    assert [one.masking for one in condition.maskings] == list(SCORES)
    none = condition.maskings[0]
    assert none.estimates["accuracy"].mean == pytest.approx(0.6)
    assert none.estimates["accuracy"].deviation == pytest.approx(0.1)
    # t(.975, 2) = 4.302653
    assert none.estimates["loss"].high == pytest.approx(1.4 + 4.302653 * 0.1 / 3**0.5, abs=1e-6)
    assert none.estimates["held_out_loss"].mean == 4.0
    assert none.scores["accuracy"] == (0.5, 0.6, 0.7)
    assert vars(none.costs) == {
        "tokens": 4800,
        "masked_tokens": 1200,
        "adapt": 4.0,
        "masks": 0.5,
        "finetune": 2.0,
        "total": 7.0,
    }


def test_costs_are_means_over_seeds():
    results = analysed([cell("random", 0, 0.5), cell("random", 1, 0.5, factor=3)], Plan.of(["random"], {}, range(2)))
    assert results.settings[0].maskings[0].costs.total == 14.0


def test_pairs_are_tested_within_seeds_whatever_their_order():
    results = analysed(list(reversed(CELLS)), PLAN)
    pairs = by_name(results)
    assert list(pairs) == [("random", "none"), ("idf", "none"), ("idf", "random")], "later − earlier"
    for (first, second), pair in pairs.items():
        reference = stats.ttest_rel(SCORES[first], SCORES[second])
        assert pair.test.mean == pytest.approx(np.mean(SCORES[first]) - np.mean(SCORES[second]))
        assert pair.test.t_p == pytest.approx(reference.pvalue)
    test = pairs["idf", "none"].test
    assert (test.wins, test.ties, test.losses) == (2, 0, 1)


def test_the_correction_is_over_the_pairs_of_all_settings():
    rng = np.random.default_rng(0)
    settings = list(product((4, "all"), (50, 100)))
    cells = [cell("none", seed, rng.normal(), labelled=labelled) for seed in range(5) for labelled in (4, "all")]
    cells += [
        cell(name, seed, effect + rng.normal(), labelled=labelled, steps=steps)
        for seed in range(5)
        for name, effect in (("random", 3.0), ("idf", 6.0))
        for labelled, steps in settings
    ]
    plan = Plan.of(["none", "random", "idf"], {}, range(5), labelled=(4, "all"), adapt_steps=(50, 100))
    results = analysed(cells, plan)
    assert [(r.condition.labelled, r.condition.adapt_steps) for r in results.settings] == settings
    assert [len(r.maskings) for r in results.settings] == [3] * 4, "'none' stands beside all steps"
    pairs = results.pairs
    assert len(pairs) == results.families["accuracy"] == 12
    assert len({pair.t_p_holm for pair in pairs}) > 6
    assert [pair.t_p_holm for pair in pairs] == holm([pair.test.t_p for pair in pairs])
    assert [pair.wilcoxon_p_holm for pair in pairs] == holm([pair.test.wilcoxon_p for pair in pairs])
    of_four = [c for c in cells if c.spec.condition.labelled == 4]
    first = paired_comparison(
        np.array(
            [
                c.scores["accuracy"]
                for c in of_four
                if c.spec.masking == "random" and c.spec.condition.adapt_steps == 100
            ]
        ),
        np.array([c.scores["accuracy"] for c in of_four if c.spec.masking == "none"]),
    )
    assert results.settings[1].pairs[0].test == first


def test_cells_that_are_missing_leave_the_others():
    cells = [
        one
        for one in CELLS
        if (one.spec.masking, one.spec.seed) not in {("random", 1), ("idf", 0), ("idf", 1), ("idf", 2)}
    ]
    results = analysed(cells, PLAN, {"random.seed-1": "RuntimeError: out of memory"})
    assert [one.masking for one in results.settings[0].maskings] == ["none", "random"]
    (pair,) = results.pairs
    assert pair.test.n == 2
    assert pair.test.mean == pytest.approx((0.02 + 0.01) / 2)
    assert results.settings[0].maskings[0].estimates["accuracy"].n == 3
    apart = [cell("none", 0, 0.5), cell("random", 1, 0.5)]
    assert analysed(apart, PLAN).pairs == [], "no seed has both"


def test_the_family_is_what_was_planned_whatever_the_data():
    """Cells that failed, pairs without a spread and pairs of equal scores leave it as large as it was."""
    rng = np.random.default_rng(2)
    names = ["none", "random", "idf", "span"]
    level = rng.normal(0.5, 0.05, 6)
    noise = {"none": 0.0, "random": 0.0, "idf": 0.25, "span": rng.normal(0.02, 0.01, 6)}
    cells = [cell(name, seed, float((level + noise[name])[seed])) for seed in range(6) for name in names]
    plan = Plan.of(names, {}, range(6))
    results = analysed(cells, plan)
    pairs = by_name(results)
    assert results.families["accuracy"] == 6
    equal, constant = pairs["random", "none"], pairs["idf", "none"]
    assert (equal.test.t_p, equal.t_p_holm, equal.is_tested, equal.differs) == (1.0, 1.0, True, False)
    assert (constant.test.t_p, constant.test.wilcoxon_p) == (None, 2 / 64)
    # The exact test takes the place of t: its p is corrected among the six.
    assert [pair.t_p_holm for pair in results.pairs] == holm([pair.test.p for pair in results.pairs])
    fewer = analysed([one for one in cells if one.spec.masking not in {"idf", "random"}], plan)
    (left,) = fewer.pairs
    assert fewer.families["accuracy"] == 6
    assert left.t_p_holm == pytest.approx(min(1.0, 6 * (left.test.t_p or 0.0))), "not as if it had been the only one"


def test_nothing_at_all():
    results = analysed([], PLAN, {"none.seed-0": "RuntimeError"})
    assert results.settings[0].maskings == []
    json.dumps(results.to_json(), allow_nan=False)


def test_what_differs():
    rng = np.random.default_rng(1)
    base = rng.normal(0.6, 0.05, 8)
    shift = rng.normal(0.05, 0.005, 8)
    cells = [cell("random", seed, base[seed]) for seed in range(8)]
    cells += [cell("idf", seed, base[seed] + shift[seed]) for seed in range(8)]
    cells += [cell("span", seed, base[seed] + rng.normal(0, 0.03)) for seed in range(8)]
    pairs = by_name(analysed(cells, Plan.of(["random", "idf", "span"], {}, range(8))))
    assert pairs["idf", "random"].differs
    assert not pairs["span", "random"].differs
    before = by_name(analysed(CELLS, PLAN))["random", "none"]
    assert replace(before, t_p_holm=0.04).differs
    assert not replace(before, test=pairs["idf", "random"].test, t_p_holm=0.06).differs, "it is the corrected p"


def test_meta_training_is_spread_over_the_adaptations_it_served(tmp_path: Path):
    run = tmp_path / "run"
    (run / "policy").mkdir(parents=True)
    (run / "policy" / "config.json").write_text("{}")
    (run / "run.json").write_text("{}")
    (run / "metrics.jsonl").write_text(
        json.dumps({"seconds": {"masks": 0.0, "inner loops": 60.0, "update": 60.0}}) + "\n"
    )
    plan = Plan.of(["random"], {"mine": run}, range(2), labelled=(4, "all"), adapt_steps=(50, 100))
    cells = [
        cell("mine", seed, 0.5, labelled=labelled, steps=steps)
        for seed, labelled, steps in product(range(2), (4, "all"), (50, 100))
    ]
    cost = analysed(cells, plan).parts[0].meta_training["mine"]
    assert (cost.seconds, cost.adaptations, cost.amortised) == (120.0, 4, 30.0), "labels share an adaptation"
    assert "mine" not in analysed(cells, Plan.of(["random"], {"mine": tmp_path}, [0])).parts[0].meta_training


def test_a_policy_that_is_a_rule_is_shown_as_that_rule(tmp_path: Path):
    slopes = {"rule": {"idf": 5.0}, "learned": {"idf": 5.0, "digit": 1.0}}
    for name, of_policy in slopes.items():
        policy = LinearPolicy(LinearConfig(features=("idf", "digit"), vocabulary_size=4))
        policy.set_slopes(of_policy)
        policy.save_pretrained(tmp_path / name)
    plan = Plan.of(["random"], {name: tmp_path / name for name in slopes}, range(2))
    cells = [cell(name, seed, 0.5 + 0.1 * seed) for name, seed in product(plan.names, range(2))]
    results = analysed(cells, plan)
    (condition,) = results.settings
    titles = ["random", "rule (idf with exponent 5)", "learned"]
    assert [one.title for one in condition.maskings] == titles
    for table in condition_tables(results, condition)[::2]:
        assert [row[0] for row in table.rows] == titles
    (written,) = results.to_json()["results"]
    assert [one["rule"] for one in written["maskings"]] == [None, "idf with exponent 5", None]


def test_json_has_everything_and_no_nan():
    single = [one for one in CELLS if one.spec.seed == 0]
    for cells in (CELLS, single):
        results = json.loads(json.dumps(analysed(cells, PLAN).to_json(), allow_nan=False))
        assert [one.pop("part") for one in results["cells"]] == [""] * len(cells)
        assert results["cells"] == [trial_json(one) for one in cells]
        assert results["parts"][0]["settings"]["adapt"]["epochs"] == 3
        assert results["families"] == [{"metric": "accuracy", "n_planned": 3}]
        (condition,) = results["results"]
        assert condition["tested_metric"] == "accuracy"
        assert condition["maskings"][0]["metrics"]["accuracy"]["n"] == len(cells) / 3
        assert len(condition["pairs"]) == 3
        expected = {"first", "second", "mean", "low", "high", "t_p", "t_p_holm", "wilcoxon_p", "wilcoxon_p_holm"}
        expected |= {"n", "effect_size", "wins", "ties", "losses", "seeds_needed", "seeds_still_needed", "mixed_seeds"}
        expected |= {"seeds_and_texts", "is_shown", "is_equal"}
        assert set(condition["pairs"][0]) == expected
    assert condition["pairs"][0]["t_p"] is None


TEXTS = {"none": [[0, 0, 1, 0], [0, 0, 1, 1]], "random": [[1, 1, 1, 0], [1, 0, 1, 1]]}


def of_texts(**data: Any) -> SettingResult:
    """A comparison of two maskings with two seeds and four texts."""
    cells = [
        replace(cell(name, seed, float(np.mean(scores))), example_scores={"accuracy": np.array(scores, dtype=float)})
        for name, of_seeds in TEXTS.items()
        for seed, scores in enumerate(of_seeds)
    ]
    plan = Plan.of(list(TEXTS), {}, range(2))
    return results_of(Config.model_validate({"data": data}), plan, METRICS, Finished(cells, {})).settings[0]


def test_a_difference_has_an_interval_over_seeds_and_texts():
    setting = of_texts()
    (pair,) = setting.pairs
    differences = np.array(TEXTS["random"], dtype=float) - np.array(TEXTS["none"])
    assert pair.seeds_and_texts == crossed_interval(differences)
    assert pair.test.mean == differences.mean()
    low, high = pair.seeds_and_texts
    assert pair.reversed_.seeds_and_texts == (-high, -low)
    assert setting.without_texts is None


def test_why_there_is_no_interval_over_texts():
    sampled = of_texts(test_examples=4)
    assert "another sample of the test set" in (sampled.without_texts or "")
    assert sampled.pairs[0].seeds_and_texts is None
    whole = analysed(CELLS, PLAN).settings[0]
    assert whole.without_texts == "accuracy is a score of the whole test set, not a mean over its texts"
    assert [pair.seeds_and_texts for pair in whole.pairs] == [None] * 3


def test_other_texts_must_confirm_a_difference():
    (pair,) = of_texts().pairs
    for p, interval, is_shown in [
        (0.01, (0.1, 0.3), True),
        (0.01, (-0.3, -0.1), True),
        (0.01, (-0.1, 0.3), False),
        (0.01, None, True),
        (0.06, (0.1, 0.3), False),
    ]:
        assert replace(pair, t_p_holm=p, seeds_and_texts=interval).is_shown is is_shown


def test_practically_equal_is_within_the_margin_even_if_seeds_differ():
    (pair,) = of_texts().pairs
    found = replace(pair, t_p_holm=0.01, seeds_and_texts=(0.001, 0.005), margin=0.005)
    assert found.is_equal
    assert not found.is_shown
    assert found.reversed_.is_equal
    assert not replace(found, margin=0.0).is_equal
    assert not replace(found, margin=0.0, seeds_and_texts=(0.0, 0.0)).is_equal
    assert not replace(found, margin=0.004).is_equal
    assert not replace(found, seeds_and_texts=(-0.006, 0.005)).is_equal
    assert not replace(found, seeds_and_texts=None).is_equal


def test_a_margin_is_in_points_and_changes_no_trial():
    config = Config.model_validate({"test": {"margin": 0.5}})
    assert results_of(config, PLAN, METRICS, Finished(CELLS, {})).pairs[0].margin == 0.005
    assert config.digest == Config().digest
