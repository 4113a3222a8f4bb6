"""Sample masks of a run: the right numbers, snapshots neither lost nor doubled, and nothing that is learned changes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.meta_training import run as meta_training
from nmg.meta_training import samples
from nmg.meta_training.loop import MetaTraining
from nmg.meta_training.samples import MAX_SNAPSHOTS, describe_block, is_held, log_samples, sample_blocks, snapshot
from nmg.training.lm import encoder_states
from nmg.trials.session import Session
from support.runs import Inputs, is_same, read_log, resume_run


@pytest.fixture
def training(inputs: Inputs) -> MetaTraining:
    return MetaTraining(Session.prepare(inputs.config(), Silent()))


def start(inputs: Inputs, out: Path, **changes: dict[str, Any]) -> MetaTraining:
    return meta_training.start(inputs.config(**changes), out, Silent(), lambda _record, _episodes: None)


def resume(out: Path, episodes: int) -> MetaTraining:
    return resume_run(out, [f"--meta.episodes={episodes}"], Silent(), lambda _record, _episodes: None)


def read(run: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Texts and snapshots."""
    first, *others = map(json.loads, (run / "samples.jsonl").read_text(encoding="utf-8").splitlines())
    return first["texts"], others


def test_a_snapshot_is_the_policys_softmax_on_the_present_lm(training: MetaTraining):
    """One block at a time, without padding, against the batch."""
    training.episode()
    assert not is_same(training.lm_state, training.pretrained)
    found = snapshot(training, np.arange(4))
    training.context.model.load_state_dict(training.lm_state)
    assert found["episodes"] == 1
    for block in range(4):
        one = training.corpus.blocks(np.array([block]))
        states = encoder_states(training.context.model, one)
        with torch.no_grad():
            logits = training.learner.policy.logits(states, one.is_token, one.is_maskable)[0]
        n_tokens = len(logits)
        assert found["probabilities"][block] == pytest.approx(logits.softmax(0).tolist(), rel=6e-3)
        assert found["probabilities"][block][0] == 0.0
        budget = int((n_tokens - 2) * 0.3)
        assert found["taken"][block] == sorted(logits.topk(budget).indices.tolist())
        assert sum(found["probabilities"][block]) == pytest.approx(1, abs=0.01)


def test_the_present_lm_is_set_whatever_the_working_copy_holds(training: MetaTraining):
    training.episode()
    expected = snapshot(training, np.arange(2))
    training.context.model.load_state_dict(training.pretrained)
    assert snapshot(training, np.arange(2)) == expected
    training.lm_state = training.pretrained
    assert snapshot(training, np.arange(2)) != expected


def test_tokens_stand_as_in_the_text(minilm: Path, tmp_path: Path):
    from types import SimpleNamespace

    from transformers import AutoTokenizer

    from nmg.data.corpus import Corpus

    tokenizer = AutoTokenizer.from_pretrained(minilm)
    corpus = Corpus.build(["A ligand.", "Aspirin (ASA) inhibits  COX-1."], tokenizer, 62, tmp_path)
    described: Any = describe_block(SimpleNamespace(corpus=corpus, lm=SimpleNamespace(tokenizer=tokenizer)), 1)  # type: ignore[arg-type]
    assert described["block"] == 1
    shown = "".join(
        (" " if starts else "") + token
        for token, starts in zip(described["tokens"], described["starts_word"], strict=True)
    )
    assert shown == " [CLS] Aspirin (ASA) inhibits COX-1. [SEP]"
    assert len(described["tokens"]) > 10, "there are pieces of words"
    assert described["is_maskable"] == [False] + [True] * (len(described["tokens"]) - 2) + [False]


def test_the_texts_follow_from_the_seed(inputs: Inputs, training: MetaTraining):
    drawn = sample_blocks(training)
    assert len(drawn) == 3
    assert list(drawn) == sorted(set(drawn.tolist()))
    others = [sample_blocks(MetaTraining(Session.prepare(inputs.config(run={"seed": s}), Silent()))) for s in (0, 1)]
    assert [other.tolist() == drawn.tolist() for other in others] == [True, False]


@pytest.mark.parametrize("last", [1, 39, 40, 41, 80, 81, 1000, 12345])
def test_snapshots_held_are_few_and_even(last: int):
    held = [n for n in range(last + 10) if is_held(n, last)]
    assert held[0] == 0
    assert held[-1] == last
    assert len(held) <= MAX_SNAPSHOTS + 1
    assert len(held) > min(last, MAX_SNAPSHOTS / 2)
    steps = set(np.diff(held[:-1]).tolist())
    assert len(steps) <= 1, "evenly spaced but for the newest"
    assert held[-1] - held[-2] <= max(steps, default=1)


def test_what_is_held_now_was_held_before():
    """Or a run could not have it any more."""
    for now in (41, 80, 81, 161, 1000):
        for n in range(now):
            assert not is_held(n, now) or is_held(n, now - 1)


def test_a_run_holds_snapshots_from_before_its_first_episode_to_its_last(inputs: Inputs, tmp_path: Path):
    trained = start(inputs, tmp_path / "run", meta={"episodes": 3})
    texts, snapshots = read(tmp_path / "run")
    assert [shot["episodes"] for shot in snapshots] == [0, 1, 2, 3]
    assert [text["block"] for text in texts] == sample_blocks(trained).tolist()
    for shot in snapshots:
        for text, row, taken in zip(texts, shot["probabilities"], shot["taken"], strict=True):
            assert len(text["tokens"]) == len(text["starts_word"]) == len(text["is_maskable"]) == len(row)
            assert [p > 0 for p in row] == text["is_maskable"]
            assert len(taken) == 3  # of 10 tokens at a rate of 0.3
    assert len({json.dumps(shot["probabilities"]) for shot in snapshots}) == 4, "the policy moves"


def test_a_resumed_run_ends_with_the_snapshots_of_an_uninterrupted_one(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(samples, "MAX_SNAPSHOTS", 2)
    start(inputs, tmp_path / "whole", meta={"episodes": 5})
    whole = (tmp_path / "whole" / "samples.jsonl").read_bytes()
    assert [shot["episodes"] for shot in read(tmp_path / "whole")[1]] == [0, 4, 5]
    run, log = tmp_path / "parts", tmp_path / "parts" / "samples.jsonl"
    start(inputs, run, meta={"episodes": 3})
    before = log.read_bytes()
    resume(run, 3)
    assert log.read_bytes() == before, "an ended run resumes to itself"

    # Killed between a checkpoint and the samples: the newest snapshot is missing.
    lines = before.decode().splitlines(keepends=True)
    log.write_text("".join(lines[:-1]))
    resume(run, 3)
    assert log.read_bytes() == before
    # The checkpoint is older than the samples: snapshots of episodes that the resumed run has still to play.
    log.write_text("".join([*lines, lines[-1].replace('"episodes": 3', '"episodes": 4')]))
    resume(run, 3)
    assert log.read_bytes() == before
    resume(run, 5)
    assert log.read_bytes() == whole


def test_a_run_from_before_samples_were_logged_goes_on_with_them(inputs: Inputs, tmp_path: Path):
    start(inputs, tmp_path / "run", meta={"episodes": 1})
    (tmp_path / "run" / "samples.jsonl").unlink()
    resume(tmp_path / "run", 2)
    assert [shot["episodes"] for shot in read(tmp_path / "run")[1]] == [1, 2]


def test_samples_change_nothing_that_is_learned(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with_samples = start(inputs, tmp_path / "with")
    monkeypatch.setattr(meta_training, "log_samples", lambda *_: None)
    without = start(inputs, tmp_path / "without")
    assert not (tmp_path / "without" / "samples.jsonl").exists()
    assert is_same(with_samples.learner.policy, without.learner.policy)
    assert is_same(with_samples.learner.opponent.policy, without.learner.opponent.policy)
    assert is_same(with_samples.lm_state, without.lm_state)
    assert read_log(tmp_path / "with") == read_log(tmp_path / "without")


def test_the_file_is_whole_or_as_it_was(training: MetaTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "samples.jsonl"
    log_samples(training, path)
    before = path.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("nmg.base.files._flush", fail)
    with pytest.raises(UserError, match=r"samples.jsonl: cannot be written: the disk is full"):
        log_samples(training, path)
    assert path.read_bytes() == before
