"""What meta-trainings log, made up: lines of metrics.jsonl and samples.jsonl, and folders that hold them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nmg.config import Config
from nmg.meta_training.log import RunLog

LAPS = {
    "masks": 3.0,
    "inner loops": 60.0,
    "update": 7.0,
    "adapt": 20.0,
    "finetune": 30.0,
    "evaluate": 4.0,
}
UPDATE = {
    **{"policy_loss": 0.1, "value_loss": 0.9, "entropy": 4.0, "entropy_per_row": 0.06, "advantage": 0.8, "reward": 0.1},
    **{"ratio_mean": 1.0, "ratio_max": 2.5, "grad_norm": 0.5, "age": 0.7},
}


def episode(index: int, learner: float = 0.5, random: float = 0.4, rival: float | None = None, **changes: Any) -> Any:
    """A line of metrics.jsonl; players are compared by accuracy."""
    players = {"learner": learner, "random": random} | ({} if rival is None else {"opponent": rival})
    against_random = float(np.sign(learner - random))
    against_rival = against_random if rival is None else float(np.sign(learner - rival))
    return {
        "episode": index + 1,
        "metric": "accuracy",
        "scores": {name: {"accuracy": score, "loss": 1 - score} for name, score in players.items()},
        "lm_loss": dict.fromkeys(players, 2.0),
        "reward_opponent": against_rival,
        "reward_random": against_random,
        "mean_reward": min(against_random, against_rival),
        "stored_share": 0.9,
        "credit": {"alone": {"actions": 9, "reward": against_random}, "with_both": {"actions": 1, "reward": 0.0}},
        "is_tie": against_random == against_rival == 0,
        "transitions": 40 * (index + 1),
        "states": 8 * (index + 1),
        "replay_age": index / 2,
        "learner_update": UPDATE,
        "seconds": LAPS,
    } | changes


def search_episode(index: int, *scores: float, **changes: Any) -> Any:
    """A line of metrics.jsonl of a random search: a score for each candidate, neither rewards nor updates."""
    players = {f"candidate-{number}": score for number, score in enumerate(scores)}
    return {
        "episode": index + 1,
        "metric": "accuracy",
        "scores": {name: {"accuracy": score, "loss": 1 - score} for name, score in players.items()},
        "lm_loss": dict.fromkeys(players, 2.0),
        "is_tie": len(set(scores)) == 1,
        "best": max(players, key=lambda name: players[name]),
        "step": 0.5,
        "seconds": LAPS,
    } | changes


def snapshot(episodes: int, *rows: Sequence[float], taken: Sequence[Sequence[int]] = ((1,),)) -> dict[str, Any]:
    return {"episodes": episodes, "probabilities": rows, "taken": taken}


TEXTS = [
    {
        "block": 4,
        "tokens": ["[CLS]", "Aspirin", "inhibits", "COX", "-", "1", "[SEP]"],
        "starts_word": [True, True, True, True, False, False, True],
        "is_maskable": [False, True, True, True, True, True, False],
    }
]
PROBABILITIES = (0.0, 0.4, 0.3, 0.2, 0.06, 0.04, 0.0)


def log_of(*episodes: Any, planned: int = 100, **others: Any) -> RunLog:
    facts = progress(episodes, planned) | others.pop("facts", {})
    return RunLog("my-run", others.pop("config", config_of(planned)), facts, episodes, **others)


def progress(episodes: Sequence[Any], planned: int) -> dict[str, Any]:
    """What run.json says of a run that has logged `episodes`."""
    return {"planned_episodes": planned, "is_finished": len(episodes) >= planned}


def config_of(planned: int, learner: str = "actor-critic") -> Config:
    meta = {"episodes": planned, "continual": learner == "actor-critic"}
    return Config.model_validate({"meta": meta, "data": {"train": "data/train.jsonl"}, "learner": {"kind": learner}})


def write_run(run: Path, *episodes: Any, planned: int = 100, snapshots: Sequence[Any] = ()) -> Path:
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(f"meta: {{episodes: {planned}}}\n")
    write_facts(run, episodes, planned)
    write_lines(run / "metrics.jsonl", *episodes)
    if snapshots:
        write_lines(run / "samples.jsonl", {"texts": TEXTS}, *snapshots)
    return run


def write_facts(run: Path, episodes: Sequence[Any], planned: int) -> None:
    facts = {"device": "cpu", "precision": "fp32", "seed": 0} | progress(episodes, planned)
    (run / "run.json").write_text(json.dumps(facts) + "\n")


def write_lines(path: Path, *lines: Any) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
