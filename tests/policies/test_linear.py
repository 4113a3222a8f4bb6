"""The linear policy: its features by hand, its weights as odds, its folder."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nmg.data.corpus import Corpus
from nmg.errors import UserError
from nmg.policies.base import Ground, log_probabilities
from nmg.policies.linear import FEATURES, LinearPolicy, LinearSettings
from nmg.policies.masking import PolicyMasking
from nmg.policies.registry import load_policy
from nmg.seeding import stream
from nmg.types import TokenBlocks
from support.tiny import word_tokenizer

TEXTS = ["the enzyme ##ase 42 .", "the drug ##gy binds .", "the , enzyme"]
WORDS = ["the", "enzyme", "##ase", "42", ".", "drug", "##gy", "binds", ",", "never"]


class Reader:
    """An LM whose loss at a token is its place, and whose entropy is twice that."""

    def __call__(self, blocks: TokenBlocks) -> torch.Tensor:
        raise AssertionError("a linear policy reads no states")

    def surprise(self, blocks: TokenBlocks) -> torch.Tensor:
        place = torch.arange(blocks.input_ids.shape[1]).expand_as(blocks.input_ids).float()
        return torch.stack([place, 2 * place], dim=2) * blocks.is_maskable[:, :, None]


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    tokenizer = word_tokenizer(WORDS)
    return Ground(
        base_model="tiny",
        hidden_size=8,
        n_heads=2,
        rate=0.3,
        tokenizer=tokenizer,
        corpus=Corpus.build(TEXTS, tokenizer, 16, tmp_path),
        encode=Reader(),
    )


def column(policy: LinearPolicy, observation: torch.Tensor, name: str) -> torch.Tensor:
    """A feature as it was before it was standardised."""
    index = FEATURES.index(name)
    return observation[:, :, index] * policy.deviation[index] + policy.mean[index]


def test_features_by_hand(ground: Ground):
    policy = LinearSettings().build(ground)
    blocks = ground.corpus.blocks(np.array([0]))
    seen = policy.observe(blocks, ground.encode)
    assert seen.shape == (1, 7, len(FEATURES))  # [CLS] the enzyme ##ase 42 . [SEP]
    inside = slice(1, 6)
    idf = [math.log(4 / 4) + 1, math.log(4 / 3) + 1, math.log(4 / 2) + 1, math.log(4 / 2) + 1, math.log(4 / 3) + 1]
    torch.testing.assert_close(column(policy, seen, "idf")[0, inside], torch.tensor(idf))
    assert column(policy, seen, "punctuation")[0, inside].round().tolist() == [0, 0, 0, 0, 1]
    assert column(policy, seen, "digit")[0, inside].round().tolist() == [0, 0, 0, 1, 0]
    assert column(policy, seen, "function_word")[0, inside].round().tolist() == [1, 0, 0, 0, 0]
    torch.testing.assert_close(column(policy, seen, "loss")[0, inside], torch.arange(1.0, 6.0))
    torch.testing.assert_close(column(policy, seen, "entropy")[0, inside], 2 * torch.arange(1.0, 6.0))


def test_a_continuation_is_a_token_whose_word_began_before(ground: Ground):
    policy = LinearSettings().build(ground)
    blocks = ground.corpus.blocks(np.array([0]))
    joined = TokenBlocks(**{**vars(blocks), "word_index": torch.tensor([[-1, 0, 1, 1, 2, 3, -1]])})
    seen = column(policy, policy.observe(joined, ground.encode), "continuation")
    assert seen[0, 1:6].round().tolist() == [0, 0, 1, 0, 0]


def test_features_have_mean_0_and_deviation_1_over_the_corpus(ground: Ground):
    policy = LinearSettings().build(ground)
    blocks = ground.corpus.blocks(np.arange(3))
    seen = policy.observe(blocks, ground.encode)[blocks.is_maskable]
    torch.testing.assert_close(seen.mean(dim=0), torch.zeros(len(FEATURES)), atol=1e-5, rtol=0)
    deviation = seen.std(dim=0, correction=0)
    constant = FEATURES.index("continuation")  # every word of this tokenizer is one token
    assert deviation[constant] == 0
    torch.testing.assert_close(
        torch.cat([deviation[:constant], deviation[constant + 1 :]]), torch.ones(len(FEATURES) - 1)
    )


def test_a_weight_is_the_log_odds_of_a_deviation(ground: Ground):
    """Twice the temperature, half of it."""
    blocks = ground.corpus.blocks(np.array([0, 1]))
    for temperature in (1.0, 2.0):
        policy = LinearSettings(temperature=temperature).build(ground)
        with torch.no_grad():
            policy.weights[FEATURES.index("digit")] = 1.5
        seen = policy.observe(blocks, ground.encode)
        logits = policy.logits(seen, blocks.is_token, blocks.is_maskable)
        assert torch.equal(logits == -torch.inf, ~blocks.is_maskable)
        log_odds = logits[0, 4] - logits[0, 2]  # "42" against "enzyme"
        apart = seen[0, 4, FEATURES.index("digit")] - seen[0, 2, FEATURES.index("digit")]
        assert log_odds.item() == pytest.approx(1.5 * apart.item() / temperature, rel=1e-5)


def test_a_new_policy_masks_uniformly_and_a_strong_one_what_it_likes(ground: Ground):
    policy = LinearSettings().build(ground)
    policy.reset_parameters()
    blocks = ground.corpus.blocks(np.array([0]))
    logits = policy.logits(policy.observe(blocks, ground.encode), blocks.is_token, blocks.is_maskable)
    probability = log_probabilities(logits, blocks.is_maskable).exp()
    torch.testing.assert_close(probability[0, 1:6], torch.full((5,), 0.2))
    with torch.no_grad():
        policy.weights[FEATURES.index("digit")] = 50.0
    plan = PolicyMasking(policy, greedy=False).plan(blocks, 0.2, stream(0, "draw"), ground.encode)
    assert plan.positions.tolist() == [[4]]


def test_it_is_saved_and_loaded(ground: Ground, tmp_path: Path):
    policy = LinearSettings(temperature=0.5).build(ground)
    with torch.no_grad():
        policy.weights.copy_(torch.arange(len(FEATURES)))
    policy.save_pretrained(tmp_path / "policy")
    loaded: Any = load_policy(tmp_path / "policy")
    assert isinstance(loaded, LinearPolicy)
    assert (loaded.config.temperature, loaded.config.base_model, loaded.config.masking_rate) == (0.5, "tiny", 0.3)
    blocks = ground.corpus.blocks(np.arange(3))
    assert torch.equal(loaded.observe(blocks, ground.encode), policy.observe(blocks, ground.encode))
    loaded.check_fits(hidden_size=99, vocabulary_size=len(ground.tokenizer))
    with pytest.raises(UserError, match="made for a vocabulary of 15 tokens, but that of the language model has 16"):
        loaded.check_fits(hidden_size=8, vocabulary_size=16)
