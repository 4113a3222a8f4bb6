"""`nmg inspect`: look at texts through maskings and policies, and put what was seen on a page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmg.config import Config, DataSettings
from nmg.data.formats.reading import read_json_lines
from nmg.data.formats.text import read_texts
from nmg.data.task_data import TaskName, distinct_texts, read_examples
from nmg.errors import UserError, bad_input
from nmg.inner.adapt import state_encoder
from nmg.inner.runtime import Runtime
from nmg.inspection.draws import Observed, observe
from nmg.inspection.tags import Tags, load_tagger, tag_words
from nmg.inspection.tokens import TokenTable
from nmg.masking.registry import MASKINGS, RULES, build_masking, unknown_masking
from nmg.meta_test import find_policy
from nmg.reporter import Reporter
from nmg.rl.network import MaskPolicy, check_fits, load_policy
from nmg.seeding import StreamName, stream
from nmg.setup import build_corpus, load_lm


@dataclass(frozen=True)
class Inspection:
    """What was seen."""

    table: TokenTable
    observed: tuple[Observed, ...]
    """policies first, in the order they were named"""
    tags: Tags | None
    notices: tuple[str, ...]
    """what could not be done, and how it could"""
    config: Config
    text_file: Path
    n_texts: int
    """texts that were looked at"""
    n_left_out: int
    """texts of the file beyond the limit"""

    @property
    def draws(self) -> int:
        return self.observed[0].draws


def inspect_texts(
    config: Config,
    text_file: Path,
    policies: Mapping[str, Path],
    maskings: Sequence[str],
    reporter: Reporter,
    *,
    draws: int = 100,
    limit: int = 10_000,
    with_tags: bool = True,
) -> Inspection:
    """Look at the texts of a file, at most `limit` of them, through policies (name → folder) and rules.

    Where the settings give no masking rate, it is the one that the first policy was trained with. Raises UserError for
    a bad file, model, policy or masking, before any long work.
    """
    _check_names(policies, maskings)
    loaded = {name: load_policy(find_policy(folder)) for name, folder in policies.items()}
    config = _with_rate_of(loaded.values(), config)
    texts = read_any_texts(text_file, config.data)
    kept = sample_texts(texts, limit, config.run.seed)
    runtime = Runtime.start(config.runtime)
    lm = load_lm(config, runtime)
    for policy in loaded.values():
        check_fits(policy, lm.hidden_size)
        policy.to(lm.model.device)
    corpus = build_corpus(config, lm, kept)
    rules = {name: build_masking(name, lm.tokenizer, corpus, config.masking) for name in maskings}
    table = TokenTable.of(corpus)
    if table.n_tokens == 0:
        raise bad_input(text_file, "holds no token that may be masked")
    about = {name: f"the learned policy of {folder}" for name, folder in policies.items()}
    observed = observe(
        corpus,
        table,
        loaded,
        rules,
        state_encoder(lm.model, runtime),
        rate=config.masking.rate,
        draws=draws,
        randomness=StreamName(config.run.seed) / "inspect",
        about=about | {name: RULES[name] for name in maskings},
        progress=reporter.steps("drawing masks"),
    )
    tags, notices = _tag(table, config.masking.spacy_model, reporter) if with_tags else (None, ())
    left_out = len(texts) - len(kept)
    return Inspection(table, tuple(observed), tags, notices, config, text_file, len(kept), left_out)


def _check_names(policies: Mapping[str, Path], maskings: Sequence[str]) -> None:
    for name in policies:
        if name in MASKINGS:
            raise UserError(f"--policy {name}=…: '{name}' is the name of a masking; choose another name")
    if "none" in maskings:
        raise UserError("--maskings none: it masks nothing, so there is nothing to see")
    if "neural" in maskings:
        raise UserError("--maskings neural: name the trained policy with --policy RUN")
    for name in maskings:
        if name not in RULES:
            raise unknown_masking(name)
    if not policies and not maskings:
        raise UserError("name a policy (--policy RUN) or a masking (--maskings random)")


def _tag(table: TokenTable, model: str, reporter: Reporter) -> tuple[Tags | None, tuple[str, ...]]:
    tagger = load_tagger(model)
    if isinstance(tagger, str):
        reporter.notify(tagger)
        return None, (tagger,)
    return tag_words(table, tagger, reporter.steps("parts of speech and entities")), ()


def read_any_texts(path: Path, settings: DataSettings) -> list[str]:
    """The texts of a corpus file or folder, or the distinct contexts of a task file, by the file's ending.

    Raises UserError as the readers do.
    """
    ending = Path(path.name.removesuffix(".gz")).suffix
    if path.is_dir() or ending == ".txt":
        return read_texts(path)
    is_qa = ending == ".json"
    if ending == ".jsonl":
        _, first = next(read_json_lines(path))
        is_qa = "header" in first or "qas" in first
        if not is_qa and settings.text_field == "text":
            return read_texts(path)  # a label may be there, and is not needed
    elif not is_qa and ending not in {".csv", ".tsv"}:
        raise bad_input(path, "texts must be .txt, .jsonl, .json (SQuAD), .csv, .tsv or a folder of .txt files")
    task: TaskName = "qa" if is_qa else "classification"
    return distinct_texts(read_examples(path, task, settings.text_field, settings.label_field))


def sample_texts(texts: Sequence[str], limit: int, seed: int) -> list[str]:
    """All texts, or a random `limit` of them, in their old order."""
    if len(texts) <= limit:
        return list(texts)
    chosen = stream(seed, "inspect", "texts").choice(len(texts), limit, replace=False)
    return [texts[index] for index in np.sort(chosen)]


def _with_rate_of(policies: Iterable[MaskPolicy], config: Config) -> Config:
    """The settings, with the rate the first policy was trained with where they give none."""
    first = next(iter(policies), None)
    if first is None or "rate" in config.masking.model_fields_set:
        return config
    masking = config.masking.model_copy(update={"rate": float(first.config.masking_rate)})
    return config.model_copy(update={"masking": masking})
