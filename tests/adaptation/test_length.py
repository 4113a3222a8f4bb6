"""Steps, epochs and minutes; early stop and best weights; log, trackers and bar."""

import json
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM

from nmg import ModelSession, adapt, load_config
from nmg.adaptation import length
from nmg.adaptation.held_out import HeldOutLoss
from nmg.base.errors import UserError
from nmg.base.seeding import StreamName
from nmg.training.fit import Training
from nmg.trials import trackers
from support.command import Nmg
from support.runs import Inputs, Notes

from .conftest import MakeConfig


def lines_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def planned(out: Path) -> int:
    return int(json.loads((out / "run.json").read_text())["planned_steps"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--adapt.steps=5", "--adapt.minutes=1"], "give either adapt.steps or adapt.minutes, not both"),
        (["--adapt.steps=5", "--adapt.epochs=2"], "give either adapt.steps or adapt.epochs, not both"),
        (["--adapt.minutes=5", "--adapt.epochs=2"], "give either adapt.minutes or adapt.epochs, not both"),
    ],
)
def test_one_length_is_given(words: list[str], message: str):
    with pytest.raises(UserError, match=message):
        load_config(None, words)
    load_config(None, [words[0], "--adapt.epochs=3"])  # the default, as a recorded configuration has it


def test_steps(make_config: MakeConfig, tmp_path: Path):
    result = adapt(make_config(adapt={"epochs": 3, "steps": 7}), "random", tmp_path / "out")
    assert result.steps == planned(tmp_path / "out") == 7
    lines = lines_of(tmp_path / "out")
    assert [line["step"] for line in lines] == list(range(8))
    rates = [line["learning_rate"] for line in lines[1:]]
    assert rates == pytest.approx([5e-3 * (7 - step) / 7 for step in range(7)])


def test_joined_documents_make_fewer_steps_of_equal_size(make_config: MakeConfig, tmp_path: Path):
    """The texts have 32 tokens, so a block of 60 has room for almost two; masks of held-out text stay the same."""
    separate = adapt(make_config(adapt={"block_size": 60}), "random", tmp_path / "separate")
    joined = adapt(make_config(adapt={"block_size": 60, "join_documents": True}), "random", tmp_path / "joined")
    assert joined.tokens == separate.tokens
    assert joined.masked_tokens == separate.masked_tokens, "each document has its own budget"
    assert (separate.steps, joined.steps) == (-(-separate.blocks // 4), -(-joined.tokens // (4 * 60)))
    sizes = [after["tokens"] - before["tokens"] for before, after in pairwise(lines_of(tmp_path / "joined"))]
    assert max(abs(size - joined.tokens / joined.steps) for size in sizes) <= 32
    assert joined.held_out is not None
    assert separate.held_out is not None
    assert joined.held_out.before == separate.held_out.before
    assert joined.held_out.after < joined.held_out.before
    assert "batches of 4 × 60 tokens of joined documents" in joined.summary()


@pytest.mark.parametrize(("name", "value"), [("steps", 5), ("minutes", 1.0)])
def test_other_commands_refuse_a_length_that_they_would_ignore(
    inputs: Inputs, tmp_path: Path, nmg: Nmg, name: str, value: float
):
    config = inputs.write_config(tmp_path / "config.yaml", adapt={"epochs": 3, name: value})
    answer = nmg("compare", config, "--out", "out", "--maskings", "none", "--seeds", 1)
    assert answer.code == 2
    assert f"adapt.{name}: only 'nmg adapt' accepts it" in answer.err


def test_minutes_are_held_and_a_run_of_as_many_steps_is_the_same(make_config: MakeConfig, tmp_path: Path):
    """A step takes 0.04 s and a measurement 0.1 s, by a clock that nothing else moves.

    The check of the model takes a step, so 5.96 s are left. The speed is measured for 0.1 s and 3 + 4 steps. Then
    (0.95 · 5.96 − 0.38 − 11 · 0.1) / 0.04 = 104.55 steps fit.
    """
    clock, notes = [0.0], Notes()
    step, measure = Training._step, HeldOutLoss.of

    def slow_step(self: Training, loss: Any, n_rows: int) -> None:
        step(self, loss, n_rows)
        clock[0] += 0.04

    def slow_measure(self: HeldOutLoss, context: Any) -> float:
        clock[0] += 0.1
        return measure(self, context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "_step", slow_step)
        patch.setattr(HeldOutLoss, "of", slow_measure)
        patch.setattr(time, "perf_counter", lambda: clock[0])
        result = adapt(make_config(adapt={"epochs": 3, "minutes": 0.1}), "random", tmp_path / "out", reporter=notes)
    assert result.steps == planned(tmp_path / "out") == 104
    assert clock[0] == pytest.approx(0.04 + 0.38 + 104 * 0.04 + 11 * 0.1)
    assert "adapt.minutes: 0.1 minutes are about 104 steps" in notes.lines
    again = adapt(make_config(adapt={"epochs": 3, "steps": result.steps}), "random", tmp_path / "again")
    assert again.held_out == result.held_out
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "out" / "model.safetensors"
    ).read_bytes()


def test_steps_that_fit_by_hand(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    """A step takes 0.5 s, a measurement 2 s: (0.95 · 100 − 6 − 11 · 2) / 0.5."""
    clock = [0.0]

    def seconds_per_step(context: Any, _masks: object, _randomness: object) -> float:
        clock[0] += 0.5 * context.adapt_steps
        return 0.5

    def measure() -> None:
        clock[0] += 2.0

    monkeypatch.setattr(length, "_seconds_per_step", seconds_per_step)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    context = ModelSession.open(make_config()).context
    masks: Any = None
    spent = 2 + 3 * 0.5 + 6 * 0.5  # a measurement, the first steps, and 3 % of 100 s
    assert length.affordable_steps(context, masks, StreamName(0), 100.0, measure) == int((95 - spent - 22) / 0.5)
    context = replace(context, adapt=make_config(adapt={"evaluate_every": 4}).adapt)
    assert length.affordable_steps(context, masks, StreamName(0), 100.0, measure) == int((95 - spent - 2) / 1.0)
    assert length.affordable_steps(context, masks, StreamName(0), 0.001, measure) == 1


def scripted(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> list[torch.Tensor]:
    """The held-out losses to measure; returns the first weight of the model at each."""
    seen: list[torch.Tensor] = []

    def of(_self: HeldOutLoss, context: Any) -> float:
        seen.append(next(context.model.parameters()).detach().clone())
        return losses[len(seen) - 1]

    monkeypatch.setattr(HeldOutLoss, "of", of)
    return seen


@pytest.mark.parametrize(
    ("patience", "losses", "steps", "saved", "best_step"),
    [
        (2, [5, 4, 3, 3.5, 3.1], 8, 2, 4),
        (1, [5, 4, 3, 3.5], 6, 2, 4),
        (3, [5, 4, 3, 3.5, 3.1, 2.9], 10, 5, 10),
        (None, [5, 4, 3, 3.5, 3.1, 3.2], 10, 5, 4),
        (2, [5, 6, 7], 4, 0, 0),
    ],
)
def test_an_early_stop_saves_the_best_weights(
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    patience: int | None,
    losses: list[float],
    steps: int,
    saved: int,
    best_step: int,
):
    seen = scripted(monkeypatch, losses)
    settings = {"epochs": 3, "steps": 10, "evaluate_every": 2, "patience": patience}
    result = adapt(make_config(adapt=settings), "random", tmp_path / "out")
    assert (result.steps, len(seen)) == (steps, len(losses))
    assert result.held_out is not None
    held_out = result.held_out
    assert (held_out.before, held_out.after, held_out.best) == (losses[0], losses[-1], min(losses))
    assert held_out.best_step == best_step
    assert result.is_best == (patience is not None)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    assert torch.equal(next(model.parameters()), seen[saved])
    assert ("whose weights were saved" in result.summary()) == (patience is not None and saved < len(losses) - 1)


def test_the_log_has_a_line_a_step(make_config: MakeConfig, tmp_path: Path):
    told: list[tuple[int, int]] = []
    config = make_config(adapt={"epochs": 2, "evaluate_every": 10})
    result = adapt(config, "random", tmp_path / "out", on_step=lambda line, steps: told.append((line["step"], steps)))
    before, *lines = lines_of(tmp_path / "out")
    assert result.held_out is not None
    assert before == {"step": 0, "tokens": 0, "held_out": result.held_out.before}
    assert [line["step"] for line in lines] == list(range(1, result.steps + 1))
    assert all(
        set(line) >= {"step", "loss", "learning_rate", "tokens", "tokens_per_second", "seconds"} for line in lines
    )
    assert [line["step"] for line in lines if "held_out" in line] == [*range(10, result.steps, 10), result.steps]
    assert lines[-1]["held_out"] == result.held_out.after
    assert lines[-1]["tokens"] == result.tokens
    assert lines[-1]["tokens"] == 2 * lines[result.steps // 2 - 1]["tokens"], "an epoch is half of two"
    losses = [line["loss"] for line in lines[-(result.steps // 2) :]]
    assert sum(losses) / len(losses) == pytest.approx(result.loss, rel=1e-5)
    assert told[-1] == (result.steps, result.steps)


def test_trackers_receive_the_lines(make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple[int, dict[str, float]]] = []

    class Tracker:
        def log(self, values: dict[str, float], step: int) -> None:
            seen.append((step, values))

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            assert values["adapt/steps"] == 5

        def finish(self) -> None:
            seen.append((-1, {}))

    monkeypatch.setattr(trackers, "get_available_trackers", lambda: ["wandb"])
    monkeypatch.setattr(trackers, "_open", lambda _name, _run: Tracker())
    config = make_config(adapt={"epochs": 3, "steps": 5}, runtime={"trackers": ["wandb"]})
    adapt(config, "random", tmp_path / "out")
    assert [step for step, _ in seen] == [0, 1, 2, 3, 4, 5, -1]
    assert seen[5][1]["loss"] == lines_of(tmp_path / "out")[5]["loss"]


def test_the_command_shows_loss_and_speed_and_ends_with_a_summary(make_config: MakeConfig, tmp_path: Path, nmg: Nmg):
    (tmp_path / "config.yaml").write_text(make_config(adapt={"epochs": 3, "steps": 30}).to_yaml())
    corpus = str(make_config().data.corpus)
    answer = nmg("adapt", "--config", "config.yaml", "--corpus", corpus, "--out", "out", "--masking", "idf")
    assert answer.code == 0, answer.err
    assert "step 30/30 · loss " in answer.err
    assert " tokens/s" in answer.err
    first, held_out, *others = answer.out.splitlines()
    assert first == "out: adapted with masking 'idf'"
    assert "→" in held_out
    assert "perplexity" in held_out
    assert any("from_pretrained('out')" in line for line in others)
    assert any(line.startswith("Verdict: ") for line in others)
