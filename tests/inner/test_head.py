"""A new head is warmed up and the encoder stays."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nmg.data.corpus import Corpus
from nmg.inner.head import warm_up_head
from nmg.inner.lm import PretrainedLM, copy_state, load_pretrained
from nmg.inner.runtime import Runtime
from nmg.seeding import StreamName, torch_stream
from nmg.settings import ModelSettings
from support.arenas import arena_of
from support.planted import WORDS
from support.runs import is_same
from support.tiny import save_tiny_bert


@pytest.fixture
def headless(tmp_path: Path) -> PretrainedLM:
    """A checkpoint of an encoder alone, as of a sentence embedder."""
    folder = save_tiny_bert(tmp_path / "headless", WORDS, hidden=16, dropout=0.1)
    weights = {n: t for n, t in load_file(folder / "model.safetensors").items() if not n.startswith("cls.")}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with torch_stream(0, "head"):
        return load_pretrained(ModelSettings(name=str(folder)))


def warm_up(lm: PretrainedLM, corpus: Corpus, runtime: Runtime, steps: int) -> tuple[int, float]:
    settings = ModelSettings(head_warmup_steps=steps, head_warmup_learning_rate=0.02)
    result = warm_up_head(lm, arena_of(lm, runtime), settings, corpus, StreamName(0))
    return result.steps, result.loss


def test_warming_up_moves_the_new_head_alone(headless: PretrainedLM, corpus: Corpus, runtime: Runtime):
    model = headless.model
    new = {name for name, _ in model.named_parameters()} & set(headless.new_parameters)
    assert len(new) == 5
    before = copy_state(model)
    steps, late = warm_up(headless, corpus, runtime, 60)
    assert steps == 60
    after = copy_state(model)
    encoder = model.base_model_prefix + "."
    assert is_same(
        {n: t for n, t in before.items() if n.startswith(encoder)},
        {n: t for n, t in after.items() if n.startswith(encoder)},
    )
    assert all(not torch.equal(before[name], after[name]) for name in new)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert torch.equal(after["cls.predictions.decoder.weight"], before["bert.embeddings.word_embeddings.weight"])
    assert all(parameter.requires_grad for parameter in model.parameters()), "all train again"

    model.load_state_dict(before)
    _, early = warm_up(headless, corpus, runtime, 1)
    assert late < early - 0.2


def test_warming_up_that_fails_leaves_all_parameters_trainable(
    headless: PretrainedLM, corpus: Corpus, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_args: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr("nmg.inner.head.masked_lm_loss", fail)
    with pytest.raises(RuntimeError):
        warm_up(headless, corpus, runtime, 2)
    assert all(parameter.requires_grad for parameter in headless.model.parameters())
