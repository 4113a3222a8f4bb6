"""Cells of maskings whose files differ are never mixed; where the files are stored does not matter."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForTokenClassification

from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.base.section import named_contents
from nmg.base.settings import MaskingSettings
from nmg.comparison.run import Comparison
from nmg.masking.registry import READS
from nmg.policies.maskings import masking_identity
from support.planted import WORDS
from support.runs import Inputs, Notes

from .helpers import compare, plan, quick, save_policy, written


def write(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text) and None


def save_classifier(folder: Path) -> None:
    config = BertConfig(
        vocab_size=200, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, num_labels=2
    )
    torch.manual_seed(0)
    BertForTokenClassification(config).save_pretrained(folder)


def change_classifier(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "classifier.bias": weights["classifier.bias"] + 1}, folder / "model.safetensors")


KINDS: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], Any]]] = {
    "weights": ("weights", write(f"{WORDS[0]}\t50\n"), write(f"{WORDS[1]}\t50\n")),
    "keywords": ("keyword", write(f"{WORDS[0]}\n"), write(f"{WORDS[1]}\n")),
    "general_corpus": ("difference", write(f"{WORDS[0]} {WORDS[1]}\n" * 300), write(f"{WORDS[1]}\n" * 600)),
    "selective_model": ("selective", save_classifier, change_classifier),
}
"""setting → a rule that reads it, how what it names is made, and changed"""


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("setting", KINDS)
def test_cells_of_another_file_are_not_mixed_in(inputs: Inputs, tmp_path: Path, setting: str, mixed: bool):
    rule, make, change = KINDS[setting]
    name = f"0.5*{rule}+0.5*random" if mixed else rule
    first, copy, out = tmp_path / "first.txt", tmp_path / "copy.txt", tmp_path / "out"
    make(first)
    config = quick(inputs, masking={setting: str(first)})
    compare(config, plan([name, "random"], 1), out)
    if first.is_dir():
        shutil.copytree(first, copy)
    else:
        shutil.copy(first, copy)
    notes = Notes()
    compare(quick(inputs, masking={setting: str(copy)}), plan([name, "random"], 1), out, notes)
    assert "2 trials are finished, 0 are missing" in notes.lines, "the same content in another place"
    change(first)
    with pytest.raises(UserError, match=rf"--out {out}: .*seed-0\) was made with another masking\.{setting}; choose"):
        compare(config, plan([name, "random"], 2), out)
    compare(config, plan(["random"], 1), out, notes)
    assert "1 trials are finished, 0 are missing" in notes.lines, "random does not read it"


def test_a_file_that_is_no_longer_given_is_another_masking(inputs: Inputs, tmp_path: Path):
    (tmp_path / "general.txt").write_text(f"{WORDS[0]}\n" * 600)
    given = quick(inputs, masking={"general_corpus": str(tmp_path / "general.txt")})
    compare(given, plan(["difference"], 1), tmp_path / "out")
    with pytest.raises(UserError, match=r"was made with another masking\.general_corpus; choose another --out"):
        compare(quick(inputs), plan(["difference"], 1), tmp_path / "out")


def test_a_policy_in_a_mixture_counts(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    save_policy(tmp_path / "pol")
    compare(quick(inputs), plan(["0.5*pol+0.5*random"], 1), tmp_path / "out")
    save_policy(tmp_path / "pol", seed=1)
    with pytest.raises(UserError, match="was made with another policy 'pol'; choose another --out"):
        compare(quick(inputs), plan(["0.5*pol+0.5*random"], 1), tmp_path / "out")


def test_a_policy_that_changed_on_the_hub_counts(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nmg.policies.storage.download_policy", lambda *_: tmp_path / "cache")
    save_policy(tmp_path / "cache")
    compare(quick(inputs), plan(["owner/name"], 1), tmp_path / "out")
    save_policy(tmp_path / "cache", seed=1)
    with pytest.raises(UserError, match="was made with another policy 'owner/name'; choose another --out"):
        compare(quick(inputs), plan(["owner/name"], 1), tmp_path / "out")


def test_every_setting_that_names_content_is_read_by_a_rule():
    """So that `masking_identity` covers it."""
    read = {setting for settings in READS.values() for setting in settings}
    assert read == {setting for setting, _, _ in named_contents(MaskingSettings())}


def test_a_pipeline_is_its_files(tmp_path: Path):
    """No spaCy is needed to say which pipeline it is."""
    for folder in ("first", "copy"):
        (tmp_path / folder / "ner").mkdir(parents=True)
        (tmp_path / folder / "meta.json").write_text("{}")
        (tmp_path / folder / "ner" / "model").write_bytes(b"weights")

    def identity(folder: str) -> dict[str, str]:
        return masking_identity("entity", MaskingSettings(spacy_model=str(tmp_path / folder)))

    first = identity("first")
    assert list(first) == ["masking.spacy_model"]
    (tmp_path / "copy" / "__pycache__").mkdir()
    (tmp_path / "copy" / "__pycache__" / "code.pyc").write_bytes(b"compiled")
    assert identity("copy") == first
    (tmp_path / "copy" / "ner" / "model").write_bytes(b"other weights")
    assert identity("copy") != first
    with pytest.raises(UserError, match="there is no spaCy model 'nowhere'"):
        masking_identity("entity", MaskingSettings(spacy_model="nowhere"))


def test_rules_that_read_nothing_have_no_identity_but_their_name():
    for name in ("none", "random", "0.7*idf+0.3*span", "loss"):
        assert masking_identity(name, MaskingSettings(weights="nowhere.tsv")) == {}


def test_another_process_must_find_the_same_files(inputs: Inputs, tmp_path: Path):
    """A file that changes while a comparison runs, or that is another on another machine."""
    (tmp_path / "weights.tsv").write_text(f"{WORDS[0]}\t50\n")
    config = quick(inputs, masking={"weights": str(tmp_path / "weights.tsv")})
    session = Comparison.open(config, plan(["weights"], 1), tmp_path / "out", Silent()).session
    assert session.factory(1).provenance == session.provenance  # type: ignore[attr-defined]
    (tmp_path / "weights.tsv").write_text(f"{WORDS[1]}\t50\n")
    with pytest.raises(UserError, match=r"masking\.weights: changed during the run"):
        session.factory(1)


def test_cells_keep_what_they_were_made_from(inputs: Inputs, tmp_path: Path):
    (tmp_path / "weights.tsv").write_text(f"{WORDS[0]}\t50\n")
    config = quick(inputs, masking={"weights": str(tmp_path / "weights.tsv")})
    compare(config, plan(["random", "weights"], 1), tmp_path / "out")
    common = {"settings", "data.train", "data.test", "corpus", "model", "tokenizer"}
    for name, more in (("random", set()), ("weights", {"masking.weights"})):
        made_from = written(tmp_path / "out")[f"{name}.seed-0"].provenance
        assert set(made_from) == common | more
        assert all(len(digest) in {16, 64} for digest in made_from.values())
