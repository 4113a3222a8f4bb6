"""Python that comes with a model runs where the user names `model.trust_remote_code`, and nowhere else."""

import ast
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nmg.base.errors import UserError
from nmg.base.seeding import StreamName
from nmg.base.settings import ModelSettings
from nmg.base.training_settings import FinetuneSettings
from nmg.data.formats.classification import ClassificationExample
from nmg.data.formats.tokens import TokenExample
from nmg.tasks.registry import task_kind
from nmg.training.finetune import task_model
from nmg.training.lm import load_pretrained
from support.command import Nmg
from support.planted import WORDS
from support.runs import Inputs
from support.tiny import save_tiny_bert

ROOT = Path(__file__).parents[2]
CODE = """
from pathlib import Path
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, PreTrainedTokenizerFast

Path({marker!r}).touch()

class OwnConfig(BertConfig):
    model_type = {model_type!r}

class OwnMaskedLM(BertForMaskedLM):
    config_class = OwnConfig

class OwnClassifier(BertForSequenceClassification):
    config_class = OwnConfig

class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""
OF_THE_MODEL = {
    "AutoConfig": "own.OwnConfig",
    "AutoModelForMaskedLM": "own.OwnMaskedLM",
    "AutoModelForSequenceClassification": "own.OwnClassifier",
}


class ModelWithCode:
    """A folder that transformers would run Python from; `has_run` says whether it did."""

    def __init__(self, folder: Path, model_type: str, *, tokenizer_too: bool = False) -> None:
        self.folder = save_tiny_bert(folder / "model", WORDS, hidden=8)
        self._marker = folder / "it-has-run"
        code = CODE.format(marker=str(self._marker), model_type=model_type)
        (self.folder / "own.py").write_text(code, encoding="utf-8")
        self._change("config.json", model_type=model_type, auto_map=OF_THE_MODEL)
        if tokenizer_too:
            named = {"AutoTokenizer": [None, "own.OwnTokenizer"]}
            self._change("tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=named)

    def _change(self, name: str, **changes: object) -> None:
        path = self.folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    @property
    def has_run(self) -> bool:
        return self._marker.exists()


@pytest.fixture(autouse=True)
def _own_module_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """transformers copies a model's Python into a cache; that of these tests ends with them. A user would say yes."""
    modules = tmp_path / "modules"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(modules))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 10))
    yield
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        del sys.modules[name]


def test_a_type_that_only_its_own_code_knows_is_refused(nmg: Nmg, tmp_path: Path, inputs: Inputs):
    model = ModelWithCode(tmp_path, "own")
    answer = nmg("adapt", "--corpus", inputs.train, "--model", model.folder, "--out", "out", "--adapt.block_size=16")
    assert answer.code == 2
    assert answer.err.strip().startswith("error: model.name: the ")
    assert "--model.trust_remote_code true" in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert not model.has_run


def test_code_beside_a_type_that_transformers_knows_is_ignored(tmp_path: Path):
    model = ModelWithCode(tmp_path, "bert", tokenizer_too=True)
    lm = load_pretrained(ModelSettings(name=str(model.folder)))
    assert type(lm.model).__module__.startswith("transformers.")
    assert not model.has_run


def test_a_head_does_not_run_it_either(tmp_path: Path):
    model = ModelWithCode(tmp_path, "bert")
    lm = load_pretrained(ModelSettings(name=str(model.folder)))
    texts = [ClassificationExample(label, WORDS[0], label, -1) for label in ("x", "y")]
    sentences = [TokenExample("1", (WORDS[0],), ("B-x",), -1)]
    for kind, examples in (("classification", texts), ("token-classification", sentences)):
        task = task_kind(kind).build(lm.tokenizer, examples, FinetuneSettings())
        task_model(task, lm.model, StreamName(0))
    assert not model.has_run


def test_trusted_code_runs_through_a_whole_inner_loop(nmg: Nmg, tmp_path: Path, inputs: Inputs):
    model = ModelWithCode(tmp_path, "own")
    config = inputs.write_config(tmp_path / "c.yaml", model={"name": str(model.folder), "trust_remote_code": True})
    answer = nmg("compare", config, "--out", "out", "--maskings", "random", "--seeds", "1")
    assert answer.code == 0, answer.err
    assert model.has_run


def test_code_that_does_not_import_is_a_user_error(tmp_path: Path):
    model = ModelWithCode(tmp_path, "own")
    (model.folder / "own.py").write_text("import no_such_package_of_anyone\n")
    with pytest.raises(UserError, match="no_such_package_of_anyone"):
        load_pretrained(ModelSettings(name=str(model.folder), trust_remote_code=True))


LOADERS = {"from_pretrained", "from_config", "pipeline"}
"""of transformers; `datasets` runs no code of a data set since its release 4"""


@pytest.mark.parametrize("folder", ["src", "benchmarks", "examples"])
def test_every_loader_is_told_what_to_trust(folder: str):
    calls = [
        (path.name, node)
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in LOADERS
        if not ast.unparse(node.func).startswith("Policy.")  # ours: it loads no code
    ]
    assert calls or folder == "examples"
    untold = [f"{name}:{node.lineno}" for name, node in calls if not is_told(node)]
    assert untold == []


def is_told(call: ast.Call) -> bool:
    return any(keyword.arg == "trust_remote_code" for keyword in call.keywords)
