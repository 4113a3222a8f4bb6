"""`model.attention`: the implementation that is asked for, the same loss for all, one sentence if it cannot be used."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nmg.base.errors import UserError
from nmg.base.seeding import StreamName
from nmg.base.settings import ModelSettings
from nmg.config import load_config
from nmg.data.corpus import Corpus
from nmg.masking.rules import RandomMasking
from nmg.training.adapt import adapt
from nmg.training.lm import load_pretrained
from nmg.training.masks import DrawnMasks
from nmg.training.runtime import Runtime
from nmg.trials.inputs import SharedInputs
from nmg.trials.session import ModelSession
from support.arenas import arena_of
from support.models import tiny_model
from support.planted import WORDS
from support.runs import Inputs
from support.tiny import save_tiny_bert, word_tokenizer


@pytest.fixture
def without_dropout(tmp_path: Path) -> Path:
    return save_tiny_bert(tmp_path / "model", WORDS, layers=2)


def test_losses_of_eager_and_sdpa_are_equal(without_dropout: Path, corpus: Corpus, runtime: Runtime):
    losses, weights = [], []
    for attention in ("eager", "sdpa"):
        lm = load_pretrained(ModelSettings(name=str(without_dropout), attention=attention))
        assert lm.model.config._attn_implementation == attention
        assert pickle.loads(pickle.dumps(lm.model.config))._attn_implementation == attention, "for other processes"
        losses.append(adapt(arena_of(lm, runtime), DrawnMasks(corpus, RandomMasking()), StreamName(0)).loss)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in lm.model.parameters()]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert np.ptp(losses) < 1e-5
    assert float((weights[0] - weights[1]).abs().max()) < 1e-3


@pytest.mark.parametrize(("attention", "n_calls"), [("eager", 0), ("sdpa", 2), ("auto", 2)])
def test_the_model_computes_with_it(
    without_dropout: Path, attention: str, n_calls: int, monkeypatch: pytest.MonkeyPatch
):
    lm = load_pretrained(ModelSettings.model_validate({"name": str(without_dropout), "attention": attention}))
    calls, true = [], F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: (calls.append(1), true(*a, **k))[1])
    lm.model(input_ids=torch.tensor([[2, 6, 7, 3]]))
    assert len(calls) == n_calls


def test_a_model_that_does_not_support_it_is_named(tmp_path: Path):
    tiny_model("deberta").save_pretrained(tmp_path)
    word_tokenizer(WORDS).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"^model\.attention: .* cannot use sdpa, because DebertaForMaskedLM does not"):
        load_pretrained(ModelSettings(name=str(tmp_path), attention="sdpa"))
    assert load_pretrained(ModelSettings(name=str(tmp_path))).model.config._attn_implementation == "eager"


def test_a_missing_package_is_named(without_dropout: Path):
    if torch.cuda.is_available():
        pytest.skip("flash-attn may be installed here")
    with pytest.raises(UserError, match="flash_attention_2, because the package flash-attn is not installed"):
        load_pretrained(ModelSettings(name=str(without_dropout), attention="flash_attention_2"))


def test_flash_attention_needs_a_gpu_and_half_precision():
    words = ["--model.name=no/such-model", "--model.attention=flash_attention_2", "--runtime.device=cpu"]
    with pytest.raises(UserError, match=r"flash_attention_2 needs an NVIDIA GPU .*\(here: cpu, fp32\)"):
        ModelSession.open(load_config(None, [*words, "--runtime.precision=fp32"]))


def test_sessions_of_other_implementations_do_not_share_a_model(inputs: Inputs):
    shared, found = SharedInputs(), []
    for attention in ("eager", "sdpa"):
        words = [f"--model.name={inputs.model}", f"--model.attention={attention}"]
        found.append(shared.model(load_config(None, words)).model.config._attn_implementation)
    assert found == ["eager", "sdpa"]
