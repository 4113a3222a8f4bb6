"""Learn which tokens to mask from the scores of the models that the masks give, then look at what was learned.

    python examples/learn_a_policy.py --model.name bert-base-uncased --data.train train.jsonl --meta.episodes 20

`nmg meta-train` does the same with a log, checkpoints and resume.
"""

import sys
from pathlib import Path

import numpy as np

import nmg
from nmg.base.progress import Silent
from nmg.policies.sampling import policy_output

config = nmg.load_config(None, sys.argv[1:])
training = nmg.MetaTraining(nmg.Session.prepare(config, Silent()))

with training.engine:  # processes that it starts end with the block
    while not training.is_finished:
        for record in training.round():  # one episode, or several where threads would be idle
            scores = "  ".join(f"{player} {score[record.metric]:.4f}" for player, score in record.scores.items())
            print(f"episode {record.episode}: {record.metric}  {scores}")

training.learner.policy.save_pretrained(Path("policy"))

blocks = training.corpus.blocks(np.array([0]))
seen = policy_output(training.learner.policy, blocks, training.context.reader, config.masking.rate)
tokens = training.lm.tokenizer.convert_ids_to_tokens(blocks.input_ids[0].tolist())
for token, probability in zip(tokens, seen.probability[0].tolist(), strict=True):
    print(f"{probability:.3f}  {token}")
