"""All settings of a run, and how they are read."""

from nmg.config.load import load_config
from nmg.config.schema import Config

__all__ = ["Config", "load_config"]
