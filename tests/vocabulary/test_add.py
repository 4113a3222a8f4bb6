"""Added words: ids, rows, reloading, and never more tokens than before."""

import copy
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertForMaskedLM,
    DebertaV2Tokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

from nmg.adaptation.save import save_lm
from nmg.base.errors import UserError
from nmg.base.settings import ModelSettings
from nmg.data.corpus import Corpus
from nmg.training.lm import PretrainedLM, load_pretrained
from nmg.vocabulary.add import add_words
from nmg.vocabulary.fragments import count_tokens
from nmg.vocabulary.tokenizer import extend_tokenizer, pieces_of
from support.encoders import FAMILY, save_tiny_encoder
from support.families import SCRIPTS, family

WORDS = ("inhibitor", "receptor", "kinase")


@cache
def tokenizers(kind: str) -> tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase]:
    """The tokenizer as it was and with `WORDS`."""
    tokenizer = _of_class(kind)
    return tokenizer, extend_tokenizer(tokenizer, WORDS)


def _of_class(kind: str) -> PreTrainedTokenizerBase:
    """A tokenizer of a family, or of a class that transformers rebuilds from its vocabulary on loading."""
    if kind == "roberta":
        facts = json.loads(family("byte-level BPE").backend_tokenizer.to_str())["model"]
        return RobertaTokenizer(vocab=facts["vocab"], merges=[tuple(pair) for pair in facts["merges"]])
    if kind in {"xlm-roberta", "deberta-v2"}:
        vocabulary = json.loads(family("SentencePiece").backend_tokenizer.to_str())["model"]["vocab"]
        pieces = [(piece, score) for piece, score in vocabulary if not piece.startswith("<")]
        if kind == "deberta-v2":  # [MASK] comes after the vocabulary
            special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
            return DebertaV2Tokenizer(vocab=[*((one, 0.0) for one in special), *pieces], unk_id=3)
        special = ["<s>", "<pad>", "</s>", "<unk>"]
        return XLMRobertaTokenizer(vocab=[*((one, 0.0) for one in special), *pieces, ("<mask>", 0.0)])
    return family(kind)


KINDS = ("WordPiece", "byte-level BPE", "SentencePiece", "roberta", "xlm-roberta", "deberta-v2")
PARTS = [
    *WORDS,
    "inhibitors",
    "INHIBITOR",
    "inhibi",
    "tor",
    "s",
    "'s",
    "-",
    "(",
    ")",
    ",",
    " ",
    "  ",
    "\n",
    "2",
    "_",
    "é",
]
PARTS += ["™", "的", "[MASK]", "<mask>", "the", "\u0301", "▁"]
any_text = st.lists(st.sampled_from(PARTS) | st.text(max_size=3) | st.sampled_from(SCRIPTS), max_size=12).map("".join)


@pytest.mark.parametrize("kind", KINDS)
@given(text=any_text)
@example(text="receptors receptor's anti-receptor receptor_2 xreceptor")
@settings(max_examples=150)
def test_never_more_tokens_than_before(kind: str, text: str):
    before, after = (one(text, add_special_tokens=False)["input_ids"] for one in tokenizers(kind))
    if tokenizers(kind)[0].unk_token_id not in before or kind != "WordPiece":
        assert len(after) <= len(before)


@pytest.mark.parametrize("kind", KINDS)
def test_only_whole_words_are_one_token(kind: str):
    before, after = tokenizers(kind)
    new = dict(zip(WORDS, range(len(before), len(before) + len(WORDS)), strict=True))
    assert len(after) == len(before) + len(WORDS)

    def tokens(text: str) -> list[int]:
        found: list[int] = after(text, add_special_tokens=False)["input_ids"]
        return found

    for word in WORDS:
        assert new[word] in tokens(f"The {word}, it {word}'s")
        assert [ids for _, ids in pieces_of(after, [word])[0]] == [(new[word],)]
        if kind in {"WordPiece", "byte-level BPE", "roberta"}:
            for longer in (f"the {word}s", f"the {word.upper()}", f"an anti{word} it"):
                assert tokens(longer) == before(longer, add_special_tokens=False)["input_ids"]
    assert before.mask_token_id == after.mask_token_id
    assert before.mask_token_id in tokens(f"it {after.mask_token} it")


def test_a_word_that_joins_a_symbol_becomes_known(bert: PreTrainedTokenizerFast):
    """The one exception to fewer tokens, as the docs say."""
    after = extend_tokenizer(bert, ["inhibitor"])
    assert bert.tokenize("inhibitor™") == ["[UNK]"]
    assert after.tokenize("inhibitor™ Inhibitor") == ["inhibitor", "[UNK]", "inhibitor"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_corpus_sees_one_word(kind: str, tmp_path: Path):
    _, after = tokenizers(kind)
    text = "the receptor, (kinase) and receptors"
    corpus = Corpus.build([text], after, 60, tmp_path)
    blocks, spans = corpus.blocks(np.array([0])), corpus.offsets(0)
    (place,) = np.flatnonzero(blocks.input_ids[0].numpy() == len(tokenizers(kind)[0]) + 1)[:1]
    first, end = spans[place]
    assert corpus.text(0)[first:end].strip() == "receptor"
    index = blocks.word_index[0].tolist()
    assert index.count(index[place]) == 1
    assert index[place + 1] == index[place] + 1, "the comma is another word"


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tokenizer_loads_as_a_fast_one(kind: str, tmp_path: Path):
    _, after = tokenizers(kind)
    after.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.is_fast
    assert len(loaded) == len(after)
    assert loaded.get_vocab() == after.get_vocab()
    for text in (*SCRIPTS, f"The receptor {after.mask_token}, kinase inhibitors (inhibitor)."):
        assert loaded(text)["input_ids"] == after(text)["input_ids"]
    assert loaded.special_tokens_map == after.special_tokens_map
    assert (
        loaded.decode(loaded("it the receptor it", add_special_tokens=False)["input_ids"])
        .strip()
        .endswith("receptor it")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_other_added_tokens_stay_what_they_are(kind: str, tmp_path: Path):
    """Entity marks are never masked; their ids and those of the mask do not move."""
    tokenizer = copy.deepcopy(tokenizers(kind)[0])
    tokenizer.add_special_tokens({"extra_special_tokens": ["<e1>", "</e1>"]})
    tokenizer.add_tokens(["Foo-Bar"])
    extended = extend_tokenizer(tokenizer, WORDS)
    extended.save_pretrained(tmp_path)
    for one in (extended, AutoTokenizer.from_pretrained(tmp_path)):
        assert set(one.all_special_ids) == set(tokenizer.all_special_ids)
        known = tokenizer.get_vocab()
        assert {token: number for token, number in one.get_vocab().items() if number < len(tokenizer)} == known
        tokens = one.tokenize(f"a <e1> receptor </e1> Foo-Bar kinase {one.mask_token}")
        assert {"<e1>", "</e1>", "Foo-Bar", one.mask_token} < set(tokens)


def load(folder: Path) -> PretrainedLM:
    return load_pretrained(ModelSettings(name=str(folder)))


def test_rows_are_means_of_the_rows_of_the_pieces(model: Path):
    before, lm = load(model), load(model)
    with torch.no_grad():
        for one in (before, lm):
            one.model.cls.predictions.bias.copy_(torch.arange(len(one.tokenizer)))
    extended = add_words(lm, ["inhibitor", "zebra"])
    ids = before.tokenizer.convert_tokens_to_ids
    rows, values = before.model.get_input_embeddings().weight, before.model.cls.predictions.bias
    new_rows, new_values = extended.model.get_input_embeddings().weight, extended.model.cls.predictions.bias
    n = len(before.tokenizer)
    torch.testing.assert_close(new_rows[:n], rows, rtol=0, atol=0)
    torch.testing.assert_close(new_rows[n], (rows[ids("in")] + rows[ids("##hibit")] + rows[ids("##or")]) / 3)
    torch.testing.assert_close(new_rows[n + 1], rows[ids("[UNK]")])
    assert new_values[n] == (ids("in") + ids("##hibit") + ids("##or")) / 3
    assert new_values[n + 1] == values[ids("[UNK]")]
    assert extended.model.config.vocab_size == len(new_rows) == n + 2
    assert extended.model.get_output_embeddings().weight is new_rows, "still tied"


@pytest.mark.parametrize("kind", FAMILY)
def test_the_logit_of_a_new_word_is_the_mean_of_those_of_its_pieces(kind: str, tmp_path: Path):
    """For every way in which heads keep their rows; and the saved model is the same."""
    save_tiny_encoder(kind, tmp_path / "model")
    lm = load(tmp_path / "model")
    names = [name for name, _ in lm.model.named_parameters()]
    pieces = [found[0][1] for found in pieces_of(lm.tokenizer, ["scientific", "parkland"])]
    plain = lm.model.eval()(**lm.tokenizer("she said hello", return_tensors="pt")).logits
    n = len(lm.tokenizer)
    state = torch.get_rng_state()
    extended = add_words(lm, ["scientific", "parkland"])
    assert torch.equal(torch.get_rng_state(), state), "other random numbers of a run stay the same"
    assert sorted(name for name, _ in extended.model.named_parameters()) == sorted(names)
    logits = extended.model.eval()(**extended.tokenizer("she said hello", return_tensors="pt")).logits
    torch.testing.assert_close(logits[..., :n], plain)
    for number, ids in enumerate(pieces):
        torch.testing.assert_close(logits[..., n + number], plain[..., list(ids)].mean(-1), rtol=1e-5, atol=1e-6)
    save_lm(extended, tmp_path / "out")
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    assert loaded.config.vocab_size == n + 2
    words = AutoTokenizer.from_pretrained(tmp_path / "out")("hello scientific parkland", return_tensors="pt")
    torch.testing.assert_close(loaded.eval()(**words).logits, extended.model(**words).logits)


def test_an_output_table_that_is_not_tied(model: Path):
    config = BertForMaskedLM.from_pretrained(model).config
    config.tie_word_embeddings = False
    BertForMaskedLM(config).save_pretrained(model)
    lm = load(model)
    table = lm.model.get_output_embeddings().weight.detach().clone()
    extended = add_words(lm, ["kinase"])
    output, embeddings = extended.model.get_output_embeddings().weight, extended.model.get_input_embeddings().weight
    kin = lm.tokenizer.convert_tokens_to_ids(["kin", "##ase"])
    torch.testing.assert_close(output[-1], table[kin].mean(0))
    assert not torch.equal(output[-1], embeddings[-1])


def test_spare_rows_of_the_model_are_used_first(model: Path):
    config = BertForMaskedLM.from_pretrained(model).config
    config.vocab_size += 5
    BertForMaskedLM(config).save_pretrained(model)
    lm = load(model)
    extended = add_words(lm, ["kinase"])
    assert extended.model.config.vocab_size == config.vocab_size
    rows = extended.model.get_input_embeddings().weight
    torch.testing.assert_close(
        rows[len(lm.tokenizer)], rows[lm.tokenizer.convert_tokens_to_ids(["kin", "##ase"])].mean(0)
    )


def test_no_words_change_nothing(model: Path):
    lm = load(model)
    assert add_words(lm, []) is lm


def test_a_tokenizer_that_does_not_split_texts_into_words():
    facts = json.loads(family("byte-level BPE").backend_tokenizer.to_str())
    facts["pre_tokenizer"]["use_regex"] = False
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(facts)),
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
    assert count_tokens(["a word"], tokenizer)
    with pytest.raises(UserError, match="does not split texts into words"):
        extend_tokenizer(tokenizer, ["kinase"])
