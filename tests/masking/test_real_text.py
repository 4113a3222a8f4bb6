"""What every rule takes of real English text: classes of words and tokens, against chance."""

import importlib.util
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForTokenClassification

from nmg.base.settings import MaskingSettings
from nmg.base.types import FloatArray, MaskPlan, StateEncoder, TokenBlocks
from nmg.data.corpus import Corpus
from nmg.inspection.draws import count_draws
from nmg.masking.base import BoolArray, Masking, MaskingContext
from nmg.masking.function_words import is_function_word
from nmg.masking.registry import RULES, build_rule
from support.english import DOMAIN, GENERAL, english_tokenizer
from support.files import model_folder, read_rows

from .helpers import words_of

TOKENIZER = english_tokenizer()
DRAWS, RATE = 200, 0.15
NAMES = {"elena", "rossi", "milan", "pfizer", "novartis", "germany", "france", "london"}
DRUGS = ("aspirin", "warfarin", "metformin", "imatinib")


class Unigrams:
    """A language model that knows word frequencies alone: rare tokens are hard; it hesitates at content words."""

    def __init__(self, corpus: Corpus) -> None:
        counts = np.bincount(
            corpus.blocks(np.arange(len(corpus))).input_ids.flatten().numpy(), minlength=len(TOKENIZER)
        )
        self._loss = torch.from_numpy(-np.log((1.0 + counts) / (1.0 + counts.sum())))

    def __call__(self, blocks: TokenBlocks) -> torch.Tensor:
        raise AssertionError("no rule asks for states")

    def surprise(self, blocks: TokenBlocks) -> torch.Tensor:
        loss = self._loss[blocks.input_ids]
        return torch.stack([loss, (loss > 5.0).double() + 0.1], dim=2)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus.build(DOMAIN + GENERAL, TOKENIZER, 126, tmp_path)


@pytest.fixture
def classifier(tmp_path: Path) -> str:
    """A token classifier to which the pieces of "receptor" and "enzyme" matter, made by hand."""
    sizes = {"hidden_size": 4, "num_hidden_layers": 0, "num_attention_heads": 1, "intermediate_size": 4}
    model = BertForTokenClassification(BertConfig(vocab_size=len(TOKENIZER), **sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.bert.embeddings.LayerNorm.weight.fill_(1.0)
        table = model.bert.embeddings.word_embeddings.weight
        table[:] = torch.tensor([-1.0, 1.0, 0.0, 0.0])
        table[TOKENIZER("receptor enzyme", add_special_tokens=False)["input_ids"]] *= -1.0
        model.classifier.weight[1, 0] = 5.0
    model.save_pretrained(tmp_path / "classifier")
    return str(tmp_path / "classifier")


def masking_of(name: str, corpus: Corpus, classifier: str, folder: Path) -> Masking:
    (folder / "general.txt").write_text("\n".join(GENERAL), encoding="utf-8")
    (folder / "weights.tsv").write_text("aspirin\t9\nthe\t0\n", encoding="utf-8")
    settings = MaskingSettings(
        keywords=DRUGS,
        weights=str(folder / "weights.tsv"),
        selective_model=classifier,
        general_corpus=str(folder / "general.txt"),
        pmi_least_count=3,
        pmi_share=0.3,
    )
    embeddings = torch.randn(len(TOKENIZER), 32, generator=torch.Generator().manual_seed(0))
    return build_rule(name, MaskingContext(TOKENIZER, corpus, settings, corpus, embeddings))


class Masked:
    """How often each maskable token of the text is masked, N of them, and what it is."""

    def __init__(self, masking: Masking, corpus: Corpus, tokenizer: object, encode: StateEncoder | None) -> None:
        blocks = corpus.blocks(np.arange(len(corpus)))

        def plan(some: TokenBlocks, rate: float, rng: np.random.Generator) -> MaskPlan:
            return masking.plan(some, rate, rng, encode)

        drawn = count_draws(plan, blocks, RATE, DRAWS, np.random.default_rng(0))
        self.rate: FloatArray = drawn[blocks.is_maskable.numpy()] / DRAWS
        self.words = words_of(blocks, tokenizer)
        self.ids = blocks.input_ids[blocks.is_maskable].numpy()

    def times_chance(self, is_member: BoolArray | list[bool]) -> float:
        """The share of masks that a class of tokens gets, as a multiple of its share of the text."""
        return float(self.rate[np.asarray(is_member)].mean() / self.rate.mean())

    def of(self, *words: str) -> float:
        return self.times_chance([word in words for word in self.words])

    @property
    def of_function_words(self) -> float:
        return self.times_chance([is_function_word(word) for word in self.words])

    @property
    def of_punctuation(self) -> float:
        return self.times_chance([not any(map(str.isalnum, word)) for word in self.words])

    @property
    def of_rare(self) -> float:
        counts = Counter(self.ids.tolist())
        return self.times_chance([counts[index] <= 2 for index in self.ids.tolist()])


EXPECTED = {
    "random": lambda seen: 0.9 < seen.of_function_words < 1.1 and 0.9 < seen.of_rare < 1.1,
    "whole-word": lambda seen: 0.6 < seen.of_function_words < 1.4,
    "span": lambda seen: 0.6 < seen.of_function_words < 1.4,
    "entity": lambda seen: seen.of(*NAMES) > 3.0 and seen.of("the", "of", ".") < 0.9,
    "punctuation": lambda seen: seen.of_punctuation > 3.0 and seen.of("the", "of", "inhibitor") < 0.7,
    "idf": lambda seen: seen.of_rare > 1.1 and seen.of("the", "of", ".") < 0.5,
    "tf-idf": lambda seen: seen.of_rare > 1.1 and seen.of("the", "of", ".") < 0.9,
    "frequency": lambda seen: seen.of_rare > 1.1 and seen.of("the", "of", ".") < 0.5,
    "pmi": lambda seen: 0.5 < seen.of_function_words < 1.5,
    "keyword": lambda seen: seen.of(*DRUGS) > 3.0 and seen.of_function_words < 1.0,
    "weights": lambda seen: seen.of("aspirin") > 2.5 and seen.of("the") < 0.1,
    "difference": lambda seen: seen.of("inhibitor", "receptor", "enzyme") > 2.5 and seen.of_function_words < 1.0,
    "selective": lambda seen: seen.of("receptor", "enzyme") > 3.0 and seen.of("the", "of") < 1.0,
    "loss": lambda seen: seen.of_rare > 1.1 and seen.of("the", "of", ".") < 0.7,
    "entropy": lambda seen: seen.of_rare > 1.1 and seen.of("the", "of", ".") < 0.3,
    "0.5*punctuation+0.5*idf": lambda seen: seen.of_punctuation > 1.5 and seen.of_rare > 0.8,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_rule_takes_what_it_says(name: str, corpus: Corpus, classifier: str, tmp_path: Path) -> None:
    if name == "entity" and importlib.util.find_spec(MaskingSettings().spacy_model) is None:
        pytest.skip("entities need spaCy's model")
    masking = masking_of(name, corpus, classifier, tmp_path)
    seen = Masked(masking, corpus, TOKENIZER, Unigrams(corpus))
    figures = {
        "function words": seen.of_function_words,
        "punctuation": seen.of_punctuation,
        "rare": seen.of_rare,
        "the, of, .": seen.of("the", "of", "."),
    }
    assert EXPECTED[name](seen), figures


def test_no_rule_is_left_out() -> None:
    assert {*EXPECTED, "none"} >= RULES.keys()


def runs(flags: list[bool]) -> list[int]:
    """Lengths of the runs of True."""
    joined = "".join("x" if flag else " " for flag in flags).split()
    return [len(run) for run in joined]


def masked_words(
    name: str, corpus: Corpus, classifier: str, folder: Path, draws: int = 10
) -> list[list[tuple[str, float]]]:
    """For each of some plans of each block: the words and the share of their pieces that is masked."""
    masking, found = masking_of(name, corpus, classifier, folder), []
    blocks = corpus.blocks(np.arange(len(corpus)))
    for draw in range(draws):
        masked = masking.plan(blocks, RATE, np.random.default_rng(draw)).is_masked(blocks.input_ids.shape[1])
        for b in range(len(blocks)):
            one = blocks.rows(torch.tensor([b]))
            texts, words = words_of(one, TOKENIZER), one.word_index[one.is_maskable].tolist()
            shares = {w: masked[b][one.word_index[0] == w].double().mean().item() for w in dict.fromkeys(words)}
            found.append([(texts[words.index(w)], share) for w, share in shares.items()])
    return found


def test_none_masks_nothing(corpus: Corpus, classifier: str, tmp_path: Path) -> None:
    assert all(share == 0 for text in masked_words("none", corpus, classifier, tmp_path) for _, share in text)


@pytest.mark.parametrize("name", ["whole-word", "span", "pmi", "difference", "weights", "keyword"])
def test_words_stay_whole(name: str, corpus: Corpus, classifier: str, tmp_path: Path) -> None:
    for text in masked_words(name, corpus, classifier, tmp_path):
        assert sum(0 < share < 1 for _, share in text) <= 1, text


def test_spans_are_runs_of_words(corpus: Corpus, classifier: str, tmp_path: Path) -> None:
    lengths = {
        name: np.mean(
            [n for text in masked_words(name, corpus, classifier, tmp_path) for n in runs([s > 0 for _, s in text])]
        )
        for name in ("span", "whole-word")
    }
    assert lengths["span"] > 1.3 * lengths["whole-word"]


def test_collocations_are_masked_as_a_whole(corpus: Corpus, classifier: str, tmp_path: Path) -> None:
    together, n = 0, 0
    for text in masked_words("pmi", corpus, classifier, tmp_path, draws=60):
        for (word, share), (following, other) in pairwise(text):
            if (word, following) in {("blood", "pressure"), ("heart", "attack")} and (share or other):
                n, together = n + 1, together + (share > 0 and other > 0)
    assert n > 20
    assert together > 0.8 * n, "only one that is cut at the budget is not"


def test_a_language_model_finds_content_words_hard(shared: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    from nmg.training.lm_reader import LMReader, PlainPasses

    folder = model_folder("tiny-mlm")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
    corpus = Corpus.build([row["text"] for row in read_rows(shared / "mr/train.jsonl")[:20]], tokenizer, 62, tmp_path)
    reader = LMReader(model, tokenizer.mask_token_id, PlainPasses())
    for name in ("loss", "entropy"):
        masking = build_rule(name, MaskingContext(tokenizer, corpus, MaskingSettings(), corpus))
        seen = Masked(masking, corpus, tokenizer, Kept(reader))
        assert seen.of_function_words < 0.9


class Kept:
    """Reads every batch of blocks once, however often it is repeated."""

    def __init__(self, encode: StateEncoder) -> None:
        self._encode, self._read = encode, dict[int, torch.Tensor]()

    def __call__(self, blocks: TokenBlocks) -> torch.Tensor:
        raise AssertionError("no rule asks for states")

    def surprise(self, blocks: TokenBlocks) -> torch.Tensor:
        n = len(blocks.block_ids.unique())
        if n not in self._read:
            self._read[n] = self._encode.surprise(blocks.rows(torch.arange(n)))
        return self._read[n].repeat(len(blocks) // n, 1, 1)
