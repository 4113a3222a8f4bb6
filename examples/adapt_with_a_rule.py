"""Train a masked language model further on your text, with a masking rule.

    python examples/adapt_with_a_rule.py --model.name bert-base-uncased --data.corpus domain.txt --adapt.epochs 1

The folder `adapted` then loads in transformers: pipeline("fill-mask", "adapted").
"""

import sys

import nmg

config = nmg.load_config(None, sys.argv[1:])  # any setting: --section.field value

result = nmg.adapt(config, masking="idf", out="adapted")
print(result.summary())
