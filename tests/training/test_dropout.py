"""`adapt.dropout` changes the dropout of a model during adaptation only."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from nmg.base.seeding import StreamName
from nmg.data.corpus import Corpus
from nmg.masking.rules import RandomMasking
from nmg.training.adapt import adapt
from nmg.training.context import TrainingContext
from nmg.training.dropout import dropout_probability
from nmg.training.masks import DrawnMasks
from support.arenas import ADAPT
from support.models import CONFIGS, tiny_model


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_without_dropout_training_mode_gives_the_logits_of_evaluation(kind: str) -> None:
    model, ids = tiny_model(kind), torch.arange(5, 25).reshape(2, 10)
    with torch.no_grad():
        expected = model(ids).logits
        model.train()
        with dropout_probability(model, 0.0):
            assert torch.equal(model(ids).logits, expected)
        if any(isinstance(module, nn.Dropout) and module.p for module in model.modules()):
            assert not torch.equal(model(ids).logits, expected)


def test_each_module_gets_its_own_probability_back_even_after_an_error() -> None:
    model = tiny_model("bert")
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    for number, layer in enumerate(layers):
        layer.p = number / 100

    def fail() -> None:
        with dropout_probability(model, 0.5):
            assert {layer.p for layer in layers} == {0.5}
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [layer.p for layer in layers] == [number / 100 for number in range(len(layers))]


def test_an_adaptation_uses_the_probability_of_the_settings(context: TrainingContext, corpus: Corpus) -> None:
    found = []
    context.model.register_forward_hook(
        lambda model, _inputs, _output: found.append({m.p for m in model.modules() if isinstance(m, nn.Dropout)})
    )
    changed = replace(context, adapt=ADAPT.model_copy(update={"dropout": 0.25, "epochs": 1}))
    adapt(changed, DrawnMasks(corpus, RandomMasking()), StreamName(0) / "test")
    assert found
    assert all(one == {0.25} for one in found)
