"""Train a masked language model further on your text, with a masking rule.

    python examples/adapt_with_a_rule.py domain.txt --model bert-base-uncased

The folder `adapted` then loads in transformers: pipeline("fill-mask", "adapted").
"""

import argparse

import nmg

parser = argparse.ArgumentParser(description="Adapt a masked language model to a text with a masking rule.")
parser.add_argument("corpus", help="texts: one per line")
parser.add_argument("--model", default="bert-base-uncased", help="hub name or folder (default: %(default)s)")
parser.add_argument("--masking", default="idf", help="any name that `nmg maskings` lists (default: %(default)s)")
parser.add_argument("--config", help="configuration file with more settings")
args = parser.parse_args()

config = nmg.load_config(args.config, {"data.corpus": args.corpus, "model.name": args.model})
adapted = nmg.adapt(config, masking=args.masking, out="adapted")
print(adapted.summary())
