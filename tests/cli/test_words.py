"""The words of a command that are no options: configurations, settings, names."""

from pathlib import Path

import pytest

from nmg.base.errors import UserError
from nmg.cli.words import config_and_settings, configs_and_settings, named_configs, named_models


def test_several_configurations_among_settings():
    rest = ["0.1", "a.yaml", "--run.seed=3", "b=c.yaml", "--data.test", "null"]
    assert configs_and_settings(Path("--masking.rate"), rest) == (
        ["a.yaml", "b=c.yaml"],
        ["--masking.rate", "0.1", "--run.seed=3", "--data.test", "null"],
    )


def test_a_second_one_is_left_to_the_settings_where_one_is_taken():
    found, settings = config_and_settings(Path("a.yaml"), ["b.yaml", "--run.seed"])
    assert (found, settings) == (Path("a.yaml"), ["b.yaml", "--run.seed"])


def test_a_configuration_is_called_as_its_file_or_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "odd=name.yaml").touch()
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "runs" / "mine")
    assert named_configs(["a/chemprot.yaml", "config.yaml", "x=a/config.yaml", str(tmp_path / "odd=name.yaml")]) == {
        "chemprot": Path("a/chemprot.yaml"),
        "mine": Path("config.yaml"),
        "x": Path("a/config.yaml"),
        "odd=name": tmp_path / "odd=name.yaml",
    }


def test_a_model_is_called_as_the_last_part_of_its_path():
    assert named_models("google/bert-a, mine=lm/a ,lm/b/") == {"bert-a": "google/bert-a", "mine": "lm/a", "b": "lm/b/"}


@pytest.mark.parametrize("words", ["", "a/x,b/x", "=x", "x="])
def test_models_without_a_name_of_their_own(words: str):
    with pytest.raises(UserError, match=r"--models: name at least one|write NAME=MODEL"):
        named_models(words)
