"""Rates per row and in phases, packed rows, streamed evaluation sets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader, IterableDataset
from transformers import AutoModelForMaskedLM, AutoTokenizer, DataCollatorWithFlattening, Trainer, TrainingArguments
from transformers.masking_utils import find_packed_sequence_indices

from nmg import MaskingCollator, RatePhases, RateSchedule, check_collator
from nmg.base.errors import UserError
from nmg.base.types import IGNORED_LABEL
from nmg.masking.schedule import RatedBlocks, RowRates
from support.families import SCRIPTS, family
from support.planted import WORDS
from support.runs import Inputs

TOKENIZER = family("WordPiece")
ROW = {"input_ids": [TOKENIZER.cls_token_id, *[50] * 100, TOKENIZER.sep_token_id]}
SPECIAL = torch.tensor([TOKENIZER.cls_token_id, TOKENIZER.sep_token_id, TOKENIZER.pad_token_id])


def n_masked(batch: dict[str, torch.Tensor]) -> list[int]:
    found: list[int] = (batch["labels"] != IGNORED_LABEL).sum(dim=1).tolist()
    return found


@pytest.mark.parametrize("masking", ["random", "whole-word", "span", "0.5*random+0.5*whole-word"])
def test_each_row_draws_its_rate(masking: str):
    collator = MaskingCollator(TOKENIZER, masking, (0.15, 0.5))
    counts = n_masked(collator([ROW] * 400))
    assert min(counts) in (15, 16)
    assert max(counts) in (48, 49)
    # Uniform on 15 to 50 tokens, rounded down: mean 32, standard error 0.5.
    assert abs(np.mean(counts) - 32.0) < 2.0
    assert n_masked(collator([ROW] * 400)) != counts
    assert n_masked(MaskingCollator(TOKENIZER, masking, (0.15, 0.5))([ROW] * 400)) == counts


def test_the_budget_of_a_row_is_its_rate_rounded_down():
    blocks = MaskingCollator(TOKENIZER)._reader
    rows = blocks.blocks(blocks.rows([ROW, {"input_ids": ROW["input_ids"][:12]}, {"input_ids": [2, 3]}]))
    rated = RatedBlocks(**vars(rows), rates=torch.tensor([0.299, 0.05, 0.5], dtype=torch.float64))
    assert rated.budgets(0.9).tolist() == [29, 1, 0]
    assert rated.rows(torch.tensor([1, 0])).budgets(0.9).tolist() == [1, 29]
    drawn = RowRates(0.2, 0.4).draw(rows, np.random.default_rng(5))
    assert drawn.rates.tolist() == np.random.default_rng(5).uniform(0.2, 0.4, 3).tolist()


def test_rates_of_rows_with_a_masking_that_reads_the_model(inputs: Inputs):
    tokenizer, model = (kind.from_pretrained(inputs.model) for kind in (AutoTokenizer, AutoModelForMaskedLM))
    row = {"input_ids": [2, *[10] * 40, 3]}
    counts = n_masked(MaskingCollator(tokenizer, "loss", (0.1, 0.9), model=model)([row] * 60))
    assert min(counts) < 12
    assert max(counts) > 28


def test_fixed_rows_keep_their_rate_and_a_range_is_checked():
    collator = MaskingCollator(TOKENIZER, "random", (0.15, 0.5), fixed=True)
    rows = [{"input_ids": [2, *[place] * 100, 3]} for place in range(40, 60)]
    together = n_masked(collator(rows))
    assert together == n_masked(collator(rows)) == [n_masked(collator([row]))[0] for row in rows]
    assert len(set(together)) > 5
    report = check_collator(MaskingCollator(TOKENIZER, "random", (0.15, 0.5)), TOKENIZER, workers=0)
    assert not report.faults, report.faults
    assert report.checks[0].claimed == (0.15, 0.5)
    assert abs(report.checks[0].count / report.checks[0].total - 0.32) < 0.02


@pytest.mark.parametrize("workers", [0, 2])
def test_phases(workers: int):
    collator = MaskingCollator(TOKENIZER, rate=RatePhases([(2, 0.30), (4, 0.15), (5, 0.05)]))
    loader = DataLoader(
        [ROW] * 3, batch_size=1, collate_fn=collator, num_workers=workers, persistent_workers=workers > 0
    )
    counts = [n_masked(batch)[0] for _ in range(2) for batch in loader]
    if workers:  # with three batches for two workers, the number of a batch is exact to one
        assert counts[:3] == [30, 30, 15]
    else:
        assert counts == [30, 30, 15, 15, 5, 5]
    assert n_masked(collator(collator.fix([ROW]))) == [5], "fixed masks have the last rate"


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        ((0.15,), "must be a number or a pair"),
        ((0.5, 0.15), "the lower bound must not exceed"),
        ((0.0, 0.5), "between 0 and 1, not 0.0"),
        (("a", 0.5), "between 0 and 1, not 'a'"),
    ],
)
def test_invalid_rates(rate: Any, message: str):
    with pytest.raises(UserError, match=message):
        MaskingCollator(TOKENIZER, rate=rate)


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([], "must be pairs"),
        ([0.3], "must be pairs"),
        (0.3, "must be pairs"),
        ([(10, 0.3), (10, 0.15)], "each step must be a whole number > 10, not 10"),
        ([(0.5, 0.3)], "each step must be a whole number > 0, not 0.5"),
        ([(10, 30)], "between 0 and 1, not 30"),
    ],
)
def test_invalid_phases(phases: Any, message: str):
    with pytest.raises(UserError, match=message):
        RatePhases(phases)


def test_one_line_says_what_a_collator_does():
    assert repr(MaskingCollator(TOKENIZER, "whole-word", 0.3, 7)) == (
        "MaskingCollator(masking='whole-word', rate=0.3, seed=7)"
    )
    assert repr(MaskingCollator(TOKENIZER, rate=(0.15, 0.5), fixed=True)) == (
        "MaskingCollator(masking='random', rate=(0.15, 0.5), seed=0, fixed=True)"
    )
    assert "rate=RatePhases(phases=[(9, 0.3), (10, 0.1)])" in repr(
        MaskingCollator(TOKENIZER, rate=RatePhases([(9, 0.3), (10, 0.1)]))
    )
    assert "\n" not in repr(MaskingCollator(TOKENIZER, rate=RateSchedule(0.3, 0.15, 9)))


def texts(n: int = 3) -> list[dict[str, list[int]]]:
    return [{"input_ids": TOKENIZER(SCRIPTS[place])["input_ids"]} for place in range(n)]


def test_a_flattened_batch_keeps_its_positions_and_has_the_budget_of_its_row():
    flat = DataCollatorWithFlattening(return_flash_attn_kwargs=True, return_seq_idx=True)(texts())
    batch = MaskingCollator(TOKENIZER, "whole-word", 0.3)(flat)
    lengths = [len(row["input_ids"]) for row in texts()]
    assert set(batch) == set(flat), "no attention mask: then transformers finds the documents by their positions"
    for name in set(flat) - {"input_ids", "labels"}:
        assert np.array_equal(batch[name], flat[name])
    assert batch["position_ids"].tolist() == [[place for n in lengths for place in range(n)]]
    n_maskable = sum(lengths) - 2 * 3
    assert n_masked(batch) == [int(n_maskable * 0.3 + 1e-9)]
    is_masked = batch["labels"] != IGNORED_LABEL
    assert not torch.isin(flat["input_ids"][is_masked], SPECIAL).any()
    assert torch.equal(batch["labels"][is_masked], flat["input_ids"][is_masked])
    with pytest.raises(UserError, match="does not work with the column cu_seq_lens_q"):
        MaskingCollator(TOKENIZER, pad_to_multiple_of=8)(flat)


def test_packed_rows_of_unequal_length_keep_the_attention_mask():
    def packed(*numbers: int) -> dict[str, list[int]]:
        rows = [texts()[number]["input_ids"] for number in numbers]
        positions = [place for row in rows for place in range(len(row))]
        return {"input_ids": [token for row in rows for token in row], "position_ids": positions}

    collator = MaskingCollator(TOKENIZER, "random", 0.3)
    given = [packed(0, 1), packed(2)]
    batch = collator(given)
    for b, row in enumerate(given):
        n = len(row["input_ids"])
        assert batch["attention_mask"][b].tolist() == [1] * n + [0] * (len(batch["input_ids"][b]) - n)
        assert batch["position_ids"][b, :n].tolist() == row["position_ids"]
    alike = collator([packed(0, 1), packed(1, 0)])
    assert "attention_mask" not in alike
    documents = find_packed_sequence_indices(alike["position_ids"])
    assert documents is not None
    assert documents[:, -1].tolist() == [1, 1], "two documents a row"
    mixed = collator([packed(0), texts()[1]])
    n = len(texts()[1]["input_ids"])
    assert mixed["position_ids"][1, :n].tolist() == list(range(n)), "a row without positions is one document"
    with pytest.raises(UserError, match="position_ids of a row has 1 entries"):
        collator([texts()[0] | {"position_ids": [0]}])


def test_no_word_continues_into_the_next_document():
    """A piece that continues a word, at the start of a document, is a word there."""
    first, *others = TOKENIZER("inhibitor", add_special_tokens=False)["input_ids"]
    assert others
    ids = [first, *others, others[-1]]
    n = len(ids)
    row = {"input_ids": ids, "position_ids": [*range(n - 1), 0], "word_ids": [0] * n}
    places = {
        tuple(
            (MaskingCollator(TOKENIZER, "whole-word", 0.99 / n, seed)([row])["labels"][0] >= 0)
            .nonzero()
            .flatten()
            .tolist()
        )
        for seed in range(20)
    }
    assert places == {(n - 1,)}, "a budget of one takes the only word of one piece, or else it cuts a long one"


class Stream(IterableDataset[dict[str, list[int]]]):
    """Counts what was read of it."""

    def __init__(self, rows: list[dict[str, list[int]]]) -> None:
        self.rows, self.n_read, self.epoch = rows, 0, -1

    def __iter__(self) -> Iterator[dict[str, list[int]]]:
        for row in self.rows:
            self.n_read += 1
            yield row

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def as_lists(rows: Any) -> list[dict[str, list[int]]]:
    return [{name: list(values) if name != "masked_by_nmg" else values for name, values in row.items()} for row in rows]


def test_a_stream_is_masked_as_it_is_read():
    collator, rows = MaskingCollator(TOKENIZER, "whole-word", 0.3), texts(10)
    expected = as_lists(collator.fix(rows))
    stream = Stream(rows)
    fixed: Any = collator.fix(stream)
    assert stream.n_read == 0
    next(iter(fixed))
    assert stream.n_read == 1
    assert as_lists(fixed) == as_lists(fixed) == expected
    fixed.set_epoch(4)
    assert stream.epoch == 4
    assert isinstance(collator.fix(iter(rows)), list), "an iterator can be read only once"
    shards = Dataset.from_list(rows).to_iterable_dataset(num_shards=2)
    streamed: Any = collator.fix(shards)
    assert sorted(map(str, as_lists(streamed))) == sorted(map(str, expected))
    batches = list(DataLoader(streamed, batch_size=2, collate_fn=collator, num_workers=2))
    assert sum(len(batch["labels"]) for batch in batches) == 10, "each worker reads its shards"


def test_trainer_evaluates_a_stream(inputs: Inputs, tmp_path: Path):
    tokenizer = AutoTokenizer.from_pretrained(inputs.model)
    collator = MaskingCollator(tokenizer, "whole-word", 0.3)
    rows = [dict(tokenizer(" ".join(WORDS[i : i + 8]))) for i in range(8)]
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to=[], disable_tqdm=True)
    model = AutoModelForMaskedLM.from_pretrained(inputs.model)
    losses = []
    for data in (rows, Stream(rows), Dataset.from_list(rows).to_iterable_dataset()):
        trainer = Trainer(model, arguments, data_collator=collator, eval_dataset=collator.fix(data))
        losses += [trainer.evaluate()["eval_loss"] for _ in range(2)]
    assert len(set(losses)) == 1
