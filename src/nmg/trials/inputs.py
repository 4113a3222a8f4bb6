"""Data files and pretrained models that the sessions of one command share."""

from collections.abc import Hashable
from copy import deepcopy
from dataclasses import replace
from typing import Any

from nmg.base.settings import DataSettings
from nmg.config import Config
from nmg.tasks.loaded import LoadedData, without_samples
from nmg.training.head import head_randomness
from nmg.training.lm import PretrainedLM, load_pretrained

MODELS_IN_MEMORY = 4
"""Default number of pretrained models that are kept on the CPU."""


class SharedInputs:
    """Cache of data files and pretrained models for the sessions that a command opens one after another.

    If there are more than `max_models` models, only the first ones stay in memory. The others are loaded again, except
    for consecutive sessions with the same model.
    """

    def __init__(self, max_models: int = MODELS_IN_MEMORY) -> None:
        """Create a cache of at most `max_models` models; with 0, each session loads its model."""
        self._max_models = max_models
        self._files: dict[Hashable, Any] = {}
        self._data: dict[DataSettings, LoadedData] = {}
        self._models: dict[Hashable, tuple[int, PretrainedLM]] = {}

    def data(self, settings: DataSettings) -> LoadedData:
        """Return the data of the settings; settings that differ only in the size of samples share one copy."""
        key = without_samples(settings)
        if key not in self._data:
            self._data[key] = LoadedData(settings, self._files)
        return self._data[key]

    def model(self, config: Config) -> PretrainedLM:
        """Return a pretrained model on the CPU that its session may train. Raises UserError as `load_model`."""
        if self._max_models == 0:
            return load_model(config)
        key = config.model.name, config.model.trust_remote_code, config.model.attention
        seed, lm = self._models.get(key, (config.run.seed, None))
        if lm is None or (lm.new_parameters and seed != config.run.seed):
            self._models.pop(key, None)
            if len(self._models) == self._max_models:
                # Sessions open models in cycles. Dropping the newest one keeps the others for the next cycle.
                self._models.popitem()
            lm = load_model(config)
            self._models[key] = config.run.seed, lm
        return replace(lm, model=deepcopy(lm.model))


def load_model(config: Config) -> PretrainedLM:
    """Load the model of the settings on the CPU. Raises UserError if it cannot be loaded.

    Parameters that the checkpoint lacks are initialised at random from `run.seed`.
    """
    with (head_randomness(config.run.seed) / "new head").torch():
        return load_pretrained(config.model)
