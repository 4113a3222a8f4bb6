"""What the inner loops of one process share."""

from dataclasses import dataclass, field, replace

from transformers import PreTrainedModel

from nmg.inner.lm import LMReader
from nmg.inner.runtime import Runtime
from nmg.masking.corrupt import Vocabulary
from nmg.reporter import Reporter, Silent
from nmg.settings import AdaptSettings, FinetuneSettings, MaskingSettings


@dataclass(frozen=True)
class Arena:
    """`model` is a working copy: every inner loop overwrites its weights."""

    model: PreTrainedModel
    vocabulary: Vocabulary
    masking: MaskingSettings
    adapt: AdaptSettings
    finetune: FinetuneSettings
    runtime: Runtime
    reporter: Reporter = field(default_factory=Silent)

    @property
    def reader(self) -> LMReader:
        """Reads `model` as it is at the time of each call."""
        return LMReader(self.model, self.vocabulary.mask_id, self.runtime)

    def silent(self) -> "Arena":
        return replace(self, reporter=Silent())
