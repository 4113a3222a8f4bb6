"""Records in RUN/samples.jsonl the probability that the policy masks each token of a few fixed texts.

The first line has the texts. Every other line is a snapshot of the probabilities in all texts:

{"texts": [{"block": 3, "tokens": ["[CLS]", "Aspirin", …], "starts_word": [true, …], "is_maskable": [false, …]}, …]}
{"episodes": 8, "probabilities": [[0.0, 0.031, …], …], "taken": [[1, 7], …]}

A snapshot shows policy and LM after `episodes` episodes. `probabilities` has, for each token of each text, the
probability that a single draw selects it. `taken` has the positions that the policy masks at the run's rate without
exploration (top k).
"""

from pathlib import Path
from typing import Any

import numpy as np

from nmg.base.files import as_json, write_text
from nmg.base.json_lines import read_lines
from nmg.base.types import IntArray
from nmg.meta_training.loop import MetaTraining
from nmg.policies.sampling import policy_output
from nmg.training.lm import restore_state

N_TEXTS = 3
"""Number of sample texts."""
MAX_SNAPSHOTS = 40
"""Maximum number of snapshots, in addition to the newest one."""


def log_samples(training: MetaTraining, path: Path) -> None:
    """Add a snapshot of the current state; remove snapshots of later episodes and those that are no longer held."""
    now, block_ids = training.next_episode, sample_blocks(training)
    snapshots = [line for line in read_lines(path).records if isinstance(line.get("episodes"), int)]
    held = [line for line in snapshots if line["episodes"] != now and is_held(line["episodes"], now)]
    texts = {"texts": [describe_block(training, block) for block in block_ids.tolist()]}
    written = [texts, *held, snapshot(training, block_ids)]
    write_text(path, "".join(as_json(line) + "\n" for line in written))


def is_held(episodes: int, now: int) -> bool:
    """Return whether the snapshot after `episodes` episodes is still held after `now` episodes.

    The newest snapshot and every s-th one are held, at most `MAX_SNAPSHOTS` + 1; s doubles as the run gets longer. The
    choice depends only on `now`, so a resumed or extended run ends with the same snapshots as an uninterrupted one.
    """
    stride = 1
    while now > MAX_SNAPSHOTS * stride:
        stride *= 2
    return episodes == now or (episodes < now and episodes % stride == 0)


def sample_blocks(training: MetaTraining) -> IntArray:
    """Return the indices of the blocks in every snapshot of the run, drawn from its corpus; int64, ascending."""
    n_blocks = len(training.corpus)
    drawn = (training.randomness / "samples").generator().choice(n_blocks, min(N_TEXTS, n_blocks), replace=False)
    drawn.sort()
    return drawn


def describe_block(training: MetaTraining, block: int) -> dict[str, Any]:
    """Return the first line's entry for a block: its tokens as written in the text.

    `starts_word` is False for a token that follows another one without a space.
    """
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
    """Return a snapshot: the current mask probabilities and masked positions of the blocks `block_ids`.

    Draws no random numbers. Overwrites only the weights of the working model, which every user of the model resets.
    """
    blocks, context = training.corpus.blocks(block_ids), training.context
    restore_state(context.model, training.lm_state)
    seen = policy_output(training.learner.policy, blocks, context.reader, training.config.masking.rate)
    rows, plan = seen.probability.tolist(), seen.taken
    lengths = blocks.is_token.sum(dim=1).tolist()
    return {
        "episodes": training.next_episode,
        "probabilities": [[float(f"{p:.3g}") for p in row[:length]] for row, length in zip(rows, lengths, strict=True)],
        "taken": [row[is_chosen].tolist() for row, is_chosen in zip(plan.positions, plan.is_chosen, strict=True)],
    }
