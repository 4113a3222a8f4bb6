"""What a comparison is asked for: names of cells, their order, points on the curves."""

from pathlib import Path

import pytest

from nmg.base.errors import UserError
from nmg.base.settings import DataSettings
from nmg.base.trial import Condition, TrialSpec
from nmg.comparison.plan import Plan, parse_labelled, parse_steps, with_labels


def test_names_of_cells():
    assert TrialSpec("random", 0, Condition()).name == "random.seed-0"
    assert TrialSpec("whole-word", 3, Condition(16, 50)).name == "whole-word.seed-3.labelled-16.steps-50"
    assert TrialSpec("../runs/a b", 3, Condition("all")).name == "runs-a-b.seed-3.labelled-all"


@pytest.mark.parametrize(
    ("masking", "name"),
    [
        ("0.5*idf+0.5*random", "0.5-of-idf-and-0.5-of-random"),
        ("0.7 * idf + 0.3*whole-word", "0.7-of-idf-and-0.3-of-whole-word"),
        ("idf+random", "idf-and-random"),
        ("idf*", "idf-tuned"),
        ("0.5*idf*+random", "0.5-of-idf-tuned-and-random"),
        ("runs/my run/policy", "runs-my-run-policy"),
        ("v2.0*", "v2.0-tuned"),
    ],
)
def test_files_of_mixtures(masking: str, name: str):
    assert TrialSpec(masking, 0, Condition()).name == f"{name}.seed-0"


def test_seeds_are_outermost():
    keys = Plan.of(["none", "random"], {"mine": Path("p")}, range(2), labelled=(4, "all"), adapt_steps=(5, 9)).specs()
    assert [key.seed for key in keys] == [0] * 10 + [1] * 10
    assert len(set(keys)) == 20
    assert [key.condition.adapt_steps for key in keys if key.masking == "none"] == [None] * 4


def test_maskings_are_rules_folders_and_named_policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("run", "random", "mine"):
        Path(folder).mkdir()
    policies = {"learned": Path("best"), "mine": Path("other")}
    made = Plan.of(["run", "learned", "random", "randon"], policies, [0])
    assert list(made.maskings.items()) == [
        ("run", Path("run")),
        ("learned", Path("best")),
        ("random", None),
        ("randon", None),
        ("mine", Path("other")),
    ], "a rule is a rule whatever folders are there; policies that are not named come last"
    assert made.learned == {"run": Path("run"), "learned": Path("best"), "mine": Path("other")}


@pytest.mark.parametrize(
    ("names", "policies", "message"),
    [
        (["random", "learned"], {}, "--policies"),
        (["runs/a", "runs-a"], {}, "would share a file"),
        (["random"], {"Mine": Path("a"), "mine": Path("b")}, "would share a file"),
    ],
)
def test_names_that_cannot_stand_beside_each_other(names: list[str], policies: dict[str, Path], message: str):
    with pytest.raises(UserError, match=message):
        Plan.of(names, policies, [0])


def test_points_on_the_curves():
    assert parse_labelled("4, 16,all,4") == [4, 16, "all"]
    assert parse_steps("50,100") == [50, 100]
    for words in ("", "4,x", "0", "-1", "1.5", "all,none"):
        with pytest.raises(UserError, match="--shots"):
            parse_labelled(words)
    for words in ("all", ",", "0"):
        with pytest.raises(UserError, match="--adapt-steps"):
            parse_steps(words)


def test_labels_of_each_task():
    data = DataSettings(labelled_per_class=7, labelled_examples=9)
    assert with_labels(data, None) == data
    everything = with_labels(data, "all")
    assert (everything.labelled_per_class, everything.labelled_examples) == (None, None)
    few = with_labels(data, 4)
    assert (few.labelled_per_class, few.labelled_examples) == (4, None)
    questions = with_labels(DataSettings(task="qa"), 4)
    assert (questions.labelled_per_class, questions.labelled_examples) == (None, 4)
