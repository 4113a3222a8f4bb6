"""Tokenizers of the three families, trained on the spot, and tiny random models with the one of their type."""

import copy
from functools import lru_cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForMaskedLM, PreTrainedTokenizerFast

from support.models import CONFIGS
from support.planted import WORDS
from support.tiny import SPECIAL

FAMILY = {
    **dict.fromkeys(("bert", "distilbert", "electra", "mpnet"), "wordpiece"),
    **dict.fromkeys(("albert", "xlm-roberta", "deberta-v2", "deberta-v3"), "sentencepiece"),
    **dict.fromkeys(("roberta", "deberta", "modernbert"), "byte-level"),
}
"""type of model → how the tokenizers of its checkpoints split text"""

TEXTS = [
    "Hello, world! He doesn't know the naïve café-owner's price: 1,234.50 €.",
    "我们喜欢吃米饭。今天天气很好，我们去公园。",
    "ผมชอบกินข้าว วันนี้อากาศดีมาก",
    "So good 👍🏽 😀😀 she said hello to the scientist 👩‍🔬.",
]


@lru_cache
def tokenizer_of(family: str) -> PreTrainedTokenizerFast:
    """Framed as BERT's, with its special tokens from id 0."""
    backend, trainer = {
        "wordpiece": (
            _word_pieces,
            trainers.WordPieceTrainer(vocab_size=420, special_tokens=SPECIAL, show_progress=False),
        ),
        "sentencepiece": (
            _sentence_pieces,
            trainers.UnigramTrainer(vocab_size=260, special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False),
        ),
        "byte-level": (
            _bytes,
            trainers.BpeTrainer(
                vocab_size=400,
                special_tokens=SPECIAL,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            ),
        ),
    }[family]
    made = backend()
    letters = sorted(set("".join(TEXTS)))  # each in the midst of a word, too
    made.train_from_iterator([*TEXTS * 4, *WORDS, *(3 * letter for letter in letters)], trainer)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return PreTrainedTokenizerFast(tokenizer_object=made, model_input_names=["input_ids", "attention_mask"], **names)


def _word_pieces() -> Tokenizer:
    """As BERT's uncased."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _sentence_pieces() -> Tokenizer:
    """As XLM-RoBERTa's and ALBERT's: split at spaces alone, which become a sign of the piece behind."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def _bytes() -> Tokenizer:
    """As RoBERTa's and ModernBERT's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def save_tiny_encoder(kind: str, folder: Path) -> Path:
    """A masked LM of a type of `models.CONFIGS` with random weights, and a tokenizer of its family."""
    tokenizer, config = tokenizer_of(FAMILY[kind]), copy.deepcopy(CONFIGS[kind])
    config.vocab_size = len(tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
