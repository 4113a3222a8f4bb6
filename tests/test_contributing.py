"""The recipes of CONTRIBUTING.md work as they stand."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from nmg.base.progress import Silent
from nmg.base.seeding import stream
from nmg.base.types import TokenBlocks
from nmg.learners.registry import LEARNERS
from nmg.masking import registry
from nmg.masking.base import Rule
from nmg.meta_training.loop import MetaTraining
from nmg.trials.session import Session
from support.command import Nmg
from support.runs import Inputs, is_same, record_facts

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
CODE = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def long_words() -> dict[str, Any]:
    """The names that the file of the first recipe defines, and its line of the registry."""
    names: dict[str, Any] = {}
    exec(CODE[0], names)
    scope = names | {"RuleKind": registry.RuleKind}
    names["registered"] = eval("{" + CODE[1].split("\n", 1)[1] + "}", scope)
    return names


def test_the_masking_of_the_recipe_takes_long_words_first(long_words: dict[str, Any]):
    """Words of 1, 3, 1 and 2 pieces; a budget of 5 of 7 takes the words of 3 and of 2."""
    words = torch.tensor([[-1, 0, 1, 1, 1, 2, 3, 3, -1]])
    blocks = TokenBlocks(
        block_ids=torch.zeros(1, dtype=torch.int64),
        context_ids=torch.zeros(1, dtype=torch.int64),
        input_ids=torch.arange(9)[None],
        is_token=torch.ones(1, 9, dtype=torch.bool),
        is_maskable=words >= 0,
        word_index=words,
    )
    plan = Rule("long-words", long_words["draw_long_words"]).plan(blocks, 0.72, stream(0, "test"))
    assert plan.positions.tolist() == [[2, 3, 4, 6, 7]]


def test_one_line_of_the_registry_gives_it_to_every_command(
    long_words: dict[str, Any], inputs: Inputs, nmg: Nmg, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setitem(registry.RULES, "long-words", long_words["registered"]["long-words"])
    texts = [json.loads(line)["text"] for line in inputs.train.read_text().splitlines()]
    (tmp_path / "domain.txt").write_text("\n".join(texts))
    words = ("--model", inputs.model, "--adapt.block_size=16", "--masking.rate=0.3", "--adapt.epochs=1")
    answer = nmg("adapt", "--corpus", "domain.txt", "--out", "adapted", "--masking", "long-words", *words)
    assert answer.code == 0, answer.err


@pytest.fixture
def hill_climb(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the learner's recipe, known by its line of the registry."""
    module = ModuleType("nmg.learners.hill_climb")
    exec(next(code for code in CODE if "class HillClimb" in code), vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    registered = next(code for code in CODE if "LEARNERS" in code)
    kind, place = re.findall(r'"(.*)": "(.*)",', registered)[0]
    monkeypatch.setitem(LEARNERS, kind, place)
    return module


def test_the_learner_of_the_recipe_learns_and_continues_where_it_was(hill_climb: Any, inputs: Inputs):
    config = inputs.config(meta={"continual": False, "episodes": 4})
    config = config.model_copy(update={"learner": hill_climb.HillClimbSettings(step=2.0)})
    session = Session.prepare(config, Silent())
    training, resumed = MetaTraining(session), MetaTraining(session)
    assert isinstance(training.learner, hill_climb.HillClimb)
    best = []
    for _ in range(2):
        record = training.episode()
        scores = {name: -score["loss"] for name, score in record.scores.items()}
        best.append(record.learning["best"])
        assert scores[best[-1]] == max(scores.values())
        assert set(scores) == {"unchanged", "changed"}
    resumed.learner.restore(training.learner.save())
    resumed.next_episode = training.next_episode
    assert record_facts(resumed.episode()) == record_facts(training.episode())
    assert is_same(resumed.learner.policy, training.learner.policy)


def test_the_names_of_the_other_recipes_are_those_of_the_code():
    """A field of `TaskKind` for a field, a member of a union for a member."""
    from dataclasses import fields

    from nmg.tasks.base import TaskKind

    recipe = next(code for code in CODE if "TaskKind(" in code)
    assert re.findall(r"^    (\w+)=", recipe, flags=re.MULTILINE) == [field.name for field in fields(TaskKind)]
    registered = (Path(registry.__file__).parents[1] / "learners" / "registry.py").read_text(encoding="utf-8")
    union = next(code for code in CODE if "LearnerSettings" in code)
    for line in union.splitlines():
        assert line.strip().rstrip(",") in registered or "HillClimb" in line
    assert np.size(CODE) >= 4
