"""What the searches over a policy's weights share: how candidates become plans."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from nmg.learners.base import Ground
from nmg.policies.base import Policy
from nmg.policies.masking import draw_by
from nmg.types import Episode, MaskPlan, StateEncoder, TokenBlocks


def first_policy(ground: Ground) -> Policy:
    """A new policy on the learner's device, weights drawn from the stream `policy`."""
    with (ground.randomness / "policy").torch():
        policy = ground.new_policy()
        policy.reset_parameters()
    return policy.to(ground.device)


def weights_of(policy: Policy) -> Tensor:
    """[W] a copy of all weights."""
    return parameters_to_vector(policy.parameters()).detach().clone()


def candidate_name(number: int) -> str:
    return f"candidate-{number}"


@torch.no_grad()
def propose_candidates(
    policy: Policy,
    candidates: Mapping[str, Tensor],
    ground: Ground,
    episode: Episode,
    blocks: TokenBlocks,
    encode: StateEncoder,
) -> dict[str, MaskPlan]:
    """A plan for each of `candidates`, name → weights [W]. The policy keeps its own weights.

    All draw under the same noise, so they differ in their weights alone.
    """
    kept, observation, plans = weights_of(policy), policy.observe(blocks, encode), {}
    for name, weights in candidates.items():
        vector_to_parameters(weights, policy.parameters())
        noise = (ground.randomness / "episode" / episode.index / "actions").generator()
        plans[name] = draw_by(policy, observation, blocks, ground.rate, noise)
    vector_to_parameters(kept, policy.parameters())
    return plans
