"""Settings under the names they had."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from nmg.config import Config
from nmg.config.renamed import RENAMED
from nmg.errors import bad_input

VALUES: dict[str, object] = {
    "policy.learning_rate": 0.5,
    "policy.weight_decay": 0.25,
    "policy.max_grad_norm": 7.0,
    "policy.updates": 3,
    "policy.batch_size": 9,
    "policy.entropy_weight": 0.75,
    "policy.value_weight": 0.125,
    "policy.objective": "policy-gradient",
    "policy.importance_ratio": False,
    "replay.capacity": 11,
    "replay.max_states": 12,
    "replay.start": 13,
    "replay.weighting": "uniform",
    "reward.kind": "difference",
    "reward.clip": 1.5,
    "meta.self_play": "frozen",
    "runtime.player_processes": 2,
}
"""old name → a value apart from the default"""
NAMES = pytest.mark.parametrize("old", RENAMED)


def at(config: Config, name: str) -> Any:
    section, field = name.split(".")
    return getattr(getattr(config, section), field)


def text(*names: str, value: object) -> str:
    """A file in which each of `names` has the value, below a comment."""
    sections: dict[str, dict[str, object]] = {}
    for name in names:
        section, field = name.split(".")
        sections.setdefault(section, {})[field] = value
    return "# of an old run\n" + yaml.safe_dump(sections, sort_keys=False)


def test_the_old_names_are_these():
    assert set(RENAMED) == set(VALUES)


@NAMES
def test_an_old_name_sets_the_new_place_and_nothing_else(load, old: str):
    new, value = RENAMED[old], VALUES[old]
    assert at(Config(), new) != value
    config = load(text(old, value=value))
    assert at(config, new) == value
    assert config == load(text(new, value=value)) == load("", f"--{old}", str(value)) == load("", f"--{new}={value}")


def test_all_old_names_at_once(load):
    sections: dict[str, dict[str, object]] = {"policy": {"hidden": 5}, "meta": {"episodes": 6}}
    for old, value in VALUES.items():
        section, field = old.split(".")
        sections.setdefault(section, {})[field] = value
    config = load(yaml.safe_dump(sections))
    assert {old: at(config, new) for old, new in RENAMED.items()} == VALUES
    assert (config.policy.hidden, config.meta.episodes) == (5, 6)
    assert load(config.to_yaml()) == config


def test_old_names_join_new_ones_of_the_section(load):
    learner = load("replay: {start: 4}\nlearner: {updates: 5}\npolicy: {batch_size: 6}\n").learner
    assert (learner.replay_start, learner.updates, learner.batch_size) == (4, 5, 6)


@pytest.mark.parametrize("typed", ["policy.entropy_weight", "policy.entropy-weight", "learner.entropy-weight"])
@pytest.mark.parametrize("in_file", ["policy.entropy_weight", "learner.entropy_weight"])
def test_an_override_beats_the_file_whatever_they_call_it(load, typed: str, in_file: str):
    assert load(text(in_file, value=0.5), f"--{typed}", "0.25").learner.entropy_weight == 0.25


@NAMES
def test_a_bad_value_is_blamed_on_the_old_name_and_its_line(problem, tmp_path: Path, old: str):
    start = str(bad_input(tmp_path / "run.yaml", "Input should be", line=3, field=old))
    for message in problem(text(old, value="bad")).splitlines():
        assert message.startswith(start)
        assert message.endswith("(given: 'bad')")


@NAMES
def test_a_bad_override_is_blamed_as_it_was_typed(problem, old: str):
    for message in problem("", f"--{old}", "bad").splitlines():
        assert message.startswith(f"--{old}: Input should be")


@NAMES
def test_a_file_that_has_both_names_is_refused(problem, old: str):
    new = RENAMED[old]
    for names in ((old, new), (new, old)):
        said = f"{old} is called {new} now, and both are given; give {new} alone"
        assert problem(text(*names, value=VALUES[old])) == said


@pytest.mark.parametrize("words", ["replay:\n  # start: 5\n", "replay: {}\n", "policy:\n", "reward:\n", "meta:\n"])
def test_an_old_section_whose_fields_are_all_commented_out(load, words: str):
    assert load(words) == Config()


def test_what_was_never_a_name_stays_unknown(problem):
    assert "there is no such setting" in problem("replay: {start: 3, strat: 4}\n")
    assert "there is no such setting" in problem("", "--replay.strat", "4")
    assert "'replay'" in problem("replay: 5\n")


def test_another_kind_of_learner_on_the_command_line_drops_old_names_too(load):
    words = ("--learner.kind", "random-search", "--meta.continual", "false")
    config = load("replay: {start: 4}\npolicy: {updates: 3, hidden: 7}\nmeta: {self_play: frozen}\n", *words)
    assert (config.learner.kind, config.policy.hidden) == ("random-search", 7)


def test_the_sections_that_an_old_run_wrote_are_the_defaults(load):
    assert load(OLD_RUN) == Config()


OLD_RUN = """
meta:
  episodes: 1000
  contexts: 200
  examples: 1000
  validation_share: 0.1
  max_validation_examples: 10000
  self_play: learning
  continual: true
  reset: false
  checkpoint_every: 50
policy:
  hidden: 128
  learning_rate: 0.0001
  weight_decay: 0.0
  max_grad_norm: 1.0
  updates: 10
  batch_size: 64
  entropy_weight: 0.01
  value_weight: 0.25
  objective: actor-critic
  importance_ratio: true
replay:
  capacity: 50000
  max_states: 5000
  start: 500
  weighting: advantage
reward:
  kind: sign
  metric: null
  clip: 3.0
runtime:
  device: auto
  precision: auto
  evaluation_batch_size: 64
  threads: null
  player_processes: auto
  cache_dir: null
  trackers:
  - tensorboard
"""
