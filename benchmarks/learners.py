"""Does a learner find what scores? Real text and real states of an encoder, simulated scores.

    python -m benchmarks.learners [--seeds 100-109] [--learners experiment,evolution] [--contexts 60] [--plays 400]
        [--effects "0.85;none"] [--model minilm|small] [--out FILE]

A play's score is effect × (share of a planted class among its masks − chance) / (1 − chance) + noise, where the
difference of two plays has noise of standard deviation 1. So an effect of 0.85 says: masking nothing but the class
gains 0.85 standard deviations of the noise of a pair over random masks. The class holds 35 % of the tokens: the rarest
word pieces ("0.85"), or those on one side of a random plane in the space of the features ("random class, 0.85").
*Found*: masks that the policy draws hold the class at least twice as often as chance. Written to
benchmarks/out/learners.json: learner → effect → plays → {found, seeds, and of each seed the share of the class among
the masks and how far the policy has moved from random masks}.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.models import minilm_folder
from nmg.base.files import write_text
from nmg.base.seeding import StreamName
from nmg.base.settings import ModelSettings
from nmg.base.trial import TrialResult, TrialSpec
from nmg.base.types import Episode, FloatArray, TokenBlocks
from nmg.data.corpus import Corpus
from nmg.demo.data import demo_model_folder, load_articles
from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.learners.base import LearnerContext
from nmg.learners.evolution import EvolutionSettings
from nmg.learners.experiment.learner import Experiment
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.learners.random_search import RandomSearchSettings
from nmg.learners.registry import build_learner
from nmg.policies.attention import AttentionSettings
from nmg.policies.base import Policy, PolicyContext
from nmg.policies.features import Vocabulary, piece_table
from nmg.policies.linear import LinearPolicy, LinearSettings
from nmg.policies.registry import build_policy
from nmg.policies.sampling import PolicyMasking, policy_output
from nmg.training.lm import encoder_states, load_pretrained

CLASS_SHARE, RATE, NEWS = 0.35, 0.15, 1500
FEATURES = (
    *("idf", "frequency_squared", "domain", "repeated", "continuation", "punctuation", "digit", "function_word"),
    *("embedding_1", "embedding_2", "embedding_3"),
)
EFFECTS = {"all": 1.0, "0.85": 0.85, "0.4": 0.4, "none": 0.0}
CASES = (
    *(("rare", "", label) for label in EFFECTS),
    *(("random", "random class, ", label) for label in ("0.85", "0.4")),
)
"""planted class, what its name starts with in the results, effect"""
CHECKED = (60, 100, 200, 400, 1000)
WHOLE_RUN = "experiment, whole run"
"""with its three stages and its gate; the others only explore, as long as they are let"""
OUT = Path("benchmarks/out/learners.json")
MODELS: Mapping[str, Callable[[], Path]] = {"minilm": minilm_folder, "small": demo_model_folder}
"""MiniLM, and a BERT of 2 × 128, whose states make policies over them nine times as fast"""


@dataclass(frozen=True)
class World:
    """Text, its states, and a planted class."""

    corpus: Corpus
    states: Tensor
    """float16 [blocks, T, H]"""
    policy_ground: PolicyContext
    linear: LinearPolicy
    """a policy over the features, its table counted once"""
    counts: FloatArray

    def __call__(self, blocks: TokenBlocks) -> Tensor:
        return self.states[blocks.block_ids, : blocks.input_ids.shape[1]].float()

    def surprise(self, blocks: TokenBlocks) -> Tensor:
        raise NotImplementedError("no feature here reads the LM")

    @cached_property
    def standard_table(self) -> FloatArray:
        """float64 [V, columns]: features of word pieces with mean 0 and deviation 1 over the tokens of the text."""
        vocabulary = Vocabulary(self.policy_ground)
        names = [name for name in FEATURES if name not in {"repeated", "continuation"}]
        table = piece_table(names, vocabulary)
        table = (table - vocabulary.weights @ table) / np.sqrt(
            vocabulary.weights @ (table - vocabulary.weights @ table) ** 2
        )
        return table

    def plant(self, kind: str, seed: int) -> Tensor:
        """bool [V]: the word pieces of the class."""
        if kind == "rare":
            order = np.argsort(self.counts, kind="stable")
        else:
            table = self.standard_table
            plane = (StreamName(seed) / "plane").generator().standard_normal(table.shape[1])
            order = np.argsort(-(table @ plane), kind="stable")
        reached = np.cumsum(self.counts[order]) / self.counts.sum()
        is_class = np.zeros(len(order), dtype=np.bool_)
        is_class[order[reached <= CLASS_SHARE]] = True
        return torch.from_numpy(is_class)


def make_world(cache: Path, model: str = "minilm", *, with_states: bool = True) -> World:
    """Without states, only policies that do not read the LM work."""
    lm = load_pretrained(ModelSettings(name=str(MODELS[model]())))
    texts = [text for article in load_articles() for text in article.paragraphs if 25 <= len(text.split()) <= 60]
    corpus = Corpus.build(texts[:NEWS], lm.tokenizer, 126, cache)
    n_tokens = int(corpus.lengths.max())
    states = torch.zeros(len(corpus) if with_states else 0, n_tokens, lm.hidden_size, dtype=torch.float16)
    for first in range(0, len(states), 64):
        rows = np.arange(first, min(first + 64, len(corpus)))
        part = encoder_states(lm.model, corpus.blocks(rows))
        states[rows, : part.shape[1]] = part.half()
    ground = PolicyContext(
        base_model=model,
        hidden_size=lm.hidden_size,
        n_heads=lm.model.config.num_attention_heads,
        rate=RATE,
        tokenizer=lm.tokenizer,
        corpus=corpus,
        encode=None,  # type: ignore[arg-type]
        embeddings=lm.model.get_input_embeddings().weight.detach(),
    )
    linear = LinearPolicy.from_settings(LinearSettings(features=FEATURES), ground)
    return World(corpus, states, ground, linear, Vocabulary(ground).counts)


def new_learner(kind: str, world: World, seed: int) -> Any:
    def linear() -> Policy:
        return copy.deepcopy(world.linear)

    def attention() -> Policy:
        return build_policy(AttentionSettings(), world.policy_ground)

    made: Mapping[str, tuple[Any, Callable[[], Policy]]] = {
        "experiment": (ExperimentSettings(budget=4 * max(CHECKED), early_stop_alpha=0.0), linear),
        WHOLE_RUN: (ExperimentSettings(), linear),
        "random-search": (RandomSearchSettings(candidates=8), linear),
        "evolution": (EvolutionSettings(), linear),
        "actor-critic": (ActorCriticSettings(learning_starts=500), attention),
    }
    settings, new_policy = made[kind]
    return build_learner(
        settings,
        LearnerContext(
            new_policy=new_policy,
            rate=RATE,
            score=lambda outcome: outcome.score("score"),
            randomness=StreamName(seed),
            device=torch.device("cpu"),
        ),
    )


def looked_at(world: World) -> TokenBlocks:
    """200 blocks of all the text."""
    return world.corpus.blocks(np.arange(0, len(world.corpus), max(len(world.corpus) // 200, 1)))


def share(world: World, policy: Policy, is_class: Tensor, *, greedy: bool) -> float:
    """Of the class among the masks that a policy draws."""
    blocks = looked_at(world)
    plan = PolicyMasking(policy, greedy=greedy).plan(blocks, RATE, (StreamName(0) / "look").generator(), world)
    return float(is_class[blocks.input_ids[plan.is_masked(blocks.input_ids.shape[1])]].float().mean())


def displacement(world: World, policy: Policy) -> float:
    """Total variation distance of the policy from the uniform one, mean over blocks: 0 (random) to almost 1."""
    blocks = looked_at(world)
    uniform = blocks.is_maskable.double() / blocks.is_maskable.sum(1, keepdim=True)
    return float((policy_output(policy, blocks, world, RATE).probability - uniform).abs().sum(1).mean() / 2)


@dataclass(frozen=True)
class Game:
    """What the seeds of a learner share."""

    kind: str
    world: World
    contexts: int
    """of an episode"""
    most: int
    """plays"""


def simulate(game: Game, is_class: Tensor, label: str, seed: int, learner: Any = None) -> Iterator[tuple[int, Any]]:
    """(plays so far, learner) after every episode, under one of `EFFECTS`; scores of "all" have no noise.

    Without a `learner`, a new one of the game's kind plays.
    """
    effect, noise = EFFECTS[label], 0.0 if label == "all" else 1.0
    world = game.world
    learner, plays, index = learner or new_learner(game.kind, world, seed), 0, 0
    while plays < game.most and not learner.is_finished:
        stream = StreamName(seed) / "simulation" / index
        ids = np.sort((stream / "contexts").generator().choice(len(world.corpus), game.contexts, replace=False))
        blocks = world.corpus.blocks(ids)
        episode = Episode(index, ids, np.arange(0))
        plans = learner.propose(episode, blocks, world)
        n_tokens, rng = blocks.input_ids.shape[1], (stream / "noise").generator()
        outcomes = {}
        for name, plan in plans.items():
            if plan is None:  # no adaptation scores as random masks do
                among = CLASS_SHARE
            else:
                among = float(is_class[blocks.input_ids[plan.is_masked(n_tokens)]].float().mean())
            gain = effect * (among - CLASS_SHARE) / (1 - CLASS_SHARE)
            outcomes[name] = TrialResult(TrialSpec("", 0), {"score": gain + noise * rng.standard_normal() / np.sqrt(2)})
        learner.learn(episode, outcomes)
        plays, index = plays + len(plans), index + 1
        yield plays, learner


def found_policy(kind: str, learner: Any) -> tuple[Policy, bool]:
    """What the learner would mask by now, and whether by top k."""
    return (
        (learner.best_guess(), False) if isinstance(learner, Experiment) else (learner.policy, kind == "actor-critic")
    )


def run(game: Game, plant: str, label: str, seeds: Sequence[int]) -> dict[str, Any]:
    """plays → how many seeds have found the class; and the F tests at the end, where there are some."""
    world, checked = game.world, [n for n in CHECKED if n <= game.most]
    found: dict[str, Any] = {str(n): {"found": 0, "seeds": len(seeds), "share": [], "moved": []} for n in checked}
    rejected = []
    for seed in seeds:
        is_class = world.plant(plant, seed)
        waiting = list(checked)
        for plays, learner in simulate(game, is_class, label, seed):
            while waiting and plays >= waiting[0]:
                policy, greedy = found_policy(game.kind, learner)
                among = share(world, policy, is_class, greedy=greedy)
                entry = found[str(waiting.pop(0))]
                entry["share"].append(round(among, 3))
                entry["moved"].append(round(displacement(world, policy), 3))
                entry["found"] += among >= 2 * CLASS_SHARE
        if isinstance(learner, Experiment):
            rejected.append((learner.effects().f_p or 1.0) < 0.05)
    if rejected:
        found["f_test_rejects"] = {"rejected": sum(rejected), "seeds": len(seeds)}
    return found


def whole_runs(game: Game, plant: str, label: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Of whole runs: what the gate handed out, and in how many seeds that has found the class."""
    policies = found = plays = 0
    for seed in seeds:
        is_class = game.world.plant(plant, seed)
        *_, (plays, learner) = simulate(game, is_class, label, seed)
        policies += learner.state.selected == "policy"
        found += share(game.world, learner.policy, is_class, greedy=False) >= 2 * CLASS_SHARE
    return {"plays": plays, "policy": policies, "other": len(seeds) - policies, "found": found, "seeds": len(seeds)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Does a learner find what scores?")
    parser.add_argument("--seeds", default="0-9")
    parser.add_argument("--learners", default="experiment,random-search,actor-critic")
    parser.add_argument("--contexts", type=int, default=60)
    parser.add_argument("--plays", type=int, default=400)
    parser.add_argument("--effects", help="some of them, as the results name them, with semicolons between")
    parser.add_argument("--model", choices=list(MODELS), default="minilm")
    parser.add_argument("--out", type=Path, default=OUT)
    words = parser.parse_args()
    first, _, last = words.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    asked = words.effects.split(";") if words.effects else [prefix + label for _, prefix, label in CASES]
    results: dict[str, dict[str, Any]] = json.loads(words.out.read_text()) if words.out.is_file() else {}
    with tempfile.TemporaryDirectory() as cache:
        world = make_world(Path(cache), words.model)
        for kind in words.learners.split(","):
            game = Game(kind, world, words.contexts, words.plays)
            for plant, prefix, label in [case for case in CASES if case[1] + case[2] in asked]:
                result = run(game, plant, label, seeds)
                said = {n: f"{r.get('found', r.get('rejected'))}/{r['seeds']}" for n, r in result.items()}
                print(kind, prefix + label, said, flush=True)
                if kind == "experiment":
                    result["whole_run"] = whole_runs(replace(game, kind=WHOLE_RUN), plant, label, seeds)
                    print(WHOLE_RUN, prefix + label, result["whole_run"], flush=True)
                results.setdefault(kind, {})[prefix + label] = result
                write_text(words.out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
