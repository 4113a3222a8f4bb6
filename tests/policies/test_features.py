"""Features of tokens by hand: columns over the vocabulary, and what belongs to a place."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nmg.base.types import FloatArray, TokenBlocks
from nmg.policies import features
from nmg.policies.base import PolicyContext
from nmg.policies.features import (
    FEATURES,
    READ_THE_LM,
    ObservationCache,
    TokenFeature,
    TypeFeature,
    Vocabulary,
    piece_table,
)
from support.policies import blocks_of

from .helpers import COUNTS, TEXTS, WORDS, Reader

SIZE = 15  # five special tokens and ten words
N_TOKENS = 13


def columns(ground: PolicyContext, *names: str) -> FloatArray:
    return piece_table(names, Vocabulary(ground)).T


def of_words(ground: PolicyContext, name: str) -> dict[str, float]:
    column = columns(ground, name)[0]
    assert column.shape == (SIZE,)
    return dict(zip(WORDS, column[5:].tolist(), strict=True))


def values_of(name: str, blocks: TokenBlocks, encode: Any = None) -> torch.Tensor:
    kind = FEATURES[name]
    assert isinstance(kind, TokenFeature)
    return kind.values(blocks, encode)


def log_share(word: str) -> float:
    return math.log((COUNTS[word] + 1) / (N_TOKENS + SIZE))


def test_every_feature_of_pieces_is_finite_and_is_said_in_words(ground: PolicyContext):
    names = [name for name, kind in FEATURES.items() if isinstance(kind, TypeFeature)]
    table = piece_table(names, Vocabulary(ground))
    assert table.shape == (SIZE, len(names))
    assert np.isfinite(table).all()
    assert all(kind.about for kind in FEATURES.values())
    assert piece_table(["repeated"], Vocabulary(ground)).shape == (SIZE, 0)


def test_counts_are_of_the_whole_corpus_without_special_tokens(ground: PolicyContext, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(features, "BLOCKS_AT_A_TIME", 2)
    vocabulary = Vocabulary(ground)
    assert vocabulary.counts.tolist() == [0] * 5 + [COUNTS[word] for word in WORDS]
    assert vocabulary.weights.sum() == pytest.approx(1)
    assert vocabulary.weights[5] == 3 / N_TOKENS


def test_rare_and_frequent(ground: PolicyContext):
    idf = of_words(ground, "idf")
    for word, holding in {"the": 3, "enzyme": 2, "42": 1, "never": 0}.items():
        assert idf[word] == pytest.approx(math.log(math.log(4 / (1 + holding)) + 1))
    assert of_words(ground, "frequency") == pytest.approx({word: log_share(word) for word in WORDS})
    centre = sum(COUNTS[word] / N_TOKENS * log_share(word) for word in WORDS)
    squared = of_words(ground, "frequency_squared")
    assert squared == pytest.approx({word: (log_share(word) - centre) ** 2 for word in WORDS})


def test_the_domain_against_the_order_of_the_vocabulary(ground: PolicyContext):
    """As frequent as another, and further down the vocabulary: more of this domain."""
    domain = of_words(ground, "domain")
    assert domain == pytest.approx({word: log_share(word) + math.log(6 + n) for n, word in enumerate(WORDS)})
    assert domain["binds"] > domain["42"]


def test_kinds_of_words(ground: PolicyContext):
    marked = {name: of_words(ground, name) for name in ("punctuation", "digit", "function_word")}
    found = {name: {word for word, value in column.items() if value == 1} for name, column in marked.items()}
    assert found == {"punctuation": {".", ","}, "digit": {"42"}, "function_word": {"the"}}
    assert {value for column in marked.values() for value in column.values()} == {0.0, 1.0}


def test_the_association_is_the_tasks_and_nothing_without_one(ground: PolicyContext):
    """Its entries beyond the vocabulary are cut, those it lacks are 0."""
    assert columns(ground, "association")[0].tolist() == [*range(12), 0, 0, 0]
    longer = replace(ground, relevance=lambda: np.arange(40.0))
    assert columns(longer, "association")[0].tolist() == [*range(SIZE)]
    assert not columns(replace(ground, relevance=None), "association").any()


def test_the_usual_surprise_is_a_mean_drawn_towards_that_of_all(ground: PolicyContext):
    """Loss is the place: 1 to 5 in two texts, 1 to 3 in the third."""
    mean = (15 + 15 + 6) / N_TOKENS
    places = {"the": [1, 1, 1], "enzyme": [2, 3], ".": [5, 5], "42": [4], ",": [2], "never": []}
    loss, entropy = of_words(ground, "usual_loss"), of_words(ground, "usual_entropy")
    for word, at in places.items():
        assert loss[word] == pytest.approx((sum(at) + 5 * mean) / (len(at) + 5))
        assert entropy[word] == pytest.approx(2 * loss[word])


def test_the_lm_reads_each_block_once_for_both_and_not_too_many(ground: PolicyContext, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(features, "BLOCKS_AT_A_TIME", 2)
    columns(ground, "usual_loss", "usual_entropy")
    assert isinstance(ground.encode, Reader)
    assert ground.encode.blocks_read == [0, 1, 2]
    monkeypatch.setattr(features, "COUNTED_BLOCKS", 2)
    few = replace(ground, encode=Reader())
    columns(few, "usual_loss")
    assert few.encode.blocks_read == [0, 2]  # type: ignore[attr-defined]


def test_embeddings_by_the_singular_values_of_the_corpus(ground: PolicyContext):
    """Each occurrence a row: piece by piece the same as principal components of the running text."""
    found = columns(ground, "embedding_1", "embedding_2", "embedding_3")
    ids = ground.tokenizer(" ".join(TEXTS), add_special_tokens=False)["input_ids"]
    running = ground.embeddings[ids].double().numpy()
    centred = running - running.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    for component, size, axis in zip(found, sizes, axes, strict=False):
        by_hand = (ground.embeddings[:SIZE].double().numpy() - running.mean(axis=0)) @ axis
        sign = np.sign(axis[np.abs(axis).argmax()])
        np.testing.assert_allclose(component, sign * by_hand, atol=1e-9)
        assert np.linalg.norm(component[ids]) == pytest.approx(size)


def test_a_vocabulary_larger_than_the_embeddings_has_zeros_there(ground: PolicyContext):
    short = replace(ground, embeddings=ground.embeddings[: SIZE - 1])
    assert np.isfinite(columns(short, "embedding_1")).all()


def test_concentration_is_the_same_chance_everywhere(ground: PolicyContext):
    other = replace(ground, corpus=None, rate=0.5, embeddings=ground.embeddings + 1)  # type: ignore[arg-type]
    first, second = columns(ground, "concentration")[0], columns(other, "concentration")[0]
    assert first.tolist() == second.tolist()
    assert 0.5 < first.std() < 1.5


def test_a_continuation_is_a_token_whose_word_began_before(ground: PolicyContext):
    blocks = ground.corpus.blocks(np.array([0]))
    assert values_of("continuation", blocks).tolist() == [[0.0] * 7]
    joined = replace(blocks, word_index=torch.tensor([[-1, 0, 1, 1, 2, 3, -1]]))
    assert values_of("continuation", joined).tolist() == [[0, 0, 0, 1, 0, 0, 0]]
    padded = replace(blocks_of([[5]], n_tokens=6), word_index=torch.tensor([[-1, 0, -1, -1, -1, -1]]))
    assert values_of("continuation", padded).tolist() == [[0.0] * 6], "special tokens and padding continue nothing"


def test_repeated_counts_the_text_alone():
    """Neither special tokens nor padding nor other texts."""
    blocks = blocks_of([[7, 8, 7, 7, 9, 8], [7, 8]])
    found = values_of("repeated", blocks)
    three, two = math.log(3), math.log(2)
    by_hand = torch.tensor([[0, three, two, three, three, 0, two, 0], [0.0] * 8])
    torch.testing.assert_close(found, by_hand)


def test_loss_and_entropy_are_the_lms_at_the_place(ground: PolicyContext):
    blocks = ground.corpus.blocks(np.array([2]))
    assert values_of("loss", blocks, Reader()).tolist() == [[0, 1, 2, 3, 0]]
    assert values_of("entropy", blocks, Reader()).tolist() == [[0, 2, 4, 6, 0]]


def test_only_these_read_the_lm_in_use(ground: PolicyContext):
    blocks, reading = ground.corpus.blocks(np.array([0])), set()
    for name, kind in FEATURES.items():
        if isinstance(kind, TokenFeature):
            reader = Reader()
            assert kind.values(blocks, reader).shape == (1, 7)
            reading |= {name} if reader.blocks_read else set()
    assert reading == READ_THE_LM


def test_features_of_a_batch_share_one_reading(ground: PolicyContext):
    reader = Reader()
    once, blocks = ObservationCache(reader), ground.corpus.blocks(np.array([0, 1]))
    assert torch.equal(values_of("loss", blocks, once) * 2, values_of("entropy", blocks, once))
    assert reader.blocks_read == [0, 1]
    with pytest.raises(AssertionError, match="reads no states"):
        once(blocks)
