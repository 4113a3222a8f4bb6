"""Training the rows that occur gives the weights of training all rows."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from nmg.training.fast.embeddings import only_rows
from support.models import CONFIGS, VOCABULARY, tiny_model

IDS = torch.tensor([[5, 9, 7, 9], [6, 5, 0, 0]])


def classifier(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(CONFIGS[kind], dtype=torch.float32).eval()


def train(model: PreTrainedModel) -> None:
    """Four steps; the second batch lacks a token of the first, whose momentum moves on."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for step in range(4):
        ids = IDS if step % 2 == 0 else IDS[1:]
        loss = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=torch.arange(len(ids))).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimiser.step()
        optimiser.zero_grad()


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_weights_are_those_of_training_all_rows(kind: str):
    plain, few = classifier(kind), classifier(kind)
    train(plain)
    whole = few.get_input_embeddings()
    with only_rows(few, IDS):
        assert few.get_input_embeddings().weight.shape[0] <= 6
        train(few)
    assert few.get_input_embeddings() is whole
    wanted = plain.state_dict()
    assert not torch.equal(wanted["classifier.bias"] if "classifier.bias" in wanted else torch.ones(1), torch.zeros(1))
    for name, weight in few.state_dict().items():
        torch.testing.assert_close(weight, wanted[name], rtol=1e-5, atol=1e-6, msg=name)


def test_rows_that_do_not_occur_stay_to_the_bit_and_others_move():
    model = classifier("bert")
    before = model.get_input_embeddings().weight.detach().clone()
    with only_rows(model, IDS):
        train(model)
    moved = (model.get_input_embeddings().weight != before).any(dim=1).nonzero().flatten().tolist()
    assert moved == [5, 6, 7, 9]  # 0 is padding


def test_an_id_that_was_not_named_is_an_error():
    model = classifier("bert")
    with only_rows(model, IDS), pytest.raises(IndexError):
        model(input_ids=torch.tensor([[5, 11]]))


def test_tied_embeddings_are_left_alone():
    model = tiny_model("bert")
    with only_rows(model, IDS):
        assert model.get_input_embeddings().num_embeddings == VOCABULARY
