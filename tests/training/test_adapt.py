"""Masks of an episode stay, those of a meta-test are drawn anew."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from nmg.base.seeding import StreamName
from nmg.base.settings import ModelSettings
from nmg.base.types import IGNORED_LABEL, CorruptedBlocks, IntArray, MaskPlan, StateEncoder, TokenBlocks
from nmg.data.corpus import Corpus
from nmg.masking.registry import build_masking
from nmg.masking.rules import RandomMasking
from nmg.training.adapt import adapt
from nmg.training.context import TrainingContext
from nmg.training.lm import load_pretrained
from nmg.training.lm_reader import LMReader
from nmg.training.masks import Batches, DrawnMasks, FixedMasks, Masks
from nmg.training.runtime import Runtime
from support.arenas import ADAPT, MASKING, arena_of
from support.runs import Inputs

Rows = dict[int, tuple[Tensor, Tensor]]
"""block id → (input ids, labels), without padding"""


@dataclass
class Spy:
    """Masks that remember what they gave."""

    masks: Masks
    seen: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)
    name = "spy"

    @property
    def lengths(self) -> IntArray:
        return self.masks.lengths

    def rows_of(self, epoch: int) -> IntArray:
        return self.masks.rows_of(epoch)

    @property
    def token_ids(self) -> Tensor:
        return self.masks.token_ids

    def start(self, context: TrainingContext, randomness: StreamName, steps: int = 1) -> Batches:
        batches = self.masks.start(context, randomness, steps)

        def spied(rows: IntArray) -> CorruptedBlocks:
            batch = batches(rows)
            for row, ids, labels, is_token in zip(rows, batch.input_ids, batch.labels, batch.is_token, strict=True):
                assert int(is_token.sum()) == self.lengths[row]
                assert (labels[~is_token] == IGNORED_LABEL).all()
                self.seen.append((int(row), ids[is_token], labels[is_token]))
            return batch

        return spied


def fixed_masks(corpus: Corpus) -> FixedMasks:
    blocks = corpus.blocks(np.arange(len(corpus)))
    return FixedMasks(blocks, RandomMasking().plan(blocks, MASKING.rate, StreamName(0).generator()))


def trained_on(context: TrainingContext, corpus: Corpus, masks: Masks, seed: int = 0) -> list[Rows]:
    """For each epoch, what the LM was trained on."""
    spy = Spy(masks)
    assert np.array_equal(spy.lengths, corpus.lengths)
    result = adapt(context, spy, StreamName(seed))
    budget = int(corpus.blocks(np.arange(len(corpus))).budgets(MASKING.rate).sum())
    assert result.masked_tokens == budget * ADAPT.epochs
    assert result.tokens == int(corpus.lengths.sum()) * ADAPT.epochs
    assert result.steps == 2 * -(-len(corpus) // 4)
    n = len(corpus)
    epochs = [{row: (ids, labels) for row, ids, labels in spy.seen[first : first + n]} for first in (0, n)]
    assert all(len(epoch) == n for epoch in epochs)
    return epochs


def same_rows(first: Rows, second: Rows, part: int) -> int:
    return sum(torch.equal(first[row][part], second[row][part]) for row in first)


def test_fixed_masks_are_the_same_in_every_epoch(context: TrainingContext, corpus: Corpus):
    first, second = trained_on(context, corpus, fixed_masks(corpus))
    assert same_rows(first, second, 0) == same_rows(first, second, 1) == len(corpus)


def test_drawn_masks_are_drawn_anew_in_every_epoch(context: TrainingContext, corpus: Corpus):
    first, second = trained_on(context, corpus, DrawnMasks(corpus, RandomMasking()))
    assert same_rows(first, second, 1) < len(corpus) / 2


def test_drawn_masks_follow_their_stream(inputs: Inputs, corpus: Corpus, runtime: Runtime):
    def run(seed: int) -> list[Rows]:
        lm = load_pretrained(ModelSettings(name=str(inputs.model)))
        return trained_on(arena_of(lm, runtime), corpus, DrawnMasks(corpus, RandomMasking()), seed)

    first, again, other = run(0), run(0), run(1)
    assert all(same_rows(a, b, part) == len(corpus) for a, b in zip(first, again, strict=True) for part in (0, 1))
    assert same_rows(first[0], other[0], 1) < len(corpus) / 2


def test_corruption_does_not_change_the_blocks(context: TrainingContext, corpus: Corpus):
    blocks = corpus.blocks(np.arange(len(corpus)))
    before = blocks.input_ids.clone()
    plan = RandomMasking().plan(blocks, 0.9, np.random.default_rng(0))
    batch = FixedMasks(blocks, plan).start(context, StreamName(0))(np.array([3, 1]))
    assert torch.equal(blocks.input_ids, before)
    longest = int(corpus.lengths[[3, 1]].max())
    assert batch.input_ids.shape == batch.labels.shape == batch.is_token.shape == (2, longest)


class Watching:
    """Masks at random, and remembers the states that the LM has for the first block whenever it plans."""

    name, reads_states = "watching", True

    def __init__(self, corpus: Corpus) -> None:
        self.first = corpus.blocks(np.array([0]))
        self.states: list[Tensor] = []

    def plan(
        self, blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder | None = None
    ) -> MaskPlan:
        assert encode is not None
        self.states.append(encode(self.first))
        return RandomMasking().plan(blocks, rate, rng)


def test_a_learned_masking_sees_the_states_of_the_moment(context: TrainingContext, corpus: Corpus):
    masking = Watching(corpus)
    pretrained = context.reader(masking.first)
    adapt(context, DrawnMasks(corpus, masking), StreamName(0))
    states = masking.states
    assert torch.equal(states[0], pretrained), "before the first step, without dropout"
    assert not torch.equal(states[1], states[0])
    assert not torch.equal(states[2], states[1])


def test_a_learned_masking_may_see_the_states_of_the_start_alone(context: TrainingContext, corpus: Corpus):
    masking = Watching(corpus)
    pretrained = context.reader(masking.first)
    first, second = trained_on(context, corpus, DrawnMasks(corpus, masking, sees="once"))
    assert all(torch.equal(states, pretrained) for states in masking.states)
    assert not torch.equal(context.reader(masking.first), pretrained)
    chosen = [{row: (labels != IGNORED_LABEL,) for row, (_, labels) in epoch.items()} for epoch in (first, second)]
    assert all(torch.equal(chosen[0][row][0], chosen[1][row][0]) for row in chosen[0]), "one plan for all epochs"
    assert same_rows(first, second, 0) < len(corpus), "corrupted anew"


@pytest.mark.parametrize("steps", [0, 3, 7])
def test_steps_take_the_place_of_epochs(context: TrainingContext, corpus: Corpus, steps: int):
    """18 blocks in batches of 4: an epoch has 5 steps, and the settings ask for 10."""
    assert adapt(replace(context, adapt_steps=steps), fixed_masks(corpus), StreamName(0)).steps == steps


@pytest.mark.parametrize("steps", [None, 7])
def test_a_rate_that_moves_ends_with_the_adaptation(context: TrainingContext, corpus: Corpus, steps: int | None):
    """From 0.6 to 0.2 in a straight line over all steps, however many were asked for; a step is one block here."""
    moving = MASKING.model_copy(update={"rate": 0.6, "rate_schedule": "linear", "rate_end": 0.2})
    context = replace(context, masking=moving, adapt=ADAPT.model_copy(update={"batch_size": 1}))
    spy = Spy(DrawnMasks(corpus, RandomMasking()))
    n_steps = adapt(replace(context, adapt_steps=steps), spy, StreamName(0)).steps
    assert n_steps == len(spy.seen) == (steps or 2 * len(corpus))
    for step, (_, ids, labels) in enumerate(spy.seen):
        rate = 0.6 - 0.4 * step / (n_steps - 1)
        assert int((labels != IGNORED_LABEL).sum()) == max(1, int((len(ids) - 2) * rate + 1e-9))


def test_readings_of_the_lm_stand_for_so_many_steps(
    context: TrainingContext, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
):
    """Over two epochs, every block is read twice where a reading stands for one step, once where it stands for all."""
    read: list[int] = []
    surprise = LMReader.surprise
    monkeypatch.setattr(LMReader, "surprise", lambda self, blocks: read.append(len(blocks)) or surprise(self, blocks))
    masking = build_masking("loss", None, corpus, MASKING)  # type: ignore[arg-type]
    for refresh, times in ((1, context.adapt.epochs), (1000, 1)):
        read.clear()
        settings = MASKING.model_copy(update={"refresh_steps": refresh})
        adapt(replace(context, masking=settings), DrawnMasks(corpus, masking), StreamName(0))
        assert sum(read) == times * len(corpus)
