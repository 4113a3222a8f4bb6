"""The digest of all settings, and those of a meta-test."""

import pydoc
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest

from nmg.base.section import Section, named_contents
from nmg.config import Config
from nmg.learners.registry import LearnerSettings
from nmg.policies.registry import PolicySettings
from nmg.tasks.registry import TASKS


def test_the_digest_is_stable_and_short():
    assert Config().digest == Config().digest
    assert len(Config().digest) == 16
    assert int(Config().digest, 16) >= 0


KINDS: dict[str, Any] = {"policy": PolicySettings, "learner": LearnerSettings}
NEEDED: dict[str, dict[str, Any]] = {
    "attention": {"learner": {"kind": "random-search"}},
    "continual": {"learner": {"kind": "actor-critic"}},
    "replay": {"adapt": {"general_corpus": "general.txt"}},
}
"""a kind or field that does not go with the other defaults → settings that it goes with"""
NAMED = [setting for setting, _, _ in named_contents(Config())]
"""settings that name content"""
PLAIN_TEXT = {
    *("data.task", "data.text_field", "data.label_field", "data.pair_field"),  # names of a task and of columns
    *("policy.features", "reward.metric"),  # names of features and of a score
    *("runtime.ray_address", "runtime.cache_dir", "runtime.trackers"),  # change speed and logs alone
}
"""text settings that name nothing outside of nmg that a result depends on"""


def _result_settings() -> Iterator[tuple[dict[str, Any], str, str]]:
    """Each setting of each kind that changes results, but the kinds themselves, behind what makes it a setting."""
    for section, info in Config.model_fields.items():
        for kind in get_args(get_args(KINDS[section])[0]) if section in KINDS else ():
            name = kind.model_fields["kind"].default
            needed = {section: {"kind": name}} | NEEDED.get(name, {})
            yield from ((needed, section, field) for field in kind.model_fields if field != "kind")
        if section not in {"runtime", *KINDS}:
            left_out = {*NAMED, "test.margin"}  # the margin judges finished results
            fields = [field for field in type(info.default).model_fields if f"{section}.{field}" not in left_out]
            yield from ((NEEDED.get(field, {}), section, field) for field in fields)


def _other_value(settings: Section, field: str) -> Any:
    """A value that the field may take, apart from its default."""
    default, annotation = getattr(settings, field), type(settings).model_fields[field].annotation
    if isinstance(default, Section):
        name = next(iter(type(default).model_fields))
        return {name: _other_value(default, name)}
    if isinstance(default, tuple):
        return default[:-1] if default else get_args(get_args(annotation)[0])[:1]
    if isinstance(default, bool):
        return not default
    if field == "task" or get_origin(annotation) is Literal:
        return next(choice for choice in (TASKS if field == "task" else get_args(annotation)) if choice != default)
    if isinstance(default, int | float):
        return default + 1 if isinstance(default, int) else default / 2 or 0.5
    return "another" if annotation is str or str in get_args(annotation) else 0.5 if field in {"rate", "dropout"} else 7


@pytest.mark.parametrize(("needed", "section", "field"), list(_result_settings()))
def test_the_digest_changes_with_every_result_setting(needed: dict[str, Any], section: str, field: str):
    before = Config.model_validate(needed)
    other = _other_value(getattr(before, section), field)
    changed = Config.model_validate(needed | {section: needed.get(section, {}) | {field: other}})
    assert getattr(getattr(changed, section), field) != getattr(getattr(before, section), field)
    assert changed.digest != before.digest


def _takes_text(annotation: Any) -> bool:
    return annotation is str or (get_origin(annotation) is not Literal and any(map(_takes_text, get_args(annotation))))


def test_every_text_setting_names_content_or_nothing():
    """A new setting that names a file cannot be forgotten: its content must be part of what runs and cells are."""
    found = set()
    for section, info in Config.model_fields.items():
        kinds = get_args(get_args(KINDS[section])[0]) if section in KINDS else [type(info.default)]
        for kind in kinds:
            fields = {name: field for name, field in kind.model_fields.items() if _takes_text(field.annotation)}
            found |= {f"{section}.{name}" for name in fields}
    assert found == PLAIN_TEXT | set(NAMED), "mark it (settings.NamedContent), or say here that it names nothing"
    assert {"data.train", "model.name", "masking.weights", "masking.keywords", "masking.spacy_model"} <= set(NAMED)


@pytest.mark.parametrize("setting", NAMED)
def test_the_digest_does_not_change_with_the_place_of_content(setting: str):
    section, _, field = setting.partition(".")
    places = [Config.model_validate({section: {field: place}}) for place in ("here", "there")]
    assert places[0] != places[1]
    assert places[0].digest == places[1].digest
    assert {one: name for one, _, name in named_contents(places[0])}[setting] == "here"


def test_the_digest_changes_with_keywords_that_the_settings_hold():
    first, second = (Config.model_validate({"masking": {"keywords": [word]}}) for word in ("aspirin", "nicotine"))
    assert first.digest != second.digest


def test_the_digest_changes_with_the_kind_of_policy_and_learner():
    search, attention = {"learner": {"kind": "random-search"}}, {"policy": {"kind": "attention"}}
    digests = [Config.model_validate(fields).digest for fields in ({}, search, search | attention)]
    assert len(set(digests)) == 3


def test_the_digest_does_not_change_with_the_runtime(load):
    slow = load("runtime: {device: cpu, precision: fp32, evaluation_batch_size: 1, threads: 1, trackers: []}\n")
    assert slow != Config()
    assert slow.digest == Config().digest


def test_the_digest_is_that_of_the_value_not_of_its_spelling(load):
    assert load("learner: {std: 2}\nadapt: {learning_rate: '2e-5'}\n").digest == Config().digest


def test_for_meta_test_takes_the_place_of_the_episode_settings(load):
    config = load(
        "test: {rate: 0.3, adapt_epochs: 0, adapt_batch_size: 2, finetune_epochs: 9, finetune_batch_size: 6}\n"
    ).for_meta_test()
    assert config.masking.rate == 0.3
    assert (config.adapt.epochs, config.adapt.batch_size) == (0, 2)
    assert (config.finetune.epochs, config.finetune.batch_size) == (9, 6)
    assert config.adapt.learning_rate == Config().adapt.learning_rate
    assert config.for_meta_test() == config


def test_for_meta_test_without_settings_changes_nothing():
    assert Config().for_meta_test() == Config()


def test_help_begins_with_our_text():
    first = pydoc.plain(pydoc.render_doc(Config))[:1500]
    assert "Config(*, run={}, model={}, data={}" in first
    assert "All settings of a run, in sections" in first
    assert all(f"{name}: " in (Config.__doc__ or "") for name in Config.model_fields)
