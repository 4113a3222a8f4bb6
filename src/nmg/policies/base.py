"""The policy interface: a module that scores the tokens of blocks.

Each kind of policy has its own module; `registry` lists the kinds. The module `storage` saves and loads policies.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

import torch
from torch import Tensor

from nmg.base.section import Rate
from nmg.base.trial_recipe import TrialRecipe
from nmg.base.types import FloatArray, StateEncoder, TokenBlocks
from nmg.policies.storage import StoredPolicy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nmg.data.corpus import Corpus

CHUNK = 64
"""Number of blocks per forward pass of a policy."""
Unit: TypeAlias = Literal["token", "word"]
"""What a policy selects: single tokens, or whole words by the mean of their logits."""


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """The configuration of a policy: all facts that define it except its weights."""

    base_model: str = ""
    """Name of the language model that the policy was trained with."""
    masking_rate: Rate = 0.05
    """Fraction of the maskable tokens that the policy was trained to select."""
    tokenizer: str = ""
    """Digest of the tokenizer that the policy was trained with; empty if unknown."""
    unit: Unit = "token"
    """Whether the policy selects single tokens or whole words."""
    recipe: TrialRecipe | None = None
    """The recipe that was tuned together with the policy; None if it was trained under the configured one."""


class Policy(StoredPolicy):
    """Scores every maskable token; higher scores are masked first."""

    kind: ClassVar[str]
    config_class: ClassVar[type[PolicyConfig]]
    config: PolicyConfig

    @property
    @abstractmethod
    def observation_size(self) -> int:
        """F, the number of values per token that `observe` returns."""

    @classmethod
    def from_settings(cls, settings: Any, ground: "PolicyContext") -> Self:
        """Build a policy on the CPU from the settings of its kind (see `registry.build_policy`)."""
        raise NotImplementedError

    @abstractmethod
    def observe(self, blocks: TokenBlocks, encode: StateEncoder) -> Tensor:
        """Return the inputs of the policy without gradient: LM states or token features, float [B, T, F]."""

    @abstractmethod
    def logits(self, observation: Tensor, is_token: Tensor, is_maskable: Tensor) -> Tensor:
        """Compute the logit of each maskable position.

        Args:
            observation: float [B, T, F], as returned by `observe`.
            is_token: bool [B, T], False at padding.
            is_maskable: bool [B, T], True for positions that may be masked.

        Returns:
            float [B, T], -inf at positions that are not maskable.
        """

    @abstractmethod
    def reset_parameters(self) -> None:
        """Initialize the weights with torch's generator."""

    def randomise(self) -> None:
        """Replace the weights with random untrained ones from torch's generator, as a control for what was learned."""
        self.reset_parameters()

    def as_rule(self) -> str | None:
        """Describe the equivalent rule, or return None if the policy is not known to equal one."""
        return None

    @abstractmethod
    def check_fits(self, hidden_size: int, vocabulary_size: int) -> None:
        """Raise UserError if the policy was made for a language model with another hidden size or vocabulary."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device


@dataclass(frozen=True)
class PolicyContext:
    """What a policy is built from: the language model, its tokenizer, a corpus and the relevance of tokens to the
    task."""

    base_model: str
    """Name of the language model."""
    hidden_size: int
    """Hidden size H of the language model."""
    n_heads: int
    """Number of attention heads of the language model."""
    rate: float
    """Masking rate: the fraction of maskable tokens to select."""
    tokenizer: "PreTrainedTokenizerBase"
    """Tokenizer of the language model."""
    corpus: "Corpus"
    """Corpus on which features are measured."""
    encode: StateEncoder
    """Encodes blocks with the LM in its state at the time when the policy is built."""
    embeddings: Tensor
    """float [V or more, H]: input embeddings of the LM."""
    relevance: Callable[[], FloatArray] | None = None
    """Returns float64 [V]: relevance of each token to the task, from training labels only. None without labels."""
    credit: Callable[[], FloatArray] | None = None
    """Returns float64 [V]: gradient credit of each token (see `trials.credit`). None if it was not measured."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Values for the `PolicyConfig` fields `base_model`, `masking_rate` and `tokenizer`."""
        from nmg.data.cutting import tokenizer_digest  # imported late because it imports pyarrow

        tokenizer = tokenizer_digest(self.tokenizer)
        return {"base_model": self.base_model, "masking_rate": self.rate, "tokenizer": tokenizer}


def log_probabilities(logits: Tensor, is_maskable: Tensor) -> Tensor:
    """Return the log-softmax of logits [B, T] over the maskable positions of each row: float [B, T], -inf elsewhere.

    Rows without a maskable position are all -inf. Neither the result nor its gradient contains NaN.
    """
    # Use the lowest finite number instead of -inf, because the softmax of a row of only -inf is NaN.
    finite = logits.masked_fill(~is_maskable, torch.finfo(logits.dtype).min)
    return finite.log_softmax(dim=-1).masked_fill(~is_maskable, -torch.inf)


@torch.no_grad()
def predict(policy: Policy, observation: Tensor, blocks: TokenBlocks) -> Tensor:
    """Compute logits without gradients, in chunks to save memory.

    Args:
        policy: The policy.
        observation: float [B, T, F], as returned by `policy.observe`.
        blocks: The B blocks.

    Returns:
        float32 [B, T] on the device of `blocks`; -inf at positions that are not maskable.
    """
    return in_chunks(policy.logits, policy.device, observation, blocks.is_token, blocks.is_maskable).to(
        blocks.input_ids.device
    )


def in_chunks(function: Any, device: torch.device, *columns: Tensor) -> Tensor:
    """Apply `function` to the rows of tensors, in chunks.

    Args:
        function: Maps tensors [N, ...] to a tensor [N, ...].
        device: Device on which `function` is applied.
        columns: Tensors [B, ...], one per argument of `function`.

    Returns:
        float32 [B, ...] on `device`, computed `CHUNK` rows at a time.
    """
    chunks: Sequence[tuple[Tensor, ...]] = list(zip(*(torch.split(column, CHUNK) for column in columns), strict=True))
    return torch.cat([function(*(column.to(device) for column in chunk)) for chunk in chunks]).float()
