"""Run the benchmarks, print a table, write bench.json. `python -m benchmarks --help`"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import adaptation, agreement, episode, evaluation, machine, maskings, masks, replay
from nmg.base.files import write_text
from nmg.training.runtime import COMMAND

SECTIONS: dict[str, Callable[[bool, Path], dict[str, Any]]] = {
    "adaptation": adaptation.run,
    "episode": episode.run,
    "masks": masks.run,
    "maskings": maskings.run,
    "replay": replay.run,
    "evaluation": evaluation.run,
    "agreement": agreement.run,
}

LONG = {"maskings", "agreement"}
"""sections that a quick run leaves out"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help=f"fewer rounds, without {' and '.join(sorted(LONG))}: under five minutes"
    )
    parser.add_argument("--only", help=f"sections, separated by commas: {', '.join(SECTIONS)}")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "bench.json")
    arguments = parser.parse_args()
    os.environ[COMMAND] = "1"  # measured as nmg's commands run, also in the processes that they start
    chosen = arguments.only.split(",") if arguments.only else list(SECTIONS)
    if arguments.quick and not arguments.only:
        chosen = [name for name in chosen if name not in LONG]
    described = machine.describe()
    results: dict[str, Any] = {
        "machine": described,
        "processor": described["processor"],
        "quick": arguments.quick,
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            began = time.perf_counter()
            print(f"\n{name}", flush=True)
            found = SECTIONS[name](arguments.quick, Path(folder))
            for key, value in found.items():
                print(f"  {key:44s} {_text(value)}", flush=True)
            print(f"  ({time.perf_counter() - began:.0f} s)", flush=True)
            results |= found
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out, json.dumps(results, indent=1) + "\n")
    print(f"\n{arguments.out}")


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
