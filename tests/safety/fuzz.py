"""Let coverage guide the search for a file that a reader cannot bear (atheris: pip install '.[fuzz]').

python tests/safety/fuzz.py                      each target in a process of its own
python tests/safety/fuzz.py --runs 5000 squad    one of them, so many files

Ends with 1 where a target raises, or takes more than five seconds; the file is left in --out.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="all where none is named")
    parser.add_argument("--runs", type=int, default=1200, help="files for each target")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="folder of what is found")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("skipped: atheris is not installed (pip install '.[fuzz]'; it has no build for every Python)")
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    if given.in_this_process:
        fuzz(given.targets[0], given.runs, given.out)
    names = given.targets or target_names()
    words = (sys.executable, __file__, "--in-this-process", "--runs", str(given.runs), "--out", str(given.out))
    failed = [name for name in names if subprocess.run([*words, name], check=False).returncode]
    print(f"{len(names)} targets, {given.runs * len(names)} files; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def target_names() -> list[str]:
    from safety.targets import TARGETS

    return list(TARGETS)


def fuzz(name: str, runs: int, out: Path) -> None:
    """Never returns: the fuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["nmg"]):
        from safety.targets import TARGETS

    target = TARGETS[name]
    seeds = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for number, seed in enumerate(target.seeds):
        (seeds / str(number)).write_bytes(seed)

    def try_one(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            target.run(Path(folder), content)

    prefix = out / f"{name.replace(' ', '-')}-"
    options = [f"-runs={runs}", "-timeout=5", "-max_len=4096", "-rss_limit_mb=4096", f"-artifact_prefix={prefix}"]
    atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", "-verbosity=0", str(seeds)], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.path[:0] = [str(TESTS)]
    sys.exit(main())
