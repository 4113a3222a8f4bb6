"""Running a comparison: every cell once, kept, fair, and what goes wrong with one stays with that one."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nmg.base.errors import UserError
from nmg.comparison.plan import Plan
from nmg.comparison.results import trial_json
from nmg.comparison.run import Comparison, TrialEvent
from nmg.comparison.worker import trial_provenance
from nmg.executors import registry
from nmg.executors.processes import ProcessExecutor
from nmg.executors.serial import SerialExecutor
from nmg.policies.sampling import PolicyMasking
from nmg.training.adapt import adapt
from nmg.training.masks import DrawnMasks
from nmg.trials import trial as loop
from nmg.trials.held_out import HeldOutText
from support.planted import WORDS, write_planted
from support.runs import Inputs, Notes
from support.tiny import save_headless_bert
from support.trials import break_trial

from .helpers import RULES, by_hand, compare, facts, plan, quick, save_policy, written


def test_cells_are_those_of_the_parts(inputs: Inputs, tmp_path: Path):
    config, policy = quick(inputs), save_policy(tmp_path / "policy")
    finished = compare(config, plan(policies={"mine": policy}), tmp_path / "out")
    assert finished.failures == {}
    assert [(cell.spec.masking, cell.spec.seed) for cell in finished.cells] == [
        (name, seed) for seed in (0, 1) for name in (*RULES, "mine")
    ]
    for cell in finished.cells:
        expected = by_hand(config, cell.spec.masking, cell.spec.seed, policy if cell.spec.masking == "mine" else None)
        assert {name: trial_json(cell)[name] for name in expected} == expected
        assert cell.n_labelled == 40
        # 40 texts of ten words, each framed by two special tokens
        assert cell.adaptation.tokens == (0 if cell.spec.masking == "none" else 40 * 12)
    assert len({json.dumps(dict(cell.scores)) for cell in finished.cells}) == 8


def test_a_probe_scores_cells_without_fine_tuning(inputs: Inputs, tmp_path: Path):
    config = quick(inputs, test={"evaluation": "linear-probe"})
    cell = compare(config, plan(["random"], 1), tmp_path / "out").cells[0]
    expected = by_hand(config, "random", 0, None)
    assert {name: trial_json(cell)[name] for name in expected} == expected
    assert (cell.adaptation.steps, cell.finetuning.steps, cell.n_labelled) == (2, 0, 40)


def test_processes_give_the_cells_of_one_process_to_the_bit(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Two processes with a thread each; what they keep, this process finds again."""
    engines: list[type] = []
    true = registry.open_executor

    def open_executor(*arguments: Any) -> Any:
        engine = true(*arguments)
        engines.append(type(engine))
        assert engine.processes == (2 if isinstance(engine, ProcessExecutor) else 1)
        return engine

    monkeypatch.setattr("nmg.comparison.run.open_executor", open_executor)
    asked = plan(["none", "random"], 2, {"mine": save_policy(tmp_path / "policy")}, labelled=(1, "all"))
    alone = compare(quick(inputs, runtime={"engine": "serial"}), asked, tmp_path / "alone", save_models=True)
    at_once = quick(inputs, runtime={"engine": "processes", "processes": 2, "threads": 2})
    events: list[TrialEvent] = []
    finished = compare(at_once, asked, tmp_path / "at once", on_cell=events.append, save_models=True)
    assert engines == [SerialExecutor, ProcessExecutor]
    assert finished.failures == alone.failures == {}
    assert facts(finished.cells) == facts(alone.cells)
    assert {event.result.spec for event in events} == set(asked.specs())
    assert written(tmp_path / "at once").keys() == written(tmp_path / "alone").keys()
    for name in asked.names:
        first, second = (tmp_path / out / "models" / name / "model.safetensors" for out in ("alone", "at once"))
        assert first.read_bytes() == second.read_bytes()
    found = compare(quick(inputs), asked, tmp_path / "at once", on_cell=events.append)
    assert found == finished
    assert all(event.was_there for event in events[len(asked.specs()) :])


def test_what_is_there_is_not_run_again(inputs: Inputs, tmp_path: Path):
    config, notes = quick(inputs), Notes()
    first = compare(config, plan(), tmp_path)
    files = written(tmp_path)
    assert set(files) == {f"{name}.seed-{seed}" for name in RULES for seed in (0, 1)}
    for result in files.values():
        assert set(result.example_scores) == {"accuracy", "loss"}
        assert result.example_scores["accuracy"].mean() == pytest.approx(result.scores["accuracy"])
        assert result.example_scores["loss"].mean() == pytest.approx(result.scores["loss"], abs=1e-5)
        assert np.array_equal(np.round(result.example_scores["loss"], 5), result.example_scores["loss"])
    events: list[TrialEvent] = []
    again = compare(config, plan(), tmp_path, notes, events.append)
    assert again == first
    assert notes.phases == []
    assert written(tmp_path) == files
    assert all(event.was_there for event in events)

    more = compare(config, plan((*RULES, "whole-word"), seeds=3), tmp_path, notes, events.append)
    ran = [(event.result.spec.masking, event.result.spec.seed) for event in events if not event.was_there]
    assert ran == [("whole-word", 0), ("whole-word", 1), *((name, 2) for name in (*RULES, "whole-word"))]
    assert {name: written(tmp_path)[name] for name in files} == files
    alone = compare(config, plan((*RULES, "whole-word"), seeds=3), tmp_path / "alone")
    assert facts(more.cells) == facts(alone.cells)


def test_a_killed_comparison_goes_on_where_it_was(inputs: Inputs, tmp_path: Path):
    def kill(event: TrialEvent) -> None:
        if (event.result.spec.masking, event.result.spec.seed) == ("random", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(quick(inputs), plan(), tmp_path / "out", on_cell=kill)
    files = written(tmp_path / "out")
    whole_seed = {f"{name}.seed-0" for name in RULES}
    assert set(files) == whole_seed | {"none.seed-1", "random.seed-1"}
    # Killed for good in the midst of a line.
    with (tmp_path / "out" / "trials.jsonl").open("a+") as file:
        file.seek(0)
        file.write(file.readline()[:100])
    finished = compare(quick(inputs), plan(), tmp_path / "out")
    assert {name: written(tmp_path / "out")[name] for name in files} == files
    assert facts(finished.cells) == facts(compare(quick(inputs), plan(), tmp_path / "uninterrupted").cells)


@pytest.mark.parametrize("error", [RuntimeError("out of memory\nhere"), None], ids=["error", "not finite"])
def test_a_cell_that_fails_stops_no_other_and_is_tried_again(inputs: Inputs, tmp_path: Path, error: Exception | None):
    config = quick(inputs)
    with pytest.MonkeyPatch.context() as patch:
        break_trial(patch, "random", 0, error)
        finished = compare(config, plan(), tmp_path)
    assert [(cell.spec.masking, cell.spec.seed) for cell in finished.cells] == [
        (name, seed) for seed in (0, 1) for name in RULES if (name, seed) != ("random", 0)
    ]
    problem = "RuntimeError: out of memory" if error else "the training diverged: the score 'loss' of its model is nan"
    assert list(finished.failures) == ["random.seed-0"]
    assert finished.failures["random.seed-0"].startswith(problem)
    report = (tmp_path / "errors" / "random.seed-0.txt").read_text()
    assert ("Traceback" in report) is (error is not None)
    assert problem in report
    assert "random.seed-0" not in written(tmp_path)

    events: list[TrialEvent] = []
    healed = compare(config, plan(), tmp_path, on_cell=events.append)
    assert [event.result.spec.name for event in events if not event.was_there] == ["random.seed-0"]
    assert healed.failures == {}
    assert not (tmp_path / "errors").exists()


def test_a_loss_that_is_not_finite_is_a_failure(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(HeldOutText, "loss", lambda *_: (math.inf, 1.0))
    finished = compare(quick(inputs), plan(["none", "random"], 1), tmp_path)
    assert list(finished.failures) == ["none.seed-0", "random.seed-0"]
    assert all("'held_out_loss' of its model is inf" in problem for problem in finished.failures.values())
    assert written(tmp_path) == {}


def test_an_adaptation_that_fails_fails_its_cells(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def adapt_unless_idf(context: Any, masks: DrawnMasks, *arguments: Any) -> Any:
        if masks.name == "idf":
            raise ValueError
        return adapt(context, masks, *arguments)

    monkeypatch.setattr(loop, "adapt", adapt_unless_idf)
    finished = compare(quick(inputs), plan(seeds=1, labelled=(1, "all")), tmp_path)
    assert finished.failures == {f"idf.seed-0.labelled-{labelled}": "ValueError: " for labelled in (1, "all")}
    assert len(finished.cells) == 4


def test_an_interruption_is_no_failure(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        break_trial(patch, "random", 0, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            compare(quick(inputs), plan(), tmp_path)
    assert set(written(tmp_path)) == {"none.seed-0"}

    def leave(*_arguments: object) -> None:
        raise SystemExit(3)

    monkeypatch.setattr(loop, "adapt", leave)
    with pytest.raises(SystemExit):
        compare(quick(inputs), plan(), tmp_path)
    assert set(written(tmp_path)) == {"none.seed-0"}


@pytest.fixture
def own(tmp_path: Path) -> Inputs:
    """Inputs that a test may change."""
    (tmp_path / "inputs").mkdir()
    return Inputs(tmp_path / "inputs")


def change_weights(file: Path) -> None:
    weights = load_file(file)
    name = next(iter(weights))
    save_file(weights | {name: weights[name] + torch.ones_like(weights[name])}, file, metadata={"format": "pt"})


def change_facts(model: Path, what: str) -> None:
    """Of a model with the same weights: its dropout, or how its tokenizer reads text."""
    file, facts = {
        "configuration": ("config.json", {"hidden_dropout_prob": 0.3}),
        "tokenizer": ("tokenizer.json", {"normalizer": {"type": "Lowercase"}}),
    }[what]
    (model / file).write_text(json.dumps(json.loads((model / file).read_text()) | facts))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("setting", "other settings"),
        ("train", "another data.train"),
        ("test", "another data.test"),
        ("corpus", "another corpus"),
        ("model", "another model"),
        ("configuration", "another model"),
        ("tokenizer", "another .*tokenizer"),
        ("policy", "another policy 'mine'"),
    ],
)
def test_what_other_inputs_gave_is_not_mixed_in(own: Inputs, tmp_path: Path, change: str, message: str):
    corpus = write_planted(tmp_path / "corpus.jsonl", 10, seed=5)
    policy = save_policy(tmp_path / "policy")
    sections = {"data": {"corpus": str(corpus)}}
    config, policies, out = quick(own, **sections), {"mine": policy}, tmp_path / "out"
    compare(config, plan(["none"], 1, policies), out)
    match change:
        case "setting":
            config = quick(own, **sections, finetune={"epochs": 2})
        case "train" | "test":
            path = getattr(own, change)
            path.write_text(path.read_text().replace("filler1", "filler2"))
        case "corpus":
            write_planted(corpus, 10, seed=6)
        case "configuration" | "tokenizer":
            change_facts(own.model, change)
        case "model":
            change_weights(own.model / "model.safetensors")
        case "policy":
            save_policy(policy, seed=1)
    notes, files = Notes(), written(out)
    with pytest.raises(UserError, match=f"--out {out}: .*seed-0\\) was made with {message}; choose another --out"):
        compare(config, plan(["none"], 1, policies), out, notes)
    # Also where the cells asked for are others: one folder, one comparison.
    if change != "policy":
        with pytest.raises(UserError, match=message):
            compare(config, plan(["random"], 3), out, notes)
    assert notes.phases == []
    assert written(out) == files


@pytest.mark.parametrize("drop", [False, True])
def test_a_validation_file_counts_where_it_decides_what_is_dropped(own: Inputs, tmp_path: Path, drop: bool):
    validation = write_planted(tmp_path / "dev.jsonl", 10, seed=5)
    config = quick(own, data={"validation": str(validation), "drop_duplicates": drop})
    session = Comparison.open(quick(own), plan(["none"], 1), tmp_path / "out", Notes()).session

    def provenance() -> dict[str, str]:
        return trial_provenance(config, session.plan, session.corpus, session.model, session.pretrained).of("none")

    before = provenance()
    write_planted(validation, 10, seed=6)
    after = provenance()
    assert (before == after) is not drop
    own.test.write_text(own.test.read_text() + own.train.read_text().replace("filler1", "filler2"))
    assert provenance()["data.test"] != after["data.test"]


def test_unchanged_inputs_may_lie_elsewhere(own: Inputs, tmp_path: Path):
    """The content counts, not its place."""
    compare(quick(own), plan(["none"], 1), tmp_path / "out")
    (tmp_path / "inputs").rename(tmp_path / "moved")
    moved, notes = tmp_path / "moved", Notes()
    data = {"train": str(moved / "train.jsonl"), "test": str(moved / "test.jsonl")}
    config = quick(own, data=data, model={"name": str(moved / "model")})
    compare(config, plan(["none"], 1), tmp_path / "out", notes)
    assert any("1 trials are finished, 0 are missing" in line for line in notes.lines)


def test_speed_may_change(inputs: Inputs, tmp_path: Path):
    compare(quick(inputs), plan(["none"], 1), tmp_path)
    notes = Notes()
    compare(quick(inputs, runtime={"evaluation_batch_size": 7}), plan(["none"], 1), tmp_path, notes)
    assert notes.phases == []


def test_a_folder_that_holds_something_else(inputs: Inputs, tmp_path: Path):
    (tmp_path / "precious.txt").write_text("precious")
    with pytest.raises(UserError, match="files that do not belong to a comparison"):
        compare(quick(inputs), plan(), tmp_path)


def test_a_line_that_is_no_trial(inputs: Inputs, tmp_path: Path):
    (tmp_path / "trials.jsonl").write_text('{"masking": "none"}\n')
    with pytest.raises(UserError, match=r"trials.jsonl, line 1: is not a trial; remove the line"):
        compare(quick(inputs), plan(), tmp_path)


def test_a_head_is_not_warmed_up_for_nothing(inputs: Inputs, tmp_path: Path):
    """What another folder must be chosen for is said before the first training."""
    folder = save_headless_bert(tmp_path / "headless", WORDS, hidden=16)
    changes: dict[str, Any] = {
        "model": {"name": str(folder), "head_warmup_steps": 2, "head_tuning_steps": 0},
        "runtime": {"cache_dir": str(tmp_path / "cache")},
    }
    compare(quick(inputs, **changes), plan(["none"], 1), tmp_path / "out")
    notes = Notes()
    changed = quick(inputs, **changes, finetune={"epochs": 2}, run={"seed": 3})
    with pytest.raises(UserError, match="other settings"):
        compare(changed, plan(["none"], 1), tmp_path / "out", notes)
    assert notes.phases == []
    compare(changed, plan(["none"], 1), tmp_path / "other", notes)
    assert notes.phases[0] == "LM head warm-up"


def test_few_labels_share_an_adaptation(inputs: Inputs, tmp_path: Path):
    notes = Notes()
    finished = compare(quick(inputs), plan(["random", "idf"], 2, labelled=(2, "all")), tmp_path, notes)
    assert [phase for phase in notes.phases if "adapting" in phase] == ["adapting · random", "adapting · idf"] * 2
    assert [(cell.spec.condition.labelled, cell.n_labelled) for cell in finished.cells] == [(2, 8), ("all", 40)] * 4
    for few, all_of_them in zip(finished.cells[::2], finished.cells[1::2], strict=True):
        assert few.adaptation == all_of_them.adaptation
        assert few.scores != all_of_them.scores
    config = quick(inputs, data={"labelled_per_class": 2})
    reference = compare(config, Plan.of(["random"], {}, [1]), tmp_path / "few")
    assert reference.cells[0].scores == finished.cells[4].scores
    without = compare(quick(inputs), plan(["random"], 1), tmp_path / "without")
    assert without.cells[0].scores == finished.cells[1].scores, "as configured: all of them"


def test_points_that_repeat_another_are_left_out(inputs: Inputs, tmp_path: Path):
    """Else a family counts the same cells twice, under a heading that promises labels there are not."""
    notes = Notes()
    asked = plan(["none", "random"], 1, labelled=(2, 1000, "all", 2000))
    comparison = Comparison.open(quick(inputs), asked, tmp_path / "out", notes).with_head()
    assert comparison.plan.labelled == (2, "all")
    finished = comparison.run(lambda _event: None)
    assert [(cell.spec.condition.labelled, cell.n_labelled) for cell in finished.cells] == [(2, 8), ("all", 40)] * 2
    for count in (1000, 2000):
        expected = f"--shots {count}: this takes all 40 labelled examples, so it is run as the point 'all'"
        assert notes.lines.count(expected) == 1
    assert not any("--shots 2:" in line for line in notes.lines)


def test_a_class_with_fewer_labels_is_said(own: Inputs, tmp_path: Path):
    rows = [json.loads(line) for line in own.train.read_text().splitlines()]
    kept = [row for row in rows if row["label"] != rows[0]["label"]] + [rows[0]]
    own.train.write_text("".join(json.dumps(row) + "\n" for row in kept))
    notes = Notes()
    found = Comparison.open(quick(own), plan(["none"], 1, labelled=(3,)), tmp_path / "out", notes)
    assert found.plan.labelled == (3,)
    assert "--shots 3: some classes have fewer examples; the total is 10" in notes.lines


def test_steps_of_the_adaptation(inputs: Inputs, tmp_path: Path):
    """An epoch has two steps; a step has twenty texts with three masks each."""
    finished = compare(quick(inputs), plan(["none", "random"], 1, adapt_steps=(1, 2, 3)), tmp_path)
    cells = [(cell.spec.masking, cell.spec.condition.adapt_steps, cell.adaptation) for cell in finished.cells]
    assert [(name, steps, stats.steps, stats.masked_tokens) for name, steps, stats in cells] == [
        ("none", None, 0, 0),
        *(("random", steps, steps, steps * 60) for steps in (1, 2, 3)),
    ]
    epoch = compare(quick(inputs), plan(["random"], 1), tmp_path / "epoch").cells[0]
    assert epoch.scores == finished.cells[2].scores
    longer = compare(quick(inputs, adapt={"epochs": 2}), plan(["random"], 1), tmp_path / "longer").cells[0]
    assert longer.adaptation.steps == 4
    assert longer.scores != finished.cells[3].scores


def test_the_test_set_is_encoded_once(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from nmg.tasks.classification import ClassificationTask

    encoded: list[int] = []
    true = ClassificationTask.encode

    def encode(task: ClassificationTask, examples: Any) -> Any:
        encoded.append(len(examples))
        return true(task, examples)

    monkeypatch.setattr(ClassificationTask, "encode", encode)
    compare(quick(inputs), plan(seeds=2, labelled=(1, "all")), tmp_path / "out")
    assert encoded.count(20) == 1
    assert (encoded.count(4), encoded.count(40)) == (2, 2), "the training set once a seed"
    compare(quick(inputs, data={"test_examples": 11}), plan(seeds=2), tmp_path / "sampled")
    assert encoded.count(11) == 2, "each seed has its own sample"


def test_without_a_step_there_is_no_loss_to_report(inputs: Inputs, tmp_path: Path):
    finished = compare(quick(inputs, adapt={"epochs": 0}), plan(["none", "random"], 1), tmp_path)
    assert finished.failures == {}
    assert [(cell.adaptation.loss, cell.adaptation.steps) for cell in finished.cells] == [(None, 0)] * 2
    assert finished.cells[0].scores == finished.cells[1].scores, "masks that nothing was learned from"


def test_masks_chosen_before_the_first_step_cost_too(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A clock that moves only while masks are chosen, all of them before the training begins."""
    now, true = [0.0], PolicyMasking.plan

    def choose(masking: PolicyMasking, *arguments: Any) -> Any:
        now[0] += 100
        return true(masking, *arguments)

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    monkeypatch.setattr(PolicyMasking, "plan", choose)
    policies = {"mine": save_policy(tmp_path / "policy")}
    config = quick(inputs, test={"remask": "once"}, adapt={"epochs": 3})
    cell = compare(config, plan(["random"], 1, policies), tmp_path / "out").cells[1]
    monkeypatch.undo()
    assert cell.adaptation.steps == 6
    assert cell.seconds["masks"] == cell.adaptation.seconds == cell.total_seconds == 100, "40 blocks in one batch, once"


def test_costs_of_masks_and_parts_of_the_time(inputs: Inputs, tmp_path: Path):
    finished = compare(quick(inputs), plan(["none", "random"], 1), tmp_path)
    nothing, random = finished.cells
    assert nothing.adaptation.seconds == nothing.seconds["masks"] == 0
    assert 0 < random.seconds["masks"] <= random.adaptation.seconds
    for cell in finished.cells:
        parts = [trial_json(cell)["seconds"][phase] for phase in ("adapt", "finetune", "evaluate")]
        assert trial_json(cell)["seconds"]["total"] == pytest.approx(sum(parts))
