"""The scripts of examples/ do what they say, on tiny data."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForMaskedLM

from nmg.config import load_config
from nmg.policies.registry import load_policy
from support.runs import SMALL, Inputs

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run an example in an empty folder with small settings; returns what it printed."""
    texts = [json.loads(line)["text"] for line in inputs.train.read_text().splitlines()]
    (tmp_path / "domain.txt").write_text("\n".join(texts) + "\n")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))

    def call(name: str, *words: Path | str) -> str:
        monkeypatch.chdir(tmp_path)
        options = ("--model", inputs.model, "--config", "small.yaml")
        monkeypatch.setattr(sys, "argv", [name, *map(str, (*words, *options))])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return call


@pytest.mark.parametrize("name", ["adapt_with_a_rule", "your_own_masking"])
def test_adaptation(run, name: str, tmp_path: Path):
    assert "10 steps, " in run(name, "domain.txt")
    AutoModelForMaskedLM.from_pretrained(tmp_path / "adapted")
    masking = json.loads((tmp_path / "adapted" / "nmg.json").read_text())["masking"]
    assert masking == ("idf" if name == "adapt_with_a_rule" else "second-half")


def test_learn_a_policy(run, inputs: Inputs, tmp_path: Path):
    printed = run("learn_a_policy", inputs.train)
    assert "3 of 3" in printed
    assert "Words masked most often" in printed
    load_policy(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").is_file()


def test_compare_maskings(run, inputs: Inputs, tmp_path: Path):
    printed = run("compare_maskings", inputs.train, inputs.test)
    assert "Pairs of maskings" in printed
    assert (tmp_path / "comparison" / "index.html").is_file()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
@pytest.mark.parametrize("words", [["--help"], []])
def test_usage(path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", [path.name, *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == (0 if words else 2)
    said = capsys.readouterr()
    assert "usage: " in (said.out if words else said.err)


@pytest.fixture
def domain(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of texts; the working folder is an empty one."""
    texts = [json.loads(line)["text"] for line in inputs.train.read_text().splitlines()]
    (tmp_path / "domain.txt").write_text("\n".join(texts) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "domain.txt"


def test_masking_in_trainer(
    inputs: Inputs, domain: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["masking_in_trainer", str(inputs.model), str(domain), "0.5*idf+0.5*whole-word"])
    runpy.run_path(str(EXAMPLES / "masking_in_trainer.py"), run_name="__main__")
    assert "masked-LM loss on held-out text: " in capsys.readouterr().out
    AutoModelForMaskedLM.from_pretrained(domain.parent / "trained")


def test_the_notebook(inputs: Inputs, domain: Path, capsys: pytest.CaptureFixture[str]):
    """Its cells, run one after the other, with tiny data and small settings in place of its third cell."""
    cells = json.loads((EXAMPLES / "masking_in_trainer.ipynb").read_text(encoding="utf-8"))["cells"]
    install, data, *code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert '%pip install --quiet "nmg[demo]"' in install
    files = {"TRAIN": inputs.train, "DEV": inputs.test, "CORPUS": domain, "MODEL": inputs.model}
    assert all(f"{name}" in data for name in (*files, "BUDGET"))
    config = inputs.sections(meta={"episodes": 2, "continual": False}) | {"learner": {"kind": "experiment"}}
    config = {name: fields for name, fields in config.items() if name not in {"data", "model", "policy"}}
    Path("small.yaml").write_text(yaml.safe_dump(config))
    names: dict[str, object] = {**files, "BUDGET": 20, "Path": Path}
    for cell in code:
        exec(cell.replace('"bbc-frozen"', '"small.yaml"'), names)
    assert "masked-LM loss on held-out text: " in capsys.readouterr().out


def test_the_notebook_has_outputs():
    """A reader on a website sees them; the file stays small, and names no folder of the machine that wrote it."""
    file = EXAMPLES / "masking_in_trainer.ipynb"
    cells = [cell for cell in json.loads(file.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert file.stat().st_size < 300_000
    assert sum(bool(cell["outputs"]) for cell in cells) >= 6
    text = json.dumps([cell["outputs"] for cell in cells])
    assert "learned" in text
    assert not re.findall(r"/tmp/|/home/|/root/|/work/|Traceback", text)


def test_the_readme_from_python(inputs: Inputs, domain: Path, capsys: pytest.CaptureFixture[str]):
    """Its lines, with a small configuration in the place of the one that they name, of the same learner."""
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "nmg.learn(" in block)
    config = domain.parent / "configs" / "chemprot-minilm.yaml"
    config.parent.mkdir()
    named = load_config(EXAMPLES.parent / "configs" / config.name)
    sections = inputs.sections(meta={"episodes": 2, "continual": False})
    sections |= {"learner": {"kind": named.learner.kind}, "policy": {"kind": named.policy.kind}}
    config.write_text(yaml.safe_dump(sections))
    for name, file in {"train": inputs.train, "test": inputs.test}.items():
        shutil.copy(file, f"{name}.jsonl")
    exec(code, {})
    assert "learned" in capsys.readouterr().out
    load_policy(Path("run"))
    AutoModelForMaskedLM.from_pretrained("adapted")
    assert len(Path("comparison", "trials.jsonl").read_text().splitlines()) == 15


@pytest.mark.slow
def test_the_page_on_python(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Its lines, one part after the other, with a small configuration."""
    monkeypatch.chdir(tmp_path)
    part = (EXAMPLES.parent / "docs" / "how-to" / "python.md").read_text(encoding="utf-8")
    jobs, masks, older = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    sections = inputs.sections(meta={"episodes": 2, "continual": False, "checkpoint_every": 2})
    sections |= {"adapt": sections["adapt"] | {"epochs": 1}, "reward": {"metric": None}}
    Path("config.yaml").write_text(yaml.safe_dump(sections))
    names: dict[str, object] = {}
    exec(jobs.replace("100", "4").replace("minutes=1", "minutes=1e-6"), names)
    assert Path("runs/audit/index.html").is_file()
    assert "4 of 4" in Path("runs/mine/report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    exec(masks, names)
    assert capsys.readouterr().out.startswith("[")
    exec(older.replace("kept-00050", "kept-00002"), names)


def test_every_example_is_run():
    tested = {"adapt_with_a_rule", "learn_a_policy", "compare_maskings", "your_own_masking", "masking_in_trainer"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested
    assert [path.stem for path in EXAMPLES.glob("*.ipynb")] == ["masking_in_trainer"]
