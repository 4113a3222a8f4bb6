"""`adapt.add_words` and `nmg vocabulary`: from the settings to a folder that loads."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

import nmg as package
from nmg.adaptation.checkpoints import Checkpoints
from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.config import Config
from nmg.trials.session import Session
from support.command import Nmg
from support.runs import Notes

from .conftest import TEXTS

WORDS = ("inhibitor", "kinase", "the", "binds", "it", "a", "s")
CORPUS = [" ".join(np.random.default_rng(number).choice(WORDS, 30)) for number in range(80)]
COUNTS = Counter(" ".join(CORPUS).split())


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(CORPUS))
    return path


def config(model: Path, corpus: Path, **adapt: Any) -> Config:
    settings = {"epochs": 1, "batch_size": 16, "block_size": 20, "held_out": 0.3, **adapt}
    return Config.model_validate(
        {
            "model": {"name": str(model)},
            "data": {"corpus": str(corpus)},
            "masking": {"rate": 0.2},
            "adapt": settings,
            "runtime": {"device": "cpu"},
        }
    )


def test_an_adaptation_with_the_words_that_save_most(model: Path, corpus: Path, tmp_path: Path):
    notes = Notes()
    settings = config(model, corpus, add_words="auto:2")
    result = package.adapt(settings, "idf", tmp_path / "out", reporter=notes)
    facts = json.loads((tmp_path / "out" / "nmg.json").read_text())["added_words"]
    n_saved = 2 * COUNTS["inhibitor"] + COUNTS["kinase"]
    assert facts["tokens"]["before"] - facts["tokens"]["after"] == n_saved
    assert (facts["source"], facts["number"]) == ("auto:2", 2)
    assert set(facts) == {"source", "number", "digest", "tokens"}
    assert any("auto:2: 2 words are added. The corpus has" in line for line in notes.lines)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    lm = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    before = AutoTokenizer.from_pretrained(model)
    assert tokenizer.is_fast
    assert tokenizer.convert_tokens_to_ids(["inhibitor", "kinase"]) == [len(before), len(before) + 1]
    assert lm.config.vocab_size == len(lm.get_input_embeddings().weight) == len(before) + 2
    assert tokenizer.tokenize(TEXTS[0]) == ["the", "inhibitor", "binds", "the", "kinase", "."]
    assert result.held_out is not None
    assert np.isfinite([result.held_out.before, result.held_out.after]).all()
    assert result.steps > 0

    again = package.adapt(settings, "idf", tmp_path / "again", progress=False)
    assert again.held_out == result.held_out, "the same words and masks"


def test_lora_trains_the_table_of_words_too(model: Path, corpus: Path, tmp_path: Path):
    """Rows of new words start as means, and no layer of the encoder can learn them."""
    pytest.importorskip("peft", reason="needs peft (the `lora` extra)")
    low_rank = {"add_words": "auto:2", "lora": {"rank": 2}, "learning_rate": 0.05}
    package.adapt(config(model, corpus, **low_rank), "none", tmp_path / "before")
    package.adapt(config(model, corpus, **low_rank), "random", tmp_path / "after")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("before", "after"))
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    table = "bert.embeddings.word_embeddings.weight"
    assert table in changed
    assert not torch.equal(before[table][-2:], after[table][-2:]), "the rows of the two words"
    assert not [name for name in changed if "LayerNorm" in name or "position_embeddings" in name]


def test_the_words_of_a_file(model: Path, corpus: Path, tmp_path: Path):
    path = tmp_path / "words.txt"
    path.write_text("Kinase\n\nbinds\nkinase\n")
    notes = Notes()
    package.adapt(config(model, corpus, add_words=str(path)), "none", tmp_path / "out", reporter=notes)
    told = "1 words are added (left out: 1 already in the vocabulary, 1 duplicates, 1 blank lines)"
    assert any(told in line for line in notes.lines)
    facts = json.loads((tmp_path / "out" / "nmg.json").read_text())["added_words"]
    assert facts["tokens"]["before"] - facts["tokens"]["after"] == COUNTS["kinase"]
    assert AutoTokenizer.from_pretrained(tmp_path / "out").tokenize("kinase") == ["kinase"]


def test_the_saved_model_is_a_model_to_start_from(model: Path, corpus: Path, tmp_path: Path):
    package.adapt(config(model, corpus, add_words="auto:1"), "none", tmp_path / "first")
    package.adapt(config(tmp_path / "first", corpus, add_words="auto:1"), "none", tmp_path / "second")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "second")
    split = ["the", "inhibitor", "kinase", "in", "##hibit", "##or", "##s"]
    assert tokenizer.tokenize("the inhibitor kinase inhibitors") == split


def test_a_model_without_a_head_and_a_vocabulary_of_the_corpus(model: Path, corpus: Path, tmp_path: Path):
    """A new head is trained with rows of the new words; restricted tables have rows of them, too."""
    weights = {n: t for n, t in load_file(model / "model.safetensors").items() if not n.startswith("cls.")}
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    settings = config(model, corpus, add_words="auto:2", vocabulary="corpus")
    few = settings.model.model_copy(update={"head_warmup_steps": 2, "head_tuning_steps": 2})
    result = package.adapt(settings.model_copy(update={"model": few}), "random", tmp_path / "out")
    assert result.held_out is not None
    assert np.isfinite(result.held_out.after)
    before, after = (AutoModelForMaskedLM.from_pretrained(folder) for folder in (model, tmp_path / "out"))
    n = before.config.vocab_size
    rows = after.get_input_embeddings().weight
    assert len(rows) == len(after.get_output_embeddings().bias) == n + 2
    ids = AutoTokenizer.from_pretrained(model).convert_tokens_to_ids(["in", "##hibit", "##or"])
    mean = before.get_input_embeddings().weight[ids].mean(0)
    assert 0 < (rows[n] - mean).abs().max() < 0.1, "trained from the mean on"


class Killed(BaseException):
    pass


def test_a_resumed_adaptation_adds_the_same_words(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def run(out: str, words: str, *, resume: bool = False) -> bytes:
        settings = config(model, corpus, add_words=words)
        settings = settings.model_copy(
            update={"runtime": settings.runtime.model_copy(update={"checkpoint_minutes": 0})}
        )
        package.adapt(settings, "random", tmp_path / out, resume=resume)
        return (tmp_path / out / "model.safetensors").read_bytes()

    save = Checkpoints.save

    def save_and_stop(self: Checkpoints, step: int, *rest: Any) -> None:
        save(self, step, *rest)
        if step == 2:
            raise Killed

    whole = run("whole", "auto:2")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_stop)
        with pytest.raises(Killed):
            run("out", "auto:2")
    with pytest.raises(UserError, match=r"begun with other values of adapt\.add_words"):
        run("out", "auto:1", resume=True)
    assert run("out", "auto:2", resume=True) == whole


@pytest.mark.parametrize("value", ["auto:0", "auto:", "auto:x", "auto:-3", " "])
def test_a_setting_that_is_neither(value: str, nmg: Nmg, model: Path, corpus: Path):
    answer = nmg("adapt", "--corpus", corpus, "--model", model, "--out", "out", f"--adapt.add_words={value}")
    assert answer.code == 2
    assert "adapt.add_words" in answer.err
    assert "must be auto:N with N from 1 to 999999, or the name of a file" in answer.err


def test_a_bad_file_is_said_before_the_model_is_loaded(nmg: Nmg, corpus: Path, tmp_path: Path):
    files = {
        "gone.txt": (None, "gone.txt: "),
        "empty.txt": (b"\n", "is empty"),
        "bad.txt": (b"a\n\xff\n", "bad.txt, line 2"),
    }
    for name, (content, problem) in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        answer = nmg("adapt", "--corpus", corpus, "--model", "no-model", "--out", "out", "--adapt.add_words", name)
        assert answer.code == 2
        assert problem in answer.err
    assert not (tmp_path / "out" / "config.json").exists()


def test_other_jobs_say_that_they_add_no_words(model: Path, corpus: Path):
    with pytest.raises(UserError, match=r"adapt\.add_words: only 'nmg adapt' adds words"):
        Session.open_all(config(model, corpus, add_words="auto:2"), Silent())


def test_the_command_reports_fragmentation(nmg: Nmg, model: Path, tmp_path: Path):
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS))
    words = ("--min-count", "1", "--words", "3", "--out", "words.txt", "--json", "facts.json")
    answer = nmg("vocabulary", "corpus.txt", "--model", model, *words)
    assert answer.code == 0, answer.err
    lines = [" ".join(line.replace("│", " ").split()) for line in answer.out.splitlines()]
    for line in (
        *("texts 2", "tokens 37", "words with a letter 14", "distinct words 7", "pieces per word 2.000"),
        *("pieces per distinct word 1.857", "words that are split 57.1 %", "words with an unknown piece 0.0 %"),
        *("inhibitor in ##hibit ##or 4 3 8", "inhibitors in ##hibit ##or ##s 1 4 3", "kinase kin ##ase 3 2 3"),
        *("3 14 37.8 %", "written: words.txt (3 words)", "written: facts.json"),
    ):
        assert line in lines
    assert "Verdict: 3 added words would save 37.8 % of the tokens." in lines
    assert "Why: The model needs 2.00 pieces per word." in lines
    assert f"--model {model} --adapt.add_words auto:3 --out adapted" in " ".join(lines[-2:])
    assert (tmp_path / "words.txt").read_text() == "inhibitor\ninhibitors\nkinase\n"
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["proposed"][0] == {"word": "inhibitor", "count": 4, "saved": 8, "pieces": ["in", "##hibit", "##or"]}
    assert facts["savings"] == [{"words": 3, "tokens": 14, "share": 14 / 37}]
    assert (facts["tokens"], facts["words"], facts["split_share"]) == (37, 14, 8 / 14)


def test_the_proposed_words_can_be_added(nmg: Nmg, model: Path, corpus: Path, tmp_path: Path):
    assert nmg("vocabulary", corpus, "--model", model, "--out", "words.txt").code == 0
    adapt = ("--masking", "none", "--out", "out", "--adapt.add_words", "words.txt", "--adapt.block_size", "20")
    answer = nmg("adapt", "--corpus", corpus, "--model", model, *adapt)
    assert answer.code == 0, answer.err
    n_words = len((tmp_path / "words.txt").read_text().splitlines())
    assert json.loads((tmp_path / "out" / "nmg.json").read_text())["added_words"]["number"] == n_words == 2


def test_errors_of_the_command(nmg: Nmg, model: Path, corpus: Path, tmp_path: Path):
    assert "gone.txt" in nmg("vocabulary", "gone.txt", "--model", model).err
    answer = nmg("vocabulary", corpus, "--model", model, "--out", tmp_path)
    assert answer.code == 2
    assert "written" not in answer.out
