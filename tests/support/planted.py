"""A corpus and a task in which masking one class of words helps, and masking any other does not.

A text speaks of one topic: some of its words are the topic's jargon, the others are filler. The label is the topic. A topic has
much more jargon than the few labelled texts show; only a model that has learnt which words keep company can label the
rest, and it learns that where it has to predict jargon. Predicting filler, which is the same everywhere, teaches nothing.
"""

import json
from pathlib import Path

import numpy as np

N_TOPICS = 2
JARGON = [[f"jargon{topic}x{word}" for word in range(40)] for topic in range(N_TOPICS)]
FILLER = [f"filler{word}" for word in range(10)]
WORDS = [*(word for topic in JARGON for word in topic), *FILLER]
KIN = [*((topic, 0.5) for topic in JARGON), ([w for topic in JARGON for w in topic], 1.0), (FILLER, 1.0)]
"""what the pre-trained model knows: jargon from filler, and something of the topics"""


def write_planted(path: Path, n: int, seed: int) -> Path:
    """`n` labelled texts of five words of jargon and eight of filler."""
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for _ in range(n):
            topic = int(rng.integers(N_TOPICS))
            words = [*rng.choice(JARGON[topic], 5, replace=False), *rng.choice(FILLER, 8)]
            file.write(json.dumps({"text": " ".join(rng.permutation(words)), "label": f"topic{topic}"}) + "\n")
    return path
