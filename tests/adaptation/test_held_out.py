"""Held-out documents of an adaptation, and the loss on them."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import nmg
from nmg.adaptation.held_out import HeldOutLoss, split_corpus
from nmg.base.progress import Silent
from nmg.base.seeding import StreamName
from nmg.base.types import IGNORED_LABEL
from nmg.data.corpus import Corpus
from nmg.trials.session import ModelSession
from support.documents import documents
from support.runs import Notes

from .conftest import MakeConfig

RANDOMNESS = StreamName(3)


class Stream(Collection[str]):
    """Texts that are read one at a time, as from a file."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    def __contains__(self, text: object) -> bool:
        raise AssertionError("would read all texts")


def open_session(make_config: MakeConfig, **changes: dict[str, Any]) -> ModelSession:
    return ModelSession.open(make_config(**changes), Silent())


def documents_of(corpus: Corpus) -> set[int]:
    return set(corpus.context_ids.tolist())


def test_documents_are_on_one_side_and_near_duplicates_on_none(make_config: MakeConfig):
    originals = documents(100)
    texts = originals + [f"{text.rpartition(' ')[0]} filler0" for text in originals]  # another last word
    split = split_corpus(Stream(texts), open_session(make_config).corpus(texts), 0.2, RANDOMNESS, Silent())
    assert split.held_out is not None
    held_out, training = documents_of(split.held_out), documents_of(split.training)
    assert 30 < len(held_out) <= 40, "a fifth of the characters"
    assert len(split.held_out) == 2 * len(held_out), "30 words are two blocks of 16, both on one side"
    twins = {(number + 100) % 200 for number in held_out}
    assert not training & (held_out | twins)
    assert training | held_out | twins == set(range(200))
    assert split.near_duplicates == len(twins - held_out) > 10


def test_the_draw_depends_on_texts_and_seed_alone(make_config: MakeConfig):
    texts = documents(100)

    def drawn(randomness: StreamName, **changes: dict[str, Any]) -> set[int]:
        split = split_corpus(texts, open_session(make_config, **changes).corpus(texts), 0.3, randomness, Silent())
        assert split.held_out is not None
        return documents_of(split.held_out)

    first = drawn(RANDOMNESS)
    other: dict[str, Any] = {"adapt": {"block_size": 7, "batch_size": 3}, "masking": {"rate": 0.1}}
    assert drawn(RANDOMNESS, **other) == first
    assert drawn(StreamName(4)) != first


@pytest.mark.parametrize(
    ("texts", "share", "problem"),
    [
        (documents(40), 0.05, "0.05 of this corpus is 60 tokens, and the loss of less than 512 is noise"),
        (documents(1), 0.5, "only 0 of 2 blocks would be left to train on"),
        ([*documents(2)] * 100, 0.2, "only 0 of 400 blocks would be left"),
        (documents(100), 0.0, None),
    ],
)
def test_where_too_little_is_left_all_text_is_trained_on(
    make_config: MakeConfig, texts: list[str], share: float, problem: str | None
):
    notes, corpus = Notes(), open_session(make_config).corpus(texts)
    split = split_corpus(texts, corpus, share, RANDOMNESS, notes)
    assert split.held_out is None
    assert split.training is corpus
    assert len(notes.lines) == (problem is not None)
    assert problem is None or problem in notes.lines[0]


def held_out_of(session: ModelSession) -> HeldOutLoss:
    corpus = session.corpus(documents(60))
    return HeldOutLoss.build(session.context, corpus.subset(np.arange(3, 90)), RANDOMNESS)


def test_the_loss_is_that_of_plain_transformers_block_by_block(make_config: MakeConfig):
    session = open_session(make_config)
    held_out = held_out_of(session)
    rows = np.arange(len(held_out.lengths))
    batch = held_out._batches(rows)
    is_masked = batch.labels != IGNORED_LABEL
    assert int(is_masked.sum()) == held_out.masked_tokens == 87 * 2, "15 % of 14 to 16 tokens"
    assert (batch.input_ids[is_masked] == session.context.vocabulary.mask_id).all()
    model, total = session.lm.model.eval(), 0.0
    for row, length in enumerate(held_out.lengths):
        with torch.no_grad():
            logits = model(input_ids=batch.input_ids[row : row + 1, :length]).logits[0]
        total += float(cross_entropy(logits, batch.labels[row, :length], reduction="sum"))
    assert held_out.of(session.context) == pytest.approx(total / held_out.masked_tokens, rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"runtime": {"evaluation_batch_size": 3}},
        {"runtime": {"micro_batch_size": 2}},
        {"runtime": {"processes": 2, "engine": "processes"}},
        {"masking": {"rate": 0.5, "mask_replace_prob": 0.1, "random_replace_prob": 0.9}},
        {"adapt": {"batch_size": 1, "learning_rate": 1.0}},
    ],
    ids=str,
)
def test_the_loss_is_the_same_to_the_bit_whatever_the_settings(make_config: MakeConfig, changes: dict[str, Any]):
    session, other = open_session(make_config), open_session(make_config, **changes)
    assert held_out_of(other).of(other.context) == held_out_of(session).of(session.context)


def test_measuring_changes_nothing(make_config: MakeConfig):
    session = open_session(make_config)
    before = {name: tensor.clone() for name, tensor in session.lm.model.state_dict().items()}
    session.lm.model.train()
    state = torch.get_rng_state()
    held_out = held_out_of(session)
    assert held_out.of(session.context) == held_out.of(session.context)
    assert session.lm.model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in session.lm.model.state_dict().items())


def adapted(make_config: MakeConfig, out: Path, how: str, **changes: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    result = nmg.adapt(make_config(**changes), how, str(out))
    return result, json.loads((out / "nmg.json").read_text())


def test_losses_before_and_after_are_in_the_result_and_in_nmg_json(make_config: MakeConfig, tmp_path: Path):
    result, facts = adapted(make_config, tmp_path / "random", "random")
    untrained, _ = adapted(make_config, tmp_path / "none", "none")
    other, _ = adapted(make_config, tmp_path / "idf", "idf", masking={"rate": 0.15})
    held_out = facts["held_out"]
    assert {"before", "after", "best", "best_step", "perplexity", "documents", "blocks"} <= set(held_out)
    assert held_out["before"] == result.held_out.before == untrained.held_out.before == other.held_out.before
    assert untrained.held_out.after == untrained.held_out.before
    assert held_out["after"] == result.held_out.after < held_out["before"] != other.held_out.after
    assert held_out["best"] == min(held_out["before"], held_out["after"])
    assert held_out["perplexity"]["after"] == pytest.approx(np.exp(held_out["after"]))
    assert facts["documents"] + held_out["documents"] == 120
    assert f"{held_out['before']:.3f}" in result.summary()
    saved = open_session(make_config, model={"name": str(tmp_path / "random")})
    texts, randomness = documents(120), StreamName(0) / "adapt" / "held-out"
    again = split_corpus(texts, saved.corpus(texts), 0.2, randomness, Silent())
    assert again.held_out is not None
    loss = HeldOutLoss.build(saved.context, again.held_out, randomness)
    assert loss.of(saved.context) == held_out["after"], "the saved model is the one that was measured"


def test_the_vocabulary_of_the_corpus_covers_held_out_text(make_config: MakeConfig, tmp_path: Path):
    result, _ = adapted(make_config, tmp_path / "out", "random", adapt={"vocabulary": "corpus"})
    assert result.held_out.after < result.held_out.before
