"""What commands write holds nothing of the environment, where tokens and keys are kept."""

from pathlib import Path

import pytest

from support.command import Nmg
from support.runs import Inputs

SECRET = "s3cr3t-of-this-test"
VARIABLES = ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "SOMETHING_PRIVATE")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, f"{SECRET}-{name}")


def leaks(folder: Path) -> list[str]:
    """Files that hold a value of a secret variable."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    return [str(path.relative_to(folder)) for path in files if SECRET.encode() in path.read_bytes()]


def test_run_folders_hold_no_secrets(nmg: Nmg, inputs: Inputs, tmp_path: Path):
    config = inputs.write_config(tmp_path / "c.yaml", runtime={"trackers": ["tensorboard"], "engine": "serial"})
    text = ("--corpus", inputs.train, "--model", inputs.model, "--adapt.block_size=16", "--runtime.precision=fp32")
    for words in (
        ("learn", config, "--out", "run", "--meta.episodes", "1"),
        ("report", "run"),
        ("compare", config, "--maskings", "none", "--seeds", "1", "--out", "compared"),
        ("adapt", *text, "--adapt.epochs=1", "--out", "model"),
    ):
        answer = nmg(*words)
        assert answer.code == 0, answer.err
        assert SECRET not in answer.out + answer.err
    assert leaks(tmp_path) == []


def test_the_traceback_of_a_failed_cell_holds_no_secrets(
    nmg: Nmg, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_words: object, **_named: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("nmg.comparison.worker.run_trials", fails)
    config = inputs.write_config(tmp_path / "c.yaml", runtime={"engine": "serial"})
    answer = nmg("compare", config, "--maskings", "none", "--seeds", "1", "--out", "compared")
    assert answer.code == 1
    assert list((tmp_path / "compared" / "errors").glob("*.txt"))
    assert leaks(tmp_path) == []


def test_a_secret_that_is_written_would_be_found(tmp_path: Path):
    for number in range(6):
        (tmp_path / f"{number}.bin").write_bytes(b"\0" + (SECRET.encode() if number == 3 else b""))
    assert leaks(tmp_path) == ["3.bin"]
