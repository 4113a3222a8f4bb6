"""Resident memory of a meta-training over many episodes: `python -m benchmarks.memory --episodes 200`.

Of the demo's size: BERT of 2 layers × 128, 150 contexts in batches of 16 for 3 epochs, a linear probe, an experiment of
two players an episode. In a process of its own for each value of `runtime.keep_memory`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.models import save_random_bert
from benchmarks.texts import write_task
from nmg.base.progress import Silent
from nmg.config import Config
from nmg.meta_training.loop import MetaTraining
from nmg.trials.session import Session


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--measure", choices=("true", "false"), help="one value of keep_memory, in this process")
    words = parser.parse_args()
    if words.measure:
        print(json.dumps(measure(words.measure == "true", words.episodes)))
        return
    for kept in ("true", "false"):
        command = [sys.executable, "-m", "benchmarks.memory", "--episodes", str(words.episodes), "--measure", kept]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"keep_memory {kept}: {found}", flush=True)


def measure(kept: bool, n_episodes: int) -> dict[str, object]:
    """Resident memory (MB) after some episodes, its peak, and the median seconds of an episode."""
    with tempfile.TemporaryDirectory() as name:
        training = open_training(Path(name), kept)
        at = {0: resident()}
        seconds = []
        with training.engine:
            for episode in range(1, n_episodes + 1):
                began = time.perf_counter()
                training.episode()
                seconds.append(time.perf_counter() - began)
                if episode in {1, 5, 10} or episode % 25 == 0:
                    at[episode] = resident()
                    print(episode, at[episode], file=sys.stderr, flush=True)
    return {"resident_mb": at, "peak_mb": peak(), "seconds": round(sorted(seconds)[len(seconds) // 2], 2)}


def open_training(folder: Path, kept: bool) -> MetaTraining:
    train, validation = write_task(folder, n_train=150, n_validation=200)
    config = Config.model_validate(
        {
            "model": {"name": str(save_random_bert(folder / "model", layers=2, hidden=128))},
            "data": {"train": str(train), "validation": str(validation)},
            "masking": {"rate": 0.15},
            "adapt": {"epochs": 3, "batch_size": 16, "block_size": 126, "learning_rate": 1e-3},
            "finetune": {"epochs": 12, "batch_size": 16, "max_length": 128, "learning_rate": 5e-4},
            "meta": {"contexts": 150, "examples": 150},
            "learner": {"kind": "experiment", "budget": 4000, "early_stop_alpha": 0.0},
            "reward": {"evaluation": "linear-probe", "metric": "loss"},
            "runtime": {"engine": "serial", "keep_memory": kept, "cache_dir": str(folder / "cache")},
        }
    )
    return MetaTraining(Session.prepare(config, Silent()))


def resident() -> int:
    """MB, as Linux shows it."""
    return _status("VmRSS")


def peak() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) // 1024


if __name__ == "__main__":
    main()
