"""What every masking promises, over random texts in many scripts and the three families of tokenizers."""

import tempfile
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nmg.base.settings import MaskingSettings
from nmg.base.types import IGNORED_LABEL, TokenBlocks
from nmg.collation.rows import RowReader
from nmg.data.corpus import Corpus
from nmg.masking.base import Masking
from nmg.masking.corrupt import Vocabulary, corrupt
from nmg.masking.registry import RULES
from support.families import FAMILIES, SCRIPTS, family

from .helpers import any_masking

MASKINGS = [*RULES, "0.4*span+0.3*idf+0.3*whole-word"]
EVERY = pytest.mark.parametrize("name", FAMILIES)
OF_ALL = pytest.mark.parametrize("masking", MASKINGS)
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(SCRIPTS),
        st.text(st.sampled_from(sorted(set("".join(SCRIPTS)))), max_size=60),
        st.text(max_size=30),
    ),
    min_size=1,
    max_size=4,
)


class NothingFound:
    """Stands for a spaCy pipeline, which would take most of the time."""

    ents = ()

    def pipe(self, texts, batch_size):
        return [self for _ in texts]


@cache
def reader_of(name: str) -> RowReader:
    return RowReader(family(name), None)


@cache
def built(name: str, masking: str) -> Masking:
    folder = Path(tempfile.mkdtemp())
    corpus = Corpus.build(SCRIPTS * 3, family(name), 500, folder)
    with patch("nmg.masking.entity.load_recogniser", lambda _model: NothingFound()):
        return any_masking(masking, family(name), corpus, folder, reader_of(name))


def blocks_of(name: str, texts: list[str]) -> TokenBlocks:
    reader = reader_of(name)
    return reader.blocks(reader.rows([{"input_ids": family(name)(text)["input_ids"]} for text in texts]))


@OF_ALL
@EVERY
@settings(max_examples=15, derandomize=True, database=None)
@given(texts=TEXTS, rate=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
def test_budgets_special_tokens_and_seeds(masking: str, name: str, texts: list[str], rate: float, seed: int) -> None:
    tokenizer, blocks = family(name), blocks_of(name, texts)
    plan, again = (built(name, masking).plan(blocks, rate, np.random.default_rng(seed)) for _ in range(2))
    assert plan.positions.equal(again.positions)
    budgets = blocks.budgets(rate)
    may_be_empty = masking == "none"
    for b, k in enumerate(plan.budget.tolist()):
        n = int(blocks.is_maskable[b].sum())
        assert k == (0 if may_be_empty else min(max(1, int(n * rate + 1e-9)), n)) == (0 if may_be_empty else budgets[b])
        chosen = plan.positions[b, :k].tolist()
        assert len(set(chosen)) == k
        assert (plan.positions[b, k:] == -1).all()
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        assert not special & set(blocks.input_ids[b, chosen].tolist())
        assert blocks.is_token[b, chosen].all()
    corrupted, same = (
        corrupt(blocks, plan, vocabulary(name), MaskingSettings(), np.random.default_rng(seed)) for _ in range(2)
    )
    assert corrupted.input_ids.equal(same.input_ids)
    is_masked = plan.is_masked(blocks.input_ids.shape[1])
    assert corrupted.input_ids[~is_masked].equal(blocks.input_ids[~is_masked])
    assert (corrupted.labels != IGNORED_LABEL).equal(is_masked)
    assert corrupted.labels[is_masked].equal(blocks.input_ids[is_masked])


@cache
def vocabulary(name: str) -> Vocabulary:
    return Vocabulary.from_tokenizer(family(name))


@pytest.mark.parametrize("masking", [masking for masking in MASKINGS if masking != "none"])
@EVERY
def test_shares_are_within_sampling_error(masking: str, name: str) -> None:
    blocks = blocks_of(name, list(SCRIPTS) * 20)
    rng = np.random.default_rng(0)
    plan = built(name, masking).plan(blocks, 0.3, rng)
    corrupted = corrupt(
        blocks, plan, vocabulary(name), MaskingSettings(mask_replace_prob=0.6, random_replace_prob=0.3), rng
    )
    is_masked = plan.is_masked(blocks.input_ids.shape[1])
    now, before = corrupted.input_ids[is_masked], blocks.input_ids[is_masked]
    is_mask, is_kept = now == vocabulary(name).mask_id, now == before
    # Tokens of a group share a coin: the worst case is one coin for as many as the largest group holds.
    largest = (
        1
        if plan.group is None
        else int(torch.stack([g.unique(return_counts=True)[1].max() for g in _groups(plan)]).max())
    )
    n = len(now) / largest
    chance = 1 / len(vocabulary(name).replacement_ids)  # a random token may be the one that was there
    for found, share in ((is_mask, 0.6), (~is_mask & ~is_kept, 0.3), (is_kept & ~is_mask, 0.1)):
        error = 4 * (share * (1 - share) / n) ** 0.5 + chance
        assert abs(float(found.double().mean()) - share) < error


def _groups(plan):
    return [row[row >= 0] for row in plan.group if (row >= 0).any()]
