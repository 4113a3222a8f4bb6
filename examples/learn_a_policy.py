"""Learn which tokens to mask from the scores of the resulting models, then look at what was learned.

    python examples/learn_a_policy.py --model.name bert-base-uncased --data.train train.jsonl --meta.episodes 20

The folder `run` has the policy, a log, checkpoints and a page, `run/report.html`. To continue an interrupted run, call
`nmg.meta_train` with `resume=True`.
"""

import sys
from pathlib import Path

import numpy as np

import nmg
from nmg.meta_training.loop import EpisodeRecord
from nmg.policies.sampling import policy_output


def show(record: EpisodeRecord, episodes: int) -> None:
    scores = "  ".join(f"{player} {score[record.metric]:.4f}" for player, score in record.scores.items())
    print(f"episode {record.episode + 1}/{episodes}: {record.metric}  {scores}")


config = nmg.load_config(None, sys.argv[1:])
training = nmg.meta_train(config, Path("run"), on_episode=show)

blocks = training.corpus.blocks(np.array([0]))
seen = policy_output(training.learner.policy, blocks, training.context.reader, config.masking.rate)
tokens = training.lm.tokenizer.convert_ids_to_tokens(blocks.input_ids[0].tolist())
for token, probability in zip(tokens, seen.probability[0].tolist(), strict=True):
    print(f"{probability:.3f}  {token}")
