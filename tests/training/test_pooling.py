"""Embeddings of texts: each pooling against a slow loop, and a whole model against sentence-transformers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from nmg.base.settings import ModelSettings, RuntimeSettings
from nmg.base.training_settings import FinetuneSettings
from nmg.data.formats.regression import RegressionExample
from nmg.tasks.similarity import SimilarityTask
from nmg.training.context import TrainingContext
from nmg.training.lm import load_pretrained
from nmg.training.pooling import MEAN, POOLINGS, Pooling, pooling_of
from nmg.training.runtime import Runtime
from nmg.training.states import embed
from support.arenas import arena_of
from support.tiny import save_tiny_bert

WORDS = [f"w{i}" for i in range(30)]
TEXTS = ["w1 w2 w3 w4 w5", "w7", "w9 w9 w8", "w20 w1 w3 w5 w7 w11 w2"]
EXAMPLES = [RegressionExample("a", TEXTS[0], 1.0, -1, TEXTS[1]), RegressionExample("b", TEXTS[2], 2.0, -1, TEXTS[3])]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("pooled") / "model", WORDS, hidden=16, layers=2, spread=0.4)


def embeddings(model: Path, pooling: Pooling, rows_at_once: int = 3) -> torch.Tensor:
    lm = load_pretrained(ModelSettings(name=str(model)))
    settings = RuntimeSettings(device="cpu", precision="fp32", threads=1, evaluation_batch_size=rows_at_once)
    context = TrainingContext(**vars(arena_of(lm, Runtime.start(settings))) | {"pooling": pooling})
    return embed(context, SimilarityTask(lm.tokenizer, FinetuneSettings(max_length=8)).encode(EXAMPLES))


def slowly(model: Path, name: str) -> list[np.ndarray[Any, Any]]:
    """One text at a time, without padding."""
    tokenizer, encoder = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    found = []
    for text in TEXTS:
        with torch.no_grad():
            inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=8)
            states = encoder(**inputs).last_hidden_state[0].numpy()
        n = len(states)
        found.append(
            {
                "cls": lambda s=states: s[0],
                "lasttoken": lambda s=states: s[-1],
                "max": lambda s=states: np.array([max(column) for column in s.T]),
                "mean": lambda s=states: sum(s) / len(s),
                "mean_sqrt_len_tokens": lambda s=states: sum(s) / len(s) ** 0.5,
                "weightedmean": lambda s=states, n=n: sum((i + 1) * s[i] for i in range(n)) / (n * (n + 1) / 2),
            }[name]()
        )
    return found


@pytest.mark.parametrize("name", POOLINGS)
def test_each_pooling_is_that_of_single_texts(name: str, model: Path):
    pooled = embeddings(model, Pooling((name,)))
    assert pooled.dtype == torch.float64
    np.testing.assert_allclose(pooled, np.stack(slowly(model, name)), atol=1e-5)
    assert len({tuple(row.tolist()) for row in pooled.round(decimals=4)}) == 4


def test_several_poolings_are_joined_and_batches_make_no_difference(model: Path):
    both = embeddings(model, Pooling(("cls", "mean")), rows_at_once=1)
    np.testing.assert_allclose(both[:, :16], embeddings(model, Pooling(("cls",))), atol=1e-6)
    np.testing.assert_allclose(both[:, 16:], embeddings(model, MEAN), atol=1e-6)


OLD = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
KINDS = ("Transformer", "Pooling", "Normalize")


def with_modules(model: Path, pooling: Any, kinds: tuple[str, ...] = KINDS) -> Path:
    """Add modules of sentence-transformers to a model."""
    paths = ["", *(f"{number}_{kind}" for number, kind in enumerate(kinds[1:], start=1))]
    types = [f"sentence_transformers.models.{kind}" for kind in kinds]
    modules = enumerate(zip(paths, types, strict=True))
    entries = [{"idx": number, "name": str(number), "path": path, "type": kind} for number, (path, kind) in modules]
    (model / "modules.json").write_text(json.dumps(entries))
    (model / "1_Pooling").mkdir(exist_ok=True)
    (model / "1_Pooling" / "config.json").write_text(pooling if isinstance(pooling, str) else json.dumps(pooling))
    return model


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (OLD, ("cls",)),
        (OLD | {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, ("cls", "max", "mean")),
        ({"word_embedding_dimension": 16}, ("mean",)),
        ({"embedding_dimension": 16, "pooling_mode": "lasttoken"}, ("lasttoken",)),
        ({"embedding_dimension": 16, "pooling_mode": ["mean", "cls"]}, ("mean", "cls")),
    ],
)
def test_a_model_brings_its_pooling(config: Any, names: tuple[str, ...], tmp_path: Path):
    assert pooling_of(str(with_modules(tmp_path, config))).names == names


INVALID: list[Any] = ["{", "[]", {"pooling_mode": 3}, {"pooling_mode": ["mean", "x"]}, {"pooling_mode": []}]


@pytest.mark.parametrize("config", INVALID)
def test_a_pooling_that_cannot_be_read_is_the_mean(config: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert pooling_of(str(with_modules(tmp_path, config))) == MEAN
    assert "has no pooling that can be used, so embeddings are the mean over tokens" in caplog.text


def test_modules_that_are_not_applied_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert pooling_of(str(tmp_path)) == MEAN
    assert not caplog.text
    assert pooling_of(str(with_modules(tmp_path, OLD, (*KINDS, "Dense")))).names == ("cls",)
    assert "without its modules Dense" in caplog.text
    assert "Normalize" not in caplog.text


@pytest.mark.parametrize("mode", ["pooling_mode_weightedmean_tokens", "pooling_mode_mean_tokens"])
def test_embeddings_are_those_of_sentence_transformers(mode: str, tmp_path: Path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = save_tiny_bert(tmp_path / "model", WORDS, hidden=16, spread=0.4)
    config = {**OLD, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False, mode: True}
    with_modules(model, config, KINDS[:2])
    (model / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    expected = sentence_transformers.SentenceTransformer(str(model), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(embeddings(model, pooling_of(str(model))), expected, atol=1e-5)
