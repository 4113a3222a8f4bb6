from pathlib import Path

import pytest

from nmg.base.files import write_aside


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "new/file.txt"
    with write_aside(path) as aside:
        aside.write_text("one")
        assert not path.exists()
        assert aside.suffix == ".txt"
    assert path.read_text() == "one"
    assert names(path.parent) == ["file.txt"]


def test_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half() -> None:
        with write_aside(path) as aside:
            aside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]
