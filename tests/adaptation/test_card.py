"""The card of an adapted model, and its way to the hub."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from nmg.adaptation.card import CARD, adapted_card, base_card
from nmg.adaptation.share import push_adapted
from nmg.base.errors import UserError
from nmg.jobs.adapt import adapt
from support.command import Nmg

from .conftest import MakeConfig


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("card") / "adapted"


@pytest.fixture
def folder(adapted: Path, make_config: MakeConfig) -> Path:
    """A finished adaptation; its base model's card names a licence and a language."""
    if not adapted.exists():
        base = shutil.copytree(make_config().model.name, adapted.parent / "base")
        (base / CARD).write_text("---\nlicense: mit\nlanguage: [en]\ntags: [a]\n---\n\n# Base\n")
        adapt(make_config(model={"name": str(base)}), "random", adapted)
    return adapted


def facts_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "nmg.json").read_text()))


def header_of(card: str) -> dict[str, Any]:
    _, header, _ = card.split("---\n", 2)
    return dict(yaml.safe_load(header))


def test_the_card_has_the_header_of_the_hub_and_the_facts_of_the_run(folder: Path):
    card, facts = (folder / CARD).read_text(), facts_of(folder)
    header = header_of(card)
    assert (header["license"], header["language"], header["pipeline_tag"]) == ("mit", ["en"], "fill-mask")
    assert "base_model" not in header, "a folder of this machine is no name on the hub"
    held_out = facts["held_out"]
    before, after = (f"{held_out[name]:.3f}" for name in ("before", "after"))
    assert f"| held-out documents of the corpus | {before} | {after} |" in card
    assert "- recipe: paper: masking rate 0.3, learning rate 0.005 (linear, adamw), batches of 4" in card
    assert "changed: adapt.learning_rate, masking.rate, adapt.batch_size\n" in card
    assert f"{facts['steps']:,} steps, {facts['documents']:,} documents, {facts['tokens']:,} tokens" in card
    assert f"- corpus: {facts['blocks']:,} blocks of up to 16 tokens, digest {facts['corpus_digest']}" in card
    for words in (
        "transformers import pipeline",
        "SentenceTransformer(",
        "## Limits",
        f"torch {facts['versions']['torch']}",
    ):
        assert words in card


def test_the_terminal_and_the_card_say_the_same(folder: Path, make_config: MakeConfig, tmp_path: Path):
    result = adapt(make_config(), "random", tmp_path / "again")
    card = (tmp_path / "again" / CARD).read_text()
    for line in result.summary().splitlines()[1:-1]:
        name, text = line.strip().split("  ", 1)
        assert f"- {name}: {text.strip()}\n" in card


def test_general_text_is_in_the_table_if_it_was_measured(folder: Path):
    facts = facts_of(folder) | {"general": {"before": 2.0, "after": 2.25, "replayed_blocks": 0}}
    assert "| general text | 2.000 | 2.250 | 7.4 | 9.5 |" in adapted_card(facts)


def test_terms_are_on_the_card_if_some_were_measured(folder: Path):
    one = {"term": "a|b", "pieces": ["a", "##|b"], "occurrences": 8}
    one |= {"log_probability": {"before": -5.0, "after": -3.5}, "rank": {"before": 10.0, "after": 1.5}}
    terms: dict[str, Any] = {"source": "/home/me/terms.txt", "measured": [one], "left_out": []}
    card = adapted_card(facts_of(folder) | {"terms": terms})
    assert "Terms of `terms.txt`: 1 measured, the largest gain first." in card
    assert "| `a¦b` | `a ##¦b` | 8 | -5.00 | -3.50 | +1.50 | 10 | 1.5 |" in card
    assert "## Terms" not in adapted_card(facts_of(folder) | {"terms": terms | {"measured": []}})


def test_the_best_weights_have_the_best_loss(folder: Path):
    facts = facts_of(folder)
    facts["held_out"] |= {"before": 3.0, "after": 2.5, "best": 2.0, "best_step": 7}
    assert "| 3.000 | 2.500 |" in adapted_card(facts)
    assert "| 3.000 | 2.000 |" in adapted_card(facts | {"is_best": True})


def test_no_path_of_this_machine_is_on_the_card(folder: Path):
    assert str(folder.parent) not in (folder / CARD).read_text()
    facts = facts_of(folder)
    facts["settings"]["masking"]["weights"] = "/home/me/weights.tsv"
    assert "/home/me" not in adapted_card(facts | {"masking": "/home/me/runs/a"})


def outside_of_code(folder: Path, name: str) -> list[str]:
    """The parts of a card that are neither code span nor settings, if the corpus and the masking have this name."""
    facts = facts_of(folder) | {"masking": name}
    facts["settings"]["data"]["corpus"] = name
    card = adapted_card(facts)
    header_of(card)
    start, settings, end = card.split("````")
    assert yaml.safe_load(settings.removeprefix("yaml"))["adapt"]["recipe"] == "paper"
    return [*start.split("`")[::2], end]


@pytest.mark.parametrize(
    "name", ["</details><script>alert(1)</script>", "a`b`c", "x\n# heading\n---", "a|b", "[x](y)", "![i](u)"]
)
def test_names_of_the_user_are_only_text(folder: Path, name: str):
    """Each stays inside a code span or the folded YAML, so Markdown shows it as it is."""
    plain, hostile = outside_of_code(folder, "plain"), outside_of_code(folder, name)
    assert hostile == plain


def test_a_base_on_the_hub_is_named(folder: Path):
    facts = facts_of(folder)
    facts["settings"]["model"]["name"] = "owner/some-model"
    assert header_of(adapted_card(facts))["base_model"] == "owner/some-model"


@pytest.mark.parametrize(
    "text", ["", "no header", "---\n[1, 2\n---\n", "---\n- a\n---\n", "---\nlicense: {a: 1}\n---\n"]
)
def test_a_card_of_the_base_that_says_nothing(text: str, tmp_path: Path):
    (tmp_path / CARD).write_text(text)
    assert base_card(str(tmp_path)) == {}


class FakeHub:
    """Keeps what is uploaded."""

    uploaded: dict[str, Any]

    def __init__(self, token: str | None = None) -> None: ...

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
        return f"https://hub/{name}{'?private' if private else ''}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, allow_patterns: list[str], commit_message: str) -> None:
        from huggingface_hub.utils import filter_repo_objects

        names = [str(path.relative_to(folder_path)) for path in Path(folder_path).rglob("*") if path.is_file()]
        FakeHub.uploaded = {"name": repo_id, "files": set(filter_repo_objects(names, allow_patterns=allow_patterns))}


def test_share_uploads_the_model_and_its_card_alone(folder: Path, nmg: Nmg, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    answer = nmg("share", folder, "me/adapted", "--private")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("Verdict: The adapted model is at https://hub/me/adapted?private.\n")
    assert FakeHub.uploaded["name"] == "me/adapted"
    files = FakeHub.uploaded["files"]
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= files
    assert not files & {"nmg.json", "run.json", "config.yaml", "metrics.jsonl", "index.html"}
    assert "takes no other options" in nmg("share", folder, "me/adapted", "--out", "x").err


def test_what_the_hub_refuses_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("401: not logged in\nmore")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(UserError, match=r"^me/a: the hub refused the adapted model: 401: not logged in$"):
        push_adapted(folder, "me/a", token="t")


def test_an_unfinished_adaptation_is_not_shared(tmp_path: Path, nmg: Nmg):
    (tmp_path / "run.json").write_text('{"job": "adapt"}')
    assert "is not finished. Continue it with nmg adapt --resume" in nmg("share", tmp_path, "me/a").err
