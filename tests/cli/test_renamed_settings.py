"""Settings under the names they had: accepted in a file and on the command line, but not beside the new name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from nmg.config import Config, load_config
from support.command import Answer, Nmg

OLD: dict[str, tuple[str, object]] = {
    "policy.learning_rate": ("learner.learning_rate", 0.003),
    "policy.objective": ("learner.objective", "policy-gradient"),
    "replay.start": ("learner.replay_start", 7),
    "replay.max_states": ("learner.replay_max_states", 70),
    "reward.kind": ("learner.reward", "difference"),
    "reward.clip": ("learner.reward_clip", 5.0),
    "meta.self_play": ("learner.self_play", "frozen"),
    "runtime.player_processes": ("runtime.processes", 3),
}
"""old name → new name, and another value than the default"""
PUBLISHED: Mapping[str, object] = {
    "learner.kind": "actor-critic",
    "policy.kind": "attention",
    "meta.continual": True,
}
"""what settings of the learner meant by their old names, without saying so"""


def in_new_words(settings: Mapping[str, object]) -> dict[str, object]:
    """The same settings, new name → value, with what goes without saying under old names."""
    of_learner = any(setting.startswith("learner.") for setting in settings)
    return {**(PUBLISHED if of_learner else {}), **settings}


def nested(settings: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    sections: dict[str, dict[str, Any]] = {}
    for setting, value in settings.items():
        section, field = setting.split(".")
        sections.setdefault(section, {})[field] = value
    return sections


def write(path: Path, settings: Mapping[str, object]) -> Path:
    path.write_text(yaml.safe_dump(nested(settings)), encoding="utf-8")
    return path


def value_of(config: Config, setting: str) -> object:
    section, field = setting.split(".")
    return getattr(getattr(config, section), field)


def digest(answer: Answer) -> str:
    assert answer.code == 0, answer.err
    return answer.err.partition("digest ")[2]


def refusal(answer: Answer) -> str:
    assert answer.code == 2, answer
    assert answer.out == ""
    (line,) = [line for line in answer.err.splitlines() if line.strip()]
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("old", OLD)
def test_an_old_name_sets_what_the_new_one_does(nmg: Nmg, tmp_path: Path, old: str):
    new, value = OLD[old]
    assert value_of(Config.model_validate(nested(PUBLISHED)), new) != value
    empty = write(tmp_path / "empty.yaml", {})
    by_old = write(tmp_path / "old.yaml", {old: value})
    by_new = write(tmp_path / "new.yaml", in_new_words({new: value}))
    expected = load_config(by_new)
    assert value_of(expected, new) == value
    for file, words in (
        (by_old, ()),
        (empty, (f"--{old}", str(value))),
        (empty, (f"--{old.replace('_', '-')}={value}",)),
    ):
        assert load_config(file, words) == expected
        assert digest(nmg("validate", file, *words)) == digest(nmg("validate", by_new))


def test_a_whole_file_of_old_names(nmg: Nmg, tmp_path: Path):
    old = write(tmp_path / "old.yaml", {name: value for name, (_, value) in OLD.items()})
    new = write(tmp_path / "new.yaml", in_new_words(dict(OLD.values())))
    assert load_config(old) == load_config(new)
    assert digest(nmg("validate", old)) == digest(nmg("validate", new))


@pytest.mark.parametrize("text", ["replay:\n  # start: 500\n", "replay: {}\n", "policy:\n  # updates: 10\n"])
def test_a_section_of_old_names_that_are_all_commented_out(nmg: Nmg, tmp_path: Path, text: str):
    (tmp_path / "old.yaml").write_text(text)
    assert nmg("validate", tmp_path / "old.yaml").code == 0
    assert load_config(tmp_path / "old.yaml") == Config()


def test_an_override_beats_the_file_whichever_name_either_has(tmp_path: Path):
    for old, (new, value) in OLD.items():
        default = value_of(Config.model_validate(nested(PUBLISHED)), new)
        for given, override in ((old, old), (old, new), (new, old), (new, new)):
            file = write(tmp_path / "run.yaml", {given: value} if given == old else in_new_words({new: value}))
            assert value_of(load_config(file, [f"--{override}={default}"]), new) == default


@pytest.mark.parametrize("old", OLD)
def test_both_names_at_once_are_refused(nmg: Nmg, tmp_path: Path, old: str):
    new, value = OLD[old]
    both = write(tmp_path / "both.yaml", {old: value, new: value})
    empty = write(tmp_path / "empty.yaml", {})
    in_a_file = refusal(nmg("validate", both))
    assert f"{old} is called {new} now" in in_a_file
    for first, second in ((old, new), (new, old)):
        message = refusal(nmg("validate", empty, f"--{first}={value}", f"--{second}", str(value)))
        assert f"--{old} is called --{new} now" in message


@pytest.mark.parametrize(
    ("old", "value", "said"),
    [
        ("policy.learning_rate", -1, "Input should be greater than 0 (given: -1)"),
        ("replay.start", "soon", "Input should be a valid integer"),
        ("meta.self_play", "chess", "Input should be 'learning', 'frozen' or 'random' (given: 'chess')"),
        ("runtime.player_processes", 0, "Input should be"),
    ],
)
def test_a_wrong_value_is_blamed_on_the_name_that_was_written(
    nmg: Nmg, tmp_path: Path, old: str, value: object, said: str
):
    file = write(tmp_path / "old.yaml", {"run.seed": 3, old: value})
    message = nmg("validate", file).err
    assert f"error: {file}, line " in message
    assert f"field '{old}': {said}" in message
    message = nmg("validate", write(tmp_path / "empty.yaml", {}), f"--{old}={value}").err
    assert f"error: --{old}: {said}" in message


def test_old_names_mean_the_published_learner_and_new_ones_do_not(nmg: Nmg, tmp_path: Path):
    empty = write(tmp_path / "empty.yaml", {})
    assert digest(nmg("validate", empty, "--replay.start=500")) == digest(
        nmg("validate", empty, "--learner.kind=actor-critic", "--policy.kind=attention", "--meta.continual=true")
    )
    message = refusal(nmg("validate", empty, "--learner.replay-start=500"))
    assert message == (
        "error: --learner.replay_start: there is no such setting; it belongs to learner.kind actor-critic"
    )


def test_an_old_name_beside_another_kind_of_learner_is_refused(nmg: Nmg, tmp_path: Path):
    file = write(tmp_path / "run.yaml", {"learner.kind": "experiment", "replay.start": 500})
    assert refusal(nmg("validate", file)) == (
        f"error: {file}, line 4, field 'replay.start': there is no such setting; "
        "it belongs to learner.kind actor-critic"
    )
