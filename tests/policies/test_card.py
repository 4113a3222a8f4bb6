"""Model cards, and policies that go to the hub and come back."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from nmg.base.errors import UserError
from nmg.policies import hub
from nmg.policies.base import Policy
from nmg.policies.card import Provenance, model_card
from nmg.policies.linear import LinearConfig, LinearPolicy
from support.command import Nmg
from support.policies import new_policy
from support.runs import is_same

SETTINGS = {
    "run": {"seed": 3},
    "model": {"name": "/home/me/models/minilm"},
    "data": {"task": "classification", "train": "/home/me/secret/train.jsonl", "test": None},
    "masking": {"rate": 0.15},
    "learner": {"kind": "experiment"},
    "runtime": {"cache_dir": "/home/me/cache"},
}
GATE = {"n": 20, "passes": True, "against": {"none": {"mean": 0.02}, "rule": {"mean": 0.0123}}}
FINDINGS = {"trials": 200, "selected": "policy", "gate": GATE}
AUDIT = {
    "recommendation": "Maskings differ in macro_f1.",
    "lm": {"loss": 3.25, "margin": 2.5},
    "leakage": {"exact_duplicates": 1, "near_duplicates": 4, "validation": 90},
}
RESULTS = {
    "confidence": 0.95,
    "results": [
        {
            "part": "",
            "tested_metric": "macro_f1",
            "maskings": [
                {"masking": "random", "metrics": {"macro_f1": {"mean": 0.61, "low": 0.59, "high": 0.63}}},
                {"masking": "mine", "metrics": {"macro_f1": {"mean": 0.66, "low": None, "high": None}}},
            ],
            "pairs": [{"first": "mine", "second": "random", "mean": 0.05, "low": 0.01, "high": 0.09, "t_p_holm": 0.02}],
        }
    ],
}


@pytest.fixture
def policy() -> LinearPolicy:
    config = LinearConfig(
        features=("idf", "digit"), vocabulary_size=4, base_model="bert-base-uncased", masking_rate=0.2
    )
    policy = LinearPolicy(config)
    with torch.no_grad():
        policy.weights.copy_(torch.tensor([0.5, -2.0]))
    return policy


@pytest.fixture
def folders(tmp_path: Path, policy: LinearPolicy) -> Path:
    """A run, an audit and a comparison as their commands leave them."""
    policy.save_pretrained(tmp_path / "run" / "policy")
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    (tmp_path / "run" / "metrics.jsonl").write_text("{}\n")
    run = {"command": ["/home/me/bin/nmg"], "versions": {"nmg": "0.1.0"}}
    for name, content in (
        ("run/run.json", run),
        ("run/effects.json", FINDINGS),
        ("audit/audit.json", AUDIT),
        ("compare/results.json", RESULTS),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return tmp_path


def test_a_card_says_what_is_known_and_no_path(policy: LinearPolicy, folders: Path):
    card = model_card(policy, Provenance.read(folders / "run", folders / "audit", folders / "compare"))
    head = yaml.safe_load(card.split("---")[1])
    assert head["base_model"] == "bert-base-uncased"
    assert head["library_name"] == "nmg"
    for said in (
        "| `digit` | -2.000 |\n| `idf` | +0.500 |",
        "data: train `train.jsonl`",
        "language model: `minilm`",
        "gate: passed, +0.02 against `none`, +0.0123 against `rule` over 20 fresh episodes",
        "Maskings differ in macro_f1.",
        "3.250, 2.500 nats below",
        "4 of 90 validation examples have a near duplicate in training",
        "| random | 61.0 [59.0, 63.0] |",
        "| mine | 66.0 |",
        "| mine − random | 5.0 [1.0, 9.0] | 0.02 |",
        "masking:\n  rate: 0.15",
        "versions: nmg 0.1.0",
        "rate=0.2)",
        "tokenizer = AutoTokenizer.from_pretrained(MODEL)",
    ):
        assert said in card, said
    assert "/home" not in card


def test_a_card_of_a_policy_of_which_nothing_is_known(policy: LinearPolicy):
    card = model_card(policy, Provenance.read())
    assert "## Training" not in card
    assert "## Audit" not in card
    assert "model=model" in model_card(new_policy(), Provenance.read()), "it reads the LM"


def test_a_card_names_a_model_of_the_hub_but_no_path_and_says_if_the_policy_is_a_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "lm").mkdir(parents=True)
    for name, is_shown in {"owner/name": True, "bert": True, "runs/lm": False, "runs/demo/lm": False}.items():
        rule = LinearPolicy(LinearConfig(features=("idf", "digit"), vocabulary_size=4, base_model=name))
        with torch.no_grad():
            rule.weights.copy_(torch.tensor([2.0, 0.0]))
        card = model_card(rule, Provenance.read())
        assert (f"base_model: {name}" in card) == is_shown, name
    assert "It is equal to a rule, idf" in card
    assert "| `digit` |" not in card


def test_a_folder_without_findings_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"audit\.json: cannot be read"):
        Provenance.read(audit=tmp_path)
    (tmp_path / "results.json").write_text("[1]")
    with pytest.raises(UserError, match="must contain a mapping"):
        Provenance.read(comparison=tmp_path)


class FakeHub:
    """Stands for `HfApi`: keeps what is uploaded in a folder."""

    folder: Path
    asked: list[Any]

    def __init__(self, token: str | None) -> None:
        self.asked.append(token)

    def create_repo(self, name: str, private: bool, exist_ok: bool) -> str:
        self.asked.append((name, private, exist_ok))
        return f"https://hub/{name}"

    def upload_folder(self, repo_id: str, folder_path: Path, allow_patterns: list[str], commit_message: str) -> None:
        for file in Path(folder_path).iterdir():
            assert file.name in allow_patterns
            (self.folder / file.name).write_bytes(file.read_bytes())


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[FakeHub]:
    (tmp_path / "hub").mkdir()
    monkeypatch.setattr(FakeHub, "folder", tmp_path / "hub", raising=False)
    monkeypatch.setattr(FakeHub, "asked", [], raising=False)
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(tmp_path / "hub"))
    return FakeHub


def test_a_policy_goes_to_the_hub_and_comes_back(policy: LinearPolicy, fake_hub: type[FakeHub]):
    assert policy.push_to_hub("me/policy", token="t", private=True) == "https://hub/me/policy"
    assert fake_hub.asked == ["t", ("me/policy", True, True)]
    loaded = Policy.from_pretrained("me/policy")
    assert is_same(loaded, policy)
    assert loaded.config == policy.config


def test_share_writes_a_folder_and_pushes(folders: Path, nmg: Nmg, fake_hub: type[FakeHub]):
    words = ("--audit", folders / "audit", "--results", folders / "compare")
    answer = nmg("share", folders / "run", "--out", "shared", "--to", "me/policy", *words)
    assert answer.code == 0, answer.err
    use = "Next: nmg adapt --masking me/policy --corpus TEXTS --model MODEL --out adapted"
    why = "Why: Anyone can mask with it by this name."
    assert answer.out.splitlines()[-3:] == ["Verdict: The policy is at https://hub/me/policy.", why, use]
    card = (folders / "shared" / "README.md").read_text()
    assert card == (fake_hub.folder / "README.md").read_text()
    assert "61.0 [59.0, 63.0]" in card
    assert Policy.from_pretrained(folders / "shared").config.masking_rate == 0.2
    assert "give OWNER/NAME of the hub, --out FOLDER, or both" in nmg("share", folders / "run").err


def test_share_without_a_network_says_so_in_one_line(folders: Path, nmg: Nmg, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", fail)
    answer = nmg("share", folders / "run", "--to", "me/policy")
    said = "error: me/policy: the hub cannot be reached (Name or service not known)\n"
    assert (answer.code, answer.out, answer.err) == (2, "", said)


def test_what_the_hub_refuses_is_said(policy: LinearPolicy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("401: not logged in\nmore")

    monkeypatch.setattr(hub, "FILES", hub.FILES)
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(UserError, match=r"refused the policy: 401: not logged in$"):
        policy.push_to_hub("me/policy", token="t")
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(UserError, match="the hub has no such policy"):
        Policy.from_pretrained("me/policy")
