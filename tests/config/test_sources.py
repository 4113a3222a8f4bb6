"""Settings from the arguments of Python calls."""

from pathlib import Path

import pytest

from nmg.base.errors import UserError
from nmg.base.settings import MaskingSettings
from nmg.config import Config, load_config
from nmg.config.load import override
from nmg.config.sources import SETTINGS, Settings, config_of
from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.policies.attention import AttentionSettings


def call(source, settings=None, overrides=None, **options) -> Config:
    return config_of(source, settings or {}, overrides, call="nmg.learn", **options)


def test_a_data_file_stands_for_its_setting():
    assert call("train.jsonl").data.train == call(Path("train.jsonl")).data.train == "train.jsonl"
    adapted = call("domain.txt", data="corpus").data
    assert (adapted.corpus, adapted.train) == ("domain.txt", None)
    assert call("hub:a/b@train").data.train == "hub:a/b@train"


def test_configurations(tmp_path: Path):
    (tmp_path / "run").mkdir()
    for file in (tmp_path / "c.yaml", tmp_path / "run" / "config.yaml"):
        file.write_text("masking: {rate: 0.25}\n")
    for source in (tmp_path / "c.yaml", str(tmp_path / "run"), load_config(tmp_path / "c.yaml")):
        found = call(source, {"model": Path("m"), "rate": 0.3} if source != tmp_path / "c.yaml" else {"model": "m"})
        assert found.masking.rate == (0.25 if source == tmp_path / "c.yaml" else 0.3)
        assert found.model.name == "m"
    assert call("chemprot-bert") == load_config("chemprot-bert")
    assert call(None) == Config()
    with pytest.raises(UserError, match="Did you mean chemprot-bert"):
        call("chemprot-brt")
    (tmp_path / "folder").mkdir()
    assert call(tmp_path / "folder").data.train == str(tmp_path / "folder"), "a folder without settings is data"


def test_arguments_are_settings_and_overrides_win():
    values = {
        "model": "m",
        "task": "qa",
        "train": "a",
        "validation": "b",
        "test": "c",
        "corpus": "d",
        "rate": 0.2,
        "seed": 3,
    }
    assert set(values) == set(SETTINGS) == set(Settings.__annotations__)
    found = call(None, values)
    for name, setting in SETTINGS.items():
        section, _, field = setting.partition(".")
        assert getattr(getattr(found, section), field) == values[name]
    assert call(None, values, {"masking.rate": 0.4}).masking.rate == 0.4


def test_overrides_keep_what_was_given():
    """Recipes fill in what was not given, so a copy must not give more."""
    policy, learner = AttentionSettings(hidden=9), ActorCriticSettings(updates_per_episode=2)
    given = Config(policy=policy, learner=learner, masking=MaskingSettings(rate_end=0.1))
    found = override(given, {"masking.rate": 0.2, "adapt.lora.rank": 2})
    assert (found.policy, found.learner) == (policy, learner)
    assert found.model_fields_set == {"policy", "learner", "masking", "adapt"}
    assert found.adapt.model_fields_set == {"lora"}
    assert found.masking.model_fields_set == {"rate", "rate_end"}
    assert override(given, {}) is given


def test_a_mapping_of_overrides_equals_words():
    words = load_config(None, ["--masking.rate=0.2", "--data.train", "a.jsonl"])
    assert load_config(None, {"masking.rate": 0.2, "data.train": Path("a.jsonl")}) == words
    with pytest.raises(UserError, match=r"^masking\.rate: Input should be less than 1 \(given: 2\)$"):
        load_config(None, {"masking.rate": 2})
    with pytest.raises(UserError, match=r"^--masking\.rate: "):
        load_config(None, ["--masking.rate=2"])


def test_paths_in_a_configuration():
    assert Config(data={"train": Path("a") / "b.jsonl"}).data.train == "a/b.jsonl"
