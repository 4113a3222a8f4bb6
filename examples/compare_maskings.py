"""Compare maskings fairly: every masking with every seed, the same budget and the same randomness, a test of each pair.

    python examples/compare_maskings.py train.jsonl test.jsonl --model bert-base-uncased

Trials are kept in `comparison/trials.jsonl`: after an interruption, run it again. `comparison/index.html` is the page.
"""

import argparse

import nmg

parser = argparse.ArgumentParser(description="Compare maskings by the scores of the resulting models.")
parser.add_argument("train", help="labelled texts for training")
parser.add_argument("test", help="labelled texts for scoring")
parser.add_argument("--model", default="bert-base-uncased", help="hub name or folder (default: %(default)s)")
parser.add_argument("--maskings", default="none,random,whole-word", help="names, separated by commas")
parser.add_argument("--policy", help="folder of a learned policy to compare as well")
parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: %(default)s)")
parser.add_argument("--config", help="configuration file with more settings")
args = parser.parse_args()

files = {"data.train": args.train, "data.test": args.test, "model.name": args.model}
config = nmg.load_config(args.config, files)
results = nmg.compare(config, args.maskings, "comparison", policies=args.policy, seeds=args.seeds)
print(results.summary())
