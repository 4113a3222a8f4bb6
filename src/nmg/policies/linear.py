"""A policy that is linear in token features, with few weights that a person can interpret.

    logit = Σ weight · (feature − mean) / (deviation · temperature)

Mean and deviation are measured on the corpus that the policy was built for. At temperature 1, a weight of 1 raises the
log odds of a token by 1 per standard deviation of the feature.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, Literal, Self, TypeAlias

import numpy as np
import torch
from pydantic import AfterValidator, BeforeValidator, Field
from torch import Tensor, nn

from nmg.base.errors import UserError
from nmg.base.section import Count, CountOrZero, Positive, Section
from nmg.base.types import StateEncoder, TokenBlocks
from nmg.policies.base import Policy, PolicyConfig, PolicyContext, Unit
from nmg.policies.features import FEATURES, READ_THE_LM, ObservationCache, TypeFeature, Vocabulary, piece_table

MEASURED_BLOCKS = 256
"""Maximum number of blocks on which mean and deviation of per-token features are measured."""


@dataclass(frozen=True, kw_only=True)
class LinearConfig(PolicyConfig):
    """Configuration of a `LinearPolicy`. Raises ValueError if a feature is unknown."""

    features: tuple[str, ...] = ()
    """Names of the features, keys of `FEATURES`."""
    vocabulary_size: CountOrZero = 0
    """Vocabulary size V of the language model."""
    temperature: Positive = 1.0
    """Divisor of the logits; higher values bring the policy closer to uniform."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.features if name not in FEATURES]
        if unknown:
            raise ValueError(f"there is no feature '{unknown[0]}' (known: {', '.join(FEATURES)})")
        object.__setattr__(self, "features", tuple(self.features))  # JSON stores tuples as lists


def rule_words(exponent: float) -> str:
    """Describe the idf rule with the given exponent; exponent 0 means random masks."""
    return f"idf with exponent {exponent:g}" if exponent else "random masks"


class LinearPolicy(Policy):
    """A weighted sum of standardized token features."""

    kind = "linear"
    acts = "sample"
    config_class = LinearConfig
    config: LinearConfig
    table: Tensor
    """float32 [V, columns]: raw features of word pieces, in the order of the configuration."""
    mean: Tensor
    """float32 [F]: mean of each raw feature on the corpus."""
    deviation: Tensor
    """float32 [F]: standard deviation of each raw feature on the corpus; 1 for constant features."""

    def __init__(self, config: LinearConfig) -> None:
        super().__init__()
        self.config = config
        n_features = len(config.features)
        n_columns = sum(isinstance(FEATURES[name], TypeFeature) for name in config.features)
        self.weights = nn.Parameter(torch.zeros(n_features))
        self.register_buffer("table", torch.zeros(config.vocabulary_size, n_columns))
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("deviation", torch.ones(n_features))

    @classmethod
    def from_settings(cls, settings: "LinearSettings", ground: PolicyContext) -> Self:
        """Build a policy with features measured on the corpus of `ground` and all weights zero."""
        vocabulary = Vocabulary(ground)
        policy = cls(
            LinearConfig(
                **ground.provenance,
                features=settings.features,
                vocabulary_size=vocabulary.size,
                temperature=settings.temperature,
                unit=settings.unit,
            )
        )
        policy.table.copy_(torch.from_numpy(piece_table(settings.features, vocabulary)))
        mean, deviation = _spread(policy, vocabulary)
        policy.mean.copy_(torch.from_numpy(mean))
        # A feature that is constant on the corpus is only centered, not scaled.
        policy.deviation.copy_(torch.from_numpy(np.where(deviation < 1e-6, 1.0, deviation)))
        return policy

    @property
    def observation_size(self) -> int:
        """F, the number of features."""
        return len(self.config.features)

    @property
    def reads_lm(self) -> bool:
        """Whether any feature needs forward passes of the LM."""
        return bool(READ_THE_LM & set(self.config.features))

    @torch.no_grad()
    def observe(self, blocks: TokenBlocks, encode: StateEncoder) -> Tensor:
        """Return the standardized features, float32 [B, T, F], on the policy's device."""
        return (self.raw_features(blocks, encode) - self.mean) / self.deviation

    def raw_features(self, blocks: TokenBlocks, encode: StateEncoder) -> Tensor:
        """Return the raw features in the order of the configuration, float32 [B, T, F], on the policy's device."""
        of_pieces = iter(self.table[blocks.input_ids.to(self.device)].unbind(dim=2))
        encode, columns = ObservationCache(encode), []
        for name in self.config.features:
            kind = FEATURES[name]
            column = next(of_pieces) if isinstance(kind, TypeFeature) else kind.values(blocks, encode).to(self.device)
            columns.append(column.float())
        return torch.stack(columns, dim=2)

    def logits(self, observation: Tensor, is_token: Tensor, is_maskable: Tensor) -> Tensor:  # noqa: ARG002
        """Compute the weighted sum of the standardized features.

        Args:
            observation: float [B, T, F], as returned by `observe`.
            is_token: bool [B, T], False at padding (not used).
            is_maskable: bool [B, T], True for positions that may be masked.

        Returns:
            float [B, T], -inf at positions that are not maskable.
        """
        scores: Tensor = observation @ self.weights / self.config.temperature
        return scores.masked_fill(~is_maskable, -torch.inf)

    def reset_parameters(self) -> None:
        """Set all weights to zero, so that a new policy masks at random."""
        nn.init.zeros_(self.weights)

    @torch.no_grad()
    def randomise(self) -> None:
        """Replace the weights with a random direction of the same length, from torch's generator."""
        direction = torch.randn(len(self.weights))
        self.weights.copy_(direction / direction.norm() * self.weights.norm())

    @torch.no_grad()
    def set_slopes(self, slopes: Mapping[str, float]) -> None:
        """Set the weights so that each raw feature adds slope · feature to the logit.

        `slopes` maps feature names to slopes; other features get slope 0. For example, {"idf": 5.0} gives the idf rule
        over word pieces with exponent 5.
        """
        raw = torch.tensor([slopes.get(name, 0.0) for name in self.config.features])
        self.weights.copy_(raw.to(self.device) * self.deviation * self.config.temperature)

    @torch.no_grad()
    def as_rule(self) -> str | None:
        """Describe the equivalent rule, or return None if any weight other than that of `idf` is nonzero."""
        slopes = self.weights / (self.deviation * self.config.temperature)
        named = {name: float(slope) for name, slope in zip(self.config.features, slopes, strict=True) if slope}
        if not named.keys() <= {"idf"}:
            return None
        return rule_words(float(f"{named.get('idf', 0.0):.3g}"))  # rounded to hide the float32 error

    def check_fits(self, hidden_size: int, vocabulary_size: int) -> None:  # noqa: ARG002
        """Raise UserError if the vocabulary size of the language model differs from that of the policy."""
        if self.config.vocabulary_size != vocabulary_size:
            raise UserError(
                f"the mask policy was trained for a vocabulary of {self.config.vocabulary_size} tokens, but that of "
                f"the language model has {vocabulary_size}: use the policy with the model that it was trained with"
            )


def _known(name: str) -> str:
    """Check that a feature exists and return its name. Raises ValueError if it is unknown."""
    if name not in FEATURES:
        raise ValueError(f"there is no feature '{name}' (known: {', '.join(FEATURES)})")
    return name


CreditExamples: TypeAlias = Literal["validation", "training"]

DEFAULT_FEATURES = (
    *("idf", "frequency_squared", "domain", "repeated", "continuation", "punctuation", "digit", "function_word"),
    *("association", "usual_loss", "usual_entropy", "embedding_1", "embedding_2", "embedding_3", "concentration"),
)


def _without_default(names: Any) -> Any:
    """Replace the name `default` in a list by the default features; each feature is kept once."""
    if not isinstance(names, list | tuple) or "default" not in names:
        return names
    each = [DEFAULT_FEATURES if name == "default" else (name,) for name in names]
    return tuple(dict.fromkeys(chain.from_iterable(each)))


class LinearSettings(Section):
    """Settings of a `LinearPolicy`."""

    kind: Literal["linear"] = "linear"
    features: Annotated[
        tuple[Annotated[str, AfterValidator(_known)], ...], Field(min_length=1), BeforeValidator(_without_default)
    ] = DEFAULT_FEATURES
    """Names of features (see `nmg.policies.features`). `default` stands for the default ones: `[default, credit]`.
    `loss` and `entropy` need forward passes of the LM in use. `credit` is measured before a meta-training; elsewhere it
    is 0."""
    credit_rounds: Count = 8
    """Number of adaptations from which the feature `credit` is measured."""
    credit_examples: CreditExamples = "validation"
    """Examples whose loss the feature `credit` is the gradient of. `training`: half of the labelled examples of an
    inner loop, while the classifier is trained on the other half. Then credit cannot fit the validation examples."""
    temperature: Positive = 1.0
    """Divisor of the logits; higher values bring the policy closer to uniform."""
    unit: Unit = "token"
    """Whether to select single tokens, or whole words by the mean of their logits."""


def _spread(policy: LinearPolicy, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the raw features, float64 [F] each.

    Features of word pieces use the whole corpus, and per-token features use a sample of blocks.
    """
    names, corpus = policy.config.features, vocabulary.ground.corpus
    n_blocks = min(len(corpus), MEASURED_BLOCKS)
    blocks = corpus.blocks(np.linspace(0, len(corpus) - 1, n_blocks).astype(np.int64))
    measured = policy.raw_features(blocks, vocabulary.ground.encode).double()[blocks.is_maskable].numpy()
    mean, deviation = measured.mean(axis=0), measured.std(axis=0)
    is_of_pieces = np.array([isinstance(FEATURES[name], TypeFeature) for name in names])
    table = policy.table.double().numpy()
    of_pieces = vocabulary.weights @ table
    mean[is_of_pieces] = of_pieces
    deviation[is_of_pieces] = np.sqrt(vocabulary.weights @ (table - of_pieces) ** 2)
    return mean, deviation
