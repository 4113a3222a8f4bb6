"""Answers are read back whole whatever a tokenizer's normaliser makes of ligatures, control characters and spaces."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from nmg.base.training_settings import FinetuneSettings
from nmg.data.formats.questions import QAExample
from nmg.tasks.qa import QuestionAnsweringTask

CONTEXTS = {
    "The oﬃce … of Dr. Ångström\u202fclosed at ½ past 9\u00a0pm……then reopened.": (
        *("oﬃce", "Dr. Ångström", "½ past 9", "reopened"),
    ),
    "T\x10his is\t a \x10 te\x10st of ﬁne control\x7f bytes, e\u0301tude 3².": (
        *("te\x10st", "ﬁne control", "e\u0301tude", "3²"),
    ),
    "Price: 10\u00a0000 € – “quoted” text, naïve co\u00adoperation №5 ™.": (
        *("10\u00a0000 €", "quoted", "co\u00adoperation", "№5"),
    ),
}
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<mask>"]
MERGED_SPACES = normalizers.Replace(Regex(" {2,}"), " ")
KINDS: dict[str, Callable[[], tuple[normalizers.Normalizer, pre_tokenizers.PreTokenizer]]] = {
    "xlm-roberta": lambda: (
        normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), MERGED_SPACES]),
        pre_tokenizers.Metaspace(),
    ),
    "albert": lambda: (
        normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), MERGED_SPACES]),
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]),
    ),
    "deberta-v3": lambda: (
        normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Strip()]),
        pre_tokenizers.Metaspace(),
    ),
    "camembert": lambda: (
        normalizers.NFKC(),
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]),
    ),
}


@cache
def tokenizer_like(kind: str) -> PreTrainedTokenizerFast:
    """A small unigram tokenizer that normalises and splits as the named model's."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer, backend.pre_tokenizer = KINDS[kind]()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator([*CONTEXTS, "Which of these words is the answer?"] * 8, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    names = {"unk": "<unk>", "cls": "<s>", "sep": "</s>", "pad": "<pad>", "mask": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{f"{name}_token": text for name, text in names.items()})


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_knows_the_targets_gives_every_answer(kind: str):
    examples = [
        QAExample(f"{number}-{answer}", "Which?", context, (answer,), (context.index(answer),), number)
        for number, (context, answers) in enumerate(CONTEXTS.items())
        for answer in answers
    ]
    task = QuestionAnsweringTask(tokenizer_like(kind), FinetuneSettings(max_length=384, stride=128))
    features = task.encode(examples)
    outputs = {}
    for name in ("start", "end"):
        logits = np.full((len(features), int(features.lengths.max())), -9.0, dtype=np.float32)
        logits[np.arange(len(features)), features.targets[f"{name}_positions"]] = 9.0
        outputs[f"{name}_logits"] = torch.from_numpy(logits)
    found = task.evaluate(outputs, features, examples)
    assert found.scores["exact_match"] == 1.0, found.predictions
