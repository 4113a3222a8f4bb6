"""A training whose losses or weights are no numbers: said, recorded, and kept out of everything that stays."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nmg.adaptation.adapt import adapt_corpus
from nmg.auditing.run import audit
from nmg.base.errors import Diverged, UserError
from nmg.base.files import as_json
from nmg.base.progress import Silent
from nmg.config import Config
from nmg.meta_training import run as meta_training
from nmg.meta_training.log import read_run
from nmg.meta_training.loop import MetaTraining
from nmg.report.html import render_html
from nmg.report.run_page import run_page
from nmg.trials import trial
from nmg.trials.session import Session
from support.command import Nmg
from support.runs import Inputs, Notes, is_same, read_log, resume_run

TOO_HIGH = {"learning_rate": 1e30}
LEARNERS: dict[str, dict[str, Any]] = {
    "actor-critic": {},
    "random-search": {"candidates": 3},
    "evolution": {"candidates": 4},
    "rule-search": {"exponents": [0.0, 2.0, 5.0], "budget": 12},
    "experiment": {"budget": 20, "min_pairs": 1},
}


def config_of(inputs: Inputs, learner: str, **changes: Any) -> Config:
    sections = inputs.sections(**changes)
    if learner != "actor-critic":
        sections |= {"policy": {"kind": "linear"}, "learner": {"kind": learner, **LEARNERS[learner]}}
        sections["meta"] = sections["meta"] | {"continual": False}
    return Config.model_validate(sections)


def new_training(config: Config) -> MetaTraining:
    return MetaTraining(Session.prepare(config, Silent()))


def strict(text: str) -> Any:
    """JSON as its standard has it: without NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def tensors_of(folder: Path) -> list[Tensor]:
    return [tensor for path in folder.rglob("*.safetensors") for tensor in load_file(path).values()]


def let_diverge(monkeypatch: pytest.MonkeyPatch, diverges: Callable[[int, int], bool]) -> None:
    """Let the training of the player `number` of an episode `index` diverge where `diverges(index, number)`."""
    original, seen = trial.adapt, {}

    def fail(context: Any, masks: Any, randomness: Any) -> Any:
        index = randomness.path[-1]
        number = seen[index] = seen.get(index, -1) + 1
        if diverges(index, number):
            raise Diverged("the training diverged: its loss is nan.")
        return original(context, masks, randomness)

    monkeypatch.setattr(trial, "adapt", fail)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_three_episodes_in_a_row_end_the_run_with_what_to_change(inputs: Inputs, tmp_path: Path, processes: int):
    """This once saved an LM of NaN, wrote NaN into the log, and ended every resume in a traceback."""
    config = inputs.config(adapt=TOO_HIGH, meta={"episodes": 9}, runtime={"processes": processes})
    out = tmp_path / "run"
    lines: list[str] = []
    with pytest.raises(UserError, match=r"in 3 consecutive episodes.* Lower adapt.learning_rate \(1e\+30\)\."):
        meta_training.start(
            config, out, Silent(), lambda record, n: lines.append(meta_training.episode_line(record, n))
        )
    assert len(lines) == 3
    assert "(diverged: learner, random)" in lines[0]
    log = read_log(out)
    assert [set(line["diverged"]) for line in log] == [{"learner", "random"}] * 3
    assert all(line["scores"] == {} and not line["is_tie"] for line in log)
    assert all(tensor.isfinite().all() for tensor in tensors_of(out))
    assert load_file(out / "checkpoints" / "episode-00003" / "learner-replay.safetensors")["shard"].numel() == 0
    for path in [*out.rglob("*.json"), *out.rglob("*.jsonl")]:
        for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            strict(line)
    with pytest.raises(UserError, match=r"in 4 consecutive episodes"):
        resume_run(out, [], Silent(), lambda *_: None)
    assert "diverged" in render_html(run_page(read_run(out)))


def test_one_that_diverges_is_left_out_of_lm_state_and_replay(inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    let_diverge(monkeypatch, lambda index, number: index == 1 and number == 0)  # the learner in the second episode
    training = new_training(config_of(inputs, "actor-critic"))
    training.episode()
    lm, held = dict(training.lm_state), len(training.learner.learner.replay)
    weights = {name: tensor.clone() for name, tensor in training.learner.policy.state_dict().items()}
    record = training.episode()
    assert set(record.diverged) == {"learner"}
    assert set(record.scores) == set(record.lm_loss) == {"random", "opponent"}
    assert not record.is_tie
    assert is_same(training.lm_state, lm)
    assert len(training.learner.learner.replay) == held
    assert is_same(training.learner.policy.state_dict(), weights)
    assert training.diverged_in_a_row == 1
    assert set(training.episode().scores) == {"learner", "random", "opponent"}
    assert training.diverged_in_a_row == 0
    assert not is_same(training.lm_state, lm)


def test_where_another_player_diverges_the_leaders_lm_goes_on(inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    let_diverge(monkeypatch, lambda index, number: number == 1)
    training = new_training(config_of(inputs, "actor-critic"))
    assert set(training.episode().diverged) == {"random"}
    assert not is_same(training.lm_state, training.pretrained)


@pytest.mark.parametrize(
    "learner",
    [
        name if name in ("actor-critic", "experiment") else pytest.param(name, marks=pytest.mark.slow)
        for name in LEARNERS
    ],
)
def test_every_learner_goes_on(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learner: str):
    """With one player missing, then with all, then with all there; and so after a resume."""
    let_diverge(monkeypatch, lambda index, number: (index, number) == (1, 0) or index == 2)
    config = config_of(inputs, learner, meta={"episodes": 4})
    out = tmp_path / "run"
    training = meta_training.start(config, out, Silent(), lambda *_: None)
    log = read_log(out)
    assert ["diverged" in line for line in log] == [False, True, True, False]
    assert len(log[1]["diverged"]) == 1
    assert log[2]["scores"] == {}
    assert len(log[3]["scores"]) >= 2
    assert all(tensor.isfinite().all() for tensor in training.learner.policy.state_dict().values())
    resumed = resume_run(out, [], Silent(), lambda *_: None)
    assert resumed.learner.save().facts == training.learner.save().facts
    render_html(run_page(read_run(out)))


def test_rule_search_counts_the_plays_of_an_episode_that_tells_nothing(inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    let_diverge(monkeypatch, lambda index, number: (index, number) == (0, 2))
    training = new_training(config_of(inputs, "rule-search", meta={"episodes": 99}))
    while not training.is_finished:
        training.episode()
    assert training.next_episode == 4, "12 plays, 3 an episode"
    assert len(training.learner.scores) == 3


def test_evolution_takes_one_that_diverged_for_the_worst(inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    let_diverge(monkeypatch, lambda index, number: (index, number) == (0, 2))
    training = new_training(config_of(inputs, "evolution"))
    record = training.episode()
    scores = training.learner.save().facts["history"][0]["scores"]
    others = [-score["loss"] for score in record.scores.values()]
    assert scores[2] == min(others)
    assert len(scores) == 4


def test_the_plays_of_an_experiment_count_and_no_more(inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    let_diverge(monkeypatch, lambda index, number: (index, number) == (1, 1))
    training = new_training(config_of(inputs, "experiment"))
    training.episode()
    record = training.episode()
    assert "difference" not in record.learning
    book = training.learner.state
    assert (book.trials, len(book.y), book.n_explored) == (4, 1, 1)


def test_a_resumed_run_counts_on(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two episodes diverge before the interruption, one after it: three in a row."""
    let_diverge(monkeypatch, lambda index, number: number == 0)
    config = config_of(inputs, "actor-critic", meta={"episodes": 2})
    meta_training.start(config, tmp_path / "run", Silent(), lambda *_: None)
    with pytest.raises(UserError, match="in 3 consecutive episodes"):
        resume_run(tmp_path / "run", ["--meta.episodes=9"], Silent(), lambda *_: None)


def test_a_score_that_is_no_number_is_a_divergence(inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    """The weights may be finite, and so large that nothing can be computed with them."""
    training, evaluate = new_training(config_of(inputs, "actor-critic")), trial.evaluate

    def spoil(*arguments: Any) -> Any:
        evaluation = evaluate(*arguments)
        return type(evaluation)(**vars(evaluation) | {"scores": {**evaluation.scores, "loss": math.inf}})

    monkeypatch.setattr(trial, "evaluate", spoil)
    record = training.episode()
    assert set(record.diverged) == {"learner", "random"}
    assert "the score 'loss' of its model is inf" in record.diverged["learner"]


def test_a_learner_that_diverges_leaves_the_checkpoint_before(inputs: Inputs, tmp_path: Path):
    config = config_of(inputs, "actor-critic", meta={"episodes": 4})
    out = tmp_path / "run"

    def spoil(record: Any, _episodes: int) -> None:
        if record.episode == 2:
            with torch.no_grad():
                next(iter(seen[0].learner.policy.parameters())).fill_(math.nan)

    seen: list[MetaTraining] = []
    original = meta_training.go_on

    def spy(training: MetaTraining, *rest: Any) -> None:
        seen.append(training)
        original(training, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meta_training, "go_on", spy)
        with pytest.raises(Exception, match=r"finite|nan|NaN"):
            meta_training.start(config, out, Silent(), spoil)
    assert all(tensor.isfinite().all() for tensor in tensors_of(out / "checkpoints"))
    notes = Notes()
    assert resume_run(out, [], notes, lambda *_: None).is_finished
    assert "resuming after 2 of 4 episodes" in notes.lines


def test_an_adaptation_alone(inputs: Inputs, tmp_path: Path, nmg: Nmg):
    config = inputs.write_config(tmp_path / "config.yaml", adapt=TOO_HIGH)
    answer = nmg("adapt", "--config", config, "--corpus", inputs.train, "--out", "adapted")
    assert answer.code == 2
    assert "error: the training diverged" in answer.err
    assert "Lower adapt.learning_rate (1e+30)." in answer.err
    assert not (tmp_path / "adapted" / "config.json").exists()
    with pytest.raises(Diverged):
        adapt_corpus(inputs.config(adapt=TOO_HIGH, data={"corpus": str(inputs.train)}), "random", tmp_path / "other")


def test_an_audit_leaves_a_schedule_out_that_diverges(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    original = trial.adapt

    def fail_where_it_is_fast(context: Any, *rest: Any) -> Any:
        if context.adapt.learning_rate > 0.01:
            raise Diverged("the training diverged.")
        return original(context, *rest)

    monkeypatch.setattr(trial, "adapt", fail_where_it_is_fast)
    config = config_of(inputs, "random-search", adapt={"epochs": 1}, reward={"metric": None})
    result = audit(config, tmp_path / "audit", seeds=2, minutes=1)
    assert {one.learning_rate for one in result.adaptation.schedules} == {5e-3}
    lines = [strict(line) for line in (tmp_path / "audit" / "trials.jsonl").read_text().splitlines()]
    assert not any(line["spec"]["learning_rate"] > 0.01 for line in lines if line["spec"]["masking"] != "none")
    assert len(list((tmp_path / "audit" / "errors").iterdir())) == 4 * 3, "each evaluation of four adaptations"
    again = audit(config, tmp_path / "audit", seeds=2, minutes=1)
    assert again.facts["adaptation"] == result.facts["adaptation"]
    too_high = config_of(inputs, "random-search", adapt={"epochs": 1} | TOO_HIGH, reward={"metric": None})
    with pytest.raises(UserError, match=r"random · .*the training diverged"):
        audit(too_high, tmp_path / "other", seeds=2, minutes=1)


def test_without_an_adaptation_the_log_has_no_nan(inputs: Inputs, tmp_path: Path):
    config = config_of(inputs, "actor-critic", adapt={"epochs": 0}, meta={"episodes": 1})
    meta_training.start(config, tmp_path / "run", Silent(), lambda *_: None)
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert strict(line)["lm_loss"] == {"learner": None, "random": None}


def test_json_has_no_nan():
    value = {"a": [1.5, math.nan, (math.inf, "NaN")], "b": {"c": -math.inf, "d": None, "e": True}}
    assert strict(as_json(value)) == {"a": [1.5, None, [None, "NaN"]], "b": {"c": None, "d": None, "e": True}}
    with pytest.raises(TypeError):
        as_json(object())
