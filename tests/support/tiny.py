"""A tiny BERT with a vocabulary of whole words, made on the spot: what tests use in the place of a downloaded model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """One token a word, split at white space, with BERT's special tokens."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def save_tiny_bert(
    folder: Path,
    words: Sequence[str],
    *,
    hidden: int = 32,
    layers: int = 1,
    seed: int = 0,
    kin: Sequence[tuple[Sequence[str], float]] = (),
    dropout: float = 0.0,
    spread: float = 0.02,
) -> Path:
    """Save model and tokenizer into `folder`; weights are random, from `seed`, with a standard deviation of `spread`.

    The embeddings of each group of words in `kin` share a part of the given strength, in units of the embeddings'
    standard deviation: so a pre-trained model knows words of a kind.
    """
    tokenizer = word_tokenizer(words)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
        initializer_range=spread,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertForMaskedLM(config)
        embeddings = model.get_input_embeddings().weight.data
        deviation = embeddings.std()
        for group, strength in kin:
            embeddings[tokenizer.convert_tokens_to_ids(list(group))] += strength * deviation * torch.randn(hidden)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_headless_bert(folder: Path, words: Sequence[str], **of_bert: Any) -> Path:
    """As above, without the weights of the LM head: a checkpoint of an encoder alone, as of a sentence embedder."""
    save_tiny_bert(folder, words, **of_bert)
    weights = {n: t for n, t in load_file(folder / "model.safetensors").items() if not n.startswith("cls.")}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
