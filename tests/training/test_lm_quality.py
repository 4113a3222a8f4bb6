"""What word frequencies alone give, and a masked-LM loss, against hand values and slow versions."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nmg.base.seeding import StreamName
from nmg.base.settings import MaskingSettings
from nmg.base.types import IGNORED_LABEL
from nmg.data.corpus import Corpus
from nmg.data.cutting import cut_texts
from nmg.masking.rules import RandomMasking
from nmg.training import lm_quality
from nmg.training.context import TrainingContext
from nmg.training.lm import PretrainedLM, copy_state
from nmg.training.lm_quality import RATE, held_out_loss, hidden_words, log_frequencies, unigram_entropy
from nmg.training.runtime import Runtime
from support.arenas import ADAPT, arena_of
from support.planted import WORDS

RANDOMNESS = StreamName(0) / "held-out"


def corpus_of(lm: PretrainedLM, folder: Path, *texts: str) -> Corpus:
    return Corpus.build(texts, lm.tokenizer, ADAPT.block_size, folder)


def nothing(lm: PretrainedLM) -> Corpus:
    """A block without a maskable token, which `Corpus.build` refuses."""
    batches = list(cut_texts(["[SEP] [SEP]"], lm.tokenizer, ADAPT.block_size))
    return Corpus("", batches, int(lm.tokenizer.pad_token_id))


def words_of(corpus: Corpus) -> list[list[int]]:
    blocks = corpus.blocks(np.arange(len(corpus)))
    return [ids[keep].tolist() for ids, keep in zip(blocks.input_ids, blocks.is_maskable, strict=True)]


# ---- word frequencies


def test_unigram_entropy_by_hand(lm: PretrainedLM, tmp_path: Path):
    """Two words; without the first block there is one of each, without the second there are two and one."""
    a, b = WORDS[:2]
    corpus = corpus_of(lm, tmp_path, f"{a} {a} {b}", f"{a} {b}")
    expected = -(3 * math.log(2 / 4) + math.log(3 / 5) + math.log(2 / 5)) / 5
    assert unigram_entropy(corpus) == pytest.approx(expected)


def test_unigram_entropy_of_one_block_is_that_of_guessing(lm: PretrainedLM, tmp_path: Path):
    assert unigram_entropy(corpus_of(lm, tmp_path, " ".join(WORDS[:3]))) == pytest.approx(math.log(3))


def test_unigram_entropy_of_nothing(lm: PretrainedLM):
    assert math.isnan(unigram_entropy(nothing(lm)))


def test_unigram_entropy_against_a_slow_version(corpus: Corpus, monkeypatch: pytest.MonkeyPatch):
    blocks = words_of(corpus)
    kinds = {word for block in blocks for word in block}
    cost = 0.0
    for number, block in enumerate(blocks):
        others = Counter(word for other, words in enumerate(blocks) if other != number for word in words)
        for word in block:
            cost -= math.log((others[word] + 1) / (sum(others.values()) + len(kinds)))
    expected = cost / sum(map(len, blocks))
    assert unigram_entropy(corpus) == pytest.approx(expected)
    monkeypatch.setattr(lm_quality, "BLOCKS_AT_ONCE", 5)
    assert unigram_entropy(corpus) == pytest.approx(expected)


def test_unigram_entropy_of_evenly_drawn_words(lm: PretrainedLM, tmp_path: Path):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS[:8], 12)) for _ in range(200)]
    assert unigram_entropy(corpus_of(lm, tmp_path, *texts)) == pytest.approx(math.log(8), abs=0.01)


def test_log_frequencies_by_hand(lm: PretrainedLM, tmp_path: Path):
    """Three words, two of them distinct: the ten tokens share two more occurrences."""
    a, b, c = WORDS[:3]
    corpus = corpus_of(lm, tmp_path, f"{a} {a} {b}", c)
    found = np.exp(log_frequencies(corpus, np.array([0]), 10))
    expected = np.full(10, 0.2 / 5)
    expected[lm.tokenizer.convert_tokens_to_ids([a, b])] += np.array([2, 1]) / 5
    assert found == pytest.approx(expected)
    assert found.sum() == pytest.approx(1)
    assert np.exp(log_frequencies(corpus, np.array([], dtype=np.int64), 10)) == pytest.approx(np.full(10, 0.1))


# ---- masked-LM loss


def test_held_out_loss_of_a_head_that_says_nothing(lm: PretrainedLM, context: TrainingContext, corpus: Corpus):
    """All words equally likely; then as likely as in the text."""
    rows = np.arange(len(corpus))
    head = lm.model.cls.predictions
    for parameter in (*head.transform.LayerNorm.parameters(), head.bias):
        parameter.data.zero_()
    assert held_out_loss(context, corpus, rows, RANDOMNESS) == pytest.approx(math.log(len(head.bias)), rel=1e-5)
    frequencies = log_frequencies(corpus, rows, len(head.bias))
    head.bias.data.copy_(torch.from_numpy(frequencies))
    batches, lengths = hidden_words(context, corpus, rows, RATE, RANDOMNESS)
    labels = batches(np.arange(len(lengths))).labels
    words = labels[labels != IGNORED_LABEL]
    assert held_out_loss(context, corpus, rows, RANDOMNESS) == pytest.approx(-frequencies[words].mean(), rel=1e-5)


@torch.no_grad()
def test_held_out_loss_against_a_slow_version(lm: PretrainedLM, context: TrainingContext, corpus: Corpus):
    rows = np.array([11, 3, 7, 4, 0])
    blocks = corpus.blocks(rows)
    is_masked = (
        RandomMasking().plan(blocks, 0.15, (RANDOMNESS / "choices").generator()).is_masked(blocks.input_ids.shape[1])
    )
    losses = []
    lm.model.eval()
    for ids, is_token, hidden in zip(blocks.input_ids, blocks.is_token, is_masked, strict=True):
        corrupted = torch.where(hidden, lm.tokenizer.mask_token_id, ids)[is_token]
        log_probs = lm.model(input_ids=corrupted[None]).logits[0].log_softmax(dim=1)
        losses += [-float(log_probs[place, ids[place]]) for place in hidden.nonzero().flatten()]
    lm.model.train()
    assert len(losses) >= len(rows)
    assert held_out_loss(context, corpus, rows, RANDOMNESS) == pytest.approx(np.mean(losses), rel=1e-5)
    assert lm.model.training, "as it was"


def test_held_out_loss_changes_nothing_and_heeds_nothing_else(
    lm: PretrainedLM, context: TrainingContext, corpus: Corpus
):
    rows = np.arange(len(corpus))
    before, loss = copy_state(lm.model), held_out_loss(context, corpus, rows, RANDOMNESS)
    assert all(torch.equal(before[name], tensor) for name, tensor in lm.model.state_dict().items())
    small = replace(context.runtime, evaluation_batch_size=3)
    other = replace(context, runtime=small, masking=MaskingSettings(rate=0.6))
    assert held_out_loss(other, corpus, rows, RANDOMNESS) == pytest.approx(loss, rel=1e-6)
    assert held_out_loss(context, corpus, rows, StreamName(1)) != pytest.approx(loss, rel=1e-6)


def test_held_out_loss_of_nothing(lm: PretrainedLM, runtime: Runtime):
    assert math.isnan(held_out_loss(arena_of(lm, runtime), nothing(lm), np.array([0]), RANDOMNESS))
