"""A setting under its former name is refused with the name that it has."""

from pathlib import Path

import pytest

from nmg.base.errors import UserError
from nmg.config import Config, load_config
from nmg.config.former_names import FORMER_NAMES
from support.command import Nmg


def test_a_former_name_is_no_setting_and_its_new_name_is_one():
    def is_setting(name: str) -> bool:
        section, field = name.split(".")
        kinds = getattr(Config.model_fields.get(section), "annotation", None)
        classes = getattr(kinds, "__args__", (kinds,))
        return any(field in getattr(one, "model_fields", {}) for one in classes)

    assert FORMER_NAMES
    assert not [name for name in FORMER_NAMES if is_setting(name)]
    assert all(map(is_setting, FORMER_NAMES.values()))


@pytest.mark.parametrize(("former", "name"), FORMER_NAMES.items())
def test_validate_says_the_new_name(nmg: Nmg, tmp_path: Path, former: str, name: str):
    section, field = former.split(".")
    path = tmp_path / "config.yaml"
    path.write_text(f"# settings\n{section}:\n  {field}: 1\n")
    answer = nmg("validate", path)
    assert answer.code == 2
    assert f"{path}, line 3, field '{former}': there is no such setting; it is called {name}\n" in answer.err
    path.write_text("{}")
    answer = nmg("validate", path, f"--{former}", "1")
    assert answer.code == 2
    assert f"--{former}: there is no such setting; it is called {name}\n" in answer.err


def test_the_fields_of_a_former_section_have_new_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    former = {"replay.capacity": "learner.replay_capacity", "policy.updates": "learner.updates_per_episode"}
    monkeypatch.setattr("nmg.config.load.FORMER_NAMES", former)
    path = tmp_path / "config.yaml"
    path.write_text("policy:\n  kind: linear\n  updates: 3\nreplay:\n  capacity: 5\n  other: 1\n")
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert str(caught.value).splitlines() == [
        f"{path}, line 3, field 'policy.updates': there is no such setting; it is called learner.updates_per_episode",
        f"{path}, line 4, field 'replay': there is no such setting; replay.capacity is called learner.replay_capacity",
    ]
