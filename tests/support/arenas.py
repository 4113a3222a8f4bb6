"""Arenas with short settings."""

from nmg.base.settings import MaskingSettings
from nmg.base.training_settings import AdaptSettings, FinetuneSettings
from nmg.masking.corrupt import Vocabulary
from nmg.training.context import TrainingContext
from nmg.training.lm import PretrainedLM
from nmg.training.runtime import Runtime

MASKING = MaskingSettings(rate=0.3)
ADAPT = AdaptSettings(epochs=2, batch_size=4, learning_rate=5e-3, block_size=16)


def arena_of(lm: PretrainedLM, runtime: Runtime) -> TrainingContext:
    return TrainingContext(
        lm.model, Vocabulary.from_tokenizer(lm.tokenizer), MASKING, ADAPT, FinetuneSettings(), runtime
    )
