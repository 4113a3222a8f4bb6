"""docs/paper_map.md names every setting with its true default, every metric, and files that exist."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from nmg.config import Config
from nmg.learners.registry import LearnerSettings
from nmg.policies.registry import PolicySettings

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "paper_map.md").read_text(encoding="utf-8")
DEFAULTS = re.findall(r"^\| `(\w+)\.(\w+)` \| `(.+?)` \| (.+) \|$", TEXT, flags=re.MULTILINE)
FIELDS = [(section, field) for section, fields in Config().model_dump().items() for field in fields]


def test_every_setting_is_there_once_and_in_order():
    assert [(section, field) for section, field, *_ in DEFAULTS] == FIELDS


@pytest.mark.parametrize("row", DEFAULTS, ids=lambda row: f"{row[0]}.{row[1]}")
def test_the_default_is_the_one_of_the_program_and_has_a_source(row: tuple[str, str, str, str]):
    section, field, default, source = row
    read = Config.model_validate({section: {field: yaml.safe_load(default)}})
    assert getattr(getattr(read, section), field) == getattr(getattr(Config(), section), field)
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


def test_settings_of_other_kinds_are_there():
    """The table of defaults shows the published kinds; each other kind has its own rows."""
    listed = re.findall(r"^\| `(\w+)\.kind: ([\w-]+)` \| `\w+\.(\w+)` \| `(.+?)` \|", TEXT, flags=re.MULTILINE)
    expected = [
        (section, kind.model_fields["kind"].default, field, str(info.default))
        for section, union in (("policy", PolicySettings), ("learner", LearnerSettings))
        for kind in get_args(get_args(union)[0])
        if not isinstance(getattr(Config(), section), kind)
        for field, info in kind.model_fields.items()
        if field != "kind"
    ]
    assert listed == expected


def test_every_metric_of_the_tasks_and_updates_is_defined():
    from dataclasses import fields

    from nmg.learners.actor_critic.update import UpdateStatistics
    from nmg.meta_train import EpisodeRecord
    from nmg.tasks.classification import ClassificationTask
    from nmg.tasks.qa import QuestionAnsweringTask

    defined = {name for row in re.findall(r"^\| (`.+?`) \|", TEXT, flags=re.MULTILINE) for name in row.split("`")}
    names = {*ClassificationTask.table_metrics, *QuestionAnsweringTask.table_metrics}
    names |= {field.name for record in (UpdateStatistics, EpisodeRecord) for field in fields(record)}
    names |= {"reward_opponent", "reward_random", "mean_reward", "stored_share", "credit", "transitions", "states"}
    assert names - {"learning"} <= defined


def test_every_masking_is_listed():
    from nmg.masking.registry import MASKINGS

    listed = re.findall(r"^\| `([\w-]+)` \| .* \| `(?:masking|policies)/\w+\.py` \|$", TEXT, flags=re.MULTILINE)
    assert listed == list(MASKINGS)
