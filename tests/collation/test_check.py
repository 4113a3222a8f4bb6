"""`check_collator`: sound collators have no fault, and each broken one has the fault that was put into it."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import DataCollatorForLanguageModeling

import nmg as package
from nmg import MaskingCollator, RateSchedule, check_collator
from nmg.base.errors import UserError
from nmg.collation.claims import fits_budget, interval
from support.command import Nmg
from support.families import FAMILIES, family
from support.planted import WORDS
from support.runs import Inputs

TOKENIZER = family("WordPiece")
EPOCHS, NEW, KEPT, WORKERS = (
    "repeats between epochs",
    "repeats between epochs, new workers",
    "repeats between epochs, persistent workers",
    "repeats between workers",
)


class Sound:
    """Independent masks of 15 %, and 80/10/10, from the global generator of torch."""

    mlm_probability, mask_replace_prob, random_replace_prob = 0.15, 0.8, 0.1
    real_rate, real_shares = 0.15, (0.8, 0.1)
    generator: torch.Generator | None = None

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = TOKENIZER.pad([{"input_ids": row["input_ids"]} for row in features], return_tensors="pt")
        ids = batch["input_ids"]
        special = torch.isin(
            ids, torch.tensor([TOKENIZER.cls_token_id, TOKENIZER.sep_token_id, TOKENIZER.pad_token_id])
        )
        is_masked = (self.uniform(ids) < self.real_rate) & ~special
        kind = self.uniform(ids)
        mask, random = self.real_shares
        inputs = ids.clone()
        inputs[is_masked & (kind < mask)] = TOKENIZER.mask_token_id
        is_random = is_masked & (kind >= mask) & (kind < mask + random)
        inputs[is_random] = (5 + self.uniform(ids)[is_random] * (len(TOKENIZER) - 5)).long()
        found = {"input_ids": inputs, "labels": ids.masked_fill(~is_masked, -100)}
        self.spoil(found, ids, special)
        return found

    def uniform(self, like: torch.Tensor) -> torch.Tensor:
        return torch.rand(like.shape, generator=self.generator)

    def spoil(self, batch: dict[str, torch.Tensor], ids: torch.Tensor, special: torch.Tensor) -> None:
        pass


class TooFew(Sound):
    real_rate = 0.11


class OnlyMaskTokens(Sound):
    real_shares = (1.0, 0.0)


class NoUnchanged(Sound):
    real_shares = (0.8, 0.2)


class MasksSpecial(Sound):
    def spoil(self, batch: dict[str, torch.Tensor], ids: torch.Tensor, special: torch.Tensor) -> None:
        batch["labels"][0, 0] = ids[0, 0]


class MasksPadding(Sound):
    def spoil(self, batch: dict[str, torch.Tensor], ids: torch.Tensor, special: torch.Tensor) -> None:
        batch["input_ids"][ids == TOKENIZER.pad_token_id] = TOKENIZER.mask_token_id


class LabelsPadding(Sound):
    def spoil(self, batch: dict[str, torch.Tensor], ids: torch.Tensor, special: torch.Tensor) -> None:
        batch["labels"][ids == TOKENIZER.pad_token_id] = TOKENIZER.pad_token_id


class LabelsOfInputs(Sound):
    def spoil(self, batch: dict[str, torch.Tensor], ids: torch.Tensor, special: torch.Tensor) -> None:
        batch["labels"] = batch["input_ids"].masked_fill(batch["labels"] == -100, -100)


class ChangesOthers(Sound):
    def spoil(self, batch: dict[str, torch.Tensor], ids: torch.Tensor, special: torch.Tensor) -> None:
        places = ((batch["labels"] == -100) & ~special).nonzero()[0]
        batch["input_ids"][tuple(places)] = TOKENIZER.mask_token_id


class LeavesRows(Sound):
    """Every eighth row has no mask; the others have more."""

    real_rate = 0.15 * 8 / 7

    def spoil(self, batch: dict[str, torch.Tensor], ids: torch.Tensor, special: torch.Tensor) -> None:
        batch["labels"][::8], batch["input_ids"][::8] = -100, ids[::8]


class SeedsEveryBatch(Sound):
    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        self.generator = torch.Generator().manual_seed(0)
        return super().__call__(features)


class SeedsOnce(Sound):
    """Its generator is copied into every worker."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def __deepcopy__(self, memo: Any) -> "SeedsOnce":
        return SeedsOnce()


def faults(collator: Any, **options: Any) -> set[str]:
    return {check.name for check in check_collator(collator, TOKENIZER, **options).faults}


def test_a_sound_collator_has_no_fault():
    report = check_collator(Sound(), TOKENIZER)
    assert not report.faults, report.faults
    assert len(report.checks) == 15


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (TooFew, {"rate"}),
        (OnlyMaskTokens, {"mask tokens", "random tokens", "unchanged tokens"}),
        (NoUnchanged, {"random tokens", "unchanged tokens"}),
        (MasksSpecial, {"special tokens"}),
        (MasksPadding, {"padding"}),
        (LabelsPadding, {"padding labels"}),
        (LabelsOfInputs, {"labels"}),
        (ChangesOthers, {"other inputs"}),
        (LeavesRows, {"rows without a mask"}),
    ],
)
def test_a_fault_is_found_and_no_other(broken: type[Sound], expected: set[str]):
    assert faults(broken(), workers=0) == expected


@pytest.mark.parametrize(
    ("broken", "expected"), [(SeedsEveryBatch, {EPOCHS, NEW, KEPT, WORKERS}), (SeedsOnce, {NEW, WORKERS})]
)
def test_repeated_masks_are_found(broken: type[Sound], expected: set[str]):
    found = faults(broken())
    # With one generator for all batches, the counted rows share their masks too.
    assert found & {EPOCHS, NEW, KEPT, WORKERS} == expected


def test_cut_words_are_a_fault_only_on_demand():
    (cut,) = [check for check in check_collator(Sound(), TOKENIZER, workers=0).checks if check.name == "cut words"]
    assert cut.verdict == "note"
    assert 0.5 < cut.count / cut.total < 1.0, "independent masks rarely take whole words"
    assert faults(Sound(), workers=0, whole_words=True) == {"cut words"}


def test_the_seeded_collator_of_transformers_repeats_its_masks_with_new_workers():
    report = check_collator(DataCollatorForLanguageModeling(TOKENIZER, seed=0), TOKENIZER)
    (fault,) = report.faults
    assert fault.name == NEW
    assert fault.count == fault.total == 8
    assert not faults(DataCollatorForLanguageModeling(TOKENIZER))
    unmasked = {check.name: check for check in report.checks}["rows without a mask"]
    assert (unmasked.verdict, unmasked.total) == ("note", 512)
    assert 0 < unmasked.count < 100


def test_whole_words_of_transformers_are_not_cut():
    assert not faults(DataCollatorForLanguageModeling(TOKENIZER, whole_word_mask=True), workers=0, whole_words=True)


@pytest.mark.parametrize("name", [FAMILIES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES[1:])])
def test_masking_collator_has_no_fault(name: str):
    tokenizer = family(name)
    for masking in ("random", "whole-word"):
        report = check_collator(MaskingCollator(tokenizer, masking, 0.15), tokenizer)
        assert not report.faults, report.faults
        assert {c.name: c.verdict for c in report.checks}["rows without a mask"] == "ok"


def test_fixed_masks_are_noted_and_a_moving_rate_is_a_range():
    checks = {c.name: c for c in check_collator(MaskingCollator(TOKENIZER, fixed=True), TOKENIZER, workers=0).checks}
    assert checks[EPOCHS].verdict == "note"
    assert "fixed=True" in checks[EPOCHS].sentence
    moving = MaskingCollator(TOKENIZER, rate=RateSchedule(0.3, 0.15, steps=32))
    (rate,) = [c for c in check_collator(moving, TOKENIZER, workers=0).checks if c.name == "rate"]
    assert (rate.verdict, rate.claimed) == ("ok", (0.15, 0.3))
    assert faults(moving, workers=0, rate=0.15) == {"rate"}


def test_left_padding_and_flattened_batches_are_compared():
    class Left(Sound):
        def spoil(self, batch: dict[str, torch.Tensor], ids: torch.Tensor, special: torch.Tensor) -> None:
            n = (ids != TOKENIZER.pad_token_id).sum(dim=1).tolist()
            for values in batch.values():
                values.copy_(torch.stack([row.roll(-k) for row, k in zip(values, n, strict=True)]))

    class Flat(Sound):
        def spoil(self, batch: dict[str, torch.Tensor], ids: torch.Tensor, special: torch.Tensor) -> None:
            is_token = ids != TOKENIZER.pad_token_id
            batch |= {name: values[is_token][None] for name, values in batch.items()}

    assert not faults(Flat(), workers=0)
    TOKENIZER.padding_side = "left"
    try:
        assert not faults(Sound(), workers=0), "the tokenizer pads, and is asked where"
    finally:
        TOKENIZER.padding_side = "right"
    with pytest.raises(UserError, match="do not contain the rows it was given"):
        faults(Left(), workers=0)


def test_the_interval_is_exact_and_allows_for_rows_that_vary():
    counts, totals = np.array([7, 0]), np.array([25, 25])
    assert interval(counts[:1], totals[:1]) == pytest.approx(
        tuple(stats.binomtest(7, 25).proportion_ci(0.999, method="exact"))
    )
    assert interval(counts[1:], totals[1:]) == pytest.approx((0.0, 1.0 - 0.0005 ** (1 / 25)))
    # 5 of 10 rows are masked as a whole: as much as 9 independent tokens say.
    whole = interval(np.array([10, 0] * 5), np.full(10, 10))
    assert whole == pytest.approx((stats.beta.ppf(0.0005, 4.5, 5.5), stats.beta.ppf(0.9995, 5.5, 4.5)))


def test_a_budget_is_a_rate_rounded_to_tokens():
    totals = np.array([10, 20, 3])
    assert fits_budget(np.array([1, 3, 1]), totals, (0.15, 0.15))
    assert fits_budget(np.array([2, 3, 0]), totals, (0.15, 0.15))
    assert not fits_budget(np.array([3, 3, 0]), totals, (0.15, 0.15))
    assert fits_budget(np.array([3, 3, 0]), totals, (0.15, 0.3))


def test_no_global_generator_is_changed():
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.rand(1), np.random.rand()
    torch.manual_seed(3)
    np.random.seed(3)
    check_collator(Sound(), TOKENIZER, workers=0)
    assert (torch.rand(1), np.random.rand()) == before


@pytest.mark.parametrize(
    ("collator", "options", "message"),
    [
        (7, {}, "must be a collator or a function that returns one"),
        (Sound(), {"epochs": 1}, "epochs: must be a whole number ≥ 2, not 1"),
        (Sound(), {"worker": 1}, "options are workers, epochs, batch_size, max_length, seed"),
        (Sound(), {"rate": 15}, "rate: must be a number between 0 and 1"),
        (Sound(), {"texts": ["", ""]}, "no tokens that may be masked"),
        (lambda tokenizer: 1 / 0, {}, "cannot make a collator .ZeroDivisionError"),
        (lambda tokenizer: None, {}, "must return a collator, not None"),
        (lambda rows: rows["x"], {}, "failed on a batch of tokenized rows .TypeError.*first parameter `tokenizer`"),
        (lambda rows: rows, {}, "must return a mapping with input_ids and labels, not list"),
        (lambda rows: {"input_ids": [[1]]}, {}, "not the columns input_ids"),
        (lambda rows: {"input_ids": [[1]], "labels": [[1, 2]]}, {}, "must have the same shape"),
        (lambda rows: {"input_ids": [[1]], "labels": [[1]]}, {}, "returned 1 × 1 tokens for 16 rows"),
    ],
)
def test_mistakes_are_named(collator: Any, options: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        check_collator(collator, TOKENIZER, **{"workers": 0, **options})


def test_a_collator_that_fails_in_workers_has_a_fault():
    class NotInWorkers(Sound):
        def uniform(self, like: torch.Tensor) -> torch.Tensor:
            assert torch.utils.data.get_worker_info() is None, "no workers please"
            return super().uniform(like)

    found = {check.name: check.sentence for check in check_collator(NotInWorkers(), TOKENIZER).faults}
    assert set(found) == {NEW, KEPT}
    assert "no workers please" in found[NEW]


MODULE = """
from transformers import DataCollatorForLanguageModeling

def build(tokenizer):
    return DataCollatorForLanguageModeling(tokenizer, seed=0)

def plain(tokenizer):
    return DataCollatorForLanguageModeling(tokenizer)
"""


def test_the_command(inputs: Inputs, nmg: Nmg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "checked_collators.py").write_text(MODULE)
    (tmp_path / "broken_collators.py").write_text("import nothing_of_that_name\n")
    answer = nmg("check-collator", "checked_collators:build", "--model", inputs.model, "--json", "found.json")
    assert answer.code == 1, answer.err
    assert answer.out.endswith(f"Verdict: The collator has 1 fault.\nWhy: They are marked above: {NEW}.\n")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["faults"] == 1
    assert [c["name"] for c in found["checks"] if c["verdict"] == "fault"] == [NEW]
    assert found["checks"][0]["claimed"] == [0.15, 0.15]
    (tmp_path / "text.txt").write_text("\n".join([" ".join(WORDS)] * 60))
    words = ("--model", inputs.model, "--workers", "0")
    answer = nmg("check-collator", "checked_collators:plain", *words, "--corpus", "text.txt")
    assert (answer.code, answer.out.splitlines()[-2]) == (0, "Verdict: The collator has no fault."), answer.out
    assert "60 rows (the given text), 2 epochs, 0 workers" in answer.out
    for name, message in (
        ("checked_collators", "write MODULE:NAME"),
        ("checked_collators:other", "the module checked_collators has no other"),
        ("not_there:build", "there is no module not_there"),
        ("broken_collators:build", "importing broken_collators failed (ModuleNotFoundError: No module named 'nothing"),
    ):
        answer = nmg("check-collator", name, *words)
        assert answer.code == 2
        assert message in answer.err
        assert len(answer.err.splitlines()) == 1


def test_it_is_part_of_the_public_interface():
    assert "check_collator" in package.__all__
