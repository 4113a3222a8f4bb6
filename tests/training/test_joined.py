"""Documents that share a batch give the losses and gradients of documents read alone, and never see each other."""

from itertools import product

import pytest
import torch
from torch import Tensor

from nmg.base.types import IGNORED_LABEL, CorruptedBlocks
from nmg.training.lm import masked_lm_loss, masked_logits
from support.models import VOCABULARY, tiny_model

LENGTHS = [6, 11, 11, 3, 8]
KINDS = ("bert", "roberta", "distilbert", "modernbert", "deberta-v3")
WAYS = [
    *((kind, way) for kind, way in product(KINDS, ("eager", "sdpa")) if (kind, way) != ("deberta-v3", "sdpa")),
    *((kind, "packed") for kind in ("bert", "roberta")),
]
"""model → how attention is computed; transformers' DeBERTa has eager attention alone"""


def documents() -> CorruptedBlocks:
    generator = torch.Generator().manual_seed(0)
    is_token = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(5, VOCABULARY, is_token.shape, generator=generator).masked_fill(~is_token, 0)
    is_masked = is_token & (torch.rand(is_token.shape, generator=generator) < 0.4)
    return CorruptedBlocks(ids, is_token, torch.where(is_masked, ids, IGNORED_LABEL))


def alone(document: int) -> CorruptedBlocks:
    one, length = documents()[document : document + 1], LENGTHS[document]
    return CorruptedBlocks(one.input_ids[:, :length], one.is_token[:, :length], one.labels[:, :length])


def attending(kind: str, way: str) -> torch.nn.Module:
    model = tiny_model(kind)
    if way != "packed":
        model.set_attn_implementation(way)
        assert model.config._attn_implementation == way
    return model


@pytest.mark.parametrize(("kind", "way"), WAYS)
def test_losses_and_gradients_are_those_of_documents_read_alone(kind: str, way: str):
    model, single = attending(kind, way), attending(kind, "packed")
    joined = masked_lm_loss(model, documents(), is_packed=way == "packed")
    joined.backward()
    n_masked = int((documents().labels != IGNORED_LABEL).sum())
    total = torch.zeros(())
    for document in range(len(LENGTHS)):
        one = alone(document)
        part = masked_lm_loss(single, one) * int((one.labels != IGNORED_LABEL).sum()) / n_masked
        part.backward()
        total += part.detach()
    assert joined.item() == pytest.approx(total.item(), rel=1e-5)
    compared = 0
    for (name, ours), theirs in zip(model.named_parameters(), single.parameters(), strict=True):
        if ours.grad is not None and theirs.grad is not None:
            scale = max(theirs.grad.abs().max().item(), 1.0)
            torch.testing.assert_close(ours.grad / scale, theirs.grad / scale, rtol=0, atol=1e-5, msg=name)
            compared += 1
    assert compared > 10


@pytest.mark.parametrize(("kind", "way"), WAYS)
def test_a_document_does_not_see_the_others(kind: str, way: str):
    """The logits of all other documents are the same to the bit where one is replaced."""
    model, batch = attending(kind, way), documents()
    is_masked = batch.labels != IGNORED_LABEL

    @torch.no_grad()
    def logits(ids: Tensor) -> Tensor:
        return masked_logits(model, ids, batch.is_token, is_masked, is_packed=way == "packed")

    changed = batch.input_ids.clone()
    changed[1] = torch.where(batch.is_token[1], (changed[1] + 7).clamp(max=VOCABULARY - 1), changed[1])
    before, after = logits(batch.input_ids), logits(changed)
    is_of_changed = is_masked.nonzero()[:, 0] == 1
    assert torch.equal(before[~is_of_changed], after[~is_of_changed])
    assert not torch.allclose(before[is_of_changed], after[is_of_changed], atol=1e-3)
