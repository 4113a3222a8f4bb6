"""Compare maskings fairly: every masking with every seed, the same budget and the same randomness, a test of each pair.

    python examples/compare_maskings.py --model.name bert-base-uncased --data.train train.jsonl --data.test test.jsonl

Each run is kept in `comparison/cells`: after an interruption, call it again. `comparison/index.html` is the page.
"""

import sys
from pathlib import Path

import nmg

config = nmg.load_config(None, sys.argv[1:])
results = nmg.compare(
    config, ["none", "random", "whole-word"], Path("comparison"), seeds=3
)  # policies={"mine": Path("run")}

for setting in results.settings:
    for one in setting.maskings:
        print(f"{one.masking:>12}  {setting.tested} {one.estimates[setting.tested].mean:.4f}")
    for pair in setting.pairs:
        print(f"{pair.first} - {pair.second}: {pair.test.mean:+.4f}, p (Holm) {pair.t_p_holm}")
