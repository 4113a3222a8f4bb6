"""Groups of maskings within seeds, by hand."""

from dataclasses import replace

import pytest

from benchmarks.contrast import contrast, over_texts, read_scores
from nmg.base.seeding import stream
from nmg.base.trial import Condition
from nmg.comparison.statistics import crossed_interval
from nmg.trials.provenance import TrialProvenance
from nmg.trials.store import TrialStore
from support.trials import compared

SCORES = {"a": {0: 0.5, 1: 0.6, 2: 0.9}, "b": {0: 0.7, 1: 0.6}, "rule": {0: 0.5, 1: 0.4, 2: 0.1}}


def test_means_of_groups_over_seeds_that_all_have():
    found = contrast(SCORES, ["a", "b"], ["rule"])
    # (0.5 + 0.7) / 2 − 0.5 = 0.1 and 0.6 − 0.4 = 0.2
    assert (found.n, found.wins, found.losses) == (2, 2, 0)
    assert found.mean == pytest.approx(0.15)
    assert contrast(SCORES, ["a"], ["rule"]).n == 3
    with pytest.raises(KeyError):
        contrast(SCORES, ["a"], ["none"])


def test_scores_are_those_of_the_cells(tmp_path):
    store = TrialStore(tmp_path, TrialProvenance({}))
    for masking, seed, value, steps in (("idf*", 3, 0.25, 35), ("idf*", 4, 0.5, 35), ("idf*", 4, 1.0, 70)):
        store.append(compared(masking, seed, {"accuracy": value}, Condition(adapt_steps=steps)))
    scores = read_scores(tmp_path, "accuracy")
    assert scores["idf*@35"] == {3: 0.25, 4: 0.5}
    assert contrast(scores, ["idf*@70"], ["idf*@35"]).mean == 0.5
    with pytest.raises(ValueError, match="learned-0@35"):
        contrast(scores, ["idf*"], ["idf*@35"])


def test_the_interval_over_texts_is_of_the_means_of_groups(tmp_path):
    rng = stream(0, "test")
    texts = {name: rng.normal(size=(4, 9)) for name in ("a", "b", "rule")}
    store = TrialStore(tmp_path, TrialProvenance({}))
    for name, scores in texts.items():
        for seed in range(4):
            trial = compared(name, seed, {"loss": float(scores[seed].mean())})
            store.append(replace(trial, example_scores={"loss": scores[seed]}))
    expected = crossed_interval((texts["a"] + texts["b"]) / 2 - texts["rule"])
    assert over_texts(tmp_path, "loss", ["a", "b"], ["rule"]) == pytest.approx(expected)
    assert over_texts(tmp_path, "accuracy", ["a"], ["rule"]) is None
