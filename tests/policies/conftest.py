"""What a policy may be made from, in miniature."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nmg.data.corpus import Corpus
from nmg.policies.base import PolicyContext
from support.tiny import word_tokenizer

from .helpers import TEXTS, WORDS, Reader


@pytest.fixture
def ground(tmp_path: Path) -> PolicyContext:
    tokenizer = word_tokenizer(WORDS)
    return PolicyContext(
        base_model="tiny",
        hidden_size=8,
        n_heads=2,
        rate=0.3,
        tokenizer=tokenizer,
        corpus=Corpus.build(TEXTS, tokenizer, 16, tmp_path),
        encode=Reader(),
        embeddings=torch.randn(20, 8, generator=torch.Generator().manual_seed(0)),
        relevance=lambda: np.arange(12.0),
    )
