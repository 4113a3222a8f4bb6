"""What a policy is: a module that looks at blocks and scores their tokens. One file per kind; `registry` names them.

How a policy is saved and loaded is in `storage`.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

import torch
from torch import Tensor

from nmg.policies.storage import StoredPolicy
from nmg.settings import Rate
from nmg.types import FloatArray, StateEncoder, TokenBlocks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nmg.data.corpus import Corpus

CHUNK = 64
"""blocks given to a policy at once"""
Unit: TypeAlias = Literal["token", "word"]
"""what a policy takes: single tokens, or whole words by the means of their logits"""


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """What makes a policy but its weights."""

    base_model: str = ""
    """name of the language model it was trained with"""
    masking_rate: Rate = 0.05
    """share of the maskable tokens it was trained to choose"""
    tokenizer: str = ""
    """digest of the tokenizer it was trained with; empty if it is not known"""
    unit: Unit = "token"


class Policy(StoredPolicy):
    """Scores of the maskable tokens of blocks."""

    kind: ClassVar[str]
    config_class: ClassVar[type[PolicyConfig]]
    config: PolicyConfig

    @property
    @abstractmethod
    def observation_size(self) -> int:
        """F, the numbers that `observe` gives for a token."""

    @classmethod
    def from_settings(cls, settings: Any, ground: "Ground") -> Self:
        """Returns a new policy on the CPU, made from the settings of its kind; see `registry.build_policy`."""
        raise NotImplementedError

    @abstractmethod
    def observe(self, blocks: TokenBlocks, encode: StateEncoder) -> Tensor:
        """float [B, T, F]: what the policy looks at, states of the LM or features of tokens, without gradient."""

    @abstractmethod
    def logits(self, observation: Tensor, is_token: Tensor, is_maskable: Tensor) -> Tensor:
        """float [B, T]: one logit for each maskable position, -inf elsewhere.

        Args:
            observation: float [B, T, F], as from `observe`.
            is_token: bool [B, T]
            is_maskable: bool [B, T]; the positions that may be chosen.
        """

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draw the weights of a new policy from torch's generator."""

    def randomise(self) -> None:
        """Weights that nobody trained, drawn from torch's generator: a control for what was learned."""
        self.reset_parameters()

    def as_rule(self) -> str | None:
        """The rule that it is, in words; None where it is none, or cannot tell."""
        return None

    @abstractmethod
    def check_fits(self, hidden_size: int, vocabulary_size: int) -> None:
        """Raises UserError where the policy was made for another language model."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


@dataclass(frozen=True)
class Ground:
    """What a new policy may be made from."""

    base_model: str
    hidden_size: int
    n_heads: int
    rate: float
    tokenizer: "PreTrainedTokenizerBase"
    corpus: "Corpus"
    encode: StateEncoder
    """reads the LM as it is when the policy is made"""
    embeddings: Tensor
    """float [V or more, H], the LM's input embeddings"""
    relevance: Callable[[], FloatArray] | None = None
    """[V] how much each token tells of the task, from training labels alone; None where there are no labels"""

    @property
    def provenance(self) -> dict[str, Any]:
        """The fields of `PolicyConfig`."""
        from nmg.data.cutting import tokenizer_digest  # imports pyarrow

        tokenizer = tokenizer_digest(self.tokenizer)
        return {"base_model": self.base_model, "masking_rate": self.rate, "tokenizer": tokenizer}


def log_probabilities(logits: Tensor, is_maskable: Tensor) -> Tensor:
    """float [B, T]: log-softmax over the maskable positions of each row, -inf elsewhere.

    Rows without a maskable position are -inf throughout: neither NaN there nor in any gradient.
    """
    # The lowest finite number instead of -inf: a row of nothing but -inf has no softmax.
    finite = logits.masked_fill(~is_maskable, torch.finfo(logits.dtype).min)
    return finite.log_softmax(dim=-1).masked_fill(~is_maskable, -torch.inf)


@torch.no_grad()
def predict(policy: Policy, observation: Tensor, blocks: TokenBlocks) -> Tensor:
    """Logits float32 [B, T] on the device of `blocks`, a few blocks at a time to save memory."""
    return in_chunks(policy.logits, policy.device, observation, blocks.is_token, blocks.is_maskable).to(
        blocks.input_ids.device
    )


def in_chunks(function: Any, device: torch.device, *columns: Tensor) -> Tensor:
    """`function` of tensors [B, ...], float32: `CHUNK` rows at a time, on `device`."""
    chunks: Sequence[tuple[Tensor, ...]] = list(zip(*(torch.split(column, CHUNK) for column in columns), strict=True))
    return torch.cat([function(*(column.to(device) for column in chunk)) for chunk in chunks]).float()
