"""A word table of the pieces that occur trains as the whole table does with all other logits at the lowest number."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from nmg.base.errors import UserError
from nmg.training.fast.vocabulary_subset import restrict_vocabulary
from nmg.training.fast.weights import training_weights
from support.models import CONFIGS, VOCABULARY, tiny_model

IDS = torch.tensor([[5, 9, 7, 9], [6, 5, 0, 0]])
LABELS = torch.tensor([[-100, 9, -100, 7], [6, -100, -100, -100]])


UNNAMED = {"deberta-v3"}
"""whose output embeddings transformers does not name"""


def train(model: PreTrainedModel, columns: Any, precision: str = "fp32") -> list[float]:
    """Four steps of AdamW; the loss of each."""
    losses = []
    with training_weights(model, model.parameters(), precision) as weights:
        optimiser = torch.optim.AdamW(weights.masters, lr=1e-3, weight_decay=0.0)
        for _ in range(4):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                logits = model(input_ids=IDS, attention_mask=(IDS != 0).long()).logits
            logits, labels = columns(logits, LABELS)
            loss = cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
            loss.backward()
            weights.collect_gradients()
            torch.nn.utils.clip_grad_norm_(weights.masters, 0.1)
            optimiser.step()
            weights.publish()
            optimiser.zero_grad()
            losses.append(loss.item())
    return losses


def among(ids: Tensor) -> Any:
    """The loss among `ids`, the slow way."""
    is_out = torch.ones(VOCABULARY, dtype=torch.bool)
    is_out[ids] = False
    return lambda logits, labels: (logits.masked_fill(is_out, torch.finfo(logits.dtype).min), labels)


@pytest.mark.parametrize("kind", sorted(CONFIGS.keys() - UNNAMED))
@pytest.mark.parametrize("ids", [torch.arange(VOCABULARY), IDS], ids=["all", "some"])
def test_losses_and_weights_are_those_of_the_whole_table(kind: str, ids: Tensor):
    slow, fast = tiny_model(kind).train(), tiny_model(kind).train()
    for module in (*slow.modules(), *fast.modules()):
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    parts = [id(parameter) for parameter in fast.parameters()]
    with restrict_vocabulary(fast, ids) as words:
        few = train(fast, lambda logits, labels: (logits, words.rows(labels)))
    losses = train(slow, among(words.ids))  # and the padding's, which may be another than 0
    assert few == pytest.approx(losses, rel=1e-4)
    assert [id(parameter) for parameter in fast.parameters()] == parts, "the model is whole again"
    wanted = slow.state_dict()
    for name, weight in fast.state_dict().items():
        torch.testing.assert_close(weight, wanted[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("kind", sorted(UNNAMED))
def test_a_table_that_is_not_named_is_refused(kind: str):
    with (
        pytest.raises(UserError, match="needs a masked LM whose output is tied"),
        restrict_vocabulary(tiny_model(kind), IDS),
    ):
        pass


def test_in_bf16_masters_come_back_too():
    model = tiny_model("bert").train()
    before = model.get_input_embeddings().weight.detach().clone()
    with restrict_vocabulary(model, IDS) as words:
        losses = train(model, lambda logits, labels: (logits, words.rows(labels)), "bf16")
    assert losses[-1] < losses[0]
    moved = (model.get_input_embeddings().weight != before).any(dim=1).nonzero().flatten().tolist()
    assert moved == [0, 5, 6, 7, 9]


def test_out_of_training_every_piece_has_its_place():
    model = tiny_model("bert")
    whole = model(input_ids=IDS).logits
    with restrict_vocabulary(model, IDS) as words:
        logits = model(input_ids=IDS).logits
    torch.testing.assert_close(logits[..., words.ids], whole[..., words.ids])
    assert logits.shape == whole.shape
    others = [row for row in range(VOCABULARY) if row not in words.ids.tolist()]
    assert (logits[..., others] == torch.finfo(logits.dtype).min).all()


def test_a_model_whose_output_is_not_tied_is_a_user_error():
    model = tiny_model("bert")
    output = model.get_output_embeddings()
    output.weight = torch.nn.Parameter(output.weight.detach().clone())
    with (
        pytest.raises(UserError, match=r"adapt\.vocabulary corpus .* BertForMaskedLM is not"),
        restrict_vocabulary(model, IDS),
    ):
        pass
