"""A policy that is linear in features of tokens: a handful of numbers that a person can read.

    logit = Σ weight · (feature − mean) / (deviation · temperature)

Mean and deviation are those of the corpus that the policy was made for, so a weight of 1 raises the log odds of a token
by 1 a standard deviation of the feature.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nmg.errors import UserError
from nmg.masking.idf import InverseDocumentFrequency, piece_keys
from nmg.masking.rules import punctuation_table
from nmg.policies.base import Ground, Policy, PolicyConfig
from nmg.settings import Positive, Section
from nmg.types import StateEncoder, TokenBlocks

OF_VOCABULARY = ("idf", "punctuation", "digit", "function_word")
"""features that a token has wherever it stands"""
OF_PLACE = ("continuation", "loss", "entropy")
"""whether the word began before the token; the LM's loss and entropy (nats) at the token while it is hidden"""
FEATURES = OF_VOCABULARY + OF_PLACE
MEASURED_BLOCKS = 256
"""blocks that mean and deviation are measured on, at most"""
_ENGLISH = """
a about after all also an and any are as at be been before both but by can could did do does each for from had
has have he her him his how i if in into is it its may me might more most must my no nor not of on one only or
other our out over s shall she should so some such t than that the their them then there these they this those
to under up upon us was we were what when where which while who whom whose why will with would you your
"""
FUNCTION_WORDS = frozenset(_ENGLISH.split())
"""of English; in another language the feature says nothing, and its weight does nothing"""


@dataclass(frozen=True, kw_only=True)
class LinearConfig(PolicyConfig):
    features: tuple[str, ...] = FEATURES
    vocabulary_size: int = 0
    temperature: float = 1.0


class LinearPolicy(Policy):
    kind = "linear"
    config_class = LinearConfig
    config: LinearConfig
    table: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: LinearConfig) -> None:
        super().__init__()
        self.config = config
        n_features = len(config.features)
        self.weights = nn.Parameter(torch.zeros(n_features))
        self.register_buffer("table", torch.zeros(config.vocabulary_size, len(OF_VOCABULARY)))
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("deviation", torch.ones(n_features))

    @property
    def observation_size(self) -> int:
        return len(self.config.features)

    @torch.no_grad()
    def observe(self, blocks: TokenBlocks, encode: StateEncoder) -> Tensor:
        """Standardised features, float32 [B, T, F]."""
        return (self.raw_features(blocks, encode) - self.mean) / self.deviation

    def raw_features(self, blocks: TokenBlocks, encode: StateEncoder) -> Tensor:
        """float32 [B, T, F] in the order of `FEATURES`, on the policy's device."""
        of_vocabulary = self.table[blocks.input_ids.to(self.device)]
        is_continuation = F.pad(blocks.word_index[:, 1:] == blocks.word_index[:, :-1], (1, 0)) & blocks.is_maskable
        of_place = torch.cat([is_continuation[:, :, None].float(), encode.surprise(blocks).cpu()], dim=2)
        return torch.cat([of_vocabulary, of_place.to(self.device)], dim=2)

    def logits(self, observation: Tensor, is_token: Tensor, is_maskable: Tensor) -> Tensor:  # noqa: ARG002
        scores: Tensor = observation @ self.weights / self.config.temperature
        return scores.masked_fill(~is_maskable, -torch.inf)

    def reset_parameters(self) -> None:
        """All weights zero: a new policy masks at random."""
        nn.init.zeros_(self.weights)

    def check_fits(self, hidden_size: int, vocabulary_size: int) -> None:  # noqa: ARG002
        if self.config.vocabulary_size != vocabulary_size:
            raise UserError(
                f"the mask policy was made for a vocabulary of {self.config.vocabulary_size} tokens, but that of the "
                f"language model has {vocabulary_size}"
            )


class LinearSettings(Section):
    kind: Literal["linear"] = "linear"
    temperature: Positive = 1.0

    policy_class: ClassVar = LinearPolicy

    def build(self, ground: Ground) -> LinearPolicy:
        table = vocabulary_table(ground)
        policy = LinearPolicy(
            LinearConfig(
                base_model=ground.base_model,
                masking_rate=ground.rate,
                vocabulary_size=len(table),
                temperature=self.temperature,
            )
        )
        policy.table.copy_(table)
        n_blocks = min(len(ground.corpus), MEASURED_BLOCKS)
        blocks = ground.corpus.blocks(np.linspace(0, len(ground.corpus) - 1, n_blocks).astype(np.int64))
        measured = policy.raw_features(blocks, ground.encode)[blocks.is_maskable]
        policy.mean.copy_(measured.mean(dim=0))
        # A feature that is the same everywhere is always 0, whatever it is divided by.
        policy.deviation.copy_(measured.std(dim=0, correction=0).clamp(min=1e-6))
        return policy


def vocabulary_table(ground: Ground) -> Tensor:
    """float32 [V, features]: `OF_VOCABULARY` of every entry of the vocabulary; idf as counted in the corpus."""
    vocabulary = ground.tokenizer.get_vocab()
    size = max(vocabulary.values()) + 1
    table = np.zeros((size, len(OF_VOCABULARY)), dtype=np.float32)
    table[:, 0] = InverseDocumentFrequency.count(ground.corpus, piece_keys)(np.arange(size, dtype=np.uint64))
    table[:, 1] = punctuation_table(ground.tokenizer).numpy()
    for token, index in vocabulary.items():
        word = ground.tokenizer.convert_tokens_to_string([token]).strip()
        table[index, 2:] = any(map(str.isdigit, word)), word.lower() in FUNCTION_WORDS
    return torch.from_numpy(table)
