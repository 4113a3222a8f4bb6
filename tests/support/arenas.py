"""Arenas with short settings."""

from nmg.inner.arena import Arena
from nmg.inner.lm import PretrainedLM
from nmg.inner.runtime import Runtime
from nmg.masking.corrupt import Vocabulary
from nmg.settings import AdaptSettings, FinetuneSettings, MaskingSettings

MASKING = MaskingSettings(rate=0.3)
ADAPT = AdaptSettings(epochs=2, batch_size=4, learning_rate=5e-3, block_size=16)


def arena_of(lm: PretrainedLM, runtime: Runtime) -> Arena:
    return Arena(lm.model, Vocabulary.from_tokenizer(lm.tokenizer), MASKING, ADAPT, FinetuneSettings(), runtime)
