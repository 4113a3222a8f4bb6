"""nmg maskings, and commands that take its names."""

import json
from pathlib import Path

import pytest

from nmg.masking.registry import MASKINGS, SOURCES
from support.command import Nmg
from support.runs import Inputs


def test_every_masking_has_a_line_with_what_it_masks_and_its_source(nmg: Nmg):
    answer = nmg("maskings")
    assert answer.code == 0
    lines = answer.out.splitlines()
    for name, about in MASKINGS.items():
        (line,) = [line for line in lines if line.strip(" │|").split(" ")[0] == name]
        assert about in line
        assert SOURCES[name] in line


@pytest.mark.parametrize("masking", ["loss", "0.5*pmi+0.5*tf-idf", "difference"])
def test_rules_that_need_a_corpus_or_a_model_adapt_one(masking: str, inputs: Inputs, nmg: Nmg, tmp_path: Path):
    texts = [json.loads(line)["text"] for line in inputs.train.read_text().splitlines()]
    (tmp_path / "domain.txt").write_text("\n".join(texts))
    words = ("--model", inputs.model, "--adapt.block_size=16", "--masking.rate=0.3", "--adapt.epochs=1")
    rates = ("--masking.rate_schedule=linear", "--masking.refresh_steps=10")
    answer = nmg("adapt", "--corpus", "domain.txt", "--out", "adapted", "--masking", masking, *words, *rates)
    assert answer.code == 0, answer.err
    assert "training loss" in answer.out
    assert json.loads((tmp_path / "adapted" / "nmg.json").read_text())["masking"] == masking


def test_inspect_shows_them(inputs: Inputs, nmg: Nmg, tmp_path: Path):
    names = "loss,pmi,0.5*idf+0.5*random"
    settings = ("--draws", "5", "--no-tags", "--masking.rate=0.3", "--adapt.block_size=16")
    text = ("--text", inputs.train, "--model", inputs.model)
    answer = nmg("inspect", *text, "--maskings", names, "--out", "page.html", *settings)
    assert answer.code == 0, answer.err
    page = (tmp_path / "page.html").read_text()
    assert all(name in page for name in names.split(","))
    assert "a mixture is written" in nmg("inspect", *text, "--maskings", "x*idf+random", "--out", "page.html").err
