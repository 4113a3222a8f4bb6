"""The rank of LoRA as a condition of a comparison: `--lora-ranks 0,8`."""

import json
from pathlib import Path

import pytest

from nmg.base.errors import UserError
from nmg.base.training_settings import AdaptSettings, LoraSettings
from nmg.base.trial import Condition
from nmg.comparison.plan import parse_ranks
from nmg.jobs.compare import compare
from nmg.training.lora import with_rank
from support.command import Nmg
from support.runs import Inputs

from .helpers import plan, quick


def test_the_plan_has_each_rank_and_none_only_once():
    found = plan(("none", "random"), 1, adapt_steps=(5, 6), lora_ranks=(0, 8))
    points = [Condition(None, steps, rank) for steps in (5, 6) for rank in (0, 8)]
    assert found.settings == points
    assert [(spec.masking, spec.condition) for spec in found.specs()] == [
        ("none", Condition()),
        *(("random", point) for point in points),
    ]
    assert found.specs()[-1].name == "random.seed-0.steps-6.lora-8"


def test_words():
    assert parse_ranks("0, 8,8") == [0, 8]
    for words in ("", "-1", "x", "00"):
        with pytest.raises(UserError, match="--lora-ranks"):
            parse_ranks(words)


@pytest.mark.parametrize(("configured", "rank", "rate"), [(0, 0, 1e-4), (0, 8, 4e-4), (8, 4, 1e-4), (8, 0, 0.25e-4)])
def test_the_learning_rate_follows(configured: int, rank: int, rate: float):
    found = with_rank(AdaptSettings(learning_rate=1e-4, lora=LoraSettings(rank=configured)), rank)
    assert (found.lora.rank, found.learning_rate) == (rank, pytest.approx(rate))


def test_a_comparison_shows_both_with_their_seconds(inputs: Inputs, tmp_path: Path, nmg: Nmg):
    pytest.importorskip("peft", reason="needs peft (the `lora` extra)")
    config = quick(inputs, adapt={"learning_rate": 0.05})
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    words = ("compare", "config.yaml", "--out", "out", "--maskings", "none,random", "--seeds", "1")
    answer = nmg(*words, "--lora-ranks", "0,2")
    assert answer.code == 0, answer.err
    cells = json.loads((tmp_path / "out" / "results.json").read_text())["cells"]
    assert [(cell["masking"], cell["lora_rank"]) for cell in cells] == [("none", None), ("random", 0), ("random", 2)]
    assert len({cell["held_out_loss"] for cell in cells}) == 3
    header, *lines = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert [line.split(",")[header.split(",").index("lora_rank")] for line in lines] == ["", "0", "2"]
    tables = (tmp_path / "out" / "results.md").read_text()
    for title in ("whole model trained", "LoRA of rank 2"):
        assert title in tables
    whole = compare(config, ["random"], tmp_path / "whole", seeds=1).cells[0]
    assert whole.scores == cells[1]["scores"], "rank 0 is the configuration itself"
    given = config.model_copy(update={"adapt": with_rank(config.adapt, 2)})
    alone = compare(given, ["random"], tmp_path / "alone", seeds=1).cells[0]
    assert alone.scores == cells[2]["scores"], "as if the rank and its learning rate were configured"
    answer = nmg(*words[:3], "no", *words[4:], "--lora-ranks", "2", "--adapt.lora.targets", "['no_layer']")
    assert answer.code == 2
    assert "adapt.lora.targets: the encoder of a model of type 'bert' has no linear layer named no_layer" in answer.err
