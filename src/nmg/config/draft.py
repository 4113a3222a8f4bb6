"""Writes a commented configuration that is scaled to the data: `nmg init`."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nmg.base.errors import printable
from nmg.base.files import user_path
from nmg.base.settings import DataSettings
from nmg.config.facts import DataFacts

MODEL, OTHER_MODEL = "bert-base-uncased", "bert-base-multilingual-cased"
"""Models to suggest, for English and for other languages."""
LENGTHS = (64, 128, 256, 512)
"""Lengths of model inputs to choose from, in tokens."""
SPECIAL_TOKENS = 2
QUESTION_TOKENS = 64
"""Default of `finetune.max_question_length`."""
MOST_TEXTS, MOST_EXAMPLES, MOST_VALIDATION = 1120, 1000, 1000
"""Texts and labelled examples per inner loop, as in the published results (docs/results/learned2.md)."""
MOST_LABELLED, MOST_TEST = 5000, 2000
"""Numbers of labelled and test examples from which a configuration limits them."""
LOOP_STEPS, FINETUNE_STEPS = 70, 500
"""Adaptation steps of an inner loop, as in the published results, and least steps of fine-tuning."""
VALIDATION_EXAMPLES = 200
"""Number of examples that the validation part of the training data should have."""
BUDGET = 120
"""Inner loops of a run, as in the published results."""


@dataclass(frozen=True)
class ModelSize:
    """What the schedule depends on."""

    hidden: int = 768
    positions: int = 512
    """Maximum number of tokens of an input."""

    @classmethod
    def of(cls, name: str) -> "ModelSize":
        """Return the size of a model in a folder. A model of the hub is assumed to have the size of BERT-base."""
        try:
            found = json.loads((user_path(name) / "config.json").read_text(encoding="utf-8"))
            positions = int(found.get("max_position_embeddings", cls.positions))
            return cls(int(found.get("hidden_size", cls.hidden)), min(max(positions, 1), cls.positions))
        except (OSError, ValueError, AttributeError, TypeError):
            return cls()

    @property
    def is_small(self) -> bool:
        """Whether the word table has most of the parameters, as in BERT of 2 × 128."""
        return self.hidden <= 128

    @property
    def rates(self) -> tuple[float, float]:
        """Learning rates of adaptation and fine-tuning: small models need higher ones."""
        if self.is_small:
            return 1e-3, 5e-4
        return (3e-4, 1e-4) if self.hidden <= 384 else (5e-5, 3e-5)


def draft(data: DataSettings, facts: DataFacts, model: str, *, is_frozen: bool) -> str:
    """Return a configuration as YAML with comments, at most 25 lines.

    Args:
        data: The files and their fields.
        facts: What was measured of them.
        model: Hub name or folder of the masked LM.
        is_frozen: Whether the encoder will be used frozen, so that a linear classifier on its features is the score.

    Returns:
        The text, which `load_config` accepts.
    """
    size = ModelSize.of(model)
    lines = [f"# Written by nmg init for: {_data_line(facts)}", *_section("model", {"name": model})]
    lines += ["data:", *(f"  {line}" for line in _data_lines(data, facts))]
    lines += [_flow("masking", {"rate": 0.15}, "share of the tokens that are masked")]
    lines += _training_lines(facts, size, is_frozen=is_frozen)
    return "".join(f"{printable(line)}\n" for line in lines)


def _data_line(facts: DataFacts) -> str:
    """Return the data in one line."""
    n = f"{facts.n_train:,} examples" if facts.kind is not None else f"{facts.n_texts:,} texts"
    repeated = facts.n_different < facts.n_train / 2
    different = f" of {facts.n_different:,} different texts" if repeated else ""
    return f"{n}{different}, {facts.text.language}, median {facts.text.median_words:g} words"


def _data_lines(data: DataSettings, facts: DataFacts) -> Iterator[str]:
    """Yield the lines of the section `data`."""
    given = data.model_dump(exclude_defaults=True)
    if facts.kind is None:
        yield _line("corpus", data.corpus)
        return
    yield _line("task", facts.kind.name, _task_comment(facts, has_pairs=data.pair_field is not None))
    for field in ("train", "validation", "test", "corpus"):
        if field in given:
            yield _line(field, given.pop(field))
    given.pop("task", None)
    for field, name in given.items():
        yield _line(field, name)
    if facts.n_train > MOST_LABELLED:
        yield _line("labelled_examples", MOST_LABELLED, f"of {facts.n_train:,}; without this line all are used")
    if facts.n_test > MOST_TEST:
        yield _line("test_examples", MOST_TEST, f"of {facts.n_test:,}, drawn again per seed")
    if facts.overlaps:
        one = max(facts.overlaps, key=lambda overlap: overlap.near)
        yield _line(
            "drop_duplicates", True, f"{one.near} of {one.n} {one.side} texts have a near duplicate in {one.other}"
        )


def _task_comment(facts: DataFacts, *, has_pairs: bool) -> str:
    """Return what the labels are like."""
    if facts.n_labels:
        share = f"{100 * facts.largest_label:.0f} % of the examples"
        return f"{facts.n_labels} labels; the most frequent one has {share}"
    return "the task similarity scores embeddings of pairs instead" if facts.has_numbers and has_pairs else ""


def _training_lines(facts: DataFacts, size: ModelSize, *, is_frozen: bool) -> Iterator[str]:
    """Yield the lines of the sections on training and learning."""
    length = _length(facts.text.pieces, size)
    batch = {64: 32, 128: 32, 256: 16}.get(length, 8)
    n_texts = min(MOST_TEXTS, max(facts.n_texts * 9 // 10, 1))
    rates = size.rates
    adapt: dict[str, Any] = {
        "epochs": _between(math.ceil(LOOP_STEPS * batch / n_texts), 2, 10) if facts.kind is not None else 3,
        "batch_size": batch,
        "learning_rate": rates[0],
        "block_size": length - SPECIAL_TOKENS,
    }
    if is_frozen and size.is_small:  # half of a step of a small model trains words that do not occur
        adapt["vocabulary"] = "corpus"
    yield _flow("adapt", adapt, f"95 % of the texts have up to about {facts.text.pieces} word pieces")
    if facts.kind is None:
        return
    n_labelled = min(facts.n_train, MOST_LABELLED)
    finetune = {
        "epochs": _between(math.ceil(FINETUNE_STEPS * 16 / n_labelled), 3, 12),
        "batch_size": 16,
        "learning_rate": rates[1],
        "max_length": _length(facts.text.pieces + (QUESTION_TOKENS if facts.has_questions else 0), size),
    }
    if facts.has_questions and finetune["max_length"] < 2 * QUESTION_TOKENS:
        finetune["max_question_length"] = int(finetune["max_length"]) // 4
    yield _flow("finetune", finetune)
    n_validation = facts.n_validation or VALIDATION_EXAMPLES
    meta: dict[str, Any] = {"contexts": n_texts, "examples": min(MOST_EXAMPLES, n_labelled)}
    meta["max_validation_examples"] = min(MOST_VALIDATION, max(n_validation, VALIDATION_EXAMPLES))
    if not facts.n_validation:
        meta["validation_fraction"] = round(min(max(VALIDATION_EXAMPLES / facts.n_train, 0.1), 0.3), 2)
    yield _flow("meta", meta, "texts and labels per inner loop")
    yield _flow("learner", {"budget": BUDGET}, "inner loops of nmg learn; nmg estimate says how long they take")
    yield _flow("reward", {"evaluation": "linear-probe", "metric": "loss"}, "quick, and less noisy than accuracy")
    use = ("linear-probe", "the encoder stays frozen") if is_frozen else ("finetune", "linear-probe if it stays frozen")
    yield _flow("test", {"evaluation": use[0]}, use[1])


def _length(pieces: int, size: ModelSize) -> int:
    """Return the shortest of `LENGTHS` for texts of that many pieces, or the most that the model accepts."""
    enough = next((length for length in LENGTHS if length - SPECIAL_TOKENS >= pieces), LENGTHS[-1])
    return min(enough, size.positions)


def _between(number: int, least: int, most: int) -> int:
    return min(max(number, least), most)


def _section(name: str, fields: Mapping[str, Any]) -> list[str]:
    return [f"{name}:", *(f"  {_line(field, value)}" for field, value in fields.items())]


def _line(field: str, value: Any, comment: str = "") -> str:
    return _commented(f"{field}: {_scalar(value)}", comment)


def _flow(section: str, fields: Mapping[str, Any], comment: str = "") -> str:
    inside = ", ".join(f"{field}: {_scalar(value)}" for field, value in fields.items())
    return _commented(f"{section}: {{{inside}}}", comment)


def _commented(line: str, comment: str) -> str:
    return f"{line}  # {comment}" if comment else line


def _scalar(value: Any) -> str:
    """Return a value as YAML in one line; 5e-05 becomes 5.0e-5, which YAML reads as a number."""
    if isinstance(value, float) and value < 1e-2:
        return re.sub(r"^(\d+)e-0*", r"\1.0e-", f"{value:g}") if "e" in f"{value:g}" else f"{value:g}"
    written: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return written.removesuffix("\n").removesuffix("\n...")


def parts_of(train: Path) -> dict[str, str]:
    """Return `validation` and `test` → file, for files next to the training file whose names differ only in the part.

    For example, next to `train.csv`, `dev.csv` is the validation file and `test.csv` the test file.
    """
    names = {"validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
    found: dict[str, str] = {}
    for part, words in names.items():
        for word in words:
            name = re.sub(r"train(ing)?", word, train.name, count=1)
            if name != train.name and train.with_name(name).exists():
                found.setdefault(part, str(train.with_name(name)))
    return found
