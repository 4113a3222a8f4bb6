"""Blocks end to end give the loss and gradients of padded blocks."""

import pytest
import torch

from nmg.base.errors import UserError
from nmg.base.types import IGNORED_LABEL, CorruptedBlocks
from nmg.training.fast.functions import FastFunctions
from nmg.training.fast.model_types import BERT_LIKE
from nmg.training.lm import masked_lm_loss
from support.models import CONFIGS, VOCABULARY, tiny_model

LENGTHS = [5, 9, 9, 3, 9, 1]


def blocks() -> CorruptedBlocks:
    generator = torch.Generator().manual_seed(0)
    is_token = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(5, VOCABULARY, is_token.shape, generator=generator).masked_fill(~is_token, 0)
    is_masked = is_token & (torch.rand(is_token.shape, generator=generator) < 0.4)
    return CorruptedBlocks(ids, is_token, torch.where(is_masked, ids + 1, IGNORED_LABEL).clamp(max=VOCABULARY - 1))


def loss_and_gradients(kind: str, is_packed: bool) -> tuple[float, dict[str, torch.Tensor]]:
    model = tiny_model(kind)
    loss = masked_lm_loss(model, blocks(), is_packed=is_packed)
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", sorted(CONFIGS.keys() & BERT_LIKE))
def test_loss_and_gradients_are_those_of_padded_blocks(kind: str):
    (loss, wanted), (packed_loss, found) = (loss_and_gradients(kind, is_packed) for is_packed in (False, True))
    assert packed_loss == pytest.approx(loss, rel=1e-5)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-5, msg=name)


def test_the_attention_is_the_usual_one_behind_it():
    model = tiny_model("bert")
    before = masked_lm_loss(model, blocks()).item()
    masked_lm_loss(model, blocks(), is_packed=True)
    assert masked_lm_loss(model, blocks()).item() == before


def test_it_goes_with_cheap_dropout():
    model = tiny_model("bert").train()
    with FastFunctions():
        masked_lm_loss(model, blocks(), is_packed=True).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_a_model_with_attention_of_its_own_is_a_user_error():
    with pytest.raises(UserError, match=r"runtime\.packing: models of type 'deberta-v2' cannot be packed"):
        masked_lm_loss(tiny_model("deberta-v2"), blocks(), is_packed=True)
