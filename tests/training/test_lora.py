"""LoRA trains small matrices, and the merged model is the adapted one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM

from nmg.base.errors import UserError
from nmg.base.seeding import StreamName
from nmg.base.training_settings import LoraSettings
from nmg.data.corpus import Corpus
from nmg.masking.rules import RandomMasking
from nmg.training.adapt import adapt
from nmg.training.context import TrainingContext
from nmg.training.fit import Training
from nmg.training.lm import copy_state
from nmg.training.lora import check_lora, low_rank
from nmg.training.masks import DrawnMasks
from support.arenas import ADAPT
from support.models import CONFIGS, VOCABULARY, tiny_model

pytest.importorskip("peft", reason="needs peft (the `lora` extra)")
RANK_8 = LoraSettings(rank=8, alpha=16.0)


def with_lora(context: TrainingContext, learning_rate: float = 5e-3, **settings: object) -> TrainingContext:
    changes = {"lora": LoraSettings.model_validate(settings), "learning_rate": learning_rate}
    return replace(context, adapt=ADAPT.model_copy(update=changes))


class Look:
    """Remembers logits of the model while it has its adapters."""

    def __init__(self, context: TrainingContext, corpus: Corpus) -> None:
        self.context, self.corpus = context, corpus
        self.logits = torch.empty(0)

    def begin(self, training: Training) -> None:
        """Nothing to restore."""

    def after_step(self, training: Training) -> None:
        self.logits = logits_of(self.context, self.corpus)


@torch.no_grad()
def logits_of(context: TrainingContext, corpus: Corpus) -> Tensor:
    blocks, model = corpus.blocks(np.arange(len(corpus))), context.model
    was_training = model.training
    model.eval()
    logits = model(input_ids=blocks.input_ids, attention_mask=blocks.is_token.long()).logits
    model.train(was_training)
    return logits[blocks.is_token]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_merged_model_is_the_model_with_adapters_and_loads_in_plain_transformers(
    context: TrainingContext, corpus: Corpus, precision: str, tmp_path: Path
):
    context = with_lora(context, 0.1, rank=8, dropout=0.1)
    look, before = Look(context, corpus) if precision == "fp32" else None, logits_of(context, corpus)
    context = replace(context, runtime=replace(context.runtime, precision=precision))
    modules = [type(module) for module in context.model.modules()]
    adapt(context, DrawnMasks(corpus, RandomMasking()), StreamName(0), observer=look)
    merged = logits_of(context, corpus)
    assert float((merged - before).abs().max()) > 0.05, "the adaptation changed something"
    assert [type(module) for module in context.model.modules()] == modules
    assert all(parameter.requires_grad for parameter in context.model.parameters())
    if look is not None:  # in bf16 the model computed with rounded weights
        assert float((merged - look.logits).abs().max()) < 1e-5
    folder = tmp_path / "saved"
    context.model.save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    context = replace(context, model=AutoModelForMaskedLM.from_pretrained(folder).eval())
    assert torch.equal(logits_of(context, corpus), merged)


def test_only_linear_layers_of_the_encoder_change_by_a_product_of_low_rank(context: TrainingContext, corpus: Corpus):
    before = copy_state(context.model)
    adapt(with_lora(context, rank=2), DrawnMasks(corpus, RandomMasking()), StreamName(0))
    changes = {name: tensor - before[name] for name, tensor in context.model.state_dict().items()}
    changed = {name for name, change in changes.items() if bool(change.any())}
    layer = "bert.encoder.layer.0."
    names = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    assert changed == {f"{layer}{name}.weight" for name in (*names, "intermediate.dense", "output.dense")}
    for name in changed:
        values = torch.linalg.svdvals(changes[name].double())
        assert float(values[1]) > 1e-6, "rank 2 is used"
        assert float(values[2]) < 1e-5 * float(values[0]), "and no more"


def test_a_step_is_that_of_the_matrices_by_hand(context: TrainingContext):
    """W' = W + alpha / rank · B · A, with B 0 at the start: one step of AdamW moves each value of B by the rate."""
    model = context.model
    layer = model.bert.encoder.layer[0].attention.self.query
    before = layer.weight.detach().clone()
    settings = LoraSettings(rank=4, alpha=2.0, targets=("query",))
    with low_rank(model, settings, StreamName(0) / "lora") as trained:
        assert sorted(tuple(parameter.shape) for parameter in trained) == [(4, 16), (16, 4)]
        a, b = sorted(trained, key=lambda parameter: parameter.shape[0])
        assert not bool(b.any())
        first, second = torch.full_like(b, 0.5), a.detach().clone()
        b.data.copy_(first)
    assert torch.allclose(layer.weight, before + 2.0 / 4 * first @ second, atol=1e-6)


def test_a_new_head_is_trained_too(context: TrainingContext):
    context = replace(with_lora(context, rank=2), trained_fully=("cls.predictions.bias",))
    with low_rank(context.model, context.adapt.lora, StreamName(0), context.trained_fully) as trained:
        assert any(parameter is context.model.cls.predictions.bias for parameter in trained)
        assert all(parameter.requires_grad for parameter in trained)


def test_the_same_seed_gives_the_same_model_and_another_seed_another(context: TrainingContext, corpus: Corpus):
    context = with_lora(context, rank=2)
    start, found = copy_state(context.model), []
    for seed in (0, 0, 1):
        context.model.load_state_dict(start)
        torch.rand(1)  # the global generator does not matter
        adapt(context, DrawnMasks(corpus, RandomMasking()), StreamName(seed))
        found.append(copy_state(context.model)["bert.encoder.layer.0.output.dense.weight"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_training_that_fails_leaves_the_model_as_it_was(context: TrainingContext):
    before, modules = copy_state(context.model), [type(module) for module in context.model.modules()]

    def fail() -> None:
        with low_rank(context.model, RANK_8, StreamName(0)) as trained:
            for parameter in trained:
                parameter.data.fill_(1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [type(module) for module in context.model.modules()] == modules
    assert all(torch.equal(tensor, before[name]) for name, tensor in context.model.state_dict().items())
    assert not hasattr(context.model, "peft_config")


def test_a_restricted_vocabulary_trains_with_lora(context: TrainingContext, corpus: Corpus):
    context = with_lora(context, rank=2)
    context = replace(context, adapt=context.adapt.model_copy(update={"vocabulary": "corpus"}))
    before = copy_state(context.model)
    adapt(context, DrawnMasks(corpus, RandomMasking()), StreamName(0))
    after = context.model.state_dict()
    assert torch.equal(
        after["bert.embeddings.word_embeddings.weight"], before["bert.embeddings.word_embeddings.weight"]
    )
    name = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(after[name], before[name])


@pytest.mark.parametrize("kind", CONFIGS)
def test_all_linear_layers_of_every_kind_of_model_take_part(kind: str):
    model = tiny_model(kind).train()
    ids = torch.randint(5, VOCABULARY, (2, 9))
    try:
        with low_rank(model, RANK_8, StreamName(0)) as trained:
            model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum().backward()
            without = [parameter for parameter in trained if parameter.grad is None]
            assert trained
            assert len(without) < len(trained) / 2
    except UserError as error:
        assert kind == "fnet", error  # noqa: PT017 its encoder mixes by Fourier transforms


def test_an_unknown_layer_is_named_with_those_that_exist(context: TrainingContext):
    settings = LoraSettings(rank=2, targets=("query", "q_proj"))
    with (
        pytest.raises(
            UserError, match=r"adapt\.lora\.targets: .*type 'bert' has no linear layer named q_proj .*dense, key"
        ),
        low_rank(context.model, settings, StreamName(0)),
    ):
        pass


def test_without_peft_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nmg.training.lora.find_spec", lambda name: None)
    check_lora(LoraSettings())
    with pytest.raises(UserError, match=r"adapt\.lora\.rank: LoRA needs peft: pip install 'peft"):
        check_lora(RANK_8)
