"""Positions that no loss reads are left out behind the last attention, and nothing else changes."""

import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification, PreTrainedModel

from nmg.training.fast.positions import Places, last_attention, restrict_to_positions, states_the_head_reads
from nmg.training.lm import masked_logits
from support.models import CONFIGS, VOCABULARY, tiny_model


def classifier(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = CONFIGS[kind].__class__.from_dict(CONFIGS[kind].to_dict() | {"num_labels": 3})
    return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()


def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    is_token = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    return {
        "input_ids": torch.randint(5, VOCABULARY, (2, 7), generator=generator) * is_token,
        "attention_mask": is_token,
        "labels": torch.tensor([0, 2]),
    }


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_classifier_gives_the_same_logits_and_gradients(kind: str):
    model, results = classifier(kind), []
    for _ in range(2):
        output = model(**inputs())
        output.loss.backward()
        results.append((output.logits, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
        model.zero_grad(set_to_none=True)
        if len(results) == 1:
            context = states_the_head_reads(model, 2)
            context.__enter__()
    context.__exit__(None, None, None)
    (logits, gradients), (fewer_logits, fewer_gradients) = results
    torch.testing.assert_close(fewer_logits, logits, rtol=1e-5, atol=1e-6)
    assert set(fewer_gradients) == set(gradients)
    for name, gradient in gradients.items():
        torch.testing.assert_close(fewer_gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_the_last_feed_forward_part_sees_only_what_is_read(kind: str):
    model, seen = classifier(kind), []
    model.base_model.encoder.layer[-1].intermediate.register_forward_hook(lambda _m, x, _y: seen.append(x[0].shape[:2]))
    with states_the_head_reads(model, 2):
        model(**inputs())
    model(**inputs())
    assert seen == [(2, 1), (2, 7)]

    lm, seen_by_lm = tiny_model(kind), []
    lm.base_model.encoder.layer[-1].intermediate.register_forward_hook(
        lambda _m, x, _y: seen_by_lm.append(x[0].shape[:2])
    )
    ids = inputs()["input_ids"]
    masked_logits(lm, ids, torch.ones_like(ids, dtype=torch.bool), ids == ids[0, 0])
    assert seen_by_lm == [(1, int((ids == ids[0, 0]).sum()))]


def test_question_answering_reads_every_position():
    model = AutoModelForQuestionAnswering.from_config(CONFIGS["bert"], dtype=torch.float32).eval()
    ids = inputs()["input_ids"]
    with states_the_head_reads(model, 2):
        assert model(input_ids=ids).start_logits.shape == (2, 7)


def test_only_known_architectures_have_such_a_point():
    known = {kind for kind in CONFIGS if last_attention(tiny_model(kind)) is not None}
    assert known == {"bert", "roberta", "xlm-roberta", "electra"}


def test_places_are_gathered_row_by_row():
    is_chosen = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)
    places = Places.where(is_chosen)
    assert places.columns.tolist() == [[1, 3], [0, 0], [0, 0]]
    states = torch.arange(12.0).view(3, 4, 1)
    assert places.of(states)[:, :, 0].tolist() == [[1, 3], [4, 4], [8, 8]]
    assert places.without_filling(places.of(states)).flatten().tolist() == [1, 3, 8]
    nothing = Places.where(torch.zeros_like(is_chosen))
    assert nothing.without_filling(nothing.of(states)).shape == (1, 0, 1)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_the_last_attention_asks_for_what_is_read_alone(kind: str, attention: str):
    """Rows of unlike length, with unlike numbers of places; the very states of all positions."""
    lm = tiny_model(kind)
    lm.set_attn_implementation(attention)
    asked: list[torch.Size] = []
    lm.base_model.encoder.layer[-1].attention.self.query.register_forward_hook(
        lambda _m, x, _y: asked.append(x[0].shape[:2])
    )
    batch = {name: value for name, value in inputs().items() if name != "labels"}
    is_chosen = torch.tensor([[0, 1, 0, 0, 0, 1, 1], [0, 0, 1, 0, 0, 0, 0]], dtype=torch.bool)
    whole = lm.base_model(**batch).last_hidden_state
    with restrict_to_positions(lm, Places.where(is_chosen)):
        few = lm.base_model(**batch).last_hidden_state
    torch.testing.assert_close(few, whole[is_chosen].unsqueeze(0), rtol=1e-5, atol=1e-6)
    assert torch.equal(lm.base_model(**batch).last_hidden_state, whole), "behind it, all positions are back"
    assert asked == [(2, 7), (2, 3), (2, 7)]


def test_a_decoder_keeps_all_positions():
    """Its last attention sees no later position: which ones there are differs from query to query."""
    config = CONFIGS["bert"].__class__.from_dict(CONFIGS["bert"].to_dict() | {"is_decoder": True})
    assert last_attention(AutoModelForQuestionAnswering.from_config(config)) is None
