"""Credit per word piece: averaged over rounds, shrunk, reliable, measured once per run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nmg.base.errors import UserError
from nmg.base.settings import Evaluation
from nmg.config import Config
from nmg.learners.experiment.learner import Experiment
from nmg.meta_training.loop import MetaTraining
from nmg.policies.linear import LinearPolicy
from nmg.trials.credit import CreditWorker, Round, piece_credit
from nmg.trials.session import Session
from nmg.trials.trial import Encoded
from support.runs import Inputs, Notes

NONE = np.zeros((4, 0))
FEATURES = ["idf", "credit"]


def rounds_of(*tokens: list[tuple[int, float]]) -> list[Round]:
    return [Round(np.array([p for p, _ in one]), np.array([c for _, c in one])) for one in tokens]


def test_hand_values_without_other_features() -> None:
    """Piece 0: 1, 3; piece 1: 5, 7; piece 3: never. σ² = (1 + 1 + 1 + 1) / (4 − 2) = 2, mean 4.

    τ² = (2 · 4 + 2 · 4 − 2 · 2) / (4 − 8 / 4) = 6, so each piece keeps 2 / (2 + 2 / 6) of its distance from 4.
    """
    found = piece_credit(rounds_of([(0, 1.0), (1, 5.0)], [(0, 3.0), (1, 7.0)]), NONE)
    kept = 2 / (2 + 2 / 6)
    assert found.credit == pytest.approx([4 - 2 * kept, 4 + 2 * kept, 4.0, 4.0])
    assert found.counts.tolist() == [2, 2, 0, 0]
    assert (found.rounds, found.reliability) == (2, None)


def test_credit_that_is_only_noise_becomes_the_mean() -> None:
    tokens = [(piece, value) for piece in range(4) for value in (-1.0, 1.0)]
    found = piece_credit(rounds_of(tokens), NONE)
    assert found.credit == pytest.approx(np.zeros(4), abs=1e-12)


def test_pieces_that_were_never_masked_get_what_their_features_predict() -> None:
    """Credit is twice the feature; the ridge penalty of 1 in 600 tokens takes less than a percent."""
    feature = np.array([[0.0], [1.0], [2.0], [5.0]])
    tokens = [(piece, 2.0 * piece) for piece in range(3) for _ in range(200)]
    found = piece_credit(rounds_of(tokens), feature)
    assert found.credit == pytest.approx([0, 2, 4, 10], abs=0.1)


def test_reliability_is_the_correlation_of_odd_and_even_rounds() -> None:
    values = {0: (1.0, 2.0), 1: (2.0, 1.0), 2: (3.0, 5.0)}
    halves = [[(piece, values[piece][half]) for piece in values for _ in range(10)] for half in (0, 1)]
    found = piece_credit(rounds_of(halves[0], halves[1], halves[0]), NONE)
    assert found.reliability == pytest.approx(np.corrcoef([1, 2, 3], [2, 1, 5])[0, 1])
    assert piece_credit(rounds_of(halves[0]), NONE).reliability is None


def training_of(inputs: Inputs, tmp_path: Path, **changes: dict[str, object]) -> tuple[MetaTraining, Notes]:
    sections = inputs.sections(
        meta={"continual": False, "episodes": 20}, runtime={"cache_dir": str(tmp_path / "cache")}
    )
    sections |= {
        "learner": {"kind": "experiment", "budget": 20},
        "policy": {"kind": "linear", "features": FEATURES, "credit_rounds": 2},
        "reward": {"metric": "loss", "evaluation": "linear-probe"},
    }
    for name, fields in changes.items():
        sections[name] = sections[name] | fields
    notes = Notes()
    return MetaTraining(Session.prepare(Config.model_validate(sections), notes)), notes


@pytest.mark.parametrize("evaluation", ["linear-probe", "finetune"])
def test_a_run_measures_credit_once_and_its_policies_have_the_feature(
    inputs: Inputs, tmp_path: Path, evaluation: str
) -> None:
    training, notes = training_of(inputs, tmp_path, reward={"evaluation": evaluation})
    with training.engine:
        assert isinstance(training.learner, Experiment)
        policy = training.learner._template
        assert isinstance(policy, LinearPolicy)
        column = policy.table[:, FEATURES.index("credit")].double().numpy()
        found = training.credit.findings()["credit"]
        assert (found["rounds"], [one["credit"] for one in found["most"]]) == (
            2,
            sorted([one["credit"] for one in found["most"]], reverse=True),
        )
        assert np.unique(column).size > 3
        assert sum("gradient credit" in line for line in notes.lines) == 1
        n = len(training.split.validation_examples)
        assert any(f"credit can fit the {n} validation examples" in line for line in notes.lines)
    changed = {"learner": {"budget": 24}, "meta": {"episodes": 24}, "reward": {"evaluation": evaluation}}
    again, notes = training_of(inputs, tmp_path, **changed)
    with again.engine:
        assert again.learner._template.table[:, 1].double().numpy() == pytest.approx(column)  # type: ignore[attr-defined]
        assert not any("gradient credit" in line for line in notes.lines)  # from the cache
        assert again.credit.findings()["credit"]["most"] == found["most"]


def test_rounds_side_by_side_give_the_same_credit(inputs: Inputs, tmp_path: Path) -> None:
    found = []
    for processes in (1, 2):
        runtime = {"processes": processes, "threads": processes, "cache_dir": str(tmp_path / f"cache-{processes}")}
        training, _ = training_of(inputs, tmp_path, runtime=runtime)
        with training.engine:
            found.append(training.credit.findings()["credit"])
    alone, together = found
    assert together["most"] == alone["most"]
    assert together["least"] == alone["least"]
    assert together["reliability"] == alone["reliability"]


def test_other_rounds_are_measured_again(inputs: Inputs, tmp_path: Path) -> None:
    training_of(inputs, tmp_path)[0].engine.close()
    training, notes = training_of(inputs, tmp_path, adapt={"epochs": 2})
    training.engine.close()
    assert sum("gradient credit" in line for line in notes.lines) == 1


@pytest.mark.parametrize("evaluation", ["linear-probe", "finetune"])
def test_credit_of_training_examples_does_not_read_the_validation_examples(
    inputs: Inputs, tmp_path: Path, evaluation: Evaluation
) -> None:
    training, notes = training_of(inputs, tmp_path, policy={"credit_examples": "training"})
    training.engine.close()
    assert not any("credit can fit" in line for line in notes.lines)
    runner, job = training.runner, training.credit._job(0)
    few = Encoded.of(runner.task, runner.validation.examples[:1])
    for examples, is_same in (("training", True), ("validation", False)):
        workers = [CreditWorker(one, evaluation, examples) for one in (runner, replace(runner, validation=few))]  # type: ignore[arg-type]
        first, second = (worker.run(training.pretrained, job).credit for worker in workers)
        assert np.allclose(first, second) == is_same


def test_without_the_feature_nothing_is_measured(inputs: Inputs, tmp_path: Path) -> None:
    training, _ = training_of(inputs, tmp_path, policy={"features": ["idf"]})
    with training.engine:
        assert training.credit.findings() == {}
        assert not (tmp_path / "cache").is_dir() or not list((tmp_path / "cache").glob("credit-*"))


def test_low_rank_adaptation_has_no_credit(inputs: Inputs, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="needs peft (the `lora` extra)")
    with pytest.raises(UserError, match=r"credit needs adapt\.optimiser adamw"):
        training_of(inputs, tmp_path, adapt={"lora": {"rank": 2}})
