"""Tags of words: by a pipeline of ours, by spaCy's model where it is installed, and what is said where it is not."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmg.base.settings import MaskingSettings
from nmg.inspection.tags import UNTAGGED, Labels, load_tagger, tag_words, token_at

from .helpers import table_of

MODEL = MaskingSettings().spacy_model


def labels_of(labels: Labels | None) -> list[str]:
    assert labels is not None
    return [labels.names[label] for label in labels.of_word]


def test_words_take_the_tag_of_the_token_they_begin_in(tmp_path: Path):
    """spaCy's tokens are not the model's: here "cats." is one token and "on mat" another."""
    spacy = pytest.importorskip("spacy")
    tagger = spacy.blank("xx")

    @spacy.Language.component("our_tags")
    def our_tags(document: Any) -> Any:
        document[0].pos_, document[1].pos_ = "NOUN", "VERB"
        document.ents = [spacy.tokens.Span(document, 0, 1, label="PET")]
        return document

    tagger.tokenizer = lambda text: spacy.tokens.Doc(tagger.vocab, words=["cats.", *text[6:].split(" ")])
    tagger.add_pipe("our_tags")
    table = table_of(["cats. sat on mat", "cats. dog"], tmp_path)
    steps: list[tuple[int, int]] = []
    tags = tag_words(table, tagger, lambda done, total: steps.append((done, total)))
    assert list(table.words()) == ["cats", ".", "sat", "on", "mat", "cats", ".", "dog"]
    noun, verb = "noun", "verb"
    assert labels_of(tags.part_of_speech) == [noun, noun, verb, UNTAGGED, UNTAGGED, noun, noun, verb]
    assert labels_of(tags.entity) == ["PET", "PET", *[UNTAGGED] * 3, "PET", "PET", UNTAGGED]
    assert steps[-1] == (2, 2)


def test_a_pipeline_without_tagger_has_no_tags(tmp_path: Path):
    spacy = pytest.importorskip("spacy")
    tags = tag_words(table_of(["the cat"], tmp_path), spacy.blank("xx"), lambda done, total: None)
    assert tags.part_of_speech is None
    assert tags.entity is None


def test_characters_between_tokens_are_in_none():
    spacy = pytest.importorskip("spacy")
    document = spacy.tokens.Doc(spacy.blank("xx").vocab, words=["the", "cat"], spaces=[True, False])
    assert list(token_at(document, np.array([0, 2, 3, 4, 6, 7]))) == [0, 0, -1, 1, 1, -1]
    nothing = spacy.tokens.Doc(spacy.blank("xx").vocab, words=[])
    assert list(token_at(nothing, np.array([0]))) == [-1]


def test_a_real_pipeline(tmp_path: Path):
    pytest.importorskip("spacy")
    pytest.importorskip(MODEL, reason=f"the spaCy model {MODEL} is not installed")
    tagger = load_tagger(MODEL)
    assert not isinstance(tagger, str)
    table = table_of(["The dog sat on the mat. UK 42"], tmp_path)
    tags = tag_words(table, tagger, lambda done, total: None)
    parts = dict(zip(table.words(), labels_of(tags.part_of_speech), strict=True))
    assert parts["dog"] == "noun"
    assert parts["sat"] == "verb"
    assert parts["."] == "punctuation"
    assert "GPE" in labels_of(tags.entity)


def test_what_is_missing_and_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("spacy")
    message = load_tagger("no_such_model")
    assert isinstance(message, str)
    assert "'no_such_model'" in message
    assert "pip install" in message
    real_import = builtins.__import__

    def without_spacy(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "spacy":
            raise ImportError(name)
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_spacy)
    message = load_tagger(MODEL)
    assert isinstance(message, str)
    assert "need spaCy" in message
