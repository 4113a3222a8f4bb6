"""What the folder of a run holds, and what it will hold after more episodes."""

from pathlib import Path

from nmg.runs.checkpoint import HELD
from nmg.runs.samples import MAX_SNAPSHOTS

PARTS = {
    "metrics": "metrics.jsonl",
    "samples": "samples.jsonl",
    "trackers": "nmg/**/*",
    "last checkpoints": "checkpoints/episode-*/*",
    "kept checkpoints": "checkpoints/kept-*/*",
    "lasting": "replay/*.safetensors",
}
"""What grows, each in its own way; everything else is written anew, of the same size."""


class FolderGrowth:
    """Sizes of a run's folder after each of its first episodes, in bytes. Each of these keeps a checkpoint.

    What it tells of more episodes it knows from its looks: the folder may be gone by then.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self.looks: list[dict[str, int]] = []
        self._lasting_files = 0

    def look(self) -> None:
        """After each episode, and once more when the run is over."""
        sizes = {part: _size(self._run, pattern) for part, pattern in PARTS.items()}
        others = _size(self._run, "**/*") - sum(sizes.values())
        newest = max((self._run / "checkpoints").glob("episode-*"))  # the ones before may be smaller
        self._lasting_files = len(list(self._run.glob(PARTS["lasting"])))
        self.looks.append(sizes | {"others": others, "last checkpoints": HELD * _size(newest, "*")})

    @property
    def lasting(self) -> float:
        """Of an episode (see `learners.base.Saved`)."""
        return self.looks[-1]["lasting"] / max(self._lasting_files, 1)

    def after(self, episodes: int, checkpoint_every: int, held: int) -> float:
        """At the end of a run of so many episodes, whose lasting files are those of `held` of them."""
        *_, before, last, end = self.looks
        n = len(self.looks) - 1
        more = {part: (last[part] - before[part]) * (episodes - n) for part in ("metrics", "last checkpoints")}
        if held:
            more["last checkpoints"] = (last["last checkpoints"] - before["last checkpoints"]) * (held - n)
        return (
            end["others"]
            + sum(end[part] + more[part] for part in more)
            + end["samples"] / (n + 1) * (min(episodes, MAX_SNAPSHOTS) + 1)  # there is one before the first episode
            + end["trackers"] / n * episodes
            + end["kept checkpoints"] / n * (episodes // checkpoint_every)
            + self.lasting * held
        )


def _size(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file())
