"""Learn which tokens to mask from the scores of the resulting models, then look at what was learned.

    python examples/learn_a_policy.py train.jsonl --model bert-base-uncased

The folder `run` has the policy, a log, checkpoints and a page, `run/report.html`. To continue an interrupted run, call
`nmg.learn` with `resume=True`.
"""

import argparse

import nmg

parser = argparse.ArgumentParser(description="Learn which tokens to mask, then show what the policy masks.")
parser.add_argument("train", help="labelled texts")
parser.add_argument("--model", default="bert-base-uncased", help="hub name or folder (default: %(default)s)")
parser.add_argument("--config", help="configuration file with more settings")
args = parser.parse_args()

config = nmg.load_config(args.config, {"data.train": args.train, "model.name": args.model})
run = nmg.learn(config, "run")
print(run.summary())

seen = nmg.inspect(args.train, "masks.html", policies=run, config=run, maskings="random")
print(seen.summary())
