"""A corpus and a task in which masking one class of words helps, and masking any other does not.

Each text has a hidden topic: half of its words are of that topic, half are filler. The label is the topic. A topic has
many more words than the few labelled texts show; only a model that has learnt which words keep company can label the
rest, and it learns that by predicting masked topic words. Predicting filler, which is the same everywhere, teaches
nothing.
"""

import json
from pathlib import Path

import numpy as np

N_TOPICS, WORDS_A_TOPIC, N_FILLER = 4, 30, 10
TOPIC_WORDS = [[f"t{topic}w{word}" for word in range(WORDS_A_TOPIC)] for topic in range(N_TOPICS)]
FILLER = [f"filler{word}" for word in range(N_FILLER)]
WORDS = [word for topic in TOPIC_WORDS for word in topic] + FILLER


def write_planted(path: Path, n: int, seed: int, *, n_topic: int = 5, n_filler: int = 5) -> Path:
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for _ in range(n):
            topic = int(rng.integers(N_TOPICS))
            words = [*rng.choice(TOPIC_WORDS[topic], n_topic, replace=False), *rng.choice(FILLER, n_filler)]
            text = " ".join(rng.permutation(words))
            file.write(json.dumps({"text": text, "label": f"topic{topic}"}) + "\n")
    return path
