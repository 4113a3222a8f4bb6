"""A corpus whose pieces can be counted by hand."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from support.tiny import SPECIAL

PIECES = [
    "the",
    "a",
    "in",
    "##hibit",
    "##or",
    "##s",
    "kin",
    "##ase",
    "binds",
    ",",
    "-",
    "(",
    ")",
    "'",
    ".",
    "it",
    "s",
    "2",
]
TEXTS = [
    "The inhibitor binds the kinase.",
    "Inhibitors: a kinase-inhibitor (INHIBITOR), the inhibitor's kinase 2.",
]
"""words with their pieces: the 3 x 1, a 1, binds 1, s 1; inhibitor 4 x 3; inhibitors 4; kinase 3 x 2"""


@pytest.fixture(scope="session")
def bert() -> PreTrainedTokenizerFast:
    """An uncased WordPiece tokenizer."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *PIECES])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    roles = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **roles)


@pytest.fixture
def model(bert: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    """A folder with the tokenizer and a random model."""
    folder = tmp_path / "model"
    config = BertConfig(
        vocab_size=len(bert), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24
    )
    BertForMaskedLM(config).save_pretrained(folder)
    bert.save_pretrained(folder)
    return folder
