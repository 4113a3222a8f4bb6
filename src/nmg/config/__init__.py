"""Defines and loads the settings of a run."""

from nmg.config.load import load_config
from nmg.config.schema import Config

__all__ = ["Config", "load_config"]
