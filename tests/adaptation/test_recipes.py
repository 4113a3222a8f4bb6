"""Recipes: what they set, what the user's settings override, and what the run says of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nmg.adaptation.recipes import Recipe, learning_rate_for, masking_rate_for
from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.config import Config, load_config
from nmg.config.shipped import configs_folder
from nmg.jobs.adapt import adapt
from support.command import Nmg
from support.runs import Notes

from .conftest import MakeConfig

MILLION = 10**6
RECIPES = ("default", "modern", "paper")


def applied(name: Any, reporter: Any = None, **sections: dict[str, Any]) -> Config:
    """The settings for BERT-base and blocks of 100 tokens."""
    config = Config.model_validate(sections)
    return Recipe.of(name, 86 * MILLION, 100.0).apply(config, reporter or Silent())


def test_rates_rise_with_length_and_fall_with_size():
    sizes = [learning_rate_for(round(2.0**n)) for n in range(15, 35)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 2
    lengths = [masking_rate_for(n) for n in range(1, 600, 7)]
    assert lengths == sorted(lengths)
    assert (lengths[0], lengths[-1]) == (0.15, 0.3)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_valid_configuration_that_names_itself(name: str, nmg: Nmg):
    file = configs_folder() / "recipes" / f"{name}.yaml"
    assert load_config(file).adapt.recipe == name
    assert nmg("validate", file).code == 0


def test_the_recipe_of_the_paper_is_what_is_published():
    published = Config.model_validate({"adapt": {"recipe": "paper"}})  # the defaults are the published settings
    assert Recipe.of("paper", 86 * MILLION, 100.0).changed(published) == []


def test_settings_of_the_user_win():
    open_ones = applied("default")
    assert open_ones.adapt.learning_rate == learning_rate_for(86 * MILLION)
    assert open_ones.masking.rate == masking_rate_for(100.0)
    config = applied("default", adapt={"learning_rate": 1e-3, "warmup_ratio": 0.0}, masking={"rate": 0.4})
    assert (config.adapt.learning_rate, config.adapt.warmup_ratio, config.masking.rate) == (1e-3, 0.0, 0.4)
    assert config.adapt.weight_decay == open_ones.adapt.weight_decay != 0.0
    recipe = Recipe.of("default", 86 * MILLION, 100.0)
    assert recipe.changed(open_ones) == []
    assert set(recipe.changed(config)) == {"adapt.learning_rate", "adapt.warmup_ratio", "masking.rate"}


def test_lora_learns_at_a_higher_rate():
    whole, lora = (Recipe.of("default", 86 * MILLION, 100.0, is_lora=lora).values for lora in (False, True))
    assert lora == whole | {"adapt.learning_rate": 4e-4}


def test_a_rate_of_the_user_is_the_rate_of_every_step():
    modern = applied("modern").masking
    assert (modern.rate, modern.rate_schedule, modern.rate_end) == (0.3, "two-phase", 0.15)
    assert applied("modern", masking={"rate": 0.05}).masking.rate_schedule == "constant"
    both = applied("modern", masking={"rate": 0.2, "rate_schedule": "linear", "rate_end": 0.1}).masking
    assert (both.rate, both.rate_schedule, both.rate_end) == (0.2, "linear", 0.1)


@pytest.mark.parametrize("is_there", [True, False])
def test_modern_takes_stable_adamw_if_it_is_there_and_says_if_not(is_there: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nmg.adaptation.recipes.has_stable_adamw", lambda: is_there)
    notes = Notes()
    assert applied("modern", notes).adapt.optimiser == ("stable-adamw" if is_there else "adamw")
    missing = "recipe modern: AdamW is used; for StableAdamW, pip install 'torch-optimi<0.4,>=0.3'"
    assert notes.lines == ([] if is_there else [missing])
    explicit = applied("modern", Notes(), adapt={"optimiser": "stable-adamw"})
    assert explicit.adapt.optimiser == "stable-adamw", "an error then says what to install"


def test_a_recipe_that_contradicts_a_setting():
    with pytest.raises(
        UserError, match=r"recipe modern: test\.remask 'once' .* Set masking\.rate_schedule to constant"
    ):
        applied("modern", test={"remask": "once"})


def test_the_run_uses_the_recipe_and_says_so(make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def spy(self: torch.optim.AdamW, *arguments: object) -> object:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    sections = make_config().model_dump(include={"model": True, "data": True, "runtime": True})
    sections["adapt"] = {"block_size": 16, "epochs": 1, "held_out": 0.2}
    result = adapt(Config.model_validate(sections), "random", tmp_path / "out")
    expected = learning_rate_for(0)
    assert max(rates) == expected
    assert (result.config.adapt.recipe, result.recipe_changed) == ("default", ())
    facts = json.loads((tmp_path / "out" / "nmg.json").read_text())
    assert (facts["recipe"], facts["recipe_changed"]) == ("default", [])
    assert facts["settings"]["adapt"]["learning_rate"] == expected
    assert facts["settings"]["masking"]["rate"] == 0.15
    assert load_config(tmp_path / "out" / "config.yaml").adapt == result.config.adapt
    line = f"recipe          default: masking rate 0.15, learning rate {expected:g} (linear, adamw), batches of 8"
    assert line in result.summary()


def test_the_option(make_config: MakeConfig, tmp_path: Path, nmg: Nmg):
    config = make_config()
    words = ["adapt", "--model", config.model.name, "--corpus", config.data.corpus, "--runtime.trackers=[]"]
    answer = nmg(*words, "--out", tmp_path / "out", "--recipe", "paper", "--adapt.steps=2", "--adapt.block_size=16")
    assert answer.code == 0, answer.err
    facts = json.loads((tmp_path / "out" / "nmg.json").read_text())
    assert (facts["recipe"], facts["settings"]["masking"]["rate"]) == ("paper", 0.05)
    answer = nmg(*words, "--out", tmp_path / "other", "--recipe", "papr")
    assert answer.code == 2
    assert "--adapt.recipe: Input should be 'default', 'modern' or 'paper' (given: 'papr')" in answer.err
