"""The command that decides: stages that are replaced, refusals, and small runs of the real ones."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM

import nmg as public
from auto.helpers import LEARNED_WINS, NOTHING_WINS, Fakes
from nmg.auditing import budget
from nmg.auto import plan, stages
from nmg.auto.folder import AutoFolder, read_state
from nmg.auto.page import auto_page, verdict
from nmg.auto.records import AuditStage, LearnStage
from nmg.auto.run import AutoResult, adapt_automatically, run_stages
from nmg.auto.split import divide
from nmg.auto.stages import Jobs
from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.base.trial_recipe import TrialRecipe
from nmg.config import Config, load_config
from nmg.meta_training.estimate import Estimate
from nmg.policies.linear import LinearConfig, LinearPolicy
from nmg.report.html import render_html
from support.command import Nmg
from support.runs import Inputs

STAGES = ["audit", "learn", "comparison", "adapted"]


def begin(path: Path, fakes: Fakes, minutes: float = 20) -> AutoFolder:
    return AutoFolder.begin(path, Config(), minutes, {"data.train": "1"}, fakes.clock)


def go_on(path: Path, fakes: Fakes) -> AutoFolder:
    return AutoFolder.resume(path, Config(), None, {"data.train": "1"}, fakes.clock)


def test_stages_run_in_turn_and_share_the_time(tmp_path: Path):
    """Of 1200 s the audit may take 400. It takes 60, so learning has 1140 − 90 − 63, and so on."""
    fakes = Fakes()
    decision = run_stages(begin(tmp_path, fakes), fakes)
    assert (decision.decision, decision.masking) == ("adapt", "learned")
    assert fakes.calls == [("audit", 400), ("learn", 987), ("comparison", 1080 - 63), ("adapted", 1020)]
    facts = read_state(tmp_path)
    assert [facts[name] for name in ("decision", "masking", "is_finished")] == ["adapt", "learned", True]
    assert facts["reason"] == decision.reason
    assert {name: stage["seconds"] for name, stage in facts["stages"].items()} == dict.fromkeys(STAGES, 60)
    assert facts["stages"]["comparison"]["result"]["scores"] == LEARNED_WINS.scores


def test_nothing_is_adapted_where_nothing_wins(tmp_path: Path):
    fakes = Fakes(outcome=NOTHING_WINS)
    assert run_stages(begin(tmp_path, fakes), fakes).decision == "leave"
    assert [stage for stage, _ in fakes.calls] == STAGES[:3]
    assert read_state(tmp_path)["masking"] is None


@pytest.mark.parametrize("killed_in", STAGES)
def test_a_run_that_was_killed_continues_to_the_same_state(tmp_path: Path, killed_in: str):
    whole = Fakes()
    run_stages(begin(tmp_path / "whole", whole), whole)
    fakes = Fakes(fails_in=killed_in)
    with pytest.raises(KeyboardInterrupt):
        run_stages(begin(tmp_path / "part", fakes), fakes)
    assert not read_state(tmp_path / "part")["is_finished"]
    fakes.fails_in = None
    run_stages(go_on(tmp_path / "part", fakes), fakes)
    assert fakes.calls == whole.calls, "finished stages do not run again, and the others have the same time"
    assert (tmp_path / "part" / "auto.json").read_bytes() == (tmp_path / "whole" / "auto.json").read_bytes()


def test_what_a_run_does_not_continue_with(tmp_path: Path):
    fakes = Fakes(fails_in="learn")
    with pytest.raises(KeyboardInterrupt):
        run_stages(begin(tmp_path, fakes), fakes)
    other = Config.model_validate({"masking": {"rate": 0.3}})
    with pytest.raises(UserError, match=r"the run began with other data\.train, settings"):
        AutoFolder.resume(tmp_path, other, None, {"data.train": "2"}, fakes.clock)
    with pytest.raises(UserError, match="there is no run of nmg adapt --auto in this folder"):
        go_on(tmp_path / "nothing", fakes)
    fakes.fails_in = None
    longer = AutoFolder.resume(tmp_path, Config(), 40, {"data.train": "1"}, fakes.clock)
    run_stages(longer, fakes)
    later = [("comparison", 2400 - 120 - 63), ("adapted", 2400 - 180)]
    assert fakes.calls[1:] == [("learn", 987), *later], "the interrupted stage keeps its time"
    with pytest.raises(UserError, match="this run is finished; its page is"):
        go_on(tmp_path, fakes)


def test_the_page_says_what_was_decided(tmp_path: Path):
    pages = {}
    for outcome in (LEARNED_WINS, NOTHING_WINS):
        fakes = Fakes(outcome=outcome)
        run_stages(begin(tmp_path / str(len(pages)), fakes), fakes)
        facts = read_state(tmp_path / str(len(pages)))
        said = verdict(facts, tmp_path)
        page = render_html(auto_page(facts, Config.model_validate({"data": {"train": "t.jsonl"}}), tmp_path))
        assert said.verdict in page
        for result in ("70 steps at learning rate 0.001; best rule: idf", "After 80 inner loops the gate selected"):
            assert result in page
        pages[facts["decision"]] = said
    assert pages["adapt"].verdict.startswith("Adapt, with the masking learned")
    assert pages["adapt"].command == f"nmg share {tmp_path}/adapted OWNER/NAME"
    assert pages["leave"].verdict == "Do not adapt: the model is left as it is."
    assert "--minutes 40" in pages["leave"].command, "an interval reaches above 0"


def test_report_writes_the_page_again(nmg: Nmg, tmp_path: Path):
    fakes = Fakes(fails_in="adapted")
    with pytest.raises(KeyboardInterrupt):
        run_stages(begin(tmp_path, fakes), fakes)
    answer = nmg("report", tmp_path)
    assert answer.code == 2
    assert f"not finished, so it has no page. Continue it: nmg adapt --auto --resume {tmp_path}" in answer.err
    fakes.fails_in = None
    run_stages(go_on(tmp_path, fakes), fakes)
    answer = nmg("report", tmp_path)
    assert (answer.code, answer.out) == (0, f"{tmp_path}/index.html: the decision\n")
    assert "Adapt, with the masking learned" in (tmp_path / "index.html").read_text("utf-8")
    (tmp_path / "auto.json").write_text('{"job": "adapt --auto"}')
    assert "this log cannot be shown, because it is damaged" in nmg("report", tmp_path).err


def settings(inputs: Inputs, **changes: Any) -> Config:
    sections = inputs.sections(
        **{
            "adapt": {"epochs": 1},
            "reward": {"metric": None},
            "meta": {"continual": False},
            "test": {"evaluation": "linear-probe"},
        }
        | changes
    )
    del sections["learner"], sections["policy"]
    return Config.model_validate(sections)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"train": None}}, "--auto: needs labelled examples to decide by"),
        ({"adapt": {"epochs": 0}}, "--auto needs an adaptation of at least one epoch"),
        ({"adapt": {"epochs": 3, "steps": 5}}, r"adapt\.steps: --auto compares adaptations without it"),
        ({"adapt": {"add_words": "auto:5"}}, r"adapt\.add_words: --auto"),
        ({"data": {"train": "missing.jsonl"}}, "missing.jsonl"),
        ({"model": {"name": "missing/model"}}, "missing/model"),
        ({"finetune": {"max_length": 5000}}, r"finetune\.max_length"),
    ],
)
def test_invalid_input_is_refused_before_any_work(
    inputs: Inputs, tmp_path: Path, changes: dict[str, Any], message: str
):
    with pytest.raises(UserError, match=message):
        adapt_automatically(settings(inputs, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_used_folder_is_refused(inputs: Inputs, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="the folder already contains another run"):
        adapt_automatically(settings(inputs), tmp_path)


def test_words_that_do_not_fit(inputs: Inputs, nmg: Nmg, tmp_path: Path):
    inputs.write_config(tmp_path / "config.yaml")
    (tmp_path / "text.txt").write_text("some text")
    for words, message in {
        ("adapt", "--auto", "--out", "out"): "give either CONFIG.yaml --out FOLDER, or --resume FOLDER",
        ("adapt", "--auto", "--corpus", "text.txt", "--out", "out"): "give either CONFIG.yaml --out FOLDER",
        ("adapt", "--auto", "config.yaml", "--out", "out", "--masking", "idf"): "--masking: --auto decides this itself",
        ("adapt", "config.yaml", "--out", "out", "--minutes", "5"): "--minutes: only --auto accepts it",
        ("adapt", "--auto", "--resume", "out"): "there is no run of nmg adapt --auto in this folder",
        ("adapt", "config.yaml", "--config", "config.yaml", "--out", "o"): "give one configuration file",
    }.items():
        answer = nmg(*words)
        assert answer.code == 2
        assert message in answer.err
    assert not (tmp_path / "out").exists()


def digest(folder: Path) -> str:
    files = sorted(folder.iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@pytest.fixture(scope="module")
def ran(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AutoResult]:
    """A whole run in which there is no time to learn masks."""
    before, out = digest(inputs.model), tmp_path_factory.mktemp("auto") / "out"
    config = settings(inputs, adapt={"epochs": 2, "held_out": 0.1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "FEWEST_SEEDS", 2)
        patch.setattr(stages, "AUDIT_SEEDS", 2)
        patch.setattr(budget, "FEWEST", 2)
        yield adapt_automatically(config, out, minutes=1e-3)
    assert digest(inputs.model) == before


def test_a_whole_run_and_its_files(ran: AutoResult, inputs: Inputs):
    """On so few examples nothing wins, and the model is left as it is."""
    facts = read_state(ran.out)
    assert list(facts["stages"]) == STAGES[:3]
    assert facts["decision"] == ran.decision.decision == "leave"
    assert ran.model == str(inputs.model)
    assert facts["stages"]["learn"]["result"]["why_not"] is not None
    assert set(facts["stages"]["comparison"]["result"]["scores"]) > {"none", "random"}
    page = (ran.out / "index.html").read_text()
    assert all(f'href="{name}/index.html"' in page for name in ("audit", "comparison"))
    assert not (ran.out / "adapted").exists()
    with pytest.raises(UserError, match="this run is finished"):
        adapt_automatically(load_config(ran.out / "config.yaml"), ran.out, resume=True)


def test_the_command(ran: AutoResult, inputs: Inputs, nmg: Nmg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[tuple[Config, Path, dict[str, Any]]] = []

    def run(config: Config, out: Path, **options: Any) -> AutoResult:
        options.pop("on_progress")("comparison", "trial", 3, 6)
        calls.append((config, out, options))
        return ran

    monkeypatch.setattr("nmg.auto.run.adapt_automatically", run)
    (tmp_path / "config.yaml").write_text(settings(inputs).to_yaml())
    answer = nmg("adapt", "--auto", "config.yaml", "--out", "out", "--minutes", "5", "--masking.rate", "0.2")
    assert answer.code == 0, answer.err
    assert "Verdict: Do not adapt: the model is left as it is." in answer.out
    assert "3/4 comparison · trial 3/6" in answer.err
    config, out, options = calls[0]
    assert (config.masking.rate, str(out), options["minutes"], options["resume"]) == (0.2, "out", 5, False)
    again = nmg("adapt", "--resume", ran.out)
    assert again.code == 0, again.err
    config, out, options = calls[1]
    assert (out, options["minutes"], options["resume"]) == (ran.out, None, True)
    assert config == load_config(ran.out / "config.yaml")


@pytest.fixture
def jobs(ran: AutoResult, tmp_path: Path) -> tuple[Jobs, AuditStage]:
    """The real stages in another folder, after an audit that saw room for learned masks."""
    shutil.copytree(ran.out / "audit", tmp_path / "audit")
    config = load_config(ran.out / "config.yaml")
    recommended = tmp_path / "audit" / "recommended.yaml"
    learner = {"learner": {"kind": "experiment", "strengths": [2], "rules": [0, 5]}, "policy": {"features": ["idf"]}}
    recommended.write_text(Config.model_validate({**load_config(recommended).model_dump(), **learner}).to_yaml())
    found = AuditStage.from_json(read_state(ran.out)["stages"]["audit"]["result"])
    found = replace(found, pays=None, reward="probe: loss", possible_gain=None, steps=2, plays=20)
    work = Jobs(config, divide(config, tmp_path / "data"), tmp_path, Silent(), lambda *_: None)
    return work, replace(found, costs=replace(found.costs, play=0.01))


def test_masks_are_learned_within_the_time_and_compared(jobs: tuple[Jobs, AuditStage], monkeypatch: pytest.MonkeyPatch):
    work, found = jobs
    monkeypatch.setattr(plan, "LEAST_PLAYS", 20)
    monkeypatch.setattr(plan, "FEWEST_SEEDS", 2)
    forecast = Estimate(20.0, 0, 0, 0, 0, 0, 0)
    monkeypatch.setattr(stages, "estimate", lambda *_: forecast)
    assert "10 of at least 20 inner loops" in str(work.learn(found, 60).why_not), "200 would take 1200 s"
    learned = work.learn(found, 121)
    assert learned.why_not is None
    run = load_config(work.out / "learn" / "config.yaml")
    assert run.learner.model_dump()["budget"] == 20
    assert (run.meta.contexts, run.adapt.epochs) == (8, 1), "2 steps of 4 texts, as in the audit"
    assert run.data.test is None
    log = (work.out / "learn" / "metrics.jsonl").read_bytes()
    assert work.learn(found, 121) == learned, "a second call continues the run, which is finished"
    assert (work.out / "learn" / "metrics.jsonl").read_bytes() == log
    shutil.copytree(work.out / "learn" / "learned", work.out / "learn" / "policy", dirs_exist_ok=True)
    (work.out / "learn" / "effects.json").write_text('{"selected": "policy"}')  # as if it had passed the gate
    of_policy = work.compare(found, LearnStage(selected="policy"), 0)
    assert list(of_policy.scores) == ["none", "random", "learned"]
    assert set(of_policy.gains) == {"random", "learned"}
    assert of_policy.examples == work.divided.examples[1]
    assert {len(scores) for scores in of_policy.scores.values()} == {2}


def test_the_winner_is_adapted_with_the_schedule_that_was_compared(jobs: tuple[Jobs, AuditStage]):
    work, found = jobs
    adapted = work.adapt(found, "idf", 0)
    folder = work.out / "adapted"
    facts = json.loads((folder / "nmg.json").read_text())
    assert (adapted.steps, facts["steps"], facts["masking"]) == (2, 2, "idf")
    used, compared = facts["settings"], load_config(work.out / "audit" / "recommended.yaml").for_meta_test()
    assert used["adapt"]["learning_rate"] == compared.adapt.learning_rate
    assert used["adapt"]["batch_size"] == compared.adapt.batch_size == 4
    assert used["masking"] == compared.masking.model_dump(mode="json")
    assert used["data"]["train"] == work.config.data.train, "the whole corpus, not the part without validation texts"
    model = AutoModelForMaskedLM.from_pretrained(folder)
    base = AutoModelForMaskedLM.from_pretrained(work.config.model.name)
    assert not torch.equal(model.get_input_embeddings().weight, base.get_input_embeddings().weight)
    weights = (folder / "model.safetensors").read_bytes()
    assert work.adapt(found, "idf", 0) == adapted, "a second call finds the model"
    assert (folder / "model.safetensors").read_bytes() == weights


def test_a_tuned_recipe_is_compared_and_used(jobs: tuple[Jobs, AuditStage]):
    work, found = jobs
    found = replace(found, steps=10)
    before = work._final(found)
    policy = LinearPolicy(LinearConfig(recipe=TrialRecipe(learning_rate=0.125, steps_factor=1.3, rate=0.25)))
    policy.save_pretrained(work.out / "learn" / "policy")
    after = work._final(found)
    assert (before.adapt.steps, after.adapt.steps) == (10, 13)
    assert (after.adapt.learning_rate, after.masking.rate) == (0.125, 0.25)
    assert after == before.model_copy(update={"adapt": after.adapt, "masking": after.masking}), "nothing else changes"
    assert (work._tuned.adapt.learning_rate, work._steps(found)) == (0.125, 13), "the comparison uses these"


def test_it_is_one_call_in_python():
    assert public.adapt_automatically is adapt_automatically
