"""Adapts a model to a corpus and saves it: `nmg.adapt` and `nmg adapt`."""

from pathlib import Path

from nmg.adaptation.adapt import adapt_corpus
from nmg.base.progress import Reporter
from nmg.config import Config
from nmg.masking.base import Masking
from nmg.training.adapt import AdaptResult


def adapt(config: Config, masking: str | Masking, out: Path, reporter: Reporter | None = None) -> AdaptResult:
    """Adapt `config.model` to the text of `config.data.corpus`, and save it in a folder that transformers loads.

    Args:
        config: The settings of the run.
        masking: The name of a masking, the folder of a policy, or a custom masking.
        out: The output folder; it must be empty or missing.
        reporter: Receives messages for the user; None for no messages.

    Returns:
        Number of steps, mean loss, wall time in seconds, and number of masked tokens.

    Raises:
        UserError: Settings, text, model or policy are invalid, `out` cannot be used, or training diverges.

    Example:
        ```python
        config = nmg.load_config(None, ["--data.corpus=domain.txt"])
        nmg.adapt(config, masking="idf", out=Path("adapted"))
        ```
    """
    return adapt_corpus(config, masking, out, reporter)
