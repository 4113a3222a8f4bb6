"""Runs an inspection (`nmg inspect`): draws masks on texts with rules and policies, and collects the results."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmg.base.errors import UserError, bad_input
from nmg.base.progress import Reporter
from nmg.base.seeding import StreamName, stream
from nmg.config import Config
from nmg.inspection.draws import Observed, observe
from nmg.inspection.tags import Tags, load_tagger, tag_words
from nmg.inspection.tokens import TokenTable
from nmg.masking.names import LEARNED, PAPER_NAME
from nmg.masking.registry import MASKINGS, about_masking, build_masking, is_rule, unknown_masking
from nmg.policies.base import Policy
from nmg.policies.maskings import warn_if_mismatched
from nmg.policies.registry import load_policy
from nmg.tasks.load import read_any_texts
from nmg.tasks.loaded import load_corpus_texts
from nmg.trials.session import ModelSession


@dataclass(frozen=True)
class Inspection:
    """The results of an inspection, from which its page is made."""

    table: TokenTable
    observed: tuple[Observed, ...]
    """Results per masking: policies first, in the order in which they were named."""
    tags: Tags | None
    """Parts of speech and entities; None if they were not requested or spaCy is missing."""
    notices: tuple[str, ...]
    """Messages on what rules found in the texts, e.g. anchors, and on what is missing from the page."""
    config: Config
    text_file: Path
    n_texts: int
    """Number of inspected texts."""
    n_left_out: int
    """Number of texts left out because of the limit."""

    @property
    def draws(self) -> int:
        """Number of draws of every masking."""
        return self.observed[0].draws


def inspect_texts(
    config: Config,
    source: Path | Sequence[str],
    policies: Mapping[str, Path],
    maskings: Sequence[str],
    reporter: Reporter,
    *,
    draws: int = 100,
    limit: int = 10_000,
    with_tags: bool = True,
) -> Inspection:
    """Draw masks with policies and rules on texts, and count how often each token is masked.

    Args:
        config: The settings; if they have no masking rate, the rate of the first policy's training is used.
        source: The file with the texts, or the texts.
        policies: Name → folder of a learned policy.
        maskings: Names of rules.
        reporter: Receives messages for the user.
        draws: Number of draws per policy or rule, at least 2.
        limit: Maximum number of texts; a larger file is sampled at random.
        with_tags: Whether to add parts of speech and named entities, if spaCy is installed.

    Returns:
        The results.

    Raises:
        UserError: The file, the model, a policy or a masking is invalid; raised before any long work.
    """
    _check_names(policies, maskings)
    loaded = {name: load_policy(folder) for name, folder in policies.items()}
    config = _with_rate_of(loaded.values(), config)
    text_file = source if isinstance(source, Path) else Path("texts")
    texts = read_any_texts(source, config.data) if isinstance(source, Path) else source
    kept = sample_texts(texts, limit, config.run.seed)
    session = ModelSession.open(config, reporter)
    lm = session.lm
    for name, policy in loaded.items():
        policy.check_fits(lm.hidden_size, lm.vocabulary_size)
        warn_if_mismatched(name, policy, lm, config.masking.rate, reporter)
        policy.to(lm.model.device)
    corpus = session.corpus(kept)
    embeddings = lm.model.get_input_embeddings().weight
    found: list[str] = []
    rules = {
        name: build_masking(name, lm.tokenizer, corpus, config.masking, embeddings, found.append) for name in maskings
    }
    for line in found:
        reporter.notify(line)
    table = TokenTable.of(corpus)
    if table.n_tokens == 0:
        raise bad_input(text_file, "has no token that can be masked")
    # Training the head takes long, so it comes after all checks.
    headless = _give_head(session) if any(policy.reads_lm for policy in loaded.values()) else ()
    about = {name: f"the learned policy of {folder}" for name, folder in policies.items()}
    observed = observe(
        corpus,
        table,
        loaded,
        rules,
        session.context.reader,
        rate=config.masking.rate,
        draws=draws,
        randomness=StreamName(config.run.seed) / "inspect",
        about=about | {name: about_masking(name) for name in maskings},
        progress=reporter.steps("drawing masks"),
    )
    tags, notices = _tag(table, config.masking.spacy_model, reporter) if with_tags else (None, ())
    left_out = len(texts) - len(kept)
    return Inspection(
        table, tuple(observed), tags, (*found, *headless, *notices), config, text_file, len(kept), left_out
    )


def _check_names(policies: Mapping[str, Path], maskings: Sequence[str]) -> None:
    """Raise UserError for invalid names, and if there are neither policies nor maskings."""
    for name in policies:
        if name in MASKINGS and name != LEARNED:
            raise UserError(f"--policy {name}=…: '{name}' is the name of a masking; choose another name")
    if "none" in maskings:
        raise UserError("--maskings none: 'none' masks nothing; remove it from the list")
    for name in {LEARNED, PAPER_NAME}.intersection(maskings):
        raise UserError(f"--maskings {name}: name the trained policy with --policy RUN")
    for name in maskings:
        if not is_rule(name):
            raise unknown_masking(name)
    if not policies and not maskings:
        raise UserError("name a policy (--policy RUN) or a masking (--maskings random)")


def _give_head(session: ModelSession) -> tuple[str, ...]:
    """If the checkpoint has no LM head, train one on the configured data or load it from the cache.

    If no data are configured, the head stays untrained. Returns the notices for the page: one in this case, because the
    policy was trained with a different model, otherwise none.
    """
    lm, data = session.lm, session.config.data
    if not lm.new_parameters:
        return ()
    if data.train is not None or data.corpus is not None:
        session.warm_up_head(session.corpus(load_corpus_texts(data)))
        return ()
    notice = (
        f"'{lm.name}' has no LM head, so the run of the policy trained one together with the model. To inspect the "
        "same model, give the data of that run (--config RUN/config.yaml)"
    )
    session.reporter.notify(notice)
    return (notice,)


def _tag(table: TokenTable, model: str, reporter: Reporter) -> tuple[Tags | None, tuple[str, ...]]:
    """Return the tags of all words and no notices, or None and a notice if spaCy or its model is missing."""
    tagger = load_tagger(model)
    if isinstance(tagger, str):
        reporter.notify(tagger)
        return None, (tagger,)
    return tag_words(table, tagger, reporter.steps("parts of speech and entities")), ()


def sample_texts(texts: Sequence[str], limit: int, seed: int) -> list[str]:
    """Return all texts, or a random sample of `limit` texts in their original order.

    Args:
        texts: The texts.
        limit: Maximum number of texts to return.
        seed: Seed of the sample.

    Returns:
        At most `limit` texts.
    """
    if len(texts) <= limit:
        return list(texts)
    chosen = stream(seed, "inspect", "texts").choice(len(texts), limit, replace=False)
    return [texts[index] for index in np.sort(chosen)]


def _with_rate_of(policies: Iterable[Policy], config: Config) -> Config:
    """Return the settings; if the masking rate is missing, it is set to the rate of the first policy's training."""
    first = next(iter(policies), None)
    if first is None or "rate" in config.masking.model_fields_set:
        return config
    masking = config.masking.model_copy(update={"rate": float(first.config.masking_rate)})
    return config.model_copy(update={"masking": masking})
