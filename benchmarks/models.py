"""The models measured: MiniLM as an installed package ships it, and random BERTs of any size with its tokenizer."""

from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from nmg.demo.data import demo_model_folder
from nmg.inner.lm import PretrainedLM, load_pretrained
from nmg.settings import ModelSettings


def minilm() -> PretrainedLM:
    """6 layers × 384; its LM head is new, as the package ships none."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return load_pretrained(ModelSettings(name=str(demo_model_folder())))


def save_random_bert(folder: Path, layers: int, hidden: int) -> Path:
    """A BERT with MiniLM's vocabulary of 30 522 word pieces; random weights do for speed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            num_hidden_layers=layers,
            hidden_size=hidden,
            num_attention_heads=max(hidden // 64, 1),
            intermediate_size=4 * hidden,
        )
        BertForMaskedLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(demo_model_folder(), trust_remote_code=False).save_pretrained(folder)
    return folder
