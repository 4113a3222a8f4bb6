"""How often tokens are drawn, against exact enumeration; policies against the slow way, one block at a time."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from masking.helpers import copies, random_blocks, word_blocks
from nmg.base.seeding import StreamName, stream, torch_stream
from nmg.base.types import FloatArray, MaskPlan, TokenBlocks
from nmg.inspection import draws
from nmg.inspection.draws import Observed, Perturbed, budgets, count_draws, observe, repeated, views_of
from nmg.inspection.tokens import TokenTable
from nmg.masking.base import Rule
from nmg.masking.rules import RandomMasking, draw_random, draw_whole_words
from nmg.policies.attention import AttentionConfig, AttentionPolicy
from nmg.policies.base import Policy
from nmg.policies.linear import LinearConfig, LinearPolicy
from nmg.policies.sampling import PolicyMasking

from .helpers import corpus_of, flat_table

N_DRAWS = 20_000
WITHIN = 4 * 0.5 / N_DRAWS**0.5
"""four standard errors of a share of that many draws"""


def inclusion_of_two(p: FloatArray) -> FloatArray:
    """Exact probability that each item is among two drawn one after the other without replacement."""
    included = np.zeros(len(p))
    for first, second in itertools.permutations(range(len(p)), 2):
        included[[first, second]] += p[first] * p[second] / (1 - p[first])
    return included


def test_a_policy_is_drawn_as_enumeration_says():
    p = np.array([0.7, 0.2, 0.1])
    blocks = word_blocks([[1, 1, 1]])
    logits = torch.full((1, 5), -torch.inf)
    logits[0, 1:4] = torch.tensor(np.log(p) + 3.0)
    counts = count_draws(Perturbed(logits), blocks, 0.67, N_DRAWS, stream(0, "test"))
    assert counts[0, [0, 4]].tolist() == [0, 0]
    assert counts.sum() == 2 * N_DRAWS
    assert counts[0, 1:4] / N_DRAWS == pytest.approx(inclusion_of_two(p), abs=WITHIN)


def test_rules_are_drawn_as_enumeration_says():
    blocks = word_blocks([[1, 2]])  # a word of one token and one of two
    counts = count_draws(draw_random, blocks, 0.67, N_DRAWS, stream(0, "test"))
    assert counts[0, 1:4] / N_DRAWS == pytest.approx([2 / 3] * 3, abs=WITHIN)
    # The long word alone, or the short one and then the long one's first token.
    counts = count_draws(draw_whole_words, blocks, 0.67, N_DRAWS, stream(0, "test"))
    assert counts[0, 1:4] / N_DRAWS == pytest.approx([1 / 2, 1, 1 / 2], abs=WITHIN)


@pytest.mark.parametrize(("most", "calls"), [(1, [1] * 7), (3 * 4 * 3, [3, 3, 1]), (1000, [7])])
def test_draws_are_made_many_at_a_time_and_counted_to_their_blocks(
    most: int, calls: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(draws, "POSITIONS_AT_A_TIME", most)
    blocks = word_blocks([[1, 1], [1], [1, 1]])
    asked = []

    def by_block(blocks: TokenBlocks, _rate: float, _rng: np.random.Generator) -> MaskPlan:
        """The first token of blocks 0 and 1, the second of block 2."""
        asked.append(len(blocks) // 3)
        positions = 1 + (blocks.block_ids == 2).long()
        return MaskPlan(positions[:, None], torch.ones_like(positions))

    counts = count_draws(by_block, blocks, 0.5, 7, stream(0, "test"))
    assert counts.tolist() == [[0, 7, 0, 0], [0, 7, 0, 0], [0, 0, 7, 0]]
    assert asked == calls


def test_repeated_logits_belong_to_their_blocks():
    """Two blocks of opposite taste, drawn many times in one call."""
    blocks = copies(2, [1, 1])
    logits = torch.tensor([[-torch.inf, 50.0, 0.0, -torch.inf], [-torch.inf, 0.0, 50.0, -torch.inf]])
    assert repeated(blocks, 3).block_ids.tolist() == blocks.block_ids.tolist() * 3
    counts = count_draws(Perturbed(logits), blocks, 0.5, 10, stream(0, "test"))
    assert counts.tolist() == [[0, 10, 0, 0], [0, 0, 10, 0]]


class Reader:
    """In the place of the LM: states and surprise of tokens drawn at random; notes the blocks that it reads."""

    def __init__(self) -> None:
        self.states = torch.from_numpy(stream(0, "states").normal(size=(30, 8))).float()
        self.encoded: list[int] = []
        self.surprised: list[int] = []

    def __call__(self, blocks: TokenBlocks) -> torch.Tensor:
        self.encoded.extend(blocks.block_ids.tolist())
        return self.states[blocks.input_ids]

    def surprise(self, blocks: TokenBlocks) -> torch.Tensor:
        self.surprised.extend(blocks.block_ids.tolist())
        places = torch.arange(blocks.input_ids.shape[1])[:, None]
        return (self.states[blocks.input_ids, :2] + 0.1 * places) * blocks.is_maskable[:, :, None]


def policy_of(name: str) -> Policy:
    with torch_stream(0, name):
        policy: Policy
        if name.startswith("linear"):
            policy = LinearPolicy(LinearConfig(features=("idf", "continuation", "loss", "entropy"), vocabulary_size=30))
        else:
            policy = AttentionPolicy(AttentionConfig(hidden_size=8, num_attention_heads=2, head_hidden=4))
        for parameter in policy.parameters():
            torch.nn.init.normal_(parameter)
    return policy.eval()


def test_policies_are_observed_as_one_block_at_a_time_would(tmp_path: Path):
    texts = ["the cats sat on the mat .", "dog", "cat dog sat", "the dog sat on the cat"] * 40
    corpus = corpus_of(texts, tmp_path)
    table = TokenTable.of(corpus)
    reader = Reader()
    policies = {name: policy_of(name) for name in ("one", "other", "linear one", "linear other")}
    steps: list[tuple[int, int]] = []
    rules = {"random": RandomMasking(), "words": Rule("words", draw_whole_words)}
    observed = observe(
        corpus,
        table,
        policies,
        rules,
        reader,
        rate=0.4,
        draws=3,
        randomness=StreamName(0),
        about={name: f"about {name}" for name in (*policies, *rules)},
        progress=lambda done, total: steps.append((done, total)),
    )
    assert sorted(reader.encoded) == list(range(160)), "each block goes through the LM once"
    assert sorted(reader.surprised) == list(range(160))
    assert steps[-1] == (160, 160)
    assert [(one.name, one.about) for one in observed] == [
        (name, f"about {name}") for name in (*policies, "random", "words")
    ]
    for one in observed[:4]:
        policy = policies[one.name]
        slow = PolicyMasking(policy, greedy=True)
        assert one.probability is not None
        is_greedy = isinstance(policy, AttentionPolicy)
        assert (one.taken is not None) is is_greedy, "a linear policy samples, so it has no other choice in use"
        for block_id in (0, 1, 2, 159):
            blocks = corpus.blocks(np.array([block_id]))
            plan = slow.plan(blocks, 0.4, stream(0, "unused"), reader)
            logits = policy.logits(policy.observe(blocks, reader), blocks.is_token, blocks.is_maskable)
            rows = slice(table.bounds[block_id], table.bounds[block_id + 1])
            # Position 0 is [CLS].
            if one.taken is not None:
                assert (np.flatnonzero(one.taken[rows]) + 1).tolist() == plan.positions[0].tolist()
            expected = torch.softmax(logits[0], dim=0)[1:-1].detach().numpy()
            assert one.probability[rows] == pytest.approx(expected, rel=1e-4)
    assert [one.probability is None for one in observed] == [False] * 4 + [True] * 2
    blocks = corpus.blocks(np.arange(len(corpus)))
    for one in observed:
        assert budgets(one, table).tolist() == blocks.budgets(0.4).tolist()


def test_a_masking_is_drawn_alike_whatever_stands_beside_it(tmp_path: Path):
    corpus = corpus_of(["the cats sat on the mat .", "cat dog sat"], tmp_path)
    table = TokenTable.of(corpus)

    def of(*names: str) -> dict[str, list[int]]:
        observed = observe(
            corpus,
            table,
            {},
            {name: RandomMasking() for name in names},
            lambda blocks: pytest.fail("no policy, no states"),
            rate=0.3,
            draws=20,
            randomness=StreamName(0),
            about=dict.fromkeys(names, ""),
            progress=lambda done, total: None,
        )
        return {one.name: one.drawn.tolist() for one in observed}

    both = of("first", "second")
    assert both["first"] != both["second"]
    assert of("second")["second"] == both["second"]


def test_views_are_maskings_and_greedy_choices():
    """Own overlap: the mean over pairs of different draws, counted here one by one."""
    blocks = random_blocks(3)
    rng = stream(0, "test")
    plans = [draw_random(blocks, 0.3, rng).is_masked(blocks.input_ids.shape[1])[blocks.is_maskable] for _ in range(6)]
    counts = torch.stack(plans).sum(dim=0).numpy()
    shared = [int((first & second).sum()) for first, second in itertools.permutations(plans, 2)]
    budget = int(plans[0].sum())
    taken = np.zeros(len(counts), dtype=bool)
    taken[:budget] = True
    policy = Observed("p", "", 6, counts, np.ones(len(counts)), taken)
    first, second, third = views_of([policy, Observed("r", "", 6, counts)])
    assert first.own_overlap == third.own_overlap == pytest.approx(np.mean(shared) / budget)
    assert (first.name, first.masking) == ("p", 0)
    assert first.inclusion == pytest.approx(counts / 6)
    assert (second.name, second.masking, second.own_overlap) == ("p, in use", 0, 1.0)
    assert second.inclusion.tolist() == taken.astype(float).tolist()
    assert (third.name, third.masking) == ("r", 1)


def test_budgets_are_those_of_the_draws():
    assert budgets(Observed("r", "", 4, np.array([4, 2, 2, 1, 2, 1])), flat_table(3, 0, 3)).tolist() == [2, 0, 1]
