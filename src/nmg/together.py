"""Whether this process is one of several that train together (`accelerate launch`): they share every training batch.

Each does all else for itself, from the same settings, data and randomness; the first one alone speaks and writes.
"""

import os


def train_together() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first_process() -> bool:
    """True, too, of a process that trains alone."""
    return not train_together() or os.environ.get("RANK", "0") == "0"
