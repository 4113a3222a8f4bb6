"""What is told of a policy in use: another model, tokenizer or rate than it was trained with, and that it is a rule."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nmg.base.progress import Silent
from nmg.base.settings import MaskingSettings, ModelSettings
from nmg.base.trial_recipe import TrialRecipe
from nmg.data.corpus import Corpus
from nmg.data.cutting import tokenizer_digest
from nmg.policies.attention import AttentionConfig, AttentionPolicy
from nmg.policies.linear import LinearPolicy, LinearSettings
from nmg.policies.maskings import load_masking
from nmg.policies.registry import build_policy
from nmg.training.lm import PretrainedLM, load_pretrained
from nmg.trials.session import Session
from support.runs import Inputs, Notes
from support.tiny import word_tokenizer


@pytest.fixture(scope="module")
def lm(inputs: Inputs) -> PretrainedLM:
    return load_pretrained(ModelSettings(name=str(inputs.model)))


@pytest.fixture
def corpus(lm: PretrainedLM, tmp_path: Path) -> Corpus:
    return Corpus.build(["some words"], lm.tokenizer, 8, tmp_path / "cache")


def notes_of(config: AttentionConfig, lm: PretrainedLM, corpus: Corpus, folder: Path, rate: float = 0.3) -> list[str]:
    AttentionPolicy(config).save_pretrained(folder)
    notes = Notes()
    load_masking("mine", lm, corpus, MaskingSettings(rate=rate), folder, reporter=notes)
    return notes.lines


def trained_with(lm: PretrainedLM) -> AttentionConfig:
    return AttentionConfig(
        hidden_size=16,
        num_attention_heads=2,
        head_hidden=8,
        base_model=lm.name,
        masking_rate=0.3,
        tokenizer=tokenizer_digest(lm.tokenizer),
    )


def test_used_as_it_was_trained_there_is_nothing_to_tell(
    lm: PretrainedLM, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert notes_of(trained_with(lm), lm, corpus, tmp_path / "policy") == []
    monkeypatch.chdir(Path(lm.name).parent)
    relative = replace(trained_with(lm), base_model=Path(lm.name).name)
    assert notes_of(relative, lm, corpus, tmp_path / "policy") == [], "one folder by two names"
    shutil.copytree(lm.name, tmp_path / "copy")
    copied = replace(trained_with(lm), base_model=str(tmp_path / "copy"))
    assert notes_of(copied, lm, corpus, tmp_path / "policy") == [], "a folder with the same content"
    elsewhere = replace(trained_with(lm), base_model=f"no/such/folder/{Path(lm.name).name}")
    assert notes_of(elsewhere, lm, corpus, tmp_path / "policy") == [], "a path that leads nowhere from here"
    (tmp_path / "copy" / "config.json").write_text("{}")
    assert notes_of(copied, lm, corpus, tmp_path / "policy") != []


def test_each_difference_names_both(lm: PretrainedLM, corpus: Corpus, tmp_path: Path):
    mine, other = tokenizer_digest(lm.tokenizer), tokenizer_digest(word_tokenizer(["other", "words"]))
    config = replace(trained_with(lm), base_model="some/model", tokenizer=other, masking_rate=0.15)
    (line,) = notes_of(config, lm, corpus, tmp_path / "policy")
    assert line == (
        f"the policy 'mine' was trained with the model 'some/model', here '{lm.name}'; "
        f"the tokenizer {other} of 'some/model', here {mine} of '{lm.name}'; "
        "the masking rate 0.15, here 0.3: its masks may be worse than in training"
    )
    (line,) = notes_of(trained_with(lm), lm, corpus, tmp_path / "policy", rate=0.5)
    assert "with the masking rate 0.3, here 0.5: its masks may" in line


def test_a_recipe_is_named(lm: PretrainedLM, corpus: Corpus, tmp_path: Path):
    config = replace(trained_with(lm), recipe=TrialRecipe(learning_rate=4e-5, steps_factor=1.2))
    (line,) = notes_of(config, lm, corpus, tmp_path / "policy")
    words = "learning rate 4e-05, 1.2 times the steps"
    assert f"was learned with its own recipe ({words}), which recommended.yaml of its run sets" in line
    assert words in (tmp_path / "policy" / "README.md").read_text()


def test_what_an_older_folder_does_not_say_is_not_told(lm: PretrainedLM, corpus: Corpus, tmp_path: Path):
    config = replace(trained_with(lm), base_model="", tokenizer="")
    assert notes_of(config, lm, corpus, tmp_path / "policy") == []


def test_a_policy_remembers_what_it_was_made_for(inputs: Inputs, tmp_path: Path):
    session = Session.prepare(inputs.config(), Silent())
    corpus = session.corpus([context.text for context in session.data.contexts])
    policy = build_policy(LinearSettings(features=("digit",)), session.policy_ground(corpus, session.data.train))
    config = policy.config
    assert (config.base_model, config.masking_rate) == (str(inputs.model), 0.3)
    assert config.tokenizer == tokenizer_digest(session.lm.tokenizer)
    with torch.no_grad():
        policy.weights.fill_(1.0)
    assert notes_of_linear(policy, session, corpus, tmp_path / "policy") == []


@pytest.mark.parametrize(
    ("slopes", "rule"),
    [
        ({}, "random masks"),
        ({"idf": 2.5}, "idf with exponent 2.5"),
        ({"digit": 1.0}, None),
        ({"idf": 5.0, "digit": 1.0}, None),
    ],
)
def test_a_rule_is_told(slopes: dict[str, float], rule: str | None, inputs: Inputs, tmp_path: Path):
    session = Session.prepare(inputs.config(), Silent())
    corpus = session.corpus([context.text for context in session.data.contexts])
    policy = build_policy(
        LinearSettings(features=("idf", "digit"), temperature=2.0), session.policy_ground(corpus, session.data.train)
    )
    policy.deviation.fill_(3.0)
    policy.set_slopes(slopes)
    told = "the policy 'mine' is equal to a rule ({}): it has learned nothing beyond it"
    assert notes_of_linear(policy, session, corpus, tmp_path / "policy") == ([told.format(rule)] if rule else [])
    assert notes_of_linear(policy, session, corpus, tmp_path / "policy", name="untrained") == []


def notes_of_linear(
    policy: LinearPolicy, session: Session, corpus: Corpus, folder: Path, name: str = "mine"
) -> list[str]:
    policy.save_pretrained(folder)
    notes = Notes()
    load_masking(name, session.lm, corpus, session.config.masking, folder, reporter=notes)
    return notes.lines
