"""Seconds of an episode against contexts, tokens, and model: `python -m benchmarks.scaling docs/scaling.svg`.

Two players (`learner.self_play=random`), one after another, else as in `episode`; the faster of two episodes counts.
"""

import functools
import io
import json
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.models import save_random_bert
from benchmarks.texts import long_text
from nmg.base.files import write_text
from nmg.base.progress import Silent
from nmg.base.types import PHASES
from nmg.config import Config
from nmg.demo.data import load_articles
from nmg.meta_training.loop import MetaTraining
from nmg.trials.session import Session

CONTEXTS, LENGTHS, MODELS = (25, 50, 100, 200), (32, 64, 128, 256), ((2, 128), (4, 256), (6, 384))
BASE_CONTEXTS, BASE_LENGTH, BASE_MODEL = 50, 64, (2, 128)


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in MODELS:
            save_random_bert(folder / _name(model), *model)
        measure = functools.cache(functools.partial(seconds, folder))
        by_contexts = {n: measure(n, BASE_LENGTH, BASE_MODEL) for n in CONTEXTS}
        by_length = {n: measure(BASE_CONTEXTS, n, BASE_MODEL) for n in LENGTHS}
        by_model = {_name(model): measure(BASE_CONTEXTS, BASE_LENGTH, model) for model in MODELS}
    print(json.dumps({"contexts": by_contexts, "tokens": by_length, "model": by_model}, indent=1))
    _draw(out, by_contexts, by_length, by_model)


def seconds(folder: Path, n_contexts: int, length: int, model: tuple[int, int]) -> float:
    """Of an episode whose contexts and examples are articles cut to `length` tokens."""
    train = folder / "train.jsonl"
    articles = load_articles()[:800]
    lines = (
        json.dumps({"text": " ".join(text.split()[:length]), "label": article.label})
        for article, text in zip(articles, long_text(), strict=False)
    )
    train.write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = Config.model_validate(
        {
            "model": {"name": str(folder / _name(model))},
            "data": {"train": str(train)},
            "adapt": {"epochs": 3, "batch_size": 16, "block_size": length - 2},
            "finetune": {"epochs": 5, "batch_size": 16, "max_length": length},
            "meta": {
                "contexts": n_contexts,
                "examples": n_contexts,
                "max_validation_examples": 80,
            },
            "policy": {"kind": "attention"},
            "learner": {"kind": "actor-critic", "self_play": "random", "learning_starts": 0},
            "runtime": {"cache_dir": str(folder), "processes": 1},
        }
    )
    training = MetaTraining(Session.prepare(config, Silent()))
    return min(sum(training.episode().seconds[phase] for phase in PHASES) for _ in range(2))


def _name(model: tuple[int, int]) -> str:
    return f"{model[0]} × {model[1]}"


def _draw(out: Path, by_contexts: dict[int, float], by_length: dict[int, float], by_model: dict[str, float]) -> None:
    with mpl.rc_context(
        {"svg.fonttype": "none", "axes.spines.top": False, "axes.spines.right": False, "font.size": 10}
    ):
        figure = Figure(figsize=(9, 2.8), layout="constrained")
        axes = figure.subplots(1, 3)
        for panel, (label, values) in zip(
            axes, (("contexts", by_contexts), ("tokens of a context", by_length)), strict=False
        ):
            panel.plot(list(values), list(values.values()), "o-")
            panel.set(xlabel=label, ylabel="seconds an episode", xlim=(0, None), ylim=(0, None))
        axes[2].bar(list(by_model), list(by_model.values()))
        axes[2].set(xlabel="layers × hidden size", ylabel="seconds an episode")
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    write_text(out, drawn.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
