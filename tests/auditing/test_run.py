"""An audit from start to end, on a model and texts that take a moment."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from nmg.auditing.budget import FEW_RULES, MOST, RULES, Budget
from nmg.auditing.findings import Adaptation, RewardFinding, Schedule
from nmg.auditing.recommend import best_reward, is_sound, recommend
from nmg.auditing.run import audit
from nmg.auditing.trials import AuditTrial, AuditWorker
from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.base.trial import TrialResult, TrialSpec
from nmg.config import Config, load_config
from nmg.policies.linear import DEFAULT_FEATURES, LinearSettings
from nmg.trials.store import TrialStore, read_trials
from support.command import Nmg
from support.runs import Inputs, Notes
from support.trials import audited

FEW: dict[str, Any] = {"adapt": {"epochs": 1}, "reward": {"metric": None}}


def settings(inputs: Inputs, **changes: Any) -> Config:
    sections = inputs.sections(**FEW | changes)
    del sections["learner"], sections["policy"]
    sections["meta"] = sections["meta"] | {"continual": False}
    return Config.model_validate(sections)


def test_the_command_and_its_files(inputs: Inputs, tmp_path: Path, nmg: Nmg):
    config = settings(inputs)
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    answer = nmg("audit", "config.yaml", "--out", "audit", "--minutes", "1", "--seeds", "2")
    assert answer.code == 0, answer.err
    facts = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert {"loss", "unigram_entropy"} <= set(facts["lm"])
    assert facts["leakage"]["exact_duplicates"] == 0 <= facts["leakage"]["near_duplicates"]
    assert facts["adaptation"]["pays"] in {True, False, None}
    assert facts["recommendation"] in answer.out.replace("\n", " ")
    assert len(facts["rewards"]) == 5
    recommended = load_config(tmp_path / "audit" / "recommended.yaml")
    assert recommended.data == config.data
    assert recommended.adapt.learning_rate == facts["adaptation"]["best"]["learning_rate"]
    page = (tmp_path / "audit" / "index.html").read_text()
    assert "Is there anything to learn?" in page
    assert "Recommended configuration" in page


def test_an_interrupted_audit_goes_on_to_the_same_result(inputs: Inputs, tmp_path: Path):
    whole = audit(settings(inputs), tmp_path / "whole", seeds=2, minutes=0.4)
    lines = (tmp_path / "whole" / "trials.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "trials.jsonl").write_text("".join(lines[:8]) + lines[8][:20])
    played: list[AuditTrial] = []
    part = audit(
        settings(inputs),
        tmp_path / "part",
        seeds=2,
        minutes=0.4,
        on_trial=lambda trial, _done, _all: played.append(trial),
    )
    stored = list(read_trials(tmp_path / "whole" / "trials.jsonl"))
    finished = [replace(spec, evaluation="finetune", replicate=0) for spec in stored[:6:3]]
    assert not {trial.spec for trial in played} & set(finished), "two trials of three evaluations each"
    assert replace(stored[6], evaluation="finetune") in {trial.spec for trial in played}, "one evaluation was lost"
    shared = {trial.spec: trial for trial in whole.trials}
    both = [trial for trial in part.trials if trial.spec in shared]
    assert len(both) > 3
    assert all(trial.probe == shared[trial.spec].probe for trial in both)
    assert all(trial.finetune == shared[trial.spec].finetune for trial in both)
    assert part.facts["lm"] == whole.facts["lm"]


@pytest.mark.parametrize("what", ["settings", "data"])
def test_plays_of_something_else_are_not_gone_on_with(inputs: Inputs, tmp_path: Path, what: str):
    """An audit that was begun by fine-tuned scores must not end with half of its plays judged by a probe."""
    train = tmp_path / "train.jsonl"
    lines = inputs.train.read_text().splitlines(keepends=True)
    train.write_text("".join(lines))
    first = settings(inputs, data={"train": str(train)})
    provenance = AuditWorker.open(first, Silent()).provenance
    out = tmp_path / "out"
    out.mkdir()
    TrialStore(out, provenance).append(audited("random", 0, {"accuracy": 0.5}, []).results[0])
    if what == "data":
        train.write_text("".join(lines[:-1]))
    other = "other settings" if what == "settings" else "another data.train and another corpus"
    measure = "linear-probe" if what == "settings" else "finetune"
    changed = settings(inputs, data={"train": str(train)}, test={"evaluation": measure})
    with pytest.raises(UserError, match=f"trials.jsonl .*was made with {other}; choose another --out"):
        audit(changed, out, seeds=2, minutes=1e-6)


def test_the_test_set_is_not_read(inputs: Inputs, tmp_path: Path):
    missing = settings(inputs, data={"test": str(tmp_path / "missing.jsonl")})
    assert audit(missing, tmp_path / "out", seeds=2, minutes=1e-6).trials


def test_without_an_adaptation_there_is_nothing_to_audit(inputs: Inputs, tmp_path: Path):
    with pytest.raises(UserError, match=r"adapt\.epochs: an audit needs an adaptation of at least one epoch"):
        audit(settings(inputs, adapt={"epochs": 0}), tmp_path / "out", seeds=2)


def test_a_damaged_line_is_named(inputs: Inputs, tmp_path: Path):
    (tmp_path / "trials.jsonl").write_text('{"key": 1}\n')
    with pytest.raises(UserError, match=r"trials.jsonl, line 1: is not a trial"):
        audit(settings(inputs), tmp_path, seeds=2)


def test_a_short_audit_fine_tunes_on_fewer_examples(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Many labels must not make it long; fewer examples are some of the more."""
    monkeypatch.setattr("nmg.auditing.budget.LEAST_EXAMPLES", 4)
    session = AuditWorker.open(settings(inputs), Silent())
    assert set(session.rows(4)) < set(session.rows(10)) < set(session.rows(10**6))
    assert (len(session.rows(4)), len(session.rows(10))) == (4, 10)
    found = audit(settings(inputs), tmp_path / "out", seeds=2, minutes=1e-6)
    assert found.facts["examples"] == {"used": 4, "labelled": len(session.train.examples)}
    assert {trial.examples for trial in found.trials} == {4}


def test_a_frozen_encoder_is_judged_by_the_probe(inputs: Inputs, tmp_path: Path):
    found = audit(settings(inputs, test={"evaluation": "linear-probe"}), tmp_path / "out", seeds=2, minutes=1e-6)
    assert all(trial.finetune == [] for trial in found.trials)
    assert {(one.name, one.metric) for one in found.rewards} == {("probe", "accuracy"), ("probe", "loss")}
    by_key = {trial.spec: trial.probe["accuracy"] for trial in found.trials}
    for one, seeds in [*((one, (0, 1)) for one in found.adaptation.schedules), (found.adaptation.best, (2, 3))]:
        gains = []
        for seed in seeds:
            random = next(
                k for k in by_key if (k.seed, k.masking, k.condition.adapt_steps) == (seed, "random", one.steps)
            )
            random = replace(random, learning_rate=one.learning_rate)
            none = next(k for k in by_key if (k.seed, k.masking) == (seed, "none"))
            gains.append(by_key[random] - by_key[none])
        assert one.gain == pytest.approx(sum(gains) / 2)
    assert found.recommended.test.evaluation == "linear-probe"


def play(masking: str, steps: int, adapt: float, scoring: float = 0.0) -> AuditTrial:
    return audited(masking, 0, {}, [{}, {}], steps=steps, adapt=adapt, tuning=2.0, scoring=scoring)


def test_a_budget_by_hand():
    """3 seeds: 1 + 3 × (5 + 1 + 2 + 4) plays at least; 37 minutes of one process are 60 s a play."""
    budget = Budget(37 * 60, 3)
    assert budget.fewest == 37
    pilot = play("random", 10, 5.0)  # 0.5 s a step, 0.05 s an example
    assert budget.examples(pilot, 5000) == 600, "in 30 s"
    slow = play("random", 10, 5.0, scoring=4.0)  # 0.01 s an example
    assert budget.examples(slow, 5000) == 2600, "in 26 s: scoring does not grow with them"
    assert budget.steps(slow, 1000, 200) == 92, "in 46 s"
    assert budget.examples(pilot, 300) == 300
    assert Budget(37, 3).examples(pilot, 5000) == 100
    assert budget.steps(pilot, 100, 200) == 110, "in 55 s"
    assert budget.steps(pilot, 600, 200) == 60, "in 30 s"
    assert budget.steps(pilot, 100, 40) == 40
    assert budget.steps(play("random", 10, 500.0), 100, 200) == 20
    plays = [play("none", 50, 0.0)] * 3 + [play("random", 50, 25.0)] * 6 + [play("random", 16, 25.0)] * 6
    left = 37 * 60 - 2 * 3 * 5 - 12 * 30
    assert left // 90 == 20, "plays of each seed, beside the one without adaptation"
    assert budget.maskings(plays, 50) == ["none", *RULES, *(f"direction-{n}" for n in range(15))]
    assert len(Budget(left, 3).maskings(plays, 50)) == 1 + 16
    assert len(budget.maskings([*plays[:9], *[play("random", 16, 5.0)] * 6], 16)) == 1 + len(RULES) + MOST
    few = ["none", *FEW_RULES, "direction-0", "direction-1", "direction-2", "direction-3"]
    assert budget.maskings([play("none", 50, 0.0), *[play("random", 50, 1000.0)] * 12], 50) == few
    assert Budget(30 + 360 + 8 * 90, 3).maskings(plays, 50)[3:] == [f"direction-{n}" for n in range(6)]
    assert Budget(1e6, 3).maskings(plays, 50) == ["none", *RULES, *(f"direction-{n}" for n in range(MOST))]


@dataclass
class FakeEngine:
    """Plays whose seconds follow a price, and scores of chance: a clock without a model."""

    train: float
    """seconds: of a labelled example in each fine-tuning"""
    score: float
    """of the validation set, each time"""
    step: float
    processes: int = 1
    spent: float = 0.0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def map_unordered(
        self, _shared: None, jobs: Sequence[Sequence[TrialSpec]]
    ) -> Iterator[tuple[int, Sequence[TrialResult]]]:
        for number, (spec, *_) in enumerate(jobs):
            labelled, steps = spec.condition.labelled, spec.condition.adapt_steps
            assert isinstance(labelled, int)
            assert steps is not None
            adapt = 0.0 if spec.masking == "none" else self.step * steps
            tuning, probing = labelled * self.train + self.score, labelled * self.train / 4 + self.score
            self.spent += adapt + 2 * tuning + probing
            scores = [{"accuracy": value, "loss": -value} for value in self.rng.random(3)]
            trial = audited(
                "", 0, scores[0], scores[1:], adapt=adapt, probing=probing, tuning=tuning, scoring=3 * self.score
            )
            yield number, [replace(one, spec=own) for one, own in zip(trial.results, jobs[number], strict=True)]

    def __enter__(self) -> "FakeEngine":
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize("minutes", [20, 40, 80])
@pytest.mark.parametrize(
    ("train", "score", "step"), [(0.03, 8.0, 0.2), (0.03, 0.01, 0.2), (0.3, 1.0, 0.01), (0.001, 2.0, 1.0)]
)
def test_the_minutes_are_kept_and_used(
    inputs: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    minutes: int,
    train: float,
    score: float,
    step: float,
):
    """Dear scoring of the validation set must not shorten fine-tunings: it does not depend on their examples."""
    engine = FakeEngine(train, score, step)
    monkeypatch.setattr("nmg.auditing.run.open_executor", lambda *_: engine)
    monkeypatch.setattr("nmg.auditing.run._all_steps", lambda _bench: 200)
    monkeypatch.setattr("nmg.auditing.run._labelled", lambda _bench: 4000)
    notes = Notes()
    found = audit(settings(inputs), tmp_path / "out", seeds=3, minutes=minutes, reporter=notes)
    used, is_least = engine.spent / 60, found.facts["examples"]["used"] == 100
    has_all = len(found.fresh) == 3 * (1 + len(RULES) + MOST)
    assert used <= 1.1 * minutes or is_least
    assert used >= 0.75 * minutes or has_all
    assert any("the smallest audit takes about" in line for line in notes.lines) is (used > 1.5 * minutes)


def reward(name: str, metric: str, corrected: float | None, plays: int | None, seconds: float = 1.0) -> RewardFinding:
    low, high = (None, None) if corrected is None else (corrected - 0.2, min(corrected + 0.1, 1.0))
    return RewardFinding(name, metric, seconds, 0.5, corrected, low, high, 0.1, 0.1, plays)


def test_the_reward_is_the_cheapest_that_stands_for_the_score():
    probe, tuned = reward("probe", "loss", 0.9, 100), reward("fine-tuning", "loss", 0.9, 200, 3.0)
    wrong, blind = reward("probe", "accuracy", 0.1, 20), reward("fine-tuning", "accuracy", 0.9, None)
    assert best_reward([blind, wrong, tuned, probe], 0.01) is probe
    assert best_reward([blind, wrong], 0.01) is None
    assert is_sound(probe, 0.01)
    assert not is_sound(probe, 0.06), "maskings are not shown to differ"
    assert not is_sound(probe, None)
    unsure = replace(probe, corrected_low=0.3)
    assert not is_sound(unsure, 0.01), "0.9, or 0.3"
    assert best_reward([unsure, tuned], 0.01) is tuned, "three times as dear, and shown to agree"
    unclear = reward("probe", "loss", None, 150)
    assert best_reward([wrong, unclear], 0.01) is unclear
    assert best_reward([wrong, replace(unclear, rank_correlation=-0.7)], 0.01) is None, "quick, and against the score"
    assert best_reward([wrong, replace(unclear, rank_correlation=None)], 0.01) is None


def adapting(pays: bool | None) -> Adaptation:
    best = Schedule(60, 2e-3, 0.02, 0.01, 0.03, 0.01, 4.0)
    return Adaptation(pays, best, [best], 0.5)


FACTS: dict[str, Any] = {
    "lm": {"loss": 4.0, "unigram_entropy": 7.0, "margin": 3.0},
    "leakage": {"validation": 100, "exact_duplicates": 0, "near_duplicates": 0, "train": 50},
    "examples": {"used": 50, "labelled": 50},
    "steps": {"most": 60, "wanted": 60},
    "maskings": {
        "metric": "accuracy",
        "between": 0.02,
        "between_high": 0.031,
        "possible_gain": 0.107,
        "p": 0.01,
        "mean": {"idf-2": 0.5, "idf-5": 0.6, "random": 0.4},
    },
}


def test_what_is_recommended():
    found = [reward("2 fine-tunings", "loss", 0.9, 100)]
    config, text = recommend(Config(), FACTS, adapting(pays=True), found, steps_an_epoch=20)
    assert text.startswith(
        "Adaptation helps: +2.0 points [+1.0, +3.0] accuracy over no adaptation, with 60 steps at learning rate 0.002."
    )
    assert "Learn with the reward 2 fine-tunings (loss): about 100 trials, 1.7 minutes with one process." in text
    assert (config.reward.evaluation, config.reward.metric, config.reward.num_replicates) == ("finetune", "loss", 2)
    assert (config.learner.kind, config.learner.budget) == ("experiment", 100)
    assert (config.test.adapt_epochs, config.adapt.learning_rate, config.masking.idf_exponent) == (3, 2e-3, 5.0)
    varied = Config.model_validate({"learner": {"factors": ["rate"]}})
    config, _ = recommend(varied, FACTS, adapting(pays=True), [reward("probe", "loss", 0.9, 100)], 20)
    assert config.learner.factors == ("rate",), "what the user asked for"
    published = {"policy": {"kind": "attention"}, "learner": {"kind": "actor-critic"}}
    cases: list[tuple[dict[str, Any], tuple[str, ...]]] = [
        ({"policy": {"features": ["idf"]}}, ("idf",)),
        (published, DEFAULT_FEATURES),
    ]
    for sections, features in cases:
        mine = Config.model_validate(sections)
        config, _ = recommend(mine, FACTS, adapting(pays=True), [reward("probe", "loss", 0.9, 100)], 20)
        assert isinstance(config.policy, LinearSettings)
        assert config.policy.features == features
    assert Config.model_validate(config.model_dump()).reward.evaluation == "linear-probe"


def test_how_far_maskings_may_differ_is_said():
    for found in ([reward("probe", "loss", 0.9, 100)], []):
        _, text = recommend(Config(), FACTS, adapting(pays=None), found, steps_an_epoch=20)
        assert "2.0 points between them, at most 3.1 with 95 % confidence, p = 0.010" in text
        said = "A learned linear policy can gain at most 10.7 points over random masks (95 % confidence)."
        assert text.endswith(said)


def test_an_audit_that_had_to_be_short_says_so():
    examples = {"used": 352, "labelled": 4169}
    short = FACTS | {"steps": {"most": 21, "wanted": 70}, "examples": examples, "minutes": 31.4}
    _, text = recommend(Config(), short, adapting(pays=None), [], 20)
    assert "The time allowed 21 of 70 adaptation steps and 352 of 4169 labelled examples." in text
    assert "an audit with all of them takes about 32 minutes" in text
    few = FACTS | {"examples": examples, "minutes": 31.4}
    assert "The time allowed" in recommend(Config(), few, adapting(pays=None), [], 20)[1]
    _, text = recommend(Config(), FACTS, adapting(pays=None), [], 20)
    assert "The time allowed" not in text


def test_models_that_learn_nothing_are_told():
    same = FACTS["maskings"] | {"mean": {"idf-2": 0.3, "random": 0.3}, "between": 0.0, "p": None}
    _, text = recommend(Config(), FACTS | {"maskings": same}, adapting(pays=None), [], 20)
    assert "all maskings have the same score" in text
    assert "finetune.epochs" in text
    _, text = recommend(Config(), FACTS, adapting(pays=None), [], 20)
    assert "score the same" not in text


def test_a_reward_of_which_little_is_known():
    found = [reward("probe", "loss", None, 8, seconds=3.0)]
    config, text = recommend(Config(), FACTS, adapting(pays=None), found, steps_an_epoch=20)
    assert (
        "about 60 trials, 3.0 minutes with one process. The data do not show that this reward agrees with accuracy"
        in text
    )
    assert "rank correlation is +0.50." in text
    assert config.learner.budget == 60
    assert Config.model_validate(yaml.safe_load(config.to_yaml())).reward.evaluation == "linear-probe"


def test_nothing_to_learn_is_said():
    for maskings in ({"p": 0.2}, {"mean": {"idf-2": 0.5, "random": 0.4}}):  # no adaptation: 0.5
        facts = FACTS | {"maskings": FACTS["maskings"] | maskings}
        _, text = recommend(Config(), facts, adapting(pays=False), [reward("probe", "loss", 0.9, 100)], 20)
        assert text.startswith("Random masks lower accuracy even under the best schedule (+2.0 points")
        assert text.endswith("No other masks are shown to be better. Do not adapt.")
    _, text = recommend(Config(), FACTS, adapting(pays=None), [], 20)
    assert "No reward that agrees with the score distinguishes the maskings within 1000 trials" in text


def test_masks_may_pay_where_random_ones_do_not():
    _, text = recommend(Config(), FACTS, adapting(pays=False), [reward("probe", "loss", 0.9, 100)], 20)
    assert text.startswith("Random masks lower accuracy even under the best schedule")
    assert "Maskings differ in accuracy" in text
    assert "The highest mean is that of idf-5: +10.0 points over no adaptation." in text  # 0.6 − 0.5
    assert "it is the highest of 3." in text
    assert "Learn with the reward probe (loss)" in text
    assert "Do not adapt" not in text
    _, text = recommend(Config(), FACTS, adapting(pays=False), [], 20)
    assert "No reward that agrees with the score" in text
    assert "The highest mean is that of idf-5" in text


def test_a_model_that_is_none_and_a_split_that_leaks_are_said_first():
    lm = {"loss": 6.9, "unigram_entropy": 7.0, "margin": 0.1}
    facts = FACTS | {
        "lm": lm,
        "leakage": {"validation": 100, "exact_duplicates": 70, "near_duplicates": 80, "train": 50},
    }
    _, text = recommend(Config(), facts, adapting(pays=None), [], 20)
    assert text.startswith("The model predicts this text poorly: its masked-LM loss of 6.90 is 0.10 nats below")
    assert "80 of 100 validation examples have a near duplicate in training. Set data.drop_duplicates" in text
    worse = {"loss": 6.58, "unigram_entropy": 6.3, "margin": -0.28}
    _, text = recommend(Config(), FACTS | {"lm": worse}, adapting(pays=None), [], 20)
    assert "masked-LM loss of 6.58 is 0.28 nats above the loss of word frequencies (6.30)" in text


def test_an_audit_that_becomes_slow_leaves_out_a_seed(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Trials of the second phase take five times as long as planned: two of three seeds run, and a message says so."""
    engine, notes = FakeEngine(0.03, 0.01, 0.2), Notes()

    def slower(trial: AuditTrial, _done: int, _in_all: int) -> None:
        if trial.spec.seed >= 3:
            engine.train, engine.score, engine.step = 0.15, 0.05, 1.0

    monkeypatch.setattr("nmg.auditing.run.open_executor", lambda *_: engine)
    monkeypatch.setattr("nmg.auditing.run._all_steps", lambda _bench: 200)
    monkeypatch.setattr("nmg.auditing.run._labelled", lambda _bench: 4000)
    found = audit(settings(inputs), tmp_path / "out", seeds=3, minutes=20, reporter=notes, on_trial=slower)
    assert {trial.spec.seed for trial in found.fresh} == {3, 4}
    assert any("the audit ends after 2 of 3 seeds, to keep --minutes" in line for line in notes.lines)


def test_fine_tuning_that_learns_nothing_ends_the_audit_after_the_first_seed(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """All models have the same accuracy: each predicts one label for every text."""
    engine = FakeEngine(0.03, 0.01, 0.2)
    engine.rng = ConstantScores()  # type: ignore[assignment]
    monkeypatch.setattr("nmg.auditing.run.LEAST_EXAMPLES", 1)
    played: list[AuditTrial] = []
    monkeypatch.setattr("nmg.auditing.run.open_executor", lambda *_: engine)
    with pytest.raises(UserError, match=r"does not learn: every model of the first 5 trials has the accuracy 0\.3"):
        audit(settings(inputs), tmp_path / "out", on_trial=lambda trial, _done, _all: played.append(trial))
    assert {trial.spec.seed for trial in played} == {0}


class ConstantScores:
    """Draws that are all 0.3."""

    def random(self, n: int) -> np.ndarray:
        return np.full(n, 0.3)
