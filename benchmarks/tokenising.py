"""How fast a corpus larger than memory is tokenised, and within how much. `python -m benchmarks.tokenising 2000`"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.texts import long_text


def write_corpus(path: Path, megabytes: int) -> None:
    """Paragraphs of BBC news in random order, again and again, one a line."""
    paragraphs = [paragraph for text in long_text() for paragraph in text.split("\n") if paragraph]
    rng, size = np.random.default_rng(0), 0
    with path.open("w", encoding="utf-8") as file:
        while size < megabytes * 1_000_000:
            line = paragraphs[rng.integers(len(paragraphs))] + "\n"
            file.write(line)
            size += len(line.encode())


def measure(corpus: Path, model: str) -> dict[str, float]:
    """Tokenise and map it, in this process, and read a thousand of its blocks.

    What is read stays mapped: pages of the file, which the system takes back when memory is short.
    """
    from transformers import AutoTokenizer

    from nmg.data.corpus import Corpus
    from nmg.data.formats.text import read_texts

    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    before = _peak_megabytes()
    began, computed = time.perf_counter(), time.process_time()
    made = Corpus.build(read_texts(corpus), tokenizer, 254, corpus.parent / "cache")
    seconds, computed = time.perf_counter() - began, time.process_time() - computed
    made_within = _peak_megabytes()
    made.blocks(np.random.default_rng(0).integers(0, len(made), 1000))
    megabytes = corpus.stat().st_size / 1e6
    began = time.perf_counter()
    Corpus.build(read_texts(corpus), tokenizer, 254, corpus.parent / "cache")
    return {
        "megabytes": megabytes,
        "tokens": float(made.lengths.sum()),
        "seconds": seconds,
        "seconds_of_cpu": computed,
        "megabytes_per_second": megabytes / seconds,
        "seconds_from_cache": time.perf_counter() - began,
        "file_megabytes": sum(file.stat().st_size for file in (corpus.parent / "cache").iterdir()) / 1e6,
        "memory_before_megabytes": before,
        "memory_megabytes": made_within,
        "memory_with_mapped_pages_megabytes": _peak_megabytes(),
    }


def _peak_megabytes() -> float:
    """Resident memory of this process so far, at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokenising", description=__doc__)
    parser.add_argument("megabytes", type=int)
    parser.add_argument("--model", required=True, help="a name or folder with a fast tokenizer")
    parser.add_argument("--folder", type=Path, help="where text and tokens are kept for the while")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure, arguments.model)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        corpus = Path(folder) / "corpus.txt"
        write_corpus(corpus, arguments.megabytes)
        # In a process of its own: writing the text is not to count.
        words = [sys.executable, "-m", "benchmarks.tokenising", str(arguments.megabytes), "--model", arguments.model]
        answer = subprocess.run(
            [*words, "--measure", str(corpus)], check=True, capture_output=True, text=True, env=os.environ
        )
        for name, value in json.loads(answer.stdout.splitlines()[-1]).items():
            print(f"{name:28s} {value:.5g}")


if __name__ == "__main__":
    main()
