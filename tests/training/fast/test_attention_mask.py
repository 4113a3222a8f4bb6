"""A mask that hides nothing is left out, but for a model that demands one."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput, SequenceClassifierOutput

from nmg.base.seeding import StreamName
from nmg.base.settings import MaskingSettings
from nmg.base.training_settings import AdaptSettings, FinetuneSettings
from nmg.base.types import CorruptedBlocks, TokenBlocks
from nmg.data.formats.classification import ClassificationExample
from nmg.masking.corrupt import Vocabulary
from nmg.tasks.registry import task_kind
from nmg.training.context import TrainingContext
from nmg.training.fast.attention_mask import needed_inputs
from nmg.training.finetune import finetune, predict
from nmg.training.lm import masked_lm_loss
from nmg.training.lm_reader import LMReader, PlainPasses
from nmg.training.probe import probe
from nmg.training.runtime import Runtime
from support.models import CONFIGS, VOCABULARY, tiny_model
from support.planted import WORDS
from support.tiny import word_tokenizer

IDS = torch.arange(5, 17).view(2, 6)
FULL = torch.ones(2, 6, dtype=torch.bool)


class OwnEncoder(PreTrainedModel):
    """As some published encoders with Python of their own: its mask has a default, and yet has to be given."""

    config_class = PreTrainedConfig

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(60, 8)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        pass

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_others: Any) -> BaseModelOutput:
        return BaseModelOutput(self.words(input_ids) * attention_mask.bool().unsqueeze(2))


class OwnMaskedLM(PreTrainedModel):
    config_class = PreTrainedConfig
    base_model_prefix = "own"

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.own = OwnEncoder(config)
        self.head = nn.Linear(8, 60)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        pass

    def get_input_embeddings(self) -> nn.Module:
        return self.own.words

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.own.words = value

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_others: Any) -> MaskedLMOutput:
        return MaskedLMOutput(logits=self.head(self.own(input_ids, attention_mask)[0]))


class OwnClassifier(OwnMaskedLM):
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **_others: Any
    ) -> SequenceClassifierOutput:
        logits = self.head(self.own(input_ids, attention_mask)[0][:, 0])
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def own_model(kind: type[PreTrainedModel]) -> PreTrainedModel:
    return kind(PreTrainedConfig(vocab_size=60, hidden_size=8)).eval()


def test_a_language_model_that_demands_a_mask_gets_one():
    model = own_model(OwnMaskedLM)
    labels = torch.where(torch.arange(6) == 2, IDS, -100)
    loss = masked_lm_loss(model, CorruptedBlocks(IDS, FULL, labels))
    assert bool(loss.isfinite())
    blocks = TokenBlocks(torch.arange(2), torch.arange(2), IDS, FULL, FULL, torch.arange(6).expand(2, 6))
    reader = LMReader(model, 4, PlainPasses())
    assert reader(blocks).shape == (2, 6, 8)
    assert reader.surprise(blocks).shape == (2, 6, 2)


def test_a_task_model_that_demands_a_mask_gets_one():
    """In training, scoring and probing of rows of one length."""
    examples = [ClassificationExample(str(i), f"{WORDS[i]} {WORDS[i + 1]}", f"label{i % 2}", i) for i in range(4)]
    tokenizer, settings = word_tokenizer(WORDS[:50]), FinetuneSettings(epochs=1, batch_size=2, max_length=8)
    task = task_kind("classification").build(tokenizer, examples, settings)
    features, rows = task.encode(examples), np.arange(4)
    assert len(set(features.lengths.tolist())) == 1
    model, runtime = own_model(OwnClassifier), Runtime(torch.device("cpu"), "fp32", 64)
    assert finetune(model, features, rows, settings, runtime, StreamName(0)).steps == 2
    assert predict(model, task, features, runtime)["logits"].shape == (4, 60)
    parts = (Vocabulary.from_tokenizer(tokenizer), MaskingSettings(), AdaptSettings(), settings, runtime)
    assert probe(TrainingContext(model, *parts), task, features, rows, features)["logits"].shape == (4, 2)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_model_of_transformers_gives_the_same_without_it(kind: str):
    model = tiny_model(kind)
    inputs = {"input_ids": IDS % VOCABULARY, "attention_mask": FULL.long()}
    needed = needed_inputs(model, inputs)
    assert set(needed) == {"input_ids"}
    with torch.no_grad():
        torch.testing.assert_close(model(**needed).logits, model(**inputs).logits, rtol=0, atol=0)
    padded = inputs | {"attention_mask": torch.tensor([[1] * 6, [1] * 5 + [0]])}
    assert set(needed_inputs(model, padded)) == {"input_ids", "attention_mask"}
