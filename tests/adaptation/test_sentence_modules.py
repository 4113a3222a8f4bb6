"""An adapted sentence-transformers model keeps its modules, in whichever folder its encoder was."""

import importlib.util
import json
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForMaskedLM

from nmg.adaptation.save import save_lm
from nmg.adaptation.sentence_modules import copy_sentence_modules
from nmg.base.seeding import torch_stream
from nmg.base.settings import ModelSettings
from nmg.training.lm import load_pretrained
from support.tiny import save_tiny_bert

KIND = "sentence_transformers.models"
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": f"{KIND}.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{KIND}.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{KIND}.Normalize"},
]
POOLING = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}


def sentence_model(folder: Path, inner: str = "", modules: Any = None) -> Path:
    """A model with its encoder in `inner`, and the folder that transformers loads."""
    encoder = save_tiny_bert(folder / inner, ["hello", "world"])
    (encoder / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(POOLING))
    (folder / "config_sentence_transformers.json").write_text('{"similarity_fn_name": "cosine"}')
    (folder / "README.md").write_text("not the card of the adapted model")
    listed = [{**MODULES[0], "path": inner}, *MODULES[1:]] if modules is None else modules
    (folder / "modules.json").write_text(listed if isinstance(listed, str) else json.dumps(listed))
    return encoder


def saved(model: Path, out: Path) -> set[str]:
    with torch_stream(0, "model"):
        lm = load_pretrained(ModelSettings(name=str(model)))
    save_lm(lm, out)
    AutoModelForMaskedLM.from_pretrained(out)
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


@pytest.fixture
def plain(tmp_path: Path) -> set[str]:
    """The files of an adapted model that is not of sentence-transformers."""
    return saved(save_tiny_bert(tmp_path / "plain", ["hello", "world"]), tmp_path / "plain-out")


@pytest.mark.parametrize("inner", ["", "0_Transformer"])
def test_the_modules_are_kept(inner: str, plain: set[str], tmp_path: Path):
    out = tmp_path / "out"
    files = saved(sentence_model(tmp_path / "model", inner), out)
    kept = {"modules.json", "config_sentence_transformers.json", "sentence_bert_config.json", "1_Pooling/config.json"}
    assert files == plain | kept
    assert json.loads((out / "modules.json").read_text()) == MODULES, "the encoder is in the root"
    assert json.loads((out / "1_Pooling" / "config.json").read_text()) == POOLING
    assert json.loads((out / "sentence_bert_config.json").read_text()) == {"max_seq_length": 12}
    again = saved(out, tmp_path / "again")
    assert again == files, "it can be adapted again"


def test_saving_twice(tmp_path: Path):
    model = sentence_model(tmp_path / "model")
    first = saved(model, tmp_path / "out")
    (tmp_path / "out" / "1_Pooling" / "of an earlier save").touch()
    assert saved(model, tmp_path / "out") == first


@pytest.mark.parametrize(
    "modules",
    [
        "{",
        [],
        {"path": ""},
        [MODULES[0], {"path": "../other"}],
        [MODULES[0], {"path": "/etc"}],
        [MODULES[0], {"path": "."}],
        [MODULES[0], {"type": "x"}],
        [{"path": "0_Other"}, {"path": "1_Pooling"}],
    ],
)
def test_a_list_of_modules_that_cannot_be_used(
    modules: Any, plain: set[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret").touch()
    model = sentence_model(tmp_path / "model", modules=modules)
    assert saved(model, tmp_path / "out") == plain
    assert f"warning: {model}: its modules.json does not list the encoder first" in caplog.text


def test_a_model_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its files of modules come from the hub's cache; without them, the adapted model is saved all the same."""
    sentence_model(tmp_path / "cache")
    asked: list[tuple[str, bool]] = []

    def download(name: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append((name, local_files_only))
        assert not any(fnmatch("model.safetensors", pattern) for pattern in allow_patterns)
        if name == "owner/gone":
            raise ConnectionError("no network")
        return str(tmp_path / "cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("nmg.training.sentence_modules.is_only_local", lambda _name: True)
    for name in ("there", "gone"):
        (tmp_path / name).mkdir()
        copy_sentence_modules(f"owner/{name}", tmp_path / name)
    assert asked == [("owner/there", True), ("owner/gone", True)]
    assert json.loads((tmp_path / "there" / "modules.json").read_text()) == MODULES
    assert not list((tmp_path / "gone").iterdir())


@pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None, reason="sentence-transformers is not installed"
)
def test_sentence_transformers_loads_it(minilm: Path, tmp_path: Path):
    from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]

    shutil.copytree(minilm, tmp_path / "model")
    saved(tmp_path / "model", tmp_path / "out")
    before, after = SentenceTransformer(str(minilm)), SentenceTransformer(str(tmp_path / "out"))
    assert after.encode("hello world") == pytest.approx(before.encode("hello world"), abs=1e-5)
