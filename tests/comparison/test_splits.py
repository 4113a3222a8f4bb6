"""Three splits: no label and no text of the test set reaches a choice; all it gives is the scores that are reported."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nmg.base.progress import Silent
from nmg.base.trial import TrialResult
from nmg.base.types import Example
from nmg.comparison.plan import Plan
from nmg.comparison.results import trial_json
from nmg.comparison.run import Comparison
from nmg.config import Config
from nmg.meta_training.loop import MetaTraining
from nmg.trials.session import Session
from support.runs import Inputs, is_same

from .helpers import save_policy


def shuffled(path: Path, out: Path, field: str) -> Path:
    """The file with one field's values dealt to other lines."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    values = np.random.default_rng(3).permutation([line[field] for line in lines]).tolist()
    out.write_text("".join(json.dumps(line | {field: value}) + "\n" for line, value in zip(lines, values, strict=True)))
    return out


def trained(config: Config) -> tuple[MetaTraining, list[float]]:
    training = MetaTraining(Session.prepare(config, Silent()))
    return training, [training.episode().learning["mean_reward"] for _ in range(3)]


@pytest.mark.parametrize("with_validation", [False, True])
def test_meta_training_does_not_depend_on_the_test_set(inputs: Inputs, tmp_path: Path, with_validation: bool):
    files = {"validation": str(inputs.test)} if with_validation else {}
    other_test = tmp_path / "other.jsonl"
    texts = shuffled(inputs.test, other_test, "text").read_text()
    assert texts != inputs.test.read_text()
    first, rewards = trained(inputs.config(data=files))
    second, others = trained(inputs.config(data=files | {"test": str(other_test)}))
    assert is_same(first.learner.policy, second.learner.policy)
    assert is_same(first.lm_state, second.lm_state)
    assert rewards == others
    assert any(rewards), "there were rewards, so there was something to learn from"
    # The same change where it must show: in what players are scored on.
    third, _ = trained(inputs.config(data={"validation": str(other_test)}))
    assert not is_same(first.learner.policy, third.learner.policy)


class Untouchable(Sequence[Example]):
    """A test set that fails whoever looks at it."""

    def __getitem__(self, _index: object) -> Example:  # type: ignore[override]
        raise AssertionError("the test set was read")

    def __iter__(self) -> Iterator[Example]:
        raise AssertionError("the test set was read")

    def __len__(self) -> int:
        raise AssertionError("the test set was counted")


def test_meta_training_never_looks_at_the_test_set(inputs: Inputs):
    session = Session.prepare(inputs.config(), Silent())
    training = MetaTraining(replace(session, data=replace(session.data, test=Untouchable())))  # type: ignore[arg-type]
    for _ in range(2):
        assert training.episode().scores


def without_scores(cells: Sequence[TrialResult]) -> list[dict[str, object]]:
    """All that a cell did, without how it scored, what that took and which files it knew."""
    told = {"scores", "seconds", "provenance"}
    return [{name: value for name, value in trial_json(cell).items() if name not in told} for cell in cells]


def test_a_comparison_does_the_same_whatever_the_labels_of_the_test_set(inputs: Inputs, tmp_path: Path):
    """The same cells, masks, steps and language models; only the scores on the test set are others."""
    policies = {"mine": save_policy(tmp_path / "policy")}
    plan = Plan.of(["none", "random"], policies, range(2), labelled=(1, "all"), adapt_steps=(1, 2))
    sections = {name: {"batch_size": 20} for name in ("adapt", "finetune")}

    def cells(test: Path, out: str) -> list[TrialResult]:
        config = inputs.config(data={"test": str(test)}, **sections)
        return Comparison.open(config, plan, tmp_path / out, Silent()).with_head().run(lambda _event: None).cells

    first = cells(inputs.test, "first")
    second = cells(shuffled(inputs.test, tmp_path / "other.jsonl", "label"), "second")
    assert [cell.spec for cell in first] == plan.specs(), "every cell that was planned, no other"
    assert without_scores(first) == without_scores(second)
    assert all(cell.scores["loss"] != other.scores["loss"] for cell, other in zip(first, second, strict=True))
