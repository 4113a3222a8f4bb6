"""What a new LM head costs and what it is worth: all-MiniLM-L6-v2, which has none, on news.

    python -m benchmarks.head [--precision fp32]

4000 sentences of BBC News, in batches of 16. Prints the held-out masked-LM loss after each stage, beside what word
frequencies alone give, and the seconds of all stages.
"""

import argparse
import tempfile

from benchmarks.machine import describe
from benchmarks.models import minilm_folder
from benchmarks.texts import news_sentences
from nmg.base.progress import Silent
from nmg.config import Config
from nmg.training.head import head_randomness, make_head
from nmg.trials.session import ModelSession


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.head", description=__doc__)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        config = Config.model_validate(
            {
                "model": {"name": str(minilm_folder())},
                "adapt": {"batch_size": 16, "block_size": 126},
                "runtime": {"precision": words.precision, "cache_dir": cache},
            }
        )
        bench = ModelSession.open(config, Silent())
        corpus = bench.corpus([text for text, _ in news_sentences()])
        quality = make_head(bench.lm, bench.context, config.model, corpus, head_randomness(config.run.seed))
    print(f"{describe()['processor']}, {bench.runtime.precision}, {bench.runtime.threads} threads")
    print(f"word frequencies alone: {quality.unigram:.2f} nats")
    for name, loss, steps in quality.stages:
        print(f"{name} ({steps} steps): {loss:.2f}")
    print(f"{quality.seconds:.0f} s")


if __name__ == "__main__":
    main()
