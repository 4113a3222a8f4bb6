"""Sample masks: how likely the policy is to mask each token of a few fixed texts, while it learns. RUN/samples.jsonl

The first line holds the texts, every other one a snapshot of all of them:

{"texts": [{"block": 3, "tokens": ["[CLS]", "Aspirin", …], "starts_word": [true, …], "is_maskable": [false, …]}, …]}
{"episodes": 8, "probabilities": [[0.0, 0.031, …], …], "taken": [[1, 7], …]}

A snapshot shows policy and LM as they are after so many episodes: the probability that a single draw takes each token,
and the positions that the policy takes at the run's rate when it does not explore (top k).
"""

from pathlib import Path
from typing import Any

import numpy as np

from nmg.files import as_json, write_text
from nmg.inner.lm import restore_state
from nmg.meta_train import MetaTraining
from nmg.policies.masking import read_out
from nmg.runs.log import read_lines
from nmg.types import IntArray

N_TEXTS = 3
MAX_SNAPSHOTS = 40


def log_samples(training: MetaTraining, path: Path) -> None:
    """Add a snapshot of `training` as it is now; drop those no longer held, and those of episodes still to come."""
    now, block_ids = training.next_episode, sample_blocks(training)
    snapshots = [line for line in read_lines(path).records if isinstance(line.get("episodes"), int)]
    held = [line for line in snapshots if line["episodes"] != now and is_held(line["episodes"], now)]
    texts = {"texts": [describe_block(training, block) for block in block_ids.tolist()]}
    written = [texts, *held, snapshot(training, block_ids)]
    write_text(path, "".join(as_json(line) + "\n" for line in written))


def is_held(episodes: int, now: int) -> bool:
    """Whether the snapshot after `episodes` is still held after `now` episodes: at most `MAX_SNAPSHOTS` + 1 are.

    These are the newest and every s-th, where s doubles as a run gets longer. As they follow from `now` alone, a
    resumed run ends with those of an uninterrupted one, also where it was made longer.
    """
    stride = 1
    while now > MAX_SNAPSHOTS * stride:
        stride *= 2
    return episodes == now or (episodes < now and episodes % stride == 0)


def sample_blocks(training: MetaTraining) -> IntArray:
    """The blocks that every snapshot of the run shows, drawn from its corpus; int64, ascending."""
    n_blocks = len(training.corpus)
    drawn = (training.randomness / "samples").generator().choice(n_blocks, min(N_TEXTS, n_blocks), replace=False)
    drawn.sort()
    return drawn


def describe_block(training: MetaTraining, block: int) -> dict[str, Any]:
    """Tokens as they stand in the text; `starts_word` is false where one follows another without a space."""
    corpus = training.corpus
    blocks = corpus.blocks(np.array([block]))
    text, offsets = corpus.text(block), corpus.offsets(block).tolist()
    names = training.lm.tokenizer.convert_ids_to_tokens(blocks.input_ids[0].tolist())
    is_maskable = blocks.is_maskable[0].tolist()
    tokens, starts_word, last = [], [], -1
    for name, maskable, (start, end) in zip(names, is_maskable, offsets, strict=True):
        tokens.append(text[start:end] if maskable else name)
        starts_word.append(not maskable or start > last)
        last = end if maskable else -1
    return {"block": block, "tokens": tokens, "starts_word": starts_word, "is_maskable": is_maskable}


def snapshot(training: MetaTraining, block_ids: IntArray) -> dict[str, Any]:
    """What the policy does with these blocks now.

    Draws nothing, and overwrites nothing but the weights of the working copy, which every use of it sets anew.
    """
    blocks, arena = training.corpus.blocks(block_ids), training.arena
    restore_state(arena.model, training.lm_state)
    seen = read_out(training.learner.policy, blocks, arena.reader, training.config.masking.rate)
    rows, plan = seen.probability.tolist(), seen.taken
    lengths = blocks.is_token.sum(dim=1).tolist()
    return {
        "episodes": training.next_episode,
        "probabilities": [[float(f"{p:.3g}") for p in row[:length]] for row, length in zip(rows, lengths, strict=True)],
        "taken": [row[is_chosen].tolist() for row, is_chosen in zip(plan.positions, plan.is_chosen, strict=True)],
    }
