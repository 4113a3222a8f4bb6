"""Checks of counted rows: each compares a count with what is allowed or claimed, and states the result in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from nmg.collation.check_rows import RowCounts
from nmg.collation.claims import CONFIDENCE, Claims, Range, fits_budget, interval

BERT_SHARES = (0.8, 0.1)
"""Fractions of mask tokens and random tokens (Devlin et al. 2019), for collators that claim none."""

Verdict: TypeAlias = Literal["ok", "note", "fault"]


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    verdict: Verdict
    sentence: str
    """The finding in one sentence, with numbers."""
    count: int
    """Number of tokens, words, rows or batches with the finding."""
    total: int
    """Number of tokens, words, rows or batches that were checked."""
    interval: Range | None = None
    """Confidence interval of the fraction `count / total`; None if the check compares no fraction."""
    claimed: Range | None = None
    """Lowest and highest fraction that the collator claims; None if it claims nothing."""


def check_counts(epochs: RowCounts, first: RowCounts, claims: Claims, *, whole_words: bool) -> Iterator[Check]:
    """Yield the checks of rates, replacements, special tokens, padding, labels, words and rows without masks.

    Args:
        epochs: the counts of each row over all epochs.
        first: the counts of each row in the first epoch.
        claims: what the collator claims.
        whole_words: whether a cut word is a fault.

    Yields:
        The checks, in the order above.
    """
    yield _rate(epochs, first, claims)
    yield from _replacements(epochs, claims)
    for name, found, among, are in (
        ("special tokens", epochs.special_masked, epochs.special, "special tokens have a label or were changed"),
        ("padding", epochs.padding_masked, epochs.padding, "padding tokens became the mask token"),
        ("padding labels", epochs.padding_labels, epochs.padding, "padding tokens have a label that is not -100"),
        ("labels", epochs.wrong_labels, epochs.masked, "labels differ from the original token"),
        ("other inputs", epochs.changed, epochs.maskable, "tokens were changed but have the label -100"),
    ):
        n, total = int(found.sum()), int(among.sum())
        yield Check(name, "fault" if n else "ok", f"{of(n, total)} {are}.", n, total)
    yield _cut_words(epochs, whole_words)
    yield _unmasked_rows(first, claims)


def _rate(epochs: RowCounts, first: RowCounts, claims: Claims) -> Check:
    """Compare the fraction of masked tokens with the rate."""
    n, total, found = int(epochs.masked.sum()), int(epochs.candidates.sum()), interval(epochs.masked, epochs.candidates)
    sentence = f"{100 * n / max(total, 1):.2f} % of {total:,} maskable tokens are masked ({_shown(found)})"
    if claims.rate is None:
        return Check("rate", "note", f"{sentence}. The collator claims no rate.", n, total, found)
    claim = _percent(claims.rate)
    if fits_budget(first.masked, first.candidates, claims.rate):
        sentence += f". Every row has {claim}, rounded to whole tokens."
        return Check("rate", "ok", sentence, n, total, found, claims.rate)
    is_fault = _differs(found, claims.rate)
    sentence += f"; {claim} is expected."
    return Check("rate", "fault" if is_fault else "ok", sentence, n, total, found, claims.rate)


def _replacements(epochs: RowCounts, claims: Claims) -> Iterator[Check]:
    """Compare the fractions of mask tokens, random tokens and unchanged tokens with the claims."""
    has_claims = claims.mask_tokens is not None and claims.random_tokens is not None
    mask, random = (claims.mask_tokens or 0.0, claims.random_tokens or 0.0) if has_claims else BERT_SHARES
    for name, counts, share in (
        ("mask tokens", epochs.mask_tokens, mask),
        ("random tokens", epochs.random_tokens, random),
        ("unchanged tokens", epochs.unchanged, 1.0 - mask - random),
    ):
        n, total, found = int(counts.sum()), int(epochs.masked.sum()), interval(counts, epochs.masked)
        # A random token is rarely the original token or the mask token.
        claim = max(share - 0.01 * random, 0.0), share + 0.01 * random
        differs = _differs(found, claim)
        verdict: Verdict = "ok" if not differs else "fault" if has_claims else "note"
        expected = f"{100 * share:.4g} % {'is claimed' if has_claims else 'in BERT; the collator declares no value'}"
        sentence = f"{100 * n / max(total, 1):.2f} % of the masked tokens are {name} ({_shown(found)}; {expected})."
        yield Check(name, verdict, sentence, n, total, found, (share, share) if has_claims else None)


def _cut_words(epochs: RowCounts, whole_words: bool) -> Check:
    """Count words of which only some tokens are masked."""
    n, total = int(epochs.cut_words.sum()), int(epochs.masked_words.sum())
    verdict: Verdict = "ok" if not n else "fault" if whole_words else "note"
    sentence = f"{of(n, total)} masked words of several tokens are cut: only some of their tokens are masked."
    return Check("cut words", verdict, sentence, n, total)


def _unmasked_rows(first: RowCounts, claims: Claims) -> Check:
    """Count rows without a mask. More such rows than independent masks of words would give are a fault."""
    from scipy import stats

    is_row = first.candidates > 0
    n, total = int((first.masked[is_row] == 0).sum()), int(is_row.sum())
    rate = claims.rate[0] if claims.rate else float(first.masked.sum()) / max(float(first.candidates.sum()), 1.0)
    expected = float(((1.0 - rate) ** np.minimum(first.words, first.candidates)[is_row]).sum())
    # Poisson's tail is above that of a sum of independent rows, so the test is conservative.
    is_fault = n > expected and float(stats.poisson.sf(n - 1, expected)) < 1.0 - CONFIDENCE
    verdict: Verdict = "fault" if is_fault else "note" if n else "ok"
    chance = f" Masks drawn independently leave about {expected:.1f}." if n else ""
    return Check("rows without a mask", verdict, f"{of(n, total)} rows have no mask.{chance}", n, total)


def _differs(found: Range, claimed: Range) -> bool:
    """Return whether an interval is outside of a claimed range."""
    return found[1] < claimed[0] or found[0] > claimed[1]


def of(count: int, total: int) -> str:
    """Return a count in words, e.g. 'None of 20', '3 of 20' or 'All of 20'."""
    first = f"{count:,}" if 0 < count < total else "All" if count else "None"
    return f"{first} of {total:,}"


def _percent(claimed: Range) -> str:
    low, high = (f"{100 * value:.4g} %" for value in claimed)
    return low if low == high else f"{low} to {high}"


def _shown(found: Range) -> str:
    return f"{100 * CONFIDENCE:g} % interval {100 * found[0]:.2f} to {100 * found[1]:.2f} %"
