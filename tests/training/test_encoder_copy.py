"""A task model around an LM's encoder is the one that transformers builds, but for the draws of its head."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BartConfig,
    BigBirdConfig,
    PreTrainedModel,
)

from nmg.tasks.base import model_with_head
from nmg.training.encoder_copy import with_encoder_of
from support.models import CONFIGS, VOCABULARY, tiny_model

CLASSES = {
    "classification": AutoModelForSequenceClassification,
    "qa": AutoModelForQuestionAnswering,
    "tokens": AutoModelForTokenClassification,
}


def maker(kind: str, task: str, lm: PreTrainedModel) -> Callable[[], PreTrainedModel]:
    return lambda: model_with_head(CLASSES[task], lm.config, trust_remote_code=False, num_labels=2)


def built(kind: str, task: str, *, whole: bool, seed: int = 0) -> PreTrainedModel:
    lm = tiny_model(kind)
    torch.manual_seed(seed)
    return with_encoder_of(lm, maker(kind, task, lm), whole=whole).eval()


CASES = [(kind, task) for kind in CONFIGS for task in CLASSES]


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_it_computes_what_the_whole_model_computes(kind: str, task: str):
    """Same names, same encoder, same outputs once the head is the same; nothing is left without values."""
    model, whole = built(kind, task, whole=False), built(kind, task, whole=True)
    assert [(n, p.shape, p.dtype) for n, p in model.named_parameters()] == [
        (n, p.shape, p.dtype) for n, p in whole.named_parameters()
    ]
    assert {n: b.shape for n, b in model.named_buffers()} == {n: b.shape for n, b in whole.named_buffers()}
    assert not any(t.is_meta for t in (*model.parameters(), *model.buffers()))
    for name, tensor in tiny_model(kind).base_model.state_dict().items():
        assert torch.equal(model.base_model.state_dict()[name], tensor), name
    model.load_state_dict(whole.state_dict())
    ids, mask = torch.arange(5, 23).view(2, 9) % VOCABULARY, torch.arange(9).expand(2, 9) < 7
    with torch.no_grad():
        found, expected = (m(input_ids=ids, attention_mask=mask.long()) for m in (model, whole))
    for first, second in zip(found.values(), expected.values(), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_the_head_is_drawn_as_transformers_draws_it(kind: str, task: str):
    """Each weight of the head has the mean and deviation of those of whole models, over twelve draws."""
    encoder = tiny_model(kind).base_model.state_dict()
    draws = [[built(kind, task, whole=whole, seed=seed) for seed in range(12)] for whole in (False, True)]
    prefix = draws[0][0].base_model_prefix
    for name, _ in draws[0][0].named_parameters():
        if name.removeprefix(f"{prefix}.") in encoder:
            continue
        here, there = (np.stack([m.get_parameter(name).detach().numpy() for m in models]) for models in draws)
        deviation = float(there.std())
        assert float(here.mean()) == pytest.approx(float(there.mean()), abs=0.35 * deviation + 1e-7), name
        assert float(here.std()) == pytest.approx(deviation, rel=0.4), name
        if deviation == 0:
            assert np.array_equal(here, there), name


def test_the_same_generator_gives_the_same_head():
    first, again, other = (built("bert", "qa", whole=False, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.qa_outputs.weight, again.qa_outputs.weight)
    assert not torch.equal(first.qa_outputs.weight, other.qa_outputs.weight)


class Drawn(TorchDispatchMode):
    """Counts the random numbers that are drawn for tensors with values."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        is_draw = func.__name__.split(".")[0] in ("normal_", "uniform_", "trunc_normal_", "random_")
        if is_draw and isinstance(made, Tensor) and not made.is_meta:
            self.numbers += made.numel()
        return made


def test_no_weight_is_drawn_to_be_overwritten():
    lm, drawn = tiny_model("bert"), []
    for whole in (True, False):
        with Drawn() as mode:
            model = with_encoder_of(lm, maker("bert", "tokens", lm), whole=whole)
        drawn.append(mode.numbers)
    assert drawn[0] > sum(p.numel() for p in model.base_model.parameters())
    assert drawn[1] <= 2 * sum(p.numel() for p in model.classifier.parameters()), "torch's draw, then transformers'"


def test_an_lm_with_a_pooler_goes_with_a_task_model_without_one():
    """BigBird's masked LM has one, its model for questions has none."""
    config = BigBirdConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=40,
        attention_type="original_full",
    )
    lm = AutoModelForMaskedLM.from_config(config)
    for whole in (False, True):
        model = with_encoder_of(lm, maker("big_bird", "qa", lm), whole=whole)
        assert torch.equal(model.base_model.embeddings.word_embeddings.weight, lm.get_input_embeddings().weight)


def test_what_is_one_table_in_the_encoder_stays_one():
    """BART's encoder and decoder share their embeddings; as two tables they would drift apart in a fine-tuning."""
    sides = {
        f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads", "ffn_dim")
    }
    config = BartConfig(vocab_size=VOCABULARY, d_model=16, max_position_embeddings=40, **sides)
    lm = AutoModelForMaskedLM.from_config(config)
    models = [with_encoder_of(lm, maker("bart", "qa", lm), whole=whole) for whole in (False, True)]
    first, second = ([name for name, _ in model.named_parameters()] for model in models)
    assert first == second
    assert models[0].base_model.encoder.embed_tokens.weight is models[0].base_model.decoder.embed_tokens.weight
