"""Checkpoints of other people: heads under other names, positions counted from the padding, corpora below a block."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import DebertaV2Config, DebertaV2ForMaskedLM, RobertaConfig

from nmg.adaptation.adapt import adapt_corpus
from nmg.base.errors import UserError
from nmg.base.settings import ModelSettings
from nmg.config import load_config
from nmg.training.lm import load_pretrained
from nmg.trials.session import check_length
from support.runs import Inputs
from support.tiny import word_tokenizer

NAMES = {
    "v2": {
        "cls.predictions.transform.dense": "lm_predictions.lm_head.dense",
        "cls.predictions.transform.LayerNorm": "lm_predictions.lm_head.LayerNorm",
        "cls.predictions.bias": "lm_predictions.lm_head.bias",
    },
    "v3": {
        "cls.predictions.transform": "mask_predictions",
        "cls.predictions.bias": "mask_predictions.bias",
    },
}
"""of the head, as Microsoft's files have them"""


@pytest.mark.parametrize("version", NAMES)
def test_a_head_under_other_names_is_missing(version: str, tmp_path: Path):
    torch.manual_seed(0)
    tokenizer = word_tokenizer(["one", "two"])
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
    config = DebertaV2Config(
        vocab_size=len(tokenizer), intermediate_size=32, pad_token_id=0, type_vocab_size=0, **sizes, **relative
    )
    DebertaV2ForMaskedLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    renamed = {}
    for name, tensor in weights.items():
        new = next((new + name[len(old) :] for old, new in NAMES[version].items() if name.startswith(old)), name)
        renamed[new] = tensor.clone()
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    lm = load_pretrained(ModelSettings(name=str(tmp_path)))
    assert "cls.predictions.transform.dense.weight" in lm.new_parameters
    assert not any(name.startswith("deberta.") for name in lm.new_parameters)


@pytest.mark.parametrize(("padding", "usable"), [(1, 128), (3, 126)])
def test_positions_count_from_the_padding(padding: int, usable: int):
    config = RobertaConfig(max_position_embeddings=130, pad_token_id=padding)
    lm: Any = SimpleNamespace(
        name="model", model=SimpleNamespace(config=config), tokenizer=SimpleNamespace(pad_token_id=padding)
    )
    check_length(lm, "adapt.block_size", usable)
    with pytest.raises(UserError, match=f"{usable + 1} tokens with special tokens, but 'model' takes at most {usable}"):
        check_length(lm, "adapt.block_size", usable + 1)


@pytest.mark.parametrize("text", ["t0w1 t0w2 t0w3", "t0w1", "t0w1 " * 300, "t0w1 t0w2\r\n\r\nt0w3\r\n"])
def test_a_short_corpus_trains(text: str, inputs: Inputs, tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(text.encode())
    words = [f"--model.name={inputs.model}", f"--data.corpus={tmp_path / 'a.txt'}", "--adapt.block_size=16"]
    config = load_config(None, [*words, "--adapt.epochs=1", "--runtime.precision=fp32", "--adapt.batch_size=4"])
    result = adapt_corpus(config, "random", tmp_path / "out")
    assert result.steps >= 1
    assert result.masked_tokens >= 1
