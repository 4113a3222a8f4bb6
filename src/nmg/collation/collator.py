"""A collator that masks batches in transformers' Trainer, sentence-transformers or any PyTorch DataLoader."""

import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.utils.data import get_worker_info

from nmg.base.errors import UserError, shown, unknown_argument
from nmg.base.seeding import StreamName
from nmg.base.settings import MaskingSettings, ModelSettings
from nmg.base.types import IGNORED_LABEL, CorruptedBlocks, StateEncoder, TokenBlocks
from nmg.collation.fixed import MARK, FixedRow, FixedRows, fixed_labels, is_streamed
from nmg.collation.given import rows_of
from nmg.collation.maskings import AnyMasking, NoModel, resolve_masking
from nmg.collation.packed import POSITIONS, without_batch_columns
from nmg.collation.rows import Row, RowReader
from nmg.collation.streams import BatchStreams
from nmg.collation.texts import corpus_of
from nmg.masking.base import MaskingContext
from nmg.masking.corrupt import Vocabulary, corrupt
from nmg.masking.schedule import RatePhases, RateSchedule, RowRates
from nmg.training.encoder_cache import CachedEncoder
from nmg.training.lm import load_tokenizer
from nmg.training.lm_reader import LMReader, PlainPasses

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from nmg.data.corpus import Corpus


AnyRate: TypeAlias = float | tuple[float, float] | RateSchedule | RatePhases
"""One rate, the lowest and the highest rate of a row, or rates that change during training."""


OTHER_NAMES: Mapping[str, str] = {
    "mlm_probability": "use rate=",
    "mlm": "leave it out, because this collator always masks",
    "whole_word_mask": "use masking='whole-word'",
    "return_tensors": "leave it out, because batches are tensors of PyTorch",
}
"""Argument of other collators → what to write instead."""


class MaskingCollator:
    """Pads rows to a batch, masks it, and returns `input_ids`, `attention_mask` and `labels`.

    Every row has exactly k = max(1, ⌊n · rate⌋) masked tokens, where n is its number of maskable tokens. Labels are
    the original tokens at masked positions and -100 elsewhere. Masks are drawn again for every batch. Runs with the
    same seed, data order and number of workers have the same masks. Each worker of a data loader uses a
    separate random stream in every epoch.

    Args:
        tokenizer: a fast tokenizer with a mask token, or the name or folder of a model, whose tokenizer is loaded.
        masking: one of the following:

            - the name of a rule (see `nmg maskings`) or of a mixture (`0.7*idf+0.3*random`);
            - a policy, the folder of a run or policy, or a hub repository (`OWNER/NAME`);
            - weights of words, as a mapping or a file;
            - a function from `TokenBlocks` to weights [B, T];
            - a custom masking (`nmg.masking.base.Rule`).
        rate: fraction of the maskable tokens to mask. It may also be

            - a pair `(low, high)`: each row draws its rate uniformly between the two;
            - `RatePhases([(until_step, rate), …])` or `RateSchedule(start, end, steps)`; steps are batches of this
              collator.
        seed: determines all randomness.
        texts: texts in which a rule counts words, or a data set with a column `text` or `input_ids`, such as the
            training set. Without it, `idf`, `tf-idf` and `frequency` use the order of the vocabulary.
        model: the masked language model in training, for maskings that read its current state. Such maskings do not
            work in worker processes.
        fixed: if True, masks depend only on the seed and the tokens of a row. They are then the same in every epoch,
            for any batch size and number of workers. Use this for evaluation. If one collator serves training and
            evaluation, as in Trainer, use `fix` instead.
        max_length: maximum number of tokens in a row given as text.
        pad_to_multiple_of: pads the width of batches to a multiple of this number, as in transformers.
        settings: `masking` settings (docs/reference/maskings.md), e.g. `mask_replace_prob=0.8`,
            `random_replace_prob=0.1`, `idf_unit="word"`.

    Raises:
        UserError: If an option is invalid, the masking is unknown, or an input of the masking is missing.

    Example:
        ```python
        collator = nmg.MaskingCollator(tokenizer, masking="idf", rate=0.15, seed=0)
        Trainer(model, train_dataset=train, eval_dataset=collator.fix(test), data_collator=collator)
        ```
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase | str | os.PathLike[str]",
        masking: AnyMasking = "random",
        rate: AnyRate = 0.15,
        seed: int = 0,
        *,
        texts: "Iterable[Any] | Corpus | None" = None,
        model: "PreTrainedModel | None" = None,
        fixed: bool = False,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        **settings: Any,
    ) -> None:
        self.rates = _rates_of(rate)
        self.settings = _settings_of(self.rates.at(0), settings)
        if isinstance(tokenizer, str | os.PathLike):
            tokenizer = load_tokenizer(ModelSettings(name=os.fspath(tokenizer)))
        _check_options(tokenizer, seed, fixed, max_length=max_length, pad_to_multiple_of=pad_to_multiple_of)
        self.seed, self.fixed, self._multiple = seed, fixed, pad_to_multiple_of or 1
        self._vocabulary = Vocabulary.from_tokenizer(tokenizer)
        self._reader = RowReader(tokenizer, max_length)
        corpus = None if texts is None else corpus_of(texts, tokenizer)
        embeddings = None if model is None else model.get_input_embeddings().weight
        ingredients = MaskingContext(tokenizer, corpus, self.settings, self._reader, embeddings)
        self.masking = resolve_masking(masking, ingredients, model)
        self._reader.reads_words = getattr(self.masking, "reads_words", True)
        self._encode: StateEncoder = NoModel(self.masking.name)
        if model is not None:
            self._encode = LMReader(model, self._vocabulary.mask_id, PlainPasses())
            if self.settings.refresh_steps > 1:
                self._encode = CachedEncoder(self._encode, self.settings.refresh_steps)
        elif self.masking.reads_states:
            raise UserError(f"the masking '{self.masking.name}' reads the language model: pass it (model=…)")
        self._streams = BatchStreams(seed)

    def __repr__(self) -> str:
        low, high = self.rates.bounds
        rate = low if low == high else (low, high) if isinstance(self.rates, RowRates) else self.rates
        fixed = ", fixed=True" if self.fixed else ""
        return f"MaskingCollator(masking={self.masking.name!r}, rate={rate!r}, seed={self.seed}{fixed})"

    def __call__(self, features: Any) -> dict[str, Tensor]:
        """Return a masked batch of int64 [B, T] tensors, padded on the right.

        Args:
            features: rows, or a batch of columns as a tokenizer returns it. A row is a mapping with `input_ids` or
                `text`, a list of ids, or a text. If a row has `word_ids`, they define which tokens form a word;
                otherwise words are recovered from the ids. Rows from `fix` are returned unchanged. All other rows are
                masked, even if they have labels.

        Returns:
            `input_ids`, `attention_mask`, `labels`, and any other inputs of the model that the rows contain. If all
            rows have `position_ids` (packed documents) and none is padded, `attention_mask` is omitted, as
            transformers expects it.

        Raises:
            UserError: If `features` is a single text or row, or if a row is invalid. A masking that reads the language
                model also raises it in a worker process.
        """
        if self.masking.reads_states and get_worker_info() is not None:
            raise UserError(
                f"the masking '{self.masking.name}' reads the language model, of which workers of a data loader have "
                "only an outdated copy: set num_workers (Trainer: dataloader_num_workers) to 0"
            )
        features, of_batch = without_batch_columns(features, self._multiple > 1)
        given = list(rows_of(features, "a batch"))
        rows = self._reader.rows(given)
        blocks = self._reader.blocks(rows)
        fixed = [fixed_labels(row, self._vocabulary.mask_id) for row in given]
        ids, labels = blocks.input_ids.clone(), torch.full_like(blocks.input_ids, IGNORED_LABEL)
        for b, known in enumerate(fixed):
            if known is not None:
                labels[b, : len(known)] = torch.from_numpy(known)
        to_mask = torch.tensor([b for b, known in enumerate(fixed) if known is None], dtype=torch.int64)
        if len(to_mask):
            some = blocks.rows(to_mask)
            masked = self._masked_apart(some) if self.fixed else self._masked_together(some)
            ids[to_mask], labels[to_mask] = masked.input_ids, masked.labels
        return {**self._batch(rows, CorruptedBlocks(ids, blocks.is_token, labels)), **of_batch}

    def fix(self, dataset: Iterable[Any]) -> list[FixedRow] | FixedRows:
        """Return the rows of a data set with fixed masks, for use as an evaluation set.

        The masks depend only on the seed and the tokens of each row. The collator returns such rows unchanged, so one
        Trainer can use them together with a training set that is masked per batch. The column `masked_by_nmg` marks
        them. If the rate has a schedule, its final value applies. The rows of an `IterableDataset` (of torch or
        datasets) are masked when they are read, so a data set larger than memory works. Raises UserError for invalid
        rows.
        """
        if is_streamed(dataset):
            return FixedRows(dataset, self._fixed_row)
        return [self._fixed_row(feature) for feature in rows_of(dataset, "fix")]

    def _fixed_row(self, feature: Any) -> FixedRow:
        """Return one row with fixed masks."""
        if fixed_labels(feature, self._vocabulary.mask_id) is not None:
            return FixedRow(feature)
        rows = self._reader.rows([feature])
        batch = self._masked_apart(self._reader.blocks(rows))
        return FixedRow(
            {
                "input_ids": batch.input_ids[0].tolist(),
                "attention_mask": rows[0].is_token.tolist(),
                "labels": batch.labels[0].tolist(),
                **{name: list(values) for name, values in rows[0].extra.items()},
                MARK: True,
            }
        )

    def _masked_together(self, blocks: TokenBlocks) -> CorruptedBlocks:
        """Mask a batch with the random stream and the masking rate of the batch number."""
        name, number = self._streams.next()
        return self._masked(blocks, name, self.rates.at(number))

    def _masked_apart(self, blocks: TokenBlocks) -> CorruptedBlocks:
        """Mask each row separately, without padding, with a random stream derived from its tokens."""
        ids, labels = blocks.input_ids.clone(), torch.full_like(blocks.input_ids, IGNORED_LABEL)
        for b, length in enumerate(_lengths(blocks)):
            alone = blocks.rows(torch.tensor([b]))
            alone = type(alone)(**{n: c[:, :length] if c.ndim > 1 else c for n, c in vars(alone).items()})
            name = StreamName(self.seed) / "collator" / "fixed" / alone.input_ids.numpy().tobytes().hex()
            one = self._masked(alone, name, self.rates.at(self.rates.steps))
            ids[b, :length], labels[b, :length] = one.input_ids[0], one.labels[0]
        return CorruptedBlocks(ids, blocks.is_token, labels)

    def _masked(self, blocks: TokenBlocks, name: StreamName, rate: float) -> CorruptedBlocks:
        """Select and corrupt positions with the random stream `name`."""
        if isinstance(self.rates, RowRates):
            blocks = self.rates.draw(blocks, (name / "rates").generator())
        plan = self.masking.plan(blocks, rate, (name / "choices").generator(), self._encode)
        return corrupt(blocks, plan, self._vocabulary, self.settings, (name / "corruption").generator())

    def _batch(self, rows: Sequence[Row], corrupted: CorruptedBlocks) -> dict[str, Tensor]:
        """Return the columns of a batch, padded to a multiple of `pad_to_multiple_of`."""
        width = corrupted.input_ids.shape[1]
        padding = -width % self._multiple
        columns = {
            "input_ids": (corrupted.input_ids, self._reader.recovery.special.padding),
            "attention_mask": (corrupted.is_token.long(), 0),
            "labels": (corrupted.labels, IGNORED_LABEL),
        }
        for name in dict.fromkeys(name for row in rows for name in row.extra):
            values = torch.zeros(len(rows), width, dtype=torch.int64)  # 0 also if a row lacks the column
            for b, row in enumerate(rows):
                default = np.arange(len(row.ids)) if name == POSITIONS else 0
                values[b, : len(row.ids)] = torch.as_tensor(np.asarray(row.extra.get(name, default)))
            columns[name] = values, 0
        if rows and all(POSITIONS in row.extra for row in rows) and not padding and bool(corrupted.is_token.all()):
            del columns["attention_mask"]
        return {
            name: torch.nn.functional.pad(values, (0, padding), value=fill) for name, (values, fill) in columns.items()
        }


def _check_options(tokenizer: Any, seed: Any, fixed: Any, **counts: Any) -> None:
    """Raise UserError if an option has an invalid type or value.

    Args:
        tokenizer: must be a tokenizer of transformers.
        seed: must be an integer ≥ 0.
        fixed: must be True or False.
        counts: names of options with their values; each value must be None or an integer ≥ 1.
    """
    if not hasattr(tokenizer, "mask_token_id"):
        given = "None" if tokenizer is None else f"a {type(tokenizer).__name__}"
        raise UserError(
            "MaskingCollator, tokenizer: must be a tokenizer from transformers, or the name of a model, such as "
            f"'bert-base-uncased', not {given}"
        )
    if not isinstance(fixed, bool):
        raise UserError(f"MaskingCollator, fixed: must be True or False, not {shown(fixed)}")
    for name, value, least in (("seed", seed, 0), *((name, value, 1) for name, value in counts.items())):
        is_whole = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
        if not is_whole and not (value is None and least):
            raise UserError(f"MaskingCollator, {name}: must be a whole number ≥ {least}, not {shown(value)}")


def _rates_of(rate: AnyRate) -> RateSchedule | RatePhases | RowRates:
    """Return the rates that `rate` describes. Raises UserError if it is invalid."""
    if isinstance(rate, RateSchedule | RatePhases):
        return rate
    if isinstance(rate, tuple | list):
        if len(rate) != 2:
            raise UserError(f"rate: must be a number or a pair (lowest, highest), not {shown(rate)}")
        return RowRates(*rate)
    return RateSchedule(rate, rate, 1, "constant")


def _settings_of(rate: float, settings: Mapping[str, Any]) -> MaskingSettings:
    """Return the `masking` settings. Raises UserError for an unknown setting or an invalid value."""
    known = [*list(inspect.signature(MaskingCollator).parameters)[:-1], *MaskingSettings.model_fields]
    for name in settings:
        if name in OTHER_NAMES:
            raise UserError(f"MaskingCollator has no argument '{name}': {OTHER_NAMES[name]}")
        if name not in known:
            raise unknown_argument("MaskingCollator", name, known)
        if name in {"rate_schedule", "rate_end"}:
            raise UserError(
                f"MaskingCollator, {name}: pass a changing rate as RateSchedule(start, end, steps) or RatePhases(…)"
            )
    try:
        return MaskingSettings(rate=float(rate), **settings)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"])) or "settings"
        raise UserError(f"MaskingCollator, {field}: {problem['msg']}") from None


def _lengths(blocks: TokenBlocks) -> list[int]:
    """Return the length of each row without the padding at its end; at least 1."""
    place = torch.arange(1, blocks.input_ids.shape[1] + 1)
    lengths: list[int] = (place * blocks.is_token).amax(dim=1).clamp(min=1).tolist() if len(blocks) else []
    return lengths
