"""Counts of masked tokens and guesses at masked words, by hand and in a run."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from nmg.adaptation.checkpoints import Checkpoints
from nmg.adaptation.mask_counts import MaskCounts
from nmg.base.types import IGNORED_LABEL, CorruptedBlocks
from nmg.jobs.adapt import adapt
from support.tiny import word_tokenizer

from .conftest import MakeConfig


def test_counts_by_hand():
    tokenizer = word_tokenizer(["a", "b", "c"])
    a, b, c = tokenizer.convert_tokens_to_ids(["a", "b", "c"])
    cls, mask, pad = tokenizer.cls_token_id, tokenizer.mask_token_id, tokenizer.pad_token_id
    none = IGNORED_LABEL
    ids = torch.tensor([[cls, mask, b, c], [cls, a, mask, pad]])
    labels = torch.tensor([[none, a, none, none], [none, none, a, none]])
    counts = MaskCounts(len(tokenizer))
    for _ in range(2):
        counts.add(CorruptedBlocks(ids, ids != pad, labels))
    assert [(int(counts.seen[i]), int(counts.masked[i])) for i in (a, b, c)] == [(6, 4), (2, 0), (2, 0)]
    assert counts.masked[mask] == counts.seen[pad] == 0
    found = counts.extremes(tokenizer)
    assert found["rate"] == pytest.approx(4 / 10)
    (most,) = found["most"]
    assert (most["token"], most["seen"], most["masked"]) == ("a", 6, 4)
    assert most["z"] == pytest.approx((4 - 6 * 0.4) / (6 * 0.4 * 0.6) ** 0.5, abs=0.01)
    assert found["least"][0]["token"] in {"b", "c"}


class Killed(Exception):  # noqa: N818
    pass


def facts_of(out: Path) -> dict[str, object]:
    return dict(json.loads((out / "nmg.json").read_text()))


def test_a_run_counts_all_its_masks_and_a_resumed_one_the_same(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = make_config(runtime={"checkpoint_minutes": 0})
    result = adapt(config, "idf", tmp_path / "whole")
    save, saved = Checkpoints.save, []

    def once(self: Checkpoints, *arguments: object) -> None:
        save(self, *arguments)  # type: ignore[arg-type]
        saved.append(1)
        if len(saved) == 4:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", once)
        with pytest.raises(Killed):
            adapt(config, "idf", tmp_path / "out")
    adapt(config, "idf", tmp_path / "out", resume=True)
    whole, resumed = facts_of(tmp_path / "whole"), facts_of(tmp_path / "out")
    assert whole["masked"] == resumed["masked"]
    assert whole["examples"] == resumed["examples"]
    masked = whole["masked"]
    assert isinstance(masked, dict)
    assert 0.0 < masked["rate"] < 1.0
    assert result.masked_tokens == facts_of(tmp_path / "whole")["masked_tokens"]
    assert {row["token"] for row in masked["most"]}.isdisjoint(row["token"] for row in masked["least"])


def test_guesses_are_those_of_plain_transformers(make_config: MakeConfig, tmp_path: Path):
    config = make_config()
    adapt(config, "random", tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    examples = facts_of(tmp_path / "out")["examples"]
    assert isinstance(examples, list)
    n_checked = 0
    for name, folder in (("before", config.model.name), ("after", tmp_path / "out")):
        model = AutoModelForMaskedLM.from_pretrained(folder).eval()
        for one in examples:
            text = one["text"]
            for word in one["masked"]:
                text = text.replace(f"[{word}]", tokenizer.mask_token, 1)
            ids = tokenizer(text, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                best = model(ids).logits[0].argmax(dim=1)[ids[0] == tokenizer.mask_token_id]
            assert tokenizer.convert_ids_to_tokens(best.tolist()) == one[name]
            n_checked += len(best)
    assert n_checked > 8


def test_the_run_ends_with_its_page(make_config: MakeConfig, tmp_path: Path):
    adapt(make_config(), "random", tmp_path / "out")
    html = (tmp_path / "out" / "index.html").read_text()
    for words in ("The held-out loss", "Masked most for their frequency", "Guesses at masked words"):
        assert words in html
