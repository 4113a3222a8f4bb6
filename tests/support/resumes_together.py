"""An adaptation of two processes, whole and interrupted: `torchrun --nproc_per_node 2 resumes_together.py FOLDER STEP`.

The settings are in FOLDER/config.yaml. FOLDER/whole is undisturbed. FOLDER/out ends in both processes after so many
steps, right after a checkpoint, and is then resumed.
"""

import sys
from pathlib import Path
from unittest.mock import patch

import torch

from nmg.adaptation.adapt import adapt_corpus
from nmg.adaptation.recorder import Recorder
from nmg.config import load_config
from nmg.training.fit import Training


class Ended(BaseException):
    """The end of the process, as it were."""


def main(folder: Path, last: int) -> None:
    config, true = load_config(folder / "config.yaml"), Recorder.after_step

    def after_step(recorder: Recorder, training: Training) -> None:
        true(recorder, training)
        if training.steps == last:
            raise Ended

    whole = adapt_corpus(config, "random", folder / "whole")
    assert whole.steps > last
    try:
        with patch.object(Recorder, "after_step", after_step):
            adapt_corpus(config, "random", folder / "out")
    except Ended:
        torch.rand(3)  # the state of the process is another one
    adapt_corpus(config, "random", folder / "out", resume=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]))
