"""The paper map and the reference name every setting with its true default, every metric, and files that exist."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import yaml

from nmg.auditing.findings import Adaptation, RewardFinding, Schedule, Spread
from nmg.base.section import Section
from nmg.base.seeding import StreamName
from nmg.config import Config
from nmg.learners.base import LearnerContext, LearnerKind
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.learners.registry import LearnerSettings, build_learner
from nmg.learners.rule_search import RuleSearchSettings
from nmg.policies.features import FEATURES
from nmg.policies.linear import LinearConfig, LinearPolicy
from nmg.policies.maskings import CONTROLS
from nmg.policies.registry import PolicySettings

ROOT = Path(__file__).parents[1]
PAGES = ("paper_map.md", "explanation/differences.md", "reference/policies.md", "reference/metrics.md")
"""The pages that together define every name."""
TEXT = "\n".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in PAGES)
DEFAULTS = re.findall(r"^\| `(\w+)\.([\w.]+)` \| `(.+?)` \| (.+) \|$", TEXT, flags=re.MULTILINE)


def _leaves(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name → value."""
    leaves: dict[str, Any] = {}
    for name, value in settings.items():
        leaves |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return leaves


FIELDS = [tuple(name.split(".", 1)) for name in _leaves(Config().model_dump())]


def test_every_setting_is_there_once_and_in_order():
    assert [(section, field) for section, field, *_ in DEFAULTS] == FIELDS


@pytest.mark.parametrize("row", DEFAULTS, ids=lambda row: f"{row[0]}.{row[1]}")
def test_the_default_is_the_one_of_the_program_and_has_a_source(row: tuple[str, str, str, str]):
    section, field, default, source = row
    given: Any = yaml.safe_load(default)
    for name in reversed([section, *field.split(".")]):
        given = {name: given}
    read, defaults = (_leaves(config.model_dump()) for config in (Config.model_validate(given), Config()))
    assert read[f"{section}.{field}"] == defaults[f"{section}.{field}"]
    assert source.startswith(("published", "original", "paper", "ours"))


def test_deviations_are_numbered_without_a_gap_and_references_lead_somewhere():
    numbers = [int(number) for number in re.findall(r"^- \*\*D(\d+)\. ", TEXT, flags=re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 12
    assert {int(number) for number in re.findall(r"\(D(\d+)\)", TEXT)} <= set(numbers)


def test_the_files_exist():
    files = set(re.findall(r"`([\w/]+\.py)`", TEXT))
    assert len(files) > 10
    assert not [file for file in files if not (ROOT / "src" / "nmg" / file).is_file()]


OTHERS = re.findall(r"^\| `(\w+)\.kind: ([\w-]+)` \| `\w+\.(\w+)` \| `(.+?)` \| (.+) \|$", TEXT, flags=re.MULTILINE)
KINDS: dict[tuple[str, str], type[Section]] = {
    (section, kind.model_fields["kind"].default): kind
    for section, union in (("policy", PolicySettings), ("learner", LearnerSettings))
    for kind in get_args(get_args(union)[0])
}
"""section and kind → its settings, the published kinds first"""


def test_settings_of_other_kinds_are_there_once_and_in_order():
    """The table of defaults shows the default kinds; each other kind has its own rows."""
    assert [(section, kind, field) for section, kind, field, *_ in OTHERS] == [
        (section, name, field)
        for (section, name), kind in KINDS.items()
        if getattr(Config(), section).kind != name
        for field in kind.model_fields
        if field != "kind"
    ]


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: f"{row[1]}.{row[2]}")
def test_the_default_of_another_kind_is_the_one_of_the_program_and_has_a_source(row: tuple[str, ...]):
    section, name, field, default, source = row
    kind = KINDS[section, name]
    assert getattr(kind.model_validate({field: yaml.safe_load(default)}), field) == getattr(kind(), field)
    assert source.startswith(("published", "original", "paper", "ours"))


def test_kinds_that_are_ours_have_no_published_settings():
    for section, name, _, _, source in OTHERS:
        if (section, name) not in {("policy", "attention"), ("learner", "actor-critic")}:
            assert source.startswith("ours")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*bert.yaml")), ids=lambda path: path.stem)
def test_the_published_files_name_what_the_text_says_they_do(path: Path):
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    named = (settings["policy"]["kind"], settings["learner"]["kind"], settings["meta"]["continual"])
    assert named == ("attention", "actor-critic", True)
    assert "`policy.kind: attention`, `learner.kind: actor-critic` and `meta.continual: true`" in " ".join(TEXT.split())


def _defined() -> set[str]:
    return {name for row in re.findall(r"^\| (`.+?`) \|", TEXT, flags=re.MULTILINE) for name in row.split("`")}


def test_every_metric_of_the_tasks_and_updates_is_defined():
    from nmg.learners.actor_critic.update import UpdateStatistics
    from nmg.meta_training.loop import EpisodeRecord
    from nmg.tasks.classification import ClassificationTask
    from nmg.tasks.qa import QuestionAnsweringTask
    from nmg.tasks.tokens import TokenClassificationTask

    names = {*ClassificationTask.table_metrics, *QuestionAnsweringTask.table_metrics, "answered_f1", "abstained"}
    names |= {*TokenClassificationTask.table_metrics, *QuestionAnsweringTask.reward_metrics}
    names |= {field.name for record in (UpdateStatistics, EpisodeRecord) for field in fields(record)}
    names |= {"reward_opponent", "reward_random", "mean_reward", "stored_share", "credit", "transitions", "states"}
    assert names - {"learning"} <= _defined()


def test_every_feature_is_defined():
    assert set(FEATURES) <= _defined()


@pytest.mark.parametrize("settings", [ExperimentSettings(), RuleSearchSettings()], ids=lambda settings: settings.kind)
def test_every_finding_of_a_learner_is_defined(settings: LearnerKind):
    policy = LinearPolicy(LinearConfig(features=("idf", "digit"), vocabulary_size=4))
    ground = LearnerContext(
        lambda: policy, 0.1, lambda outcome: outcome.score("f1"), StreamName(0), torch.device("cpu")
    )
    findings = build_learner(settings, ground).findings()
    assert findings
    inner = {name for one in findings.get("features", ()) for name in one}
    assert {*findings, *inner} - {"feature"} <= _defined()
    for name in ("placebo_length", "gate"):
        (definition,) = re.findall(rf"^\| `{name}` \| (.+) \|$", TEXT, flags=re.MULTILINE)
        assert all(f"`{inner}`" in definition for inner in findings.get(name, ()))


def test_every_finding_of_an_audit_is_defined():
    names = {f"adaptation.{field.name}" for field in fields(Adaptation)}
    names |= {field.name for record in (Schedule, RewardFinding) for field in fields(record)} | {"minutes"}
    names |= {f"maskings.{field.name}" for field in fields(Spread)} - {"maskings.maskings"} | {"maskings.mean"}
    names |= {
        "lm.loss",
        "lm.unigram_entropy",
        "lm.margin",
        "leakage.exact_duplicates",
        "leakage.near_duplicates",
        "rewards",
        "recommendation",
    }
    assert names <= _defined()


def test_the_controls_are_defined():
    assert {*CONTROLS, "idf*"} <= _defined()


def test_every_masking_is_listed():
    from nmg.masking.registry import MASKINGS

    listed = re.findall(r"^\| `([\w-]+)` \| .* \| `(?:masking|policies)/\w+\.py` \|$", TEXT, flags=re.MULTILINE)
    assert listed == list(MASKINGS)
