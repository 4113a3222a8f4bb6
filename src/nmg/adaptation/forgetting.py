"""Uses general text during an adaptation: to measure what the model forgets, and to replay text so it forgets less.

The loss on a part of the documents is measured before and after, as `held_out` does for the domain. The other documents
may be replayed. Both parts depend only on the text and the seed, so runs with and without replay are measured on the
same blocks.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from nmg.adaptation.held_out import HeldOutLoss, divide, too_small
from nmg.base.errors import bad_input
from nmg.base.files import user_path
from nmg.base.seeding import StreamName
from nmg.data.corpus import Corpus
from nmg.data.formats.text import read_texts
from nmg.training.context import TrainingContext
from nmg.training.masks import DrawnMasks
from nmg.training.replay import Replay, ReplayMasking
from nmg.trials.session import ModelSession

MEASURED_SHARE = 0.5
"""Fraction of the characters of general text on which the loss is measured, up to `held_out.MAX_CHARACTERS`."""


@dataclass(frozen=True)
class GeneralText:
    """The blocks of general text, divided into a measured part and the rest."""

    measured: Corpus
    """Blocks on which the loss is measured; they are never trained on."""
    rest: Corpus
    """Blocks that may be replayed."""
    digest: str
    """Digest of the whole text as cut with the tokenizer and the block size."""
    share: float
    """Fraction of the blocks of an epoch that are general (`adapt.replay`)."""
    randomness: StreamName
    """Random stream of the run's adaptation."""

    @classmethod
    def read(cls, session: ModelSession, texts: Collection[str]) -> Self:
        """Cut the text of `adapt.general_corpus` and divide it by document.

        Raises UserError if the text is too short to measure a loss on, or if no document is left to replay.
        """
        settings, randomness = session.config.adapt, StreamName(session.config.run.seed) / "adapt"
        whole = session.corpus(texts)
        rest, measured, _ = divide(texts, whole, MEASURED_SHARE, randomness / "general")
        problem = too_small(measured, MEASURED_SHARE)
        if problem is None and settings.replay and not len(rest):
            problem = "all its documents measure the loss, so none is left for adapt.replay"
        if problem is not None:
            path = user_path(settings.general_corpus or "")
            raise bad_input(path, f"adapt.general_corpus: {problem}. Give more documents.")
        return cls(measured, rest, whole.digest, settings.replay, randomness)

    def loss(self, context: TrainingContext) -> HeldOutLoss:
        """Return the loss on the measured blocks, under fixed masks."""
        return HeldOutLoss.build(context, self.measured, self.randomness / "general")

    def replay(self, domain: Corpus) -> Replay | None:
        """Return the mixture of rows of `domain` and of replayed rows; None if `adapt.replay` is 0."""
        if not self.share:
            return None
        return Replay(len(domain), len(self.rest), self.share, self.randomness / "replay")

    def mixed_into(self, masks: DrawnMasks) -> DrawnMasks:
        """Return the masks of an adaptation with replay added; `masks` itself if `adapt.replay` is 0."""
        replay = self.replay(masks.corpus)
        if replay is None:
            return masks
        masking = ReplayMasking(masks.masking, replay.n_domain)
        return replace(masks, corpus=masks.corpus.joined(self.rest), masking=masking, replay=replay)


def read_general(setting: str | None) -> Collection[str] | None:
    """Return the texts of `adapt.general_corpus`; None if it is not set. Raises UserError if it cannot be read."""
    return None if setting is None else read_texts(user_path(setting))


@dataclass(frozen=True)
class GeneralResult:
    """Losses on general text, in nats per masked token, all on the same blocks and masks."""

    before: float
    """Loss of the model before the first step."""
    after: float
    """Loss of the saved model."""
    documents: int
    """Number of documents that were measured."""
    blocks: int
    """Number of blocks that were measured."""
    masked_tokens: int
    """Number of masked tokens that the loss is averaged over."""
    replayed_blocks: int
    """Number of general blocks in every epoch of training; 0 without replay."""

    @classmethod
    def of(cls, loss: HeldOutLoss, before: float, after: float, replay: Replay | None) -> Self:
        """Create the result from two measurements.

        Args:
            loss: The measured loss.
            before: Its value before the first step, in nats.
            after: Its value for the saved model, in nats.
            replay: The replay of the adaptation; None without replay.

        Returns:
            The result.
        """
        n_replayed = 0 if replay is None else replay.per_epoch
        return cls(before, after, loss.documents, len(loss.lengths), loss.masked_tokens, n_replayed)

    def to_json(self) -> dict[str, Any]:
        """Return the entry `general` of nmg.json."""
        return asdict(self)


def trade_in_words(held_out: Mapping[str, Any] | None, general: Mapping[str, Any], *, is_best: bool) -> str:
    """Describe the change of the loss on the text of the adaptation and on general text.

    Args:
        held_out: The entry `held_out` of nmg.json; None if no text was held out.
        general: The entry `general` of nmg.json.
        is_best: Whether the saved weights are those with the lowest held-out loss.

    Returns:
        One or two sentences.

    >>> general = {"before": 2.8, "after": 2.95, "replayed_blocks": 3}
    >>> trade_in_words({"before": 3.1, "after": 2.61, "best": 2.6}, general, is_best=False)
    'On your text the loss fell from 3.10 to 2.61; on general text it rose from 2.80 to 2.95.'
    >>> trade_in_words(None, {"before": 2.8, "after": 2.801, "replayed_blocks": 0}, is_best=False)
    'On general text the loss stayed at 2.80.'
    """
    after = _change(general["before"], general["after"])
    if held_out is None:
        words = f"On general text the loss {after}."
    else:
        own = _change(held_out["before"], held_out["best" if is_best else "after"])
        words = f"On your text the loss {own}; on general text it {after}."
    if after.startswith("rose") and not general["replayed_blocks"]:
        words += " With adapt.replay 0.05 the model forgets less."
    return words


def _change(before: float, after: float) -> str:
    """Describe the change of a loss, to two decimals: 'rose from … to …', 'fell from … to …' or 'stayed at …'."""
    first, last = f"{before:.2f}", f"{after:.2f}"
    if first == last:
        return f"stayed at {last}"
    return f"{'rose' if after > before else 'fell'} from {first} to {last}"
