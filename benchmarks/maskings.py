"""Sequences a second of every masking, through the collator, beside transformers' own: `make bench` prints a table."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from transformers import BertConfig, BertForTokenClassification, DataCollatorForLanguageModeling

from benchmarks.adaptation import BATCH, LENGTH, RATE
from benchmarks.models import minilm
from benchmarks.pairs import alternate, median, ratio
from benchmarks.texts import long_text
from nmg import MaskingCollator
from nmg.data.corpus import Corpus
from nmg.masking.registry import RULES
from nmg.policies.attention import AttentionConfig, AttentionPolicy
from nmg.training.lm import PretrainedLM

MIXTURE = "0.5*idf+0.5*whole-word"
READ_THE_LM = ("loss", "entropy", "neural")


def run(quick: bool, cache: Path) -> dict[str, Any]:
    """Batches of 16 rows of 128 tokens, as ids alone.

    *First* epoch: rows that the collator has not met, whose words it has to find. *Later*: rows that it knows.
    """
    lm = minilm()
    corpus = Corpus.build(long_text(), lm.tokenizer, LENGTH - 2, cache)
    full = np.flatnonzero(corpus.lengths == LENGTH)
    rows = [{"input_ids": row.tolist()} for row in corpus.blocks(full).input_ids]
    collators = _collators(lm, corpus, cache)
    rounds = (5 if quick else 20, 2 if quick else 5)
    seconds: dict[str, list[float]] = {}
    for names, n in ((set(collators) - set(READ_THE_LM), rounds[0]), (set(READ_THE_LM), rounds[1])):
        arms: dict[str, Callable[[], object]] = {"transformers": _fresh(collators["transformers"], rows)}
        for name in [name for name in collators if name in names and name != "transformers"]:
            arms[f"{name}, first"] = _fresh(collators[name], rows)
            arms[name] = _known(collators[name], rows[:BATCH])
        found = alternate(arms, n)
        seconds |= {name: values for name, values in found.items() if name != "transformers"}
        seconds |= {f"{name} : transformers": [ratio(found, "transformers", name)] for name in arms}
        seconds.setdefault("transformers", found["transformers"])
    return _table(list(collators), seconds)


def _collators(lm: PretrainedLM, corpus: Corpus, cache: Path) -> dict[str, Any]:
    tokenizer = lm.tokenizer
    sizes = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
    classifier = BertForTokenClassification(BertConfig(vocab_size=lm.vocabulary_size, **sizes))
    classifier.save_pretrained(cache / "classifier")
    (cache / "weights.tsv").write_text("film\t5\ngovernment\t3\n", encoding="utf-8")
    settings: dict[str, Any] = {
        "keywords": ("film", "prime minister", "company"),
        "weights": str(cache / "weights.tsv"),
        "selective_model": str(cache / "classifier"),
    }
    collators: dict[str, Any] = {"transformers": DataCollatorForLanguageModeling(tokenizer, mlm_probability=RATE)}
    for name in [*(name for name in RULES if name not in {"none", "entity"}), MIXTURE]:
        collators[name] = MaskingCollator(tokenizer, name, RATE, texts=corpus, model=lm.model, **settings)
    policy = AttentionPolicy(AttentionConfig(hidden_size=lm.hidden_size, num_attention_heads=12)).eval()
    collators["neural"] = MaskingCollator(tokenizer, policy, RATE, model=lm.model)
    return collators


def _fresh(collator: Callable[[Any], object], rows: list[dict[str, list[int]]]) -> Callable[[], object]:
    def batches() -> Iterator[list[dict[str, list[int]]]]:
        for first in range(0, len(rows) - BATCH, BATCH):
            yield [dict(row) for row in rows[first : first + BATCH]]

    following = batches()
    return lambda: collator(next(following))


def _known(collator: Callable[[Any], object], rows: list[dict[str, list[int]]]) -> Callable[[], object]:
    return lambda: collator([dict(row) for row in rows])


def _table(names: list[str], seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Print the table, in Markdown, and give its numbers."""
    result: dict[str, Any] = {}
    print("  | masking | sequences a second, later epochs | first epoch | later : transformers |")
    print("  |---|---:|---:|---:|")
    for name in names:
        of_all = [BATCH / median(seconds[arm]) for arm in (name, f"{name}, first") if arm in seconds]
        share = seconds[f"{name} : transformers"][0]
        shown = [f"{value:,.0f}" for value in of_all] + ["–"] * (2 - len(of_all))
        print(f"  | `{name}` | {shown[0]} | {shown[1]} | {share:.2f} |", flush=True)
        key = name.replace("-", "_")
        result[f"sequences_per_second_{key}"], result[f"sequences_ratio_{key}"] = of_all[0], share
    return result
