"""A world without a model: text with a planted class of words, and a score that is their share among the masks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nmg.base.seeding import StreamName
from nmg.base.trial_recipe import TrialRecipe
from nmg.base.types import Episode, MaskPlan, TokenBlocks
from nmg.data.corpus import Corpus
from nmg.learners.base import LearnerContext
from nmg.learners.experiment.learner import Experiment
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.policies.base import PolicyContext
from nmg.policies.linear import LinearPolicy, LinearSettings
from nmg.policies.registry import build_policy
from nmg.policies.sampling import PolicyMasking
from support.tiny import word_tokenizer
from support.trials import scored

FEATURES = ("idf", "digit", "punctuation", "function_word", "concentration", "repeated")
CLASS = [f"n{i}0" for i in range(12)]
"""the planted class: words with a digit"""
OTHERS = [*(f"w{letter}" for letter in "abcdefghijklmnopqrst"), "the", "of", "and", ".", ","]
RATE = 0.2
CONFIGURED = TrialRecipe(learning_rate=1e-4, steps_factor=1.0, rate=RATE, unit="token")
Score = Callable[[str, float | None, np.random.Generator], float]
"""player, share of the class among its masks (None without adaptation), randomness → score"""


def by_class(_player: str, share: float | None, rng: np.random.Generator) -> float:
    """Masking nothing but the class gains three quarters over random masks and one over no adaptation; noise is 0.2."""
    return (share or 0.0) + 0.2 * float(rng.standard_normal())


def by_chance(_player: str, _share: float | None, rng: np.random.Generator) -> float:
    return float(rng.standard_normal())


@dataclass(frozen=True)
class World:
    policy: LinearPolicy
    blocks: TokenBlocks
    is_class: torch.Tensor
    """bool [V]"""

    def share(self, plan: MaskPlan | None) -> float | None:
        """Of the class among the masks of a plan; None without adaptation."""
        if plan is None:
            return None
        masked = self.blocks.input_ids[plan.is_masked(self.blocks.input_ids.shape[1])]
        return float(self.is_class[masked].float().mean())

    def share_of(self, policy: Any) -> float:
        """Of the class among the masks that a policy draws."""
        masking = PolicyMasking(policy, greedy=False)
        plans = [masking.plan(self.blocks, RATE, np.random.default_rng(seed), reader) for seed in range(5)]
        return float(np.mean([share for plan in plans if (share := self.share(plan)) is not None]))

    def new(self, seed: int = 0, **settings: Any) -> Experiment:
        def new_policy() -> LinearPolicy:
            policy = LinearPolicy(self.policy.config)
            policy.load_state_dict(self.policy.state_dict())
            return policy

        ground = LearnerContext(
            new_policy=new_policy,
            rate=RATE,
            score=lambda outcome: outcome.score("gain"),
            randomness=StreamName(seed),
            device=torch.device("cpu"),
            recipe=CONFIGURED,
        )
        return Experiment(ExperimentSettings(**settings), ground)

    def play(
        self,
        learner: Experiment,
        score: Score = by_class,
        episodes: Iterable[int] = range(1000),
        by_recipe: Callable[[TrialRecipe], float] = lambda _recipe: 0.0,
    ) -> list[dict[str, Any]]:
        """Until it is finished; the records of the episodes. A player's recipe adds to its score if it adapts."""
        records = []
        for index in episodes:
            if learner.is_finished:
                break
            plans = learner.propose(episode(index), self.blocks, reader)
            rng = (learner.ground.randomness / "score" / index).generator()
            gains = {name: score(name, self.share(plan), rng) for name, plan in plans.items()}
            recipes = learner.recipes(episode(index))
            gains |= {
                name: gains[name] + by_recipe(recipes.get(name, CONFIGURED))
                for name in plans
                if plans[name] is not None
            }
            outcomes = {name: scored({"gain": gain}) for name, gain in gains.items()}
            records.append(learner.learn(episode(index), outcomes))
        return records


def reader(_blocks: TokenBlocks) -> Any:
    raise AssertionError("no feature here reads the LM")


reader.surprise = reader  # type: ignore[attr-defined]


def episode(index: int) -> Episode:
    return Episode(index, np.arange(20), np.arange(0))


def new_world(folder: Path) -> World:
    tokenizer = word_tokenizer([*CLASS, *OTHERS])
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(24):
        words = [*rng.choice(CLASS, 8), *rng.choice(OTHERS, 24)]
        texts.append(" ".join(rng.permutation(words)))
    corpus = Corpus.build(texts, tokenizer, 40, folder)
    ground = PolicyContext(
        base_model="tiny",
        hidden_size=8,
        n_heads=2,
        rate=RATE,
        tokenizer=tokenizer,
        corpus=corpus,
        encode=reader,
        embeddings=torch.zeros(len(tokenizer), 8),
    )
    policy = build_policy(LinearSettings(features=FEATURES), ground)
    is_class = torch.zeros(len(tokenizer), dtype=torch.bool)
    is_class[tokenizer.convert_tokens_to_ids(CLASS)] = True
    return World(policy, corpus.blocks(np.arange(24)), is_class)
