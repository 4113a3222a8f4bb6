"""The functions of `import nmg`: what they accept, what they return, and the examples of docs/api.md."""

import doctest
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from transformers.utils import logging as transformers_logging

import nmg
from nmg.adaptation import held_out
from nmg.config import load_config, sources
from nmg.jobs.results import Compared, Learned
from support.runs import Inputs, Notes

API = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> Iterator[Path]:
    """A working folder with the files that docs/api.md names; calls without a configuration use small settings."""
    folder = tmp_path_factory.mktemp("api")
    for name in ("train", "dev", "test"):
        shutil.copy(inputs.test if name == "test" else inputs.train, folder / f"{name}.jsonl")
    texts = [json.loads(line)["text"] for line in (folder / "train.jsonl").read_text().splitlines()]
    (folder / "domain.txt").write_text("\n".join(texts) + "\n")
    shutil.copytree(inputs.model, folder / "bert-base-uncased")
    sections = inputs.sections(meta={"episodes": 2, "continual": False}, reward={"metric": None})
    del sections["data"], sections["model"], sections["policy"], sections["learner"]
    sections["learner"] = {"kind": "random-search"}
    (folder / "config.yaml").write_text(yaml.safe_dump(sections))
    before = Path.cwd()
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "load_config", lambda path, given: load_config(path or "config.yaml", given))
        patch.setattr(held_out, "MIN_TOKENS", 1)
        yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def names(work: Path) -> dict[str, object]:
    """The names that the Python blocks of docs/api.md leave, each run in order."""
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", API.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        code = compile(block, "api.md", "exec")
        if "nmg.audit" not in block:  # tests/jobs/test_audit.py runs one
            exec(code, names)
    return names


def test_the_examples_of_the_page_leave_their_files(names: dict[str, object], work: Path):
    assert isinstance(names["run"], Learned)
    for file in ("adapted/index.html", "runs/mine/report.html", "runs/comparison/results.json", "masks.html"):
        assert (work / file).is_file()


def test_the_console_examples_of_the_page(work: Path):
    blocks = re.findall(r"^```pycon\n(.*?)^```", API.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        example = doctest.DocTestParser().get_doctest(block, {"nmg": nmg}, "api.md", None, 0)
        assert doctest.DocTestRunner(verbose=False).run(example).failed == 0


def test_results_have_their_views(names: dict[str, object]):
    kinds = {"adapted": "Adapted", "run": "Learned", "results": "Compared", "seen": "Inspected"}
    for name, kind in kinds.items():
        result = names[name]
        assert repr(result).startswith(f"{kind}(")
        assert "\n" not in repr(result)
        assert result.summary().strip()
        assert result._repr_html_().lstrip().startswith("<")
        assert len(result.to_frame()) == len(result.rows()) > 0


def test_the_policy_of_a_run_is_compared(names: dict[str, object]):
    results = names["results"]
    assert isinstance(results, Compared)
    table = results.to_frame()
    assert sorted(table["masking"].unique()) == ["learned", "none", "random"]
    means = {one.masking: one.estimates["accuracy"].mean for one in results.settings[0].maskings}
    assert table.groupby("masking")["accuracy"].mean().to_dict() == pytest.approx(means)


def test_episodes_are_counted_from_one(names: dict[str, object]):
    run = names["run"]
    assert isinstance(run, Learned)
    assert sorted(run.to_frame()["episode"].unique()) == list(range(1, run.episodes + 1))


def test_a_name_may_stand_for_several(work: Path):
    for maskings, found in (("none", ["none"]), ("none, random", ["none", "random"])):
        out = f"names-{len(found)}"
        files = {"train": Path("train.jsonl"), "test": Path("test.jsonl"), "model": Path("bert-base-uncased")}
        results = nmg.compare("config.yaml", maskings, Path(out), seeds=1, progress=False, **files)
        assert [one.masking for one in results.settings[0].maskings] == found


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: nmg.learn("train.jsonl", "x", validaton="dev.jsonl"), "no argument 'validaton'; did you mean 'valid"),
        (lambda: nmg.learn("train.jsonl", "x", overrides={"masking.rte": 1}), "masking.rte: there is no such setting"),
        (lambda: nmg.learn("train.jsonl", "x", overrides={"rate": 1}), "'rate' must be 'section.field'"),
        (lambda: nmg.learn(3, "x"), "nmg.learn: give settings"),
        (lambda: nmg.compare("train.jsonl", 3, "x"), "maskings: must be names"),
        (lambda: nmg.compare("train.jsonl", "none", "x", policies=3), "policies: must be a folder"),
        (lambda: nmg.inspect(["a"]), "name the masked LM"),
        (lambda: nmg.load_config("no.yaml"), "no.yaml"),
    ],
)
def test_mistakes_in_arguments(work: Path, call, said: str):
    with pytest.raises(nmg.UserError) as raised:
        call()
    assert said in str(raised.value)


def test_bars_of_other_libraries_come_back(work: Path):
    transformers_logging.enable_progress_bar()
    notes = Notes()
    nmg.inspect(["a b", "b c"], model="bert-base-uncased", maskings="random", tags=False, reporter=notes)
    assert transformers_logging.is_progress_bar_enabled()
    assert notes.phases == ["drawing masks"]
