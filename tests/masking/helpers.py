"""Small blocks, tokenizers and a corpus for the masking tests."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

from nmg.base.settings import MaskingSettings
from nmg.base.types import IntArray, MaskPlan, StateEncoder, TokenBlocks
from nmg.masking.base import BlockTexts, Masking, MaskingContext
from nmg.masking.registry import build_rule

CLS, SEP, PAD, FIRST_ID = 2, 3, 0, 6
SENTENCE = "Yesterday Barack Obama met Angela Merkel in Berlin and the cat sat on a mat near the old stone bridge"
OTHERS = "the cat sat on a mat and then the dog sat near the cat"


def word_blocks(sizes: Sequence[Sequence[int]], ids: Sequence[Sequence[int]] | None = None) -> TokenBlocks:
    """Blocks `[CLS] words [SEP]` with the given numbers of tokens in each word; `ids`: of the tokens."""
    n_tokens = max((sum(row) + 2 for row in sizes), default=0)
    input_ids = torch.full((len(sizes), n_tokens), PAD)
    word_index = torch.full((len(sizes), n_tokens), -1)
    is_token = torch.zeros(len(sizes), n_tokens, dtype=torch.bool)
    for b, row in enumerate(sizes):
        n = sum(row)
        content = torch.tensor(ids[b]) if ids is not None else torch.arange(FIRST_ID, FIRST_ID + n)
        input_ids[b, : n + 2] = torch.cat([torch.tensor([CLS]), content.long(), torch.tensor([SEP])])
        word_index[b, 1 : n + 1] = torch.repeat_interleave(torch.arange(len(row)), torch.tensor(row, dtype=torch.long))
        is_token[b, : n + 2] = True
    index = torch.arange(len(sizes))
    return TokenBlocks(index, index.clone(), input_ids, is_token, word_index >= 0, word_index)


def copies(n: int, sizes: Sequence[int], ids: Sequence[int] | None = None) -> TokenBlocks:
    """One block of `word_blocks`, n times."""
    one = word_blocks([sizes], None if ids is None else [ids])
    return TokenBlocks(*(getattr(one, field.name).repeat_interleave(n, dim=0) for field in fields(one)))


def random_blocks(n_blocks: int, seed: int = 0, n_words: int = 60) -> TokenBlocks:
    rng = np.random.default_rng(seed)
    sizes = [rng.choice([1, 1, 1, 2, 3, 5], rng.integers(1, n_words)).tolist() for _ in range(n_blocks)]
    return word_blocks(sizes, [rng.integers(FIRST_ID, 30, sum(row)).tolist() for row in sizes])


def empty_blocks(n_blocks: int, n_tokens: int) -> TokenBlocks:
    """Blocks of nothing but special tokens."""
    shape = (n_blocks, n_tokens)
    index = torch.arange(n_blocks)
    ids, word = torch.full(shape, CLS), torch.full(shape, -1)
    return TokenBlocks(index, index.clone(), ids, torch.ones(shape, dtype=torch.bool), word >= 0, word)


def word_piece_tokenizer(words: Sequence[str]) -> BertTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]"]
    return BertTokenizerFast(vocab={token: i for i, token in enumerate([*special, *words])}, do_lower_case=False)


@dataclass
class FakeCorpus:
    """One block a text, as `data.corpus.Corpus` would cut it."""

    texts: Sequence[str]
    tokenizer: BertTokenizerFast
    folder: Path = Path("nowhere")

    def __post_init__(self) -> None:
        self.asked: list[int] = []
        if self.texts:
            self._encoded = self.tokenizer(list(self.texts), return_offsets_mapping=True)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def lengths(self) -> IntArray:
        return np.array([len(ids) for ids in self._encoded["input_ids"]])

    def beside(self, name: str) -> Path:
        return self.folder / name

    @property
    def context_ids(self) -> IntArray:
        return np.arange(len(self.texts))

    def blocks_of(self, context_ids: IntArray) -> IntArray:
        return np.asarray(context_ids)

    def text(self, block_id: int) -> str:
        self.asked.append(int(block_id))
        return self.texts[block_id]

    def offsets(self, block_id: int) -> IntArray:
        return np.array(self._encoded["offset_mapping"][block_id])

    def blocks(self, block_ids: IntArray) -> TokenBlocks:
        rows = [int(i) for i in block_ids]
        n_tokens = max((len(self._encoded["input_ids"][i]) for i in rows), default=0)
        ids = torch.full((len(rows), n_tokens), PAD)
        word = torch.full((len(rows), n_tokens), -1)
        is_token = torch.zeros(len(rows), n_tokens, dtype=torch.bool)
        for b, i in enumerate(rows):
            row = self._encoded["input_ids"][i]
            ids[b, : len(row)] = torch.tensor(row)
            is_token[b, : len(row)] = True
            word[b, : len(row)] = torch.tensor([-1 if w is None else w for w in self._encoded.word_ids(i)])
        index = torch.tensor(rows, dtype=torch.long)
        return TokenBlocks(index, index.clone(), ids, is_token, word >= 0, word)


def words_of(blocks: TokenBlocks, tokenizer: Any) -> list[str]:
    """For every maskable token, in reading order, the word that it is part of."""
    found = []
    for b in range(len(blocks)):
        words = blocks.word_index[b][blocks.is_maskable[b]].tolist()
        ids = blocks.input_ids[b][blocks.is_maskable[b]].tolist()
        pieces: dict[int, list[int]] = {}
        for word, index in zip(words, ids, strict=True):
            pieces.setdefault(word, []).append(index)
        texts = {word: tokenizer.decode(those).replace(" ##", "").lower() for word, those in pieces.items()}
        found += [texts[word] for word in words]
    return found


class FakeLM:
    """A `StateEncoder` that finds a token as hard as its id says."""

    def __call__(self, blocks: TokenBlocks) -> Tensor:
        raise AssertionError("no rule asks for states")

    def surprise(self, blocks: TokenBlocks) -> Tensor:
        return torch.stack([blocks.input_ids % 7, blocks.input_ids % 5], dim=2).float()


@dataclass(frozen=True)
class WithLM:
    """A masking that is always given an LM to read."""

    masking: Masking
    reads_states = False

    @property
    def name(self) -> str:
        return self.masking.name

    def plan(
        self, blocks: TokenBlocks, rate: float, rng: np.random.Generator, encode: StateEncoder | None = None
    ) -> MaskPlan:
        return self.masking.plan(blocks, rate, rng, encode or FakeLM())


def any_masking(
    name: str, tokenizer: Any, corpus: Any, folder: Path, texts: BlockTexts | None = None, **settings: Any
) -> Masking:
    """A rule with all that it needs: words, weights, embeddings, a classifier that nobody trained, an LM.

    `texts`: of the blocks, where these are not of the corpus.
    """
    size = max(tokenizer.get_vocab().values()) + 1
    word = next(token for token in tokenizer.get_vocab() if token.isalpha())
    (folder / "weights.json").write_text(f'{{"{word}": 5.0}}')
    given = {"keywords": (word,), "weights": str(folder / "weights.json"), "pmi_least_count": 2}
    if name == "selective":
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        BertForTokenClassification(BertConfig(vocab_size=size, **sizes)).save_pretrained(folder / "classifier")
        given["selective_model"] = str(folder / "classifier")
    embeddings = torch.randn(size, 4, generator=torch.Generator().manual_seed(0))
    settings_of_rule = MaskingSettings(**(given | settings))
    return WithLM(build_rule(name, MaskingContext(tokenizer, corpus, settings_of_rule, texts or corpus, embeddings)))
