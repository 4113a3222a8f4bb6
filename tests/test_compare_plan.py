"""What a comparison is asked for: names of cells, their order, points on the curves."""

from pathlib import Path

import pytest

from nmg.compare.cells import CellKey, Setting
from nmg.compare.plan import Plan, parse_labelled, parse_steps, with_labels
from nmg.config import Config
from nmg.errors import UserError


def test_names_of_cells():
    assert CellKey("random", 0, Setting()).name == "random.seed-0"
    assert CellKey("whole-word", 3, Setting(16, 50)).name == "whole-word.seed-3.labelled-16.steps-50"
    assert CellKey("../runs/a b", 3, Setting("all")).name == "runs-a-b.seed-3.labelled-all"


def test_seeds_are_outermost():
    keys = Plan(["none", "random"], {"mine": Path("p")}, range(2), labelled=(4, "all"), adapt_steps=(5, 9)).keys()
    assert [key.seed for key in keys] == [0] * 10 + [1] * 10
    assert len(set(keys)) == 20
    assert [key.setting.adapt_steps for key in keys if key.masking == "none"] == [None] * 4


@pytest.mark.parametrize(
    ("names", "policies", "message"),
    [
        (["random", "neural"], {}, "--policies"),
        (["runs/a", "runs-a"], {}, "cannot be told apart"),
        (["random"], {"Mine": Path("a"), "mine": Path("b")}, "cannot be told apart"),
        (["runs/a"], {"runs/a": Path("b")}, "cannot be told apart"),
    ],
)
def test_names_that_cannot_stand_beside_each_other(names: list[str], policies: dict[str, Path], message: str):
    with pytest.raises(UserError, match=message):
        Plan(names, policies, [0]).check()


def test_points_on_the_curves():
    assert parse_labelled("4, 16,all,4") == [4, 16, "all"]
    assert parse_steps("50,100") == [50, 100]
    for words in ("", "4,x", "0", "-1", "1.5", "all,none"):
        with pytest.raises(UserError, match="--labelled"):
            parse_labelled(words)
    for words in ("all", ",", "0"):
        with pytest.raises(UserError, match="--adapt-steps"):
            parse_steps(words)


def test_labels_of_each_task():
    config = Config.model_validate({"data": {"labelled_per_class": 7, "labelled_examples": 9}})
    assert with_labels(config, None) == config
    everything = with_labels(config, "all").data
    assert (everything.labelled_per_class, everything.labelled_examples) == (None, None)
    few = with_labels(config, 4).data
    assert (few.labelled_per_class, few.labelled_examples) == (4, None)
    questions = with_labels(Config.model_validate({"data": {"task": "qa"}}), 4).data
    assert (questions.labelled_per_class, questions.labelled_examples) == (None, 4)
