from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from support.files import shared, squad_json, write  # noqa: F401

TEXTS = (
    "The quick brown fox jumps over the lazy dog near the river bank.",
    "Naïve café owners in Zürich paid 1,234.50 € for a re-used coffee-maker in 1999.",
    "Who bought the coffee-maker? Where did the fox jump, and when?",
)


@pytest.fixture(scope="session")
def wordpiece(minilm: Path) -> PreTrainedTokenizerBase:
    """A BERT tokenizer, lower-casing."""
    return AutoTokenizer.from_pretrained(minilm)


@pytest.fixture(scope="session")
def bytelevel() -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer with RoBERTa's special tokens, `<s> q </s></s> c </s>`, one token type."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )


@pytest.fixture(params=["wordpiece", "bytelevel"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return request.getfixturevalue(request.param)
