"""Settings of speed reach torch."""

import os

import pytest
import torch

from nmg.data.corpus import Corpus
from nmg.inner.adapt import adapt
from nmg.inner.lm import PretrainedLM
from nmg.inner.masks import DrawnMasks
from nmg.inner.runtime import Runtime, send
from nmg.masking.rules import RandomMasking
from nmg.seeding import StreamName
from nmg.settings import RuntimeSettings
from support.arenas import arena_of


def test_deterministic_algorithms_train_and_refuse_the_others(lm: PretrainedLM, corpus: Corpus):
    runtime = Runtime.start(RuntimeSettings(device="cpu", precision="fp32", deterministic=True))
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert adapt(arena_of(lm, runtime), DrawnMasks(corpus, RandomMasking()), StreamName(0)).fit.steps > 0
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)


def test_what_is_sent_arrives():
    assert torch.equal(send(torch.arange(3), torch.device("cpu")), torch.arange(3))
    assert send(torch.arange(3), torch.device("meta")).device.type == "meta"
