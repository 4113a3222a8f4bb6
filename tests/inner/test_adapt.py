"""Masks of an episode stay, those of a meta-test are drawn anew; a new head is warmed up and the encoder stays."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nmg.config import AdaptSettings, MaskingSettings, ModelSettings, RuntimeSettings
from nmg.data.corpus import Corpus
from nmg.inner.adapt import adapt, dynamic_masks, state_encoder, static_masks, warm_up_head
from nmg.inner.lm import PretrainedLM, copy_state, load_pretrained
from nmg.inner.runtime import Runtime
from nmg.masking.corrupt import Vocabulary
from nmg.masking.rules import RandomMasking
from nmg.seeding import StreamName, torch_stream
from nmg.types import IGNORED_LABEL, CorruptedBlocks, IntArray, MaskPlan, StateEncoder, TokenBlocks
from support.planted import WORDS
from support.runs import Inputs, is_same
from support.tiny import save_tiny_bert

MASKING = MaskingSettings(rate=0.3)
SETTINGS = AdaptSettings(epochs=2, batch_size=4, learning_rate=5e-3, block_size=16)


@pytest.fixture
def runtime() -> Runtime:
    return Runtime.start(RuntimeSettings(device="cpu", precision="fp32"))


@pytest.fixture
def lm(inputs: Inputs) -> PretrainedLM:
    return load_pretrained(ModelSettings(name=str(inputs.model)))


@pytest.fixture
def corpus(lm: PretrainedLM, tmp_path: Path) -> Corpus:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS[:20], rng.integers(3, 15))) for _ in range(18)]
    return Corpus.build(texts, lm.tokenizer, SETTINGS.block_size, tmp_path)


def trained_on(
    lm: PretrainedLM, corpus: Corpus, runtime: Runtime, *, dynamic: bool, seed: int = 0
) -> list[dict[int, tuple[Tensor, Tensor]]]:
    """For each epoch, what the LM was trained on: block id → (input ids, labels), without padding."""
    vocabulary, randomness = Vocabulary.from_tokenizer(lm.tokenizer), StreamName(seed)
    every = np.arange(len(corpus))
    if dynamic:
        masks = dynamic_masks(
            corpus, RandomMasking(), state_encoder(lm.model, runtime), vocabulary, MASKING, randomness
        )
    else:
        blocks = corpus.blocks(every)
        plan = RandomMasking().plan(blocks, MASKING.rate, randomness.generator())
        masks = static_masks(blocks, plan, vocabulary, MASKING, randomness)
    seen: list[tuple[int, Tensor, Tensor]] = []

    def spy(rows: IntArray) -> CorruptedBlocks:
        batch = masks(rows)
        for row, ids, labels, is_token in zip(rows, batch.input_ids, batch.labels, batch.is_token, strict=True):
            assert int(is_token.sum()) == corpus.lengths[row]
            assert (labels[~is_token] == IGNORED_LABEL).all()
            seen.append((int(row), ids[is_token], labels[is_token]))
        return batch

    result = adapt(lm.model, corpus.lengths, spy, SETTINGS, runtime, randomness)
    budget = int(corpus.blocks(every).budgets(MASKING.rate).sum())
    assert result.masked_tokens == budget * SETTINGS.epochs
    assert result.tokens == int(corpus.lengths.sum()) * SETTINGS.epochs
    assert result.fit.steps == 2 * -(-len(corpus) // 4)
    n = len(corpus)
    epochs = [{row: (ids, labels) for row, ids, labels in seen[first : first + n]} for first in (0, n)]
    assert all(len(epoch) == n for epoch in epochs)
    return epochs


def same_rows(first: dict[int, tuple[Tensor, Tensor]], second: dict[int, tuple[Tensor, Tensor]], part: int) -> int:
    return sum(torch.equal(first[row][part], second[row][part]) for row in first)


def test_static_masks_are_the_same_in_every_epoch(lm: PretrainedLM, corpus: Corpus, runtime: Runtime):
    first, second = trained_on(lm, corpus, runtime, dynamic=False)
    assert same_rows(first, second, 0) == same_rows(first, second, 1) == len(corpus)


def test_dynamic_masks_are_drawn_anew_in_every_epoch(lm: PretrainedLM, corpus: Corpus, runtime: Runtime):
    first, second = trained_on(lm, corpus, runtime, dynamic=True)
    assert same_rows(first, second, 1) < len(corpus) / 2


def test_dynamic_masks_follow_their_stream(inputs: Inputs, corpus: Corpus, runtime: Runtime):
    def run(seed: int) -> list[dict[int, tuple[Tensor, Tensor]]]:
        lm = load_pretrained(ModelSettings(name=str(inputs.model)))
        return trained_on(lm, corpus, runtime, dynamic=True, seed=seed)

    first, again, other = run(0), run(0), run(1)
    assert all(same_rows(a, b, part) == len(corpus) for a, b in zip(first, again, strict=True) for part in (0, 1))
    assert same_rows(first[0], other[0], 1) < len(corpus) / 2


def test_corruption_does_not_change_the_blocks(lm: PretrainedLM, corpus: Corpus):
    blocks = corpus.blocks(np.arange(len(corpus)))
    before = blocks.input_ids.clone()
    plan = RandomMasking().plan(blocks, 0.9, np.random.default_rng(0))
    vocabulary = Vocabulary.from_tokenizer(lm.tokenizer)
    batch = static_masks(blocks, plan, vocabulary, MASKING, StreamName(0))(np.array([3, 1]))
    assert torch.equal(blocks.input_ids, before)
    longest = int(corpus.lengths[[3, 1]].max())
    assert batch.input_ids.shape == batch.labels.shape == batch.is_token.shape == (2, longest)


def test_a_learned_masking_sees_the_states_of_the_moment(lm: PretrainedLM, corpus: Corpus, runtime: Runtime):
    states: list[Tensor] = []

    class Watching(RandomMasking):
        def plan(
            self, blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder | None = None
        ) -> MaskPlan:
            assert encode is not None
            states.append(encode(corpus.blocks(np.array([0]))))
            return super().plan(blocks, rate, rng)

    encode = state_encoder(lm.model, runtime)
    pretrained = encode(corpus.blocks(np.array([0])))
    vocabulary = Vocabulary.from_tokenizer(lm.tokenizer)
    masks = dynamic_masks(corpus, Watching(), encode, vocabulary, MASKING, StreamName(0))
    adapt(lm.model, corpus.lengths, masks, SETTINGS, runtime, StreamName(0))
    assert torch.equal(states[0], pretrained), "before the first step, without dropout"
    assert not torch.equal(states[1], states[0])
    assert not torch.equal(states[2], states[1])


@pytest.fixture
def headless(tmp_path: Path) -> PretrainedLM:
    """A checkpoint of an encoder alone, as of a sentence embedder."""
    folder = save_tiny_bert(tmp_path / "headless", WORDS, hidden=16, dropout=0.1)
    weights = {n: t for n, t in load_file(folder / "model.safetensors").items() if not n.startswith("cls.")}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with torch_stream(0, "head"):
        return load_pretrained(ModelSettings(name=str(folder)))


def warm_up(lm: PretrainedLM, corpus: Corpus, runtime: Runtime, steps: int) -> tuple[int, float]:
    settings = ModelSettings(head_warmup_steps=steps, head_warmup_learning_rate=0.02)
    result = warm_up_head(lm, corpus, settings, MASKING, SETTINGS, runtime, StreamName(0))
    return result.steps, result.loss


def test_warming_up_moves_the_new_head_alone(headless: PretrainedLM, corpus: Corpus, runtime: Runtime):
    model = headless.model
    new = {name for name, _ in model.named_parameters()} & set(headless.new_parameters)
    assert len(new) == 5
    before = copy_state(model)
    steps, late = warm_up(headless, corpus, runtime, 60)
    assert steps == 60
    after = copy_state(model)
    encoder = model.base_model_prefix + "."
    assert is_same(
        {n: t for n, t in before.items() if n.startswith(encoder)},
        {n: t for n, t in after.items() if n.startswith(encoder)},
    )
    assert all(not torch.equal(before[name], after[name]) for name in new)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert torch.equal(after["cls.predictions.decoder.weight"], before["bert.embeddings.word_embeddings.weight"])
    assert all(parameter.requires_grad for parameter in model.parameters()), "all train again"

    model.load_state_dict(before)
    _, early = warm_up(headless, corpus, runtime, 1)
    assert late < early - 0.2


def test_warming_up_that_fails_leaves_all_parameters_trainable(
    headless: PretrainedLM, corpus: Corpus, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_args: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr("nmg.inner.adapt.masked_lm_loss", fail)
    with pytest.raises(RuntimeError):
        warm_up(headless, corpus, runtime, 2)
    assert all(parameter.requires_grad for parameter in headless.model.parameters())
