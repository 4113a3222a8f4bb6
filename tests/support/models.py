"""Tiny random masked LMs of many architectures, made on the spot."""

from copy import deepcopy
from typing import Any

import torch
from transformers import (
    AlbertConfig,
    AutoModelForMaskedLM,
    BertConfig,
    DebertaConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    XLMRobertaConfig,
)

VOCABULARY = 50
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}

CONFIGS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**_SIZES),
    "distilbert": DistilBertConfig(
        vocab_size=VOCABULARY, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=40
    ),
    "roberta": RobertaConfig(**_SIZES),
    "xlm-roberta": XLMRobertaConfig(**_SIZES),
    "albert": AlbertConfig(**_SIZES, embedding_size=8),
    "electra": ElectraConfig(**_SIZES, embedding_size=8),
    "deberta": DebertaConfig(
        **_SIZES, relative_attention=True, pos_att_type=["c2p", "p2c"], position_biased_input=False, type_vocab_size=0
    ),
    "deberta-v2": DebertaV2Config(
        **_SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8, share_att_key=True
    ),
    "deberta-v3": DebertaV2Config(
        **_SIZES,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=8,
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        position_biased_input=False,
        type_vocab_size=0,
        legacy=False,
    ),
    "modernbert": ModernBertConfig(
        **_SIZES, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, local_attention=8
    ),
    "mpnet": MPNetConfig(**_SIZES),
}


def tiny_model(kind: str, seed: int = 0) -> PreTrainedModel:
    """A random masked LM in evaluation mode, on the CPU.

    Weights are ten times those of an initialisation, so that a wrong state or position shows.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForMaskedLM.from_config(deepcopy(CONFIGS[kind]), dtype=torch.float32)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() > 1:
                    parameter.mul_(10)
                elif name.endswith("bias"):
                    parameter.normal_()
    return model.eval()
