"""Comparing maskings: everything but the masks is the same, and the results say what was run."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, pipeline

from nmg.adapt_run import adapt_corpus
from nmg.checkpoint import publish
from nmg.config import Config
from nmg.errors import UserError
from nmg.inner.lm import load_pretrained
from nmg.masking.registry import RULES
from nmg.meta_test import MetaTest, SeedData, resolve_masking
from nmg.report.tables import ResultCell
from nmg.reporter import Silent
from nmg.rl.network import MaskPolicy, MaskPolicyConfig
from nmg.seeding import torch_stream
from nmg.setup import build_corpus
from support.planted import WORDS
from support.runs import Inputs, Notes, is_same
from support.tiny import save_tiny_bert

MASKINGS = ("none", "random", "whole-word", "neural")


def save_policy(folder: Path, hidden_size: int = 16) -> Path:
    with torch_stream(0, "policy"):
        policy = MaskPolicy(MaskPolicyConfig(hidden_size=hidden_size, num_attention_heads=2, head_hidden=8))
    publish(policy, folder)
    return folder


def run(
    config: Config, out: Path, maskings: Sequence[str] = MASKINGS, seeds: Sequence[int] = (0, 1), **options: Any
) -> list[ResultCell]:
    policy = save_policy(out.parent / "policy")
    test = MetaTest.prepare(config, maskings, policy, Silent())
    return test.run(seeds, out, lambda _cell: None, **options)


def facts(cells: Sequence[ResultCell]) -> list[dict[str, Any]]:
    """All but the seconds."""
    return [{name: value for name, value in vars(cell).items() if name != "seconds"} for cell in cells]


def test_all_maskings_with_two_seeds(inputs: Inputs, tmp_path: Path):
    config = inputs.config(adapt={"epochs": 2}, test={"adapt_epochs": 1, "finetune_batch_size": 8})
    cells = run(config, tmp_path / "out")
    assert [(cell.masking, cell.seed) for cell in cells] == [(name, seed) for seed in (0, 1) for name in MASKINGS]

    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["settings"]["adapt"]["epochs"] == 1, "the settings of the meta-test"
    assert results["settings"]["finetune"]["batch_size"] == 8
    assert [ResultCell(**cell) for cell in results["cells"]] == cells
    for cell in cells:
        assert set(cell.scores) == {"accuracy", "micro_f1", "macro_f1", "loss"}
        assert set(cell.seconds) == {"adapt", "finetune", "evaluate", "total"}
        assert cell.total_seconds >= cell.seconds["adapt"] + cell.seconds["finetune"] + cell.seconds["evaluate"]
        assert cell.task_steps == 5

    nothing = [cell for cell in cells if cell.masking == "none"]
    assert {(cell.lm_steps, cell.masked_tokens, cell.lm_loss) for cell in nothing} == {(0, 0, None)}
    adapted = [cell for cell in cells if cell.masking != "none"]
    assert {(cell.lm_steps, cell.masked_tokens) for cell in adapted} == {(10, 40 * 3)}
    # A word is a token here, so "whole-word" is "random" by another name.
    others = [cell for cell in cells if cell.masking != "whole-word"]
    assert len({cell.scores["loss"] for cell in others}) == 6, "masks and seeds make a difference"

    table = (tmp_path / "out" / "results.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(MASKINGS)
    assert all(any(row.startswith(f"| {name} ") for row in rows) for name in MASKINGS)


def test_results_can_be_had_again_and_do_not_depend_on_what_else_is_run(inputs: Inputs, tmp_path: Path):
    config = inputs.config()
    cells = run(config, tmp_path / "out")
    torch.manual_seed(5)
    assert facts(run(config, tmp_path / "again")) == facts(cells)
    alone = run(config, tmp_path / "alone", ["neural"], [1])
    assert facts(alone) == [fact for fact in facts(cells) if (fact["masking"], fact["seed"]) == ("neural", 1)]


def test_without_adaptation_masks_make_no_difference(inputs: Inputs, tmp_path: Path):
    """Heads, fine-tuning order and dropout are those of the seed: only the masks tell maskings apart."""
    cells = run(inputs.config(adapt={"epochs": 0}), tmp_path / "out", seeds=[3])
    assert len({json.dumps(dict(cell.scores)) for cell in cells}) == 1


def test_finished_cells_are_on_disk_at_any_moment(inputs: Inputs, tmp_path: Path):
    test = MetaTest.prepare(inputs.config(), ["none", "random"], None, Silent())

    def on_cell(cell: ResultCell) -> None:
        if cell.masking == "random":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        test.run([0, 1], tmp_path, on_cell)
    cells = json.loads((tmp_path / "results.json").read_text())["cells"]
    assert [(cell["masking"], cell["seed"]) for cell in cells] == [("none", 0), ("random", 0)]


def test_the_test_set_is_encoded_once_where_it_is_the_same(inputs: Inputs):
    """An encoding that serves again is that of the same examples."""
    tokenizer = load_pretrained(inputs.config().model).tokenizer
    whole, sampled = inputs.config(), inputs.config(data={"test_examples": 9})
    first = SeedData.load(whole, tokenizer, 0)
    assert SeedData.load(whole, tokenizer, 1, first).test is first.test
    samples = [SeedData.load(sampled, tokenizer, seed, first) for seed in (0, 1)]
    assert samples[0].test.examples != samples[1].test.examples
    for data in samples:
        assert len(data.test.features) == len(data.test.examples) == 9
        alone = data.task.encode(data.test.examples)
        assert data.test.features.targets["labels"].tolist() == alone.targets["labels"].tolist()


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
    assert (facts["steps"], facts["masked_tokens"]) == (10, 120) == (result.fit.steps, result.masked_tokens)
    again = adapt_corpus(config, "random", tmp_path / "again", Silent())
    assert again.fit.loss == result.fit.loss
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
    config = inputs.config()
    lm = load_pretrained(config.model)
    corpus = build_corpus(config, lm, [" ".join(WORDS[:9])])
    for name in sorted(set(RULES) - {"entity"}):
        (tmp_path / name).mkdir()
        assert resolve_masking(name, lm, corpus, config.masking, None).name == name


@pytest.fixture
def headless(tmp_path: Path) -> Path:
    """A model whose LM head would have to be warmed up."""
    folder = save_tiny_bert(tmp_path / "headless", WORDS, hidden=16)
    weights = {n: t for n, t in load_file(folder / "model.safetensors").items() if not n.startswith("cls.")}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("maskings", "hidden_size", "message"),
    [
        (["random", "neural"], 32, "hidden states of size 32"),
        (["random", "randon"], 16, "did you mean 'random'"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_training(
    inputs: Inputs, tmp_path: Path, headless: Path, maskings: list[str], hidden_size: int, message: str
):
    policy, notes = save_policy(tmp_path / "policy", hidden_size), Notes()
    config = inputs.config(model={"name": str(headless), "head_warmup_steps": 3})
    with pytest.raises(UserError, match=message):
        MetaTest.prepare(config, maskings, policy, notes)
    with pytest.raises(UserError, match=message):
        adapt_corpus(config, str(policy) if "neural" in maskings else "randon", tmp_path / "out", notes)
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
    inputs: Inputs, headless: Path, changes: dict[str, Any], message: str
):
    notes = Notes()
    config = inputs.config(model={"name": str(headless), "head_warmup_steps": 3}, **changes)
    with pytest.raises(UserError, match=message):
        MetaTest.prepare(config, ["random"], None, notes)
    assert notes.phases == []


def test_a_missing_head_is_warmed_up_once_for_all(inputs: Inputs, tmp_path: Path, headless: Path):
    config = inputs.config(
        model={"name": str(headless), "head_warmup_steps": 3}, runtime={"cache_dir": str(tmp_path / "cache")}
    )
    first, second = Notes(), Notes()
    one = MetaTest.prepare(config, ["random"], None, first)
    two = MetaTest.prepare(config, ["random"], None, second)
    assert first.phases == ["LM head warm-up"]
    assert second.phases == []
    assert is_same(one.pretrained, two.pretrained)
    assert is_same(one.pretrained, one.lm.model.state_dict())
    assert not is_same(one.pretrained, MetaTest.open(config, ["random"], {}, second).pretrained)
    other = MetaTest.prepare(
        config.model_copy(update={"run": config.run.model_copy(update={"seed": 1})}), [], None, first
    )
    assert not is_same(one.pretrained, other.pretrained)
    shutil.rmtree(tmp_path / "cache")
    assert is_same(MetaTest.prepare(config, ["random"], None, second).pretrained, one.pretrained)
