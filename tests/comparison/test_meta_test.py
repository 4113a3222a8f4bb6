"""Comparing maskings: everything but the masks is the same, and the results say what was run."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, pipeline

from nmg.adaptation.adapt import adapt_corpus
from nmg.base.errors import UserError
from nmg.base.progress import Reporter, Silent
from nmg.base.trial import TrainingStats, TrialSpec
from nmg.comparison.plan import Plan
from nmg.comparison.results import ComparisonResults, trial_json
from nmg.comparison.run import Comparison, TrialEvent
from nmg.comparison.worker import ComparisonWorker
from nmg.config import Config
from nmg.jobs.compare import compare
from nmg.masking.registry import RULES
from nmg.policies.maskings import load_masking
from nmg.training.lm import load_pretrained
from nmg.trials.session import ModelSession
from support.command import Nmg
from support.planted import WORDS
from support.runs import Inputs, Notes, is_same
from support.tiny import save_headless_bert

from .helpers import facts, save_policy, written

MASKINGS = ("none", "random", "whole-word", "learned")
FILES = {"trials.jsonl", "results.json", "results.md", "results.csv", "results.tex", "index.html"}


def run(
    config: Config, out: Path, maskings: Sequence[str] = MASKINGS, seeds: int = 2, **options: Any
) -> ComparisonResults:
    policies = {"learned": save_policy(out.parent / "policy")} if "learned" in maskings else {}
    return compare(config, maskings, out, policies=policies, seeds=seeds, **options)


def prepare(
    config: Config, maskings: Sequence[str], out: Path, reporter: Reporter, policy: Path | None = None
) -> ComparisonWorker:
    policies = {} if policy is None else {"learned": policy}
    return Comparison.open(config, Plan.of(maskings, policies, [0]), out, reporter).with_head().session


def test_all_maskings_with_two_seeds(inputs: Inputs, tmp_path: Path):
    config = inputs.config(adapt={"epochs": 2}, test={"adapt_epochs": 1, "finetune_batch_size": 8})
    cells = run(config, tmp_path / "out").cells
    assert [(cell.spec.masking, cell.spec.seed) for cell in cells] == [
        (name, seed) for seed in (0, 1) for name in MASKINGS
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES

    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["parts"][0]["settings"]["adapt"]["epochs"] == 1, "the settings of the meta-test"
    assert results["parts"][0]["settings"]["finetune"]["batch_size"] == 8
    assert results["cells"] == [{"part": "", **trial_json(cell)} for cell in cells]
    for cell in cells:
        assert set(cell.scores) == {"accuracy", "micro_f1", "macro_f1", "loss"}
        seconds = trial_json(cell)["seconds"]
        assert set(seconds) == {"adapt", "finetune", "evaluate", "total", "masks", "held_out"}
        assert seconds["total"] == pytest.approx(sum(seconds[phase] for phase in ("adapt", "finetune", "evaluate")))
        assert cell.finetuning.steps == 5

    nothing = [cell for cell in cells if cell.spec.masking == "none"]
    assert {cell.adaptation for cell in nothing} == {TrainingStats()}
    adapted = [cell for cell in cells if cell.spec.masking != "none"]
    assert {(cell.adaptation.steps, cell.adaptation.masked_tokens) for cell in adapted} == {(10, 40 * 3)}
    # A word is a token here, so "whole-word" is "random" by another name.
    others = [cell for cell in cells if cell.spec.masking != "whole-word"]
    assert len({cell.scores["loss"] for cell in others}) == 6, "masks and seeds make a difference"

    scores, pairs, costs = tables((tmp_path / "out" / "results.md").read_text(encoding="utf-8"))
    assert [row[0] for row in scores[2:]] == [row[0] for row in costs[2:]] == list(MASKINGS)
    assert pairs[0][2:5] == ["95 %, seeds and texts", "p (Holm)", "Wilcoxon p (Holm)"]
    assert [row[0] for row in pairs[2:]] == [
        *("random − none", "whole-word − none", "learned − none"),
        *("whole-word − random", "learned − random", "learned − whole-word"),
    ]
    corrected = [pair["t_p_holm"] for pair in results["results"][0]["pairs"]]
    assert corrected[3] == 1.0, "equal in every seed: nothing speaks for a difference"
    assert all(p is not None for p in corrected), "every planned pair is of the family"


def tables(markdown: str) -> list[list[list[str]]]:
    """The cells of each table, without the reasons why a row is marked."""
    parts = [part.splitlines() for part in markdown.split("\n\n") if part.startswith("|")]
    rows = [[line.strip("|").split("|") for line in table] for table in parts]
    return [
        [[re.sub(r" \((best|significant)\)", "", cell.strip(" *")) for cell in row] for row in table] for table in rows
    ]


def test_results_can_be_had_again_and_do_not_depend_on_what_else_is_run(inputs: Inputs, tmp_path: Path):
    config = inputs.config()
    cells = run(config, tmp_path / "out").cells
    torch.manual_seed(5)
    assert facts(run(config, tmp_path / "again").cells) == facts(cells)
    plan = Plan.of(["learned"], {"learned": tmp_path / "policy"}, [1])
    alone = Comparison.open(config, plan, tmp_path / "alone", Silent()).with_head().run(lambda _event: None)
    assert facts(alone.cells) == [fact for fact in facts(cells) if (fact["masking"], fact["seed"]) == ("learned", 1)]


def test_without_adaptation_masks_make_no_difference(inputs: Inputs, tmp_path: Path):
    """Heads, fine-tuning order and dropout are those of the seed: only the masks tell maskings apart."""
    cells = run(inputs.config(adapt={"epochs": 0}, run={"seed": 3}), tmp_path / "out", seeds=1).cells
    assert len({json.dumps(dict(cell.scores)) for cell in cells}) == 1


def test_finished_cells_are_on_disk_at_any_moment_and_the_next_call_goes_on(inputs: Inputs, tmp_path: Path):
    config, out = inputs.config(), tmp_path / "out"

    def stop(event: TrialEvent, missing: int) -> None:
        assert missing == 4
        if event.result.spec.masking == "random":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, out, ["none", "random"], on_cell=stop)
    files = written(out)
    assert set(files) == {"none.seed-0", "random.seed-0"}

    events: list[TrialEvent] = []
    whole = run(config, out, ["none", "random"], on_cell=lambda event, _missing: events.append(event))
    assert [event.result.spec.name for event in events if not event.was_there] == ["none.seed-1", "random.seed-1"]
    assert {name: written(out)[name] for name in files} == files
    assert facts(whole.cells) == facts(run(config, tmp_path / "uninterrupted", ["none", "random"]).cells)


def test_a_second_call_runs_nothing_that_is_there(inputs: Inputs, tmp_path: Path):
    config, out, notes = inputs.config(), tmp_path / "out", Notes()
    first = run(config, out)
    texts = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    files = written(out)
    events: list[tuple[TrialEvent, int]] = []
    again = run(config, out, reporter=notes, on_cell=lambda *event: events.append(event))
    assert notes.phases == []
    assert all(event.was_there and missing == 0 for event, missing in events)
    assert again.cells == first.cells
    assert written(out) == files
    assert {name: (out / name).read_bytes() for name in texts} == texts


def test_a_model_that_is_missing_is_made_again(inputs: Inputs, tmp_path: Path):
    """Of the first seed alone: the others have none."""
    config, out, notes = inputs.config(), tmp_path / "out", Notes()
    first = run(config, out, ["none", "random"])
    assert {path.name for path in out.iterdir()} == FILES
    saved = run(config, out, ["none", "random"], save_models=True, reporter=notes)
    assert {path.name for path in out.iterdir()} == FILES | {"models"}
    assert {path.name for path in (out / "models").iterdir()} == {"none", "random"}
    assert notes.phases == ["fine-tuning · none", "adapting · random", "fine-tuning · random"]
    assert facts(saved.cells) == facts(first.cells)

    files = written(out)
    weights = (out / "models" / "random" / "model.safetensors").read_bytes()
    shutil.rmtree(out / "models" / "random")
    events: list[TrialEvent] = []
    run(config, out, ["none", "random"], save_models=True, on_cell=lambda event, _missing: events.append(event))
    assert [event.result.spec.name for event in events if not event.was_there] == ["random.seed-0"]
    assert {name for name, when in written(out).items() if when != files[name]} == {"random.seed-0"}
    assert (out / "models" / "random" / "model.safetensors").read_bytes() == weights


def test_a_second_call_of_the_command_goes_on(nmg: Nmg, inputs: Inputs, tmp_path: Path):
    config = inputs.write_config(tmp_path / "config.yaml")
    words = ("compare", config, "--out", "out", "--maskings", "none,random")
    answer = nmg(*words, "--seeds", "1")
    assert answer.code == 0, answer.err
    assert "trial 2/2" in answer.err
    files = written(tmp_path / "out")
    answer = nmg(*words, "--seeds", "1")
    assert answer.code == 0, answer.err
    assert written(tmp_path / "out") == files
    answer = nmg(*words, "--seeds", "2", "--save-models")
    assert answer.code == 0, answer.err
    assert "p (Holm)" in answer.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | {"models"}
    again = {name for name, when in written(tmp_path / "out").items() if when != files.get(name)}
    assert again == {f"{name}.seed-{seed}" for name in ("none", "random") for seed in (0, 1)}
    kept = written(tmp_path / "out")
    assert nmg(*words, "--seeds", "2", "--save-models").code == 0
    assert written(tmp_path / "out") == kept


def test_the_test_set_is_encoded_once_where_it_is_the_same(inputs: Inputs, tmp_path: Path):
    """An encoding that serves again is that of the same examples."""

    def opened(config: Config) -> ComparisonWorker:
        plan = Plan.of(["none"], {}, [0, 1])
        return ComparisonWorker.open(config, plan, tmp_path / "out", Silent(), save_models=False)

    whole = opened(inputs.config())
    first = whole._trial(TrialSpec("none", 0))
    assert whole._trial(TrialSpec("none", 1)).held_out is first.held_out
    sampled = opened(inputs.config(data={"test_examples": 9}))
    samples = [sampled._trial(TrialSpec("none", seed)) for seed in (0, 1)]
    assert samples[0].held_out.examples != samples[1].held_out.examples
    for trial in samples:
        assert len(trial.held_out.features) == len(trial.held_out.examples) == 9
        alone = trial.task.encode(trial.held_out.examples)
        assert trial.held_out.features.targets["labels"].tolist() == alone.targets["labels"].tolist()


def filled(folder: Path) -> list[str]:
    answers = pipeline("fill-mask", str(folder), device="cpu")(f"{WORDS[0]} [MASK] {WORDS[1]}")
    assert len(answers) == 5
    return [answer["token_str"] for answer in answers]


def test_saved_models_load_in_transformers(inputs: Inputs, tmp_path: Path):
    config, policy = inputs.config(), save_policy(tmp_path / "elsewhere" / "policy")
    folder = str(policy.parent)  # a masking may be named by a run's folder
    run(config, tmp_path / "out", ["none", "random", folder], save_models=True)
    models = sorted((tmp_path / "out" / "models").iterdir())
    assert len(models) == 3
    for model in models:
        assert set(filled(model)) <= {*WORDS, "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    pretrained = AutoModelForMaskedLM.from_pretrained(inputs.model)
    saved = AutoModelForMaskedLM.from_pretrained(tmp_path / "out" / "models" / "none")
    assert is_same(saved, pretrained)
    assert not is_same(AutoModelForMaskedLM.from_pretrained(tmp_path / "out" / "models" / "random"), pretrained)
    assert [path.name for path in policy.parent.iterdir()] == ["policy"], "the policy's folder is left alone"


def test_an_adapted_model_loads_in_transformers(inputs: Inputs, tmp_path: Path):
    config = inputs.config(data={"train": None, "test": None, "corpus": str(inputs.train)})
    result = adapt_corpus(config, "random", tmp_path / "model", Silent())
    assert set(filled(tmp_path / "model")) <= {*WORDS, "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    facts = json.loads((tmp_path / "model" / "nmg.json").read_text())
    assert facts["masking"] == "random"
    assert (facts["steps"], facts["masked_tokens"]) == (10, 120) == (result.steps, result.masked_tokens)
    again = adapt_corpus(config, "random", tmp_path / "again", Silent())
    assert again.loss == result.loss
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "model" / "model.safetensors"
    ).read_bytes()
    assert not list(tmp_path.glob("*.tmp"))


def test_adapting_under_a_policy(inputs: Inputs, tmp_path: Path):
    config = inputs.config(data={"corpus": str(inputs.train)})
    policy = save_policy(tmp_path / "run" / "policy")
    adapt_corpus(config, str(tmp_path / "run"), tmp_path / "by run", Silent())
    adapt_corpus(config, str(policy), tmp_path / "by policy", Silent())
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("by run", "by policy"))
    assert is_same(first, second)


def test_names_of_rules_are_rules_whatever_folders_are_there(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.tsv").write_text(f"{WORDS[0]}\t2\n")
    config = inputs.config(masking={"keywords": [WORDS[0]], "weights": "weights.tsv"})
    lm = load_pretrained(config.model)
    corpus = ModelSession.open(config, Silent()).corpus([" ".join(WORDS[:9])])
    for name in sorted(set(RULES) - {"entity", "selective"}):
        (tmp_path / name).mkdir()
        assert load_masking(name, lm, corpus, config.masking).name == name


@pytest.fixture
def headless(tmp_path: Path) -> Path:
    """A model whose LM head would have to be warmed up."""
    return save_headless_bert(tmp_path / "headless", WORDS, hidden=16)


@pytest.mark.parametrize(
    ("maskings", "hidden_size", "message"),
    [
        (["random", "learned"], 32, "hidden states of size 32"),
        (["random", "randon"], 16, "did you mean 'random'"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_training(
    inputs: Inputs, tmp_path: Path, headless: Path, maskings: list[str], hidden_size: int, message: str
):
    policy, notes = save_policy(tmp_path / "policy", hidden_size=hidden_size), Notes()
    config = inputs.config(model={"name": str(headless), "head_warmup_steps": 3})
    with pytest.raises(UserError, match=message):
        prepare(config, maskings, tmp_path / "cells", notes, policy)
    with pytest.raises(UserError, match=message):
        adapt_corpus(config, str(policy) if "learned" in maskings else "randon", tmp_path / "out", notes)
    assert notes.phases == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": {"metric": "f1"}}, "reward.metric.*known: accuracy"),
        ({"adapt": {"block_size": 63}}, "adapt.block_size"),
        ({"finetune": {"max_length": 65}}, "finetune.max_length"),
        ({"data": {"test": None}}, "needs a test set"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_settings_that_cannot_be_are_refused_before_any_training(
    inputs: Inputs, tmp_path: Path, headless: Path, changes: dict[str, Any], message: str
):
    notes = Notes()
    config = inputs.config(model={"name": str(headless), "head_warmup_steps": 3}, **changes)
    with pytest.raises(UserError, match=message):
        prepare(config, ["random"], tmp_path / "cells", notes)
    assert notes.phases == []


def test_a_missing_head_is_warmed_up_once_for_all(inputs: Inputs, tmp_path: Path, headless: Path):
    config = inputs.config(
        model={"name": str(headless), "head_warmup_steps": 3, "head_tuning_steps": 2},
        runtime={"cache_dir": str(tmp_path / "cache")},
    )
    first, second = Notes(), Notes()
    out = tmp_path / "out"
    one, two = prepare(config, ["random"], out, first), prepare(config, ["random"], out, second)
    assert first.phases == ["LM head warm-up", "LM with its new head"]
    assert second.phases == []
    assert is_same(one.pretrained, two.pretrained)
    assert is_same(one.pretrained, one.model.lm.model.state_dict())
    plan = Plan.of(["random"], {}, [0])
    assert not is_same(one.pretrained, ComparisonWorker.open(config, plan, out, second, save_models=False).pretrained)
    other = prepare(config.model_copy(update={"run": config.run.model_copy(update={"seed": 1})}), [], out, first)
    assert not is_same(one.pretrained, other.pretrained)
    shutil.rmtree(tmp_path / "cache")
    assert is_same(prepare(config, ["random"], out, second).pretrained, one.pretrained)
