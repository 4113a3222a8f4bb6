"""A small job of every command, with the nmg that is installed: `python tests/smoke.py FOLDER`.

Needs nothing of the checkout but `tests/support`, which makes a tiny model and its texts.
"""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nmg
from support.runs import Inputs

JOBS = (
    "validate c.yaml --quiet",
    "data describe train.jsonl",
    "learn c.yaml --out run --meta.episodes 2",
    "learn --resume run --meta.episodes 3",
    "report run",
    "adapt --config c.yaml --corpus train.jsonl --masking run --out adapted",
    "compare c.yaml --policies run --maskings none,random,idf --seeds 2 --out compared",
    "inspect --config c.yaml --model model --policy run --text train.jsonl --no-tags --out page.html",
)


def main(folder: Path) -> None:
    assert "site-packages" in str(nmg.__file__), f"{nmg.__file__} is not installed"
    inputs = Inputs(folder)
    inputs.write_config(folder / "c.yaml")
    for job in JOBS:
        subprocess.run([sys.executable, "-m", "nmg", *job.split()], check=True, cwd=folder)
    from transformers import pipeline

    pipeline("fill-mask", str(folder / "adapted"))("t0w1 [MASK] t0w2")
    packages = ("nmg", "torch", "transformers", "accelerate", "numpy")
    print("smoke test passed:", ", ".join(f"{name} {version(name)}" for name in packages))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    main(folder)
