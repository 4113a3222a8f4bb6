"""The recipes of CONTRIBUTING.md work as they stand."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nmg.masking import registry
from nmg.masking.base import Rule
from nmg.seeding import stream
from nmg.types import TokenBlocks
from support.command import Nmg
from support.runs import Inputs

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


def test_the_names_of_the_other_recipes_are_those_of_the_code():
    """A field of `TaskKind` for a field, a member of a union for a member."""
    from dataclasses import fields

    from nmg.tasks.base import TaskKind

    recipe = next(code for code in CODE if "TaskKind(" in code)
    assert re.findall(r"^    (\w+)=", recipe, flags=re.MULTILINE) == [field.name for field in fields(TaskKind)]
    registered = (Path(registry.__file__).parents[1] / "learners" / "registry.py").read_text(encoding="utf-8")
    union = next(code for code in CODE if "LearnerSettings" in code)
    for line in union.splitlines():
        assert line.strip().removesuffix("  #") in registered or "MySettings" in line
    assert np.size(CODE) >= 4
