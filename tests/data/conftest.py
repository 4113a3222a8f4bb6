"""Tokenizers and small files for the data tests."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

SHARED = Path(__file__).parents[2] / "../shared/data"

Write = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the data sets of {SHARED} are not here")
    return SHARED


@pytest.fixture(scope="session")
def wordpiece(minilm: Path) -> PreTrainedTokenizerBase:
    """The uncased word pieces of BERT."""
    return AutoTokenizer.from_pretrained(minilm)


@pytest.fixture(scope="session")
def byte_level() -> PreTrainedTokenizerBase:
    """A byte-level BPE framed as RoBERTa's, with other special ids than BERT's and padding on the left."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat sat on the mat and the dog ran after the cat"] * 3, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>")), add_prefix_space=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        padding_side="left",
    )


@pytest.fixture(params=["wordpiece", "byte_level"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    """Each test with it runs with both tokenizers."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a text to a file of that name, return its path."""

    def write_file(name: str, content: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
        return path

    return write_file


@pytest.fixture
def squad_json() -> str:
    """Two passages with two questions and one."""
    return json.dumps(
        {
            "data": [
                {
                    "title": "t",
                    "paragraphs": [
                        {
                            "context": "Rome is old.",
                            "qas": [
                                _squad_question("q1", "Which city?", ("Rome", 0)),
                                _squad_question("q2", "How is it?", ("old", 8), ("is old", 5)),
                            ],
                        },
                        {"context": "Oslo is cold.", "qas": [_squad_question("q3", "Which?", ("Oslo", 0))]},
                    ],
                }
            ]
        }
    )


def _squad_question(identity: str, question: str, *answers: tuple[str, int]) -> dict[str, object]:
    found = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": identity, "question": question, "answers": found}
