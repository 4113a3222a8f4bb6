"""Files that were cut or changed after they were written: the good ones are used, and the bad ones named."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nmg.base.digests import SUMS, damaged_files
from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.meta_training import run as meta_training
from nmg.meta_training.loop import MetaTraining
from support.runs import Inputs, Notes, assert_same_run, read_log, resume_run

EPISODES = 4


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """One bit, in the midst of the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGES: dict[str, Callable[[Path], None]] = {"cut": cut, "empty": empty, "flip": flip, "remove": Path.unlink}


@pytest.fixture(scope="module")
def whole(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MetaTraining]:
    out = tmp_path_factory.mktemp("whole") / "run"
    config = inputs.config(meta={"episodes": EPISODES})
    return out, meta_training.start(config, out, Silent(), lambda *_: None)


@pytest.fixture
def run(whole: tuple[Path, MetaTraining], tmp_path: Path) -> Path:
    """A copy of the finished run, to damage."""
    return Path(shutil.copytree(whole[0], tmp_path / "run"))


def resume(run: Path, *overrides: str) -> tuple[MetaTraining, str]:
    notes = Notes()
    training = resume_run(run, list(overrides), notes, lambda *_: None)
    return training, "\n".join(notes.lines)


def last(run: Path) -> Path:
    return run / "checkpoints" / f"episode-{EPISODES:05d}"


def test_two_checkpoints_are_held_with_digests(run: Path):
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["episode-00003", "episode-00004"]
    for folder in (last(run), run / "checkpoints" / "episode-00003", run / "replay"):
        assert damaged_files(folder) == []
        done = subprocess.run(["sha256sum", "-c", SUMS], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        names = {path.name for path in folder.iterdir()}
        assert len(done.stdout.splitlines()) == len(names) - 1


@pytest.mark.parametrize(
    "damage", ["flip", "remove", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cut", "empty"))]
)
def test_any_damaged_file_of_the_last_checkpoint_is_named_and_the_one_before_is_used(
    whole: tuple[Path, MetaTraining], tmp_path: Path, damage: str
):
    """To the result of a run that was not damaged."""
    files = sorted(last(whole[0]).iterdir())
    if damage in {"empty", "remove"}:
        files = [path for path in files if path.name in {SUMS, "facts.json", "learner-replay.safetensors"}]
    for number, path in enumerate(files):
        run = Path(shutil.copytree(whole[0], tmp_path / str(number)))
        DAMAGES[damage](last(run) / path.name)
        training, said = resume(run)
        assert f"damaged: {last(run)}/" in said, path.name
        if path.name != SUMS:
            assert f"damaged: {last(run) / path.name}. " in said
        assert "continues from the checkpoint after 3 episodes" in said
        assert_same_run(training, whole[1])
        assert read_log(run) == read_log(whole[0])
        assert damaged_files(last(run)) == [], "it was made again"


def test_states_that_only_the_last_checkpoint_needs(run: Path, whole: tuple[Path, MetaTraining]):
    newest = run / "replay" / f"episode-{EPISODES - 1:05d}.safetensors"
    flip(newest)
    training, said = resume(run)
    assert f"damaged: {newest}. The run continues from the checkpoint after 3 episodes." in said
    assert_same_run(training, whole[1])
    assert damaged_files(run / "replay") == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_states_that_every_checkpoint_needs_are_gone_and_the_rest_goes_on(run: Path, damage: str):
    oldest = run / "replay" / "episode-00000.safetensors"
    DAMAGES[damage](oldest)
    training, said = resume(run, "--meta.episodes=5")
    assert f"damaged: {oldest}. The run continues from the checkpoint after 4 episodes." in said
    assert "continues without the states of episode-00000" in said
    assert training.next_episode == 5
    assert 0 not in training.learner.learner.replay.shards
    assert {1, 2, 3, 4} == set(training.learner.learner.replay.shards)
    assert resume(run)[1].count("damaged") == 0


def test_where_no_checkpoint_is_left_all_that_is_damaged_is_named(run: Path):
    for folder in (run / "checkpoints").iterdir():
        flip(folder / "learner-policy.safetensors")
    with pytest.raises(
        UserError, match=r"every checkpoint has damaged files .*episode-00004/learner-p.*episode-00003/learner-p"
    ):
        resume(run)
    assert len(list((run / "checkpoints").iterdir())) == 2, "nothing was removed"


def test_checkpoints_without_digests_are_damaged(run: Path):
    for folder in (run / "checkpoints").iterdir():
        (folder / SUMS).unlink()
    with pytest.raises(
        UserError, match=r"every checkpoint has damaged files .*episode-00004/SHA256SUMS.*episode-00003/SHA256SUMS"
    ):
        resume(run)


@pytest.mark.parametrize("damage", ["empty", "remove"])
def test_states_without_digests_are_not_trusted(run: Path, damage: str):
    DAMAGES[damage](run / "replay" / SUMS)
    _, said = resume(run, "--meta.episodes=5")
    assert "continues without the states of episode-00000, episode-00001, episode-00002, episode-00003, so" in said
    assert {path.stem for path in damaged_files(run / "replay")} == set()


def test_only_states_whose_digest_is_damaged_are_lost(run: Path):
    sums = run / "replay" / SUMS
    first, *others = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join([first[1:], *others]))
    _, said = resume(run, "--meta.episodes=5")
    assert "continues without the states of episode-00000, so" in said


BROKEN = ['{"episode": 1, "sco', "3", "[]", "\x00\x00", '{"episodes": "two"}', "\udcff"]


@pytest.mark.parametrize("line", BROKEN)
@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl"])
def test_broken_lines_of_a_log_do_not_stop_a_resume(run: Path, whole: tuple[Path, MetaTraining], name: str, line: str):
    path = run / name
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2:2] = [line.encode(errors="surrogateescape") + b"\n"]
    path.write_bytes(b"".join(lines))
    training, said = resume(run)
    assert_same_run(training, whole[1])
    assert read_log(run) == read_log(whole[0])
    assert (run / "samples.jsonl").read_bytes() == (whole[0] / "samples.jsonl").read_bytes()
    if line not in {'{"episodes": "two"}', "[]"} and name == "metrics.jsonl":
        assert f"{path}: removed invalid lines: 3" in said


def test_a_lost_line_of_the_log_is_lost_and_no_more(run: Path, whole: tuple[Path, MetaTraining]):
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[1] = lines[1][:20] + "\n"
    path.write_text("".join([*lines, lines[3]]))
    _, said = resume(run, "--meta.episodes=5")
    assert [line["episode"] for line in read_log(run)] == [1, 3, 4, 5]
    assert "removed invalid lines: 2" in said
    from nmg.meta_training.log import read_run

    assert read_run(run).is_finished


def test_a_broken_table_of_texts_is_made_again(run: Path, whole: tuple[Path, MetaTraining]):
    path = run / "samples.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("{" + "".join(lines)[1:200] + "\n" + "".join(lines[1:]))
    resume(run)
    assert path.read_bytes() == (whole[0] / "samples.jsonl").read_bytes()
