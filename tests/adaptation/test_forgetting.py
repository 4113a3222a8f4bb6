"""General text: the loss on it before and after, and its blocks in the training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMaskedLM

from nmg import ModelSession, adapt, load_config
from nmg.adaptation.forgetting import GeneralText, read_general, trade_in_words
from nmg.base.errors import UserError
from nmg.base.seeding import StreamName
from nmg.base.settings import MaskingSettings
from nmg.base.types import IGNORED_LABEL, NO_POSITION, CorruptedBlocks, IntArray
from nmg.data.corpus import Corpus
from nmg.masking.corrupt import corrupt
from nmg.masking.rules import RandomMasking
from nmg.policies.maskings import load_masking
from nmg.training.masks import DrawnBatches
from nmg.training.replay import Replay, ReplayMasking
from support.command import Nmg
from support.documents import documents
from support.runs import Inputs

from .conftest import MakeConfig


def test_replay_needs_general_text():
    with pytest.raises(UserError, match=r"adapt\.replay: needs general text\. Set adapt\.general_corpus to a file"):
        load_config(None, ["--adapt.replay=0.1"])
    with pytest.raises(UserError, match=r"adapt\.replay"):
        load_config(None, ["--adapt.replay=1", "--adapt.general_corpus=x.txt"])


def test_general_text_is_checked_before_the_model_is_loaded(make_config: MakeConfig, tmp_path: Path):
    config = make_config(adapt={"general_corpus": str(tmp_path / "no.txt")}, model={"name": str(tmp_path / "no")})
    with pytest.raises(UserError, match=r"no\.txt"):
        adapt(config, "random", tmp_path / "out")


@pytest.mark.parametrize(
    ("texts", "replay", "problem"),
    [
        (documents(20), 0.0, "0.5 of this corpus is 300 tokens, and the loss of less than 512 is noise"),
        (documents(1, n_words=2000), 0.1, "all its documents measure the loss, so none is left for adapt.replay"),
    ],
)
def test_too_little_general_text(
    make_config: MakeConfig, tmp_path: Path, texts: list[str], replay: float, problem: str
):
    (tmp_path / "few.txt").write_text("\n".join(texts))
    config = make_config(adapt={"general_corpus": str(tmp_path / "few.txt"), "replay": replay})
    with pytest.raises(UserError, match=rf"few\.txt.*adapt\.general_corpus: {problem}"):
        adapt(config, "random", tmp_path / "out")
    assert not (tmp_path / "out" / "config.yaml").exists()


def test_other_commands_refuse_it(inputs: Inputs, tmp_path: Path, nmg: Nmg):
    config = inputs.write_config(tmp_path / "config.yaml", adapt={"general_corpus": "general.txt"})
    answer = nmg("compare", config, "--out", "out", "--maskings", "none", "--seeds", 1)
    assert answer.code == 2
    assert "adapt.general_corpus: only 'nmg adapt' measures the loss on general text" in answer.err


@pytest.mark.parametrize(
    ("n_domain", "share", "per_epoch"), [(95, 0.05, 5), (90, 0.1, 10), (10, 0.5, 10), (100, 0.0001, 1)]
)
def test_the_share_is_that_of_the_blocks_of_an_epoch(n_domain: int, share: float, per_epoch: int):
    replay = Replay(n_domain, 200, share, StreamName(0))
    assert replay.per_epoch == per_epoch
    for epoch in range(3):
        rows = replay.rows_of(epoch)
        assert rows.tolist()[:n_domain] == list(range(n_domain))
        assert len(set(rows.tolist())) == len(rows) == n_domain + per_epoch


def test_all_general_blocks_are_used_before_one_is_used_again():
    """Epochs of 10 general blocks out of 4 or 7 cut the same sequence of whole permutations."""
    for n_general in (4, 7, 10, 33):
        replay = Replay(90, n_general, 0.1, StreamName(0) / "replay")
        used = np.concatenate([replay.rows_of(epoch)[90:] - 90 for epoch in range(7)])
        assert len(used) == 70
        for number in range(70 // n_general):
            order = used[number * n_general : (number + 1) * n_general]
            expected = (StreamName(0) / "replay" / number).generator().permutation(n_general)
            assert order.tolist() == expected.tolist()


def two_corpora(session: ModelSession) -> tuple[Corpus, Corpus]:
    first = session.corpus(documents(12)).subset(np.arange(2, 20))
    return first, session.corpus(documents(9, seed=1)).subset(np.array([1, 3, 4, 9]))


def test_joined_corpora_have_the_blocks_of_both(make_config: MakeConfig):
    first, second = two_corpora(ModelSession.open(make_config()))
    assert len(first.distinct_ids) > 0, "cached before"
    both = first.joined(second)
    assert len(both) == 22
    assert both.lengths.tolist() == [*first.lengths, *second.lengths]
    for one, number in [(first, 0), (first, 17), (second, 18), (second, 21)]:
        block = number - (18 if one is second else 0)
        assert both.text(number) == one.text(block)
        assert both.offsets(number).tolist() == one.offsets(block).tolist()
    mixed = both.blocks(np.array([20, 3]))
    for row, plain in enumerate((second.blocks(np.array([2])), first.blocks(np.array([3])))):
        n_tokens = plain.input_ids.shape[1]
        assert torch.equal(mixed.input_ids[row, :n_tokens], plain.input_ids[0])
        assert torch.equal(mixed.word_index[row, :n_tokens], plain.word_index[0])
    assert not set(both.context_ids[:18].tolist()) & set(both.context_ids[18:].tolist())
    assert both.distinct_ids.tolist() == sorted({*first.distinct_ids.tolist(), *second.distinct_ids.tolist()})
    last = both.subset(np.array([0, 19, 21]))
    assert last.text(1) == second.text(1)
    assert len({both.digest, first.digest, second.joined(first).digest}) == 3


@pytest.mark.parametrize("name", ["whole-word", "span", "idf"])
def test_domain_blocks_keep_their_masking_and_general_ones_are_masked_at_random(make_config: MakeConfig, name: str):
    session = ModelSession.open(make_config())
    first, second = two_corpora(session)
    masking = load_masking(name, session.lm, first, MaskingSettings())
    mixed = ReplayMasking(masking, len(first))
    both = first.joined(second)
    blocks = both.blocks(np.array([19, 3, 21, 7]))
    plan = mixed.plan(blocks, 0.3, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    domain = masking.plan(blocks.rows(torch.tensor([1, 3])), 0.3, rng)
    general = RandomMasking().plan(blocks.rows(torch.tensor([0, 2])), 0.3, rng)
    assert plan.budget.tolist() == blocks.budgets(0.3).tolist()
    n_tokens = blocks.input_ids.shape[1]
    is_masked = plan.is_masked(n_tokens)
    assert torch.equal(is_masked[[1, 3]], domain.is_masked(n_tokens))
    assert torch.equal(is_masked[[0, 2]], general.is_masked(n_tokens))
    assert (plan.group is None) == (domain.group is None)
    if domain.group is not None and plan.group is not None:
        assert torch.equal(plan.group[[1, 3], : domain.group.shape[1]], domain.group)
        assert not plan.is_chosen[[1, 3]][plan.group[[1, 3]] == NO_POSITION].any()
        assert (plan.group[[1, 3]][~plan.is_chosen[[1, 3]]] == NO_POSITION).all()
        assert all(len(set(row)) == len(row) for row in plan.group[[0, 2]].tolist()), "positions have their own draws"
    corrupted = corrupt(blocks, plan, session.context.vocabulary, MaskingSettings(), np.random.default_rng(0))
    assert (corrupted.labels != IGNORED_LABEL).sum(1).tolist() == plan.budget.tolist()
    only_domain = first.blocks(np.array([3, 7]))
    expected = masking.plan(only_domain, 0.3, np.random.default_rng(6))
    assert torch.equal(mixed.plan(only_domain, 0.3, np.random.default_rng(6)).positions, expected.positions)


def test_an_epoch_has_all_domain_blocks_and_a_share_of_general_ones_that_are_not_measured(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[tuple[IntArray, list[str]]] = []
    draw = DrawnBatches.__call__

    def spied(self: DrawnBatches, rows: IntArray) -> CorruptedBlocks:
        seen.append((rows, [self.corpus.text(int(row)) for row in rows]))
        return draw(self, rows)

    monkeypatch.setattr(DrawnBatches, "__call__", spied)
    config = make_config(adapt={"replay": 0.2, "epochs": 3})
    result = adapt(config, "random", tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "nmg.json").read_text())
    n_domain = 2 * facts["documents"]
    per_epoch = round(n_domain / 4)
    assert facts["general"]["replayed_blocks"] == per_epoch
    assert result.steps == 3 * -(-(n_domain + per_epoch) // 4)
    del seen[: -result.steps]  # those of the check of the model
    rows = np.concatenate([batch for batch, _ in seen])
    texts = [text for _, batch in seen for text in batch]
    for epoch in np.split(rows, 3):
        assert sorted(epoch[epoch < n_domain]) == list(range(n_domain))
        assert (epoch >= n_domain).sum() == per_epoch
    session = ModelSession.open(config)
    general = GeneralText.read(session, read_general(config.adapt.general_corpus) or [])
    measured = {general.measured.text(number) for number in range(len(general.measured))}
    replayed = {text for row, text in zip(rows, texts, strict=True) if row >= n_domain}
    assert replayed <= {general.rest.text(number) for number in range(len(general.rest))}
    assert len(replayed) == min(3 * per_epoch, len(general.rest)) > per_epoch
    assert not replayed & measured


def slow_loss(folder: Path, general: GeneralText, session: ModelSession) -> float:
    """Cross-entropy of a saved model on the measured blocks, one block at a time."""
    model, loss = AutoModelForMaskedLM.from_pretrained(folder).eval(), general.loss(session.context)
    batch = loss._batches(np.arange(len(loss.lengths)))
    total = 0.0
    for row, length in enumerate(loss.lengths):
        with torch.no_grad():
            logits = model(input_ids=batch.input_ids[row : row + 1, :length]).logits[0]
        total += float(cross_entropy(logits, batch.labels[row, :length], reduction="sum"))
    return total / int((batch.labels != IGNORED_LABEL).sum())


@pytest.mark.parametrize("changes", [{}, {"replay": 0.3}, {"patience": 1, "evaluate_every": 2, "learning_rate": 0.05}])
def test_losses_before_and_after_are_those_of_the_saved_folders(
    make_config: MakeConfig, model: Path, general_file: Path, tmp_path: Path, changes: dict[str, Any]
):
    config = make_config(adapt={"general_corpus": str(general_file), **changes})
    result = adapt(config, "random", tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "nmg.json").read_text())
    session = ModelSession.open(config)
    general = GeneralText.read(session, read_general(config.adapt.general_corpus) or [])
    assert facts["general"]["before"] == pytest.approx(slow_loss(model, general, session), rel=1e-5)
    assert facts["general"]["after"] == pytest.approx(slow_loss(tmp_path / "out", general, session), rel=1e-5)
    assert facts["general"]["masked_tokens"] == 2 * facts["general"]["blocks"], "15 % of 14 or 16 tokens"
    trade = trade_in_words(facts["held_out"], facts["general"], is_best=result.is_best)
    assert trade in result.summary()
    inputs = json.loads((tmp_path / "out" / "run.json").read_text())["inputs"]
    assert inputs["adapt.general_corpus"] == session.corpus(general_file.read_text().splitlines()).digest


def test_no_training_changes_nothing(make_config: MakeConfig, tmp_path: Path):
    result = adapt(make_config(adapt={"replay": 0.3}), "none", tmp_path / "out")
    assert result.general is not None
    assert result.general.before == result.general.after
    assert result.general.replayed_blocks == 0


def test_replay_changes_what_is_measured_in_no_way_and_the_model_forgets_less(make_config: MakeConfig, tmp_path: Path):
    """The model first learns general text; then it adapts to text with other frequent words."""
    general = str(make_config(adapt={"replay": 0.1}).adapt.general_corpus)
    long = {"epochs": 4, "learning_rate": 5e-3}
    adapt(make_config(adapt=long, data={"corpus": general}), "random", tmp_path / "base")
    found = {}
    for share in (0.0, 0.3):
        config = make_config(adapt={**long, "replay": share}, model={"name": str(tmp_path / "base")})
        found[share] = adapt(config, "random", tmp_path / f"{share}")
    without, with_replay = (found[share].general for share in (0.0, 0.3))
    assert without is not None
    assert with_replay is not None
    assert without.before == with_replay.before
    assert without.after > without.before + 0.5, "it forgets"
    assert with_replay.after < without.after - 0.3
    assert "With adapt.replay 0.05 the model forgets less." in found[0.0].summary()
    assert "With adapt.replay" not in found[0.3].summary()


def test_the_trade_in_words():
    general = {"before": 3.0, "after": 2.5, "replayed_blocks": 0}
    held_out = {"before": 2.0, "after": 2.2, "best": 1.5}
    assert trade_in_words(held_out, general, is_best=False) == (
        "On your text the loss rose from 2.00 to 2.20; on general text it fell from 3.00 to 2.50."
    )
    assert trade_in_words(held_out, general, is_best=True).startswith("On your text the loss fell from 2.00 to 1.50;")
