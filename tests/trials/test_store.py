"""Results on disk: none is lost, none is read twice, and none of other inputs is mixed in."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nmg.base.errors import UserError
from nmg.base.trial import Condition, TrialResult, TrialSpec
from nmg.trials.provenance import TrialProvenance
from nmg.trials.store import TRIALS, TrialStore, has_trials, read_trials
from support.trials import compared

MADE_FROM = TrialProvenance({"settings": "a" * 16}, {"weights": {"masking.weights": "b" * 16}, "random": {}})
RESULTS = [
    compared("random", 0, {"loss": 0.1 + 0.2}, Condition("all", 5)),
    compared("random", 1, {"loss": 1e-17}, Condition(16)),
    compared("weights", 0, {"loss": 2.0}, held_out=None),
]


@pytest.fixture
def store(tmp_path: Path) -> TrialStore:
    store = TrialStore(tmp_path / "out", MADE_FROM)
    for result in RESULTS:
        store.append(result)
    return store


def loaded(store: TrialStore) -> dict[TrialSpec, TrialResult]:
    other = TrialStore(store.path.parent, store.provenance)
    other.load()
    return other.results


def test_results_come_back_to_the_bit_with_their_provenance(store: TrialStore):
    found = loaded(store)
    assert list(found) == [result.spec for result in RESULTS]
    assert found == store.results
    for result in RESULTS:
        assert replace(found[result.spec], provenance={}) == result
    assert found[RESULTS[0].spec].provenance == {"settings": "a" * 16}
    assert found[RESULTS[2].spec].provenance == {"settings": "a" * 16, "masking.weights": "b" * 16}


def test_scores_of_examples_come_back_to_the_bit(store: TrialStore):
    spec, scores = TrialSpec("many", 0), np.array([0.1 + 0.2, 1.0, 0.0])
    store.append(TrialResult(spec, {"f1": 1.0}, {"f1": scores}))
    found = loaded(store)[spec].example_scores["f1"]
    assert (found.dtype, found.tolist()) == (np.float64, scores.tolist())


def test_a_half_written_line_is_dropped_and_overwritten(store: TrialStore):
    with store.path.open("a") as file:
        file.write('{"spec": {"masking": "idf"')
    assert set(loaded(store)) == {result.spec for result in RESULTS}
    store.append(compared("idf", 0, {"loss": 3.0}))
    assert len(store.path.read_text().splitlines()) == 4
    assert loaded(store)[TrialSpec("idf", 0)].scores == {"loss": 3.0}


_SCORED = '{"spec": {"masking": "a", "seed": 0}, "scores": {}, "example_scores": {"f1": %s}}'


@pytest.mark.parametrize("scores", ["{}", '"x"', "[[1]]", "[null]", "1"])
def test_scores_of_examples_are_numbers(store: TrialStore, scores: str):
    store.path.write_text(_SCORED % "[1]" + "\n" + _SCORED % scores + "\n")
    with pytest.raises(UserError, match=r"trials.jsonl, line 2: is not a trial"):
        read_trials(store.path)


@pytest.mark.parametrize("line", ["", "{}", "[1]", '{"spec": {"masking": "a", "seed": 0}}', '{"key": 1}', "\0" * 9])
def test_any_other_damaged_line_is_named(store: TrialStore, line: str):
    lines = store.path.read_text().splitlines()
    store.path.write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    with pytest.raises(UserError, match=r"trials.jsonl, line 2: is not a trial; remove the line"):
        read_trials(store.path)


def test_the_last_result_of_a_trial_counts(store: TrialStore):
    store.append(replace(RESULTS[0], scores={"loss": 9.0}))
    assert loaded(store)[RESULTS[0].spec].scores == {"loss": 9.0}


def test_what_failed_or_was_never_run_is_missing(store: TrialStore):
    spec, new = TrialSpec("idf", 0), TrialSpec("idf", 1)
    store.append(TrialResult(spec, {}, error="RuntimeError: no memory", traceback="Traceback: no memory"))
    asked = [spec, RESULTS[0].spec, new]
    assert store.missing(asked) == [spec, new]
    assert spec not in loaded(store)
    report = store.path.parent / "errors" / "idf.seed-0.txt"
    assert report.read_text() == "Traceback: no memory"
    store.append(compared("idf", 0, {"loss": 1.0}))
    assert store.missing(asked) == [new]
    assert not report.parent.exists()


def test_other_inputs_are_refused_even_for_maskings_that_are_not_asked_for(store: TrialStore):
    settings = TrialProvenance({"settings": "c" * 16}, MADE_FROM.of_maskings)
    with pytest.raises(UserError, match=r"trials.jsonl \(random\..*\) was made with other settings; choose another"):
        TrialStore(store.path.parent, settings).load()
    weights = replace(MADE_FROM, of_maskings={"weights": {"masking.weights": "c" * 16}})
    with pytest.raises(UserError, match=r"trials.jsonl \(weights.seed-0\) was made with another masking.weights"):
        TrialStore(store.path.parent, weights).load()
    TrialStore(store.path.parent, replace(MADE_FROM, of_maskings={"random": {}})).load()


def test_processes_must_read_the_same():
    MADE_FROM.require_same(MADE_FROM)
    other = replace(MADE_FROM, of_maskings={"weights": {"masking.weights": "c" * 16}})
    with pytest.raises(UserError, match=r"^masking\.weights: changed during the run"):
        MADE_FROM.require_same(other)


def test_a_folder_without_results_has_no_trials(tmp_path: Path, store: TrialStore):
    assert read_trials(tmp_path / TRIALS) == {}
    assert not has_trials(tmp_path)
    assert has_trials(store.path.parent)


def test_a_name_is_that_of_one_trial_alone():
    specs = [RESULTS[0].spec, RESULTS[1].spec, TrialSpec("idf", 0, learning_rate=0.1)]
    specs += [TrialSpec("idf", 0, evaluation="linear-probe"), TrialSpec("idf", 0), TrialSpec("idf", 0, replicate=1)]
    names = [spec.name for spec in specs]
    assert names[:2] == ["random.seed-0.labelled-all.steps-5", "random.seed-1.labelled-16"]
    assert len(set(names)) == len(names)
