"""Measures the disk space that the folder of a run uses, and forecasts it for more episodes."""

from pathlib import Path

from nmg.meta_training.checkpoint import HELD
from nmg.meta_training.samples import MAX_SNAPSHOTS

PARTS = {
    "metrics": "metrics.jsonl",
    "samples": "samples.jsonl",
    "trackers": "nmg/**/*",
    "last checkpoints": "checkpoints/episode-*/*",
    "kept checkpoints": "checkpoints/kept-*/*",
    "immutable": "replay/*.safetensors",
}
"""Part of a run's folder that grows during the run → pattern of its files. Other files keep their size."""


class FolderGrowth:
    """Sizes in bytes of a run's folder after each of its first episodes, each of which must save a checkpoint.

    Forecasts use only the recorded sizes, so the folder may be deleted before they are made.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self.looks: list[dict[str, int]] = []
        self._lasting_files = 0

    def look(self) -> None:
        """Record the current sizes; to be called after each episode and once more at the end of the run."""
        sizes = {part: _size(self._run, pattern) for part, pattern in PARTS.items()}
        others = _size(self._run, "**/*") - sum(sizes.values())
        newest = max((self._run / "checkpoints").glob("episode-*"))  # earlier checkpoints may be smaller
        self._lasting_files = len(list(self._run.glob(PARTS["immutable"])))
        self.looks.append(sizes | {"others": others, "last checkpoints": HELD * _size(newest, "*")})

    @property
    def immutable(self) -> float:
        """Bytes of replay files per episode (see `learners.base.LearnerState`)."""
        return self.looks[-1]["immutable"] / max(self._lasting_files, 1)

    def after(self, episodes: int, checkpoint_every: int, held: int) -> float:
        """Forecast the size of the folder at the end of a longer run.

        Args:
            episodes: Number of episodes of the run.
            checkpoint_every: Number of episodes between two numbered checkpoints.
            held: Number of episodes whose states the replay holds at the end.

        Returns:
            The size in bytes.
        """
        *_, before, last, end = self.looks
        n = len(self.looks) - 1
        more = {part: (last[part] - before[part]) * (episodes - n) for part in ("metrics", "last checkpoints")}
        if held:
            more["last checkpoints"] = (last["last checkpoints"] - before["last checkpoints"]) * (held - n)
        return (
            end["others"]
            + sum(end[part] + more[part] for part in more)
            + end["samples"] / (n + 1) * (min(episodes, MAX_SNAPSHOTS) + 1)  # + 1: before the first episode
            + end["trackers"] / n * episodes
            + end["kept checkpoints"] / n * (episodes // checkpoint_every)
            + self.immutable * held
        )


def _size(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file())
