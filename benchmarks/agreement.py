"""A smaller paired evaluation: how often it ranks the players as all validation examples do, and what it costs."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.episode import open_training
from benchmarks.ranking import agreement, examples_needed
from nmg.base.types import FloatArray
from nmg.masking.registry import build_masking
from nmg.meta_training.loop import MetaTraining
from nmg.trials.episode import PlayerJob

SAMPLES = (50, 100, 200, 400)
VALIDATION = 1000


def run(quick: bool, cache: Path) -> dict[str, Any]:
    """Players are the rules random, whole-word and idf, in episodes of the size of `episode`; the score is the loss."""
    training = open_training(cache / "agreement", cache, n_validation=VALIDATION)
    with training.engine:
        differences = [pair for index in range(1 if quick else 8) for pair in _differences(training, index)]
    rng, result = np.random.default_rng(0), dict[str, Any]()
    for n in SAMPLES:
        observed = [_observed(values, n, rng) for values in differences]
        result[f"agreement_observed_{n}_of_{VALIDATION}"] = float(np.mean(observed))
        result[f"agreement_stated_{n}_of_{VALIDATION}"] = float(np.mean([agreement(v, n) for v in differences]))
    for confidence in (0.8, 0.95):
        needed = [examples_needed(values, confidence) for values in differences]
        result[f"agreement_examples_for_{confidence:.0%}"] = float(np.median(needed))
    return result


def _differences(training: MetaTraining, index: int) -> list[FloatArray]:
    """Of each pair of players of one episode: loss of each validation example, one minus the other."""
    config = training.config
    episode = training.sample(index)
    blocks = training.corpus.blocks(episode.block_ids)
    turns = []
    for name in ("random", "whole-word", "idf"):
        masking = build_masking(name, training.lm.tokenizer, training.corpus, config.masking)
        plan = masking.plan(blocks, config.masking.rate, np.random.default_rng(index))
        turns.append(PlayerJob(replace(training.trial, masking=name), episode, blocks, plan, keep=False))
    results = dict(training.engine.map_unordered(training.pretrained, turns))
    losses = [results[turn][0].example_scores["loss"] for turn in range(len(turns))]
    return [second - first for first, second in combinations(losses, 2)]


def _observed(values: FloatArray, n: int, rng: np.random.Generator, draws: int = 500) -> float:
    means = np.array([rng.choice(values, n, replace=False).mean() for _ in range(draws)])
    return float((np.sign(means) == np.sign(values.mean())).mean())
