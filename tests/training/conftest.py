"""A tiny LM, text for it, and what its inner loops share."""

from pathlib import Path

import numpy as np
import pytest

from nmg.base.settings import ModelSettings, RuntimeSettings
from nmg.data.corpus import Corpus
from nmg.training.context import TrainingContext
from nmg.training.lm import PretrainedLM, load_pretrained
from nmg.training.runtime import Runtime
from support.arenas import ADAPT, arena_of
from support.planted import WORDS
from support.runs import Inputs


@pytest.fixture
def runtime() -> Runtime:
    return Runtime.start(RuntimeSettings(device="cpu", precision="fp32"))


@pytest.fixture
def lm(inputs: Inputs) -> PretrainedLM:
    return load_pretrained(ModelSettings(name=str(inputs.model)))


@pytest.fixture
def context(lm: PretrainedLM, runtime: Runtime) -> TrainingContext:
    return arena_of(lm, runtime)


@pytest.fixture
def corpus(lm: PretrainedLM, tmp_path: Path) -> Corpus:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS[:20], rng.integers(3, 15))) for _ in range(18)]
    return Corpus.build(texts, lm.tokenizer, ADAPT.block_size, tmp_path)
