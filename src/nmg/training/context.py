"""The context that all inner loops of one process share."""

from dataclasses import dataclass, field, replace

from transformers import PreTrainedModel

from nmg.base.progress import Reporter, Silent
from nmg.base.settings import MaskingSettings
from nmg.base.training_settings import AdaptSettings, FinetuneSettings
from nmg.masking.corrupt import Vocabulary
from nmg.training.lm_reader import LMReader
from nmg.training.pooling import MEAN, Pooling
from nmg.training.runtime import Runtime


@dataclass(frozen=True)
class TrainingContext:
    """Model, settings and runtime of the inner loops."""

    model: PreTrainedModel
    """Working copy of the model. Every inner loop overwrites its weights."""
    vocabulary: Vocabulary
    masking: MaskingSettings
    adapt: AdaptSettings
    finetune: FinetuneSettings
    runtime: Runtime
    reporter: Reporter = field(default_factory=Silent)
    adapt_steps: int | None = None
    """Number of adaptation steps, over which the learning rate falls to 0. None: the number that `adapt.epochs` gives.
    """
    trained_fully: tuple[str, ...] = ()
    """Names of parameters trained in addition to LoRA matrices: a new LM head, and tables with rows for added words."""
    pooling: Pooling = MEAN
    """How texts are embedded by a task that trains nothing."""

    @property
    def reader(self) -> LMReader:
        """Encoder that reads `model` in its current state at each call."""
        return LMReader(self.model, self.vocabulary.mask_id, self.runtime)

    def silent(self) -> "TrainingContext":
        """Return a copy that reports no progress."""
        return replace(self, reporter=Silent())
