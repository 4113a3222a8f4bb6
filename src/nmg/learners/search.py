"""Helpers for learners that search over a policy's weights: they turn candidate weights into plans."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from nmg.base.types import Episode, MaskPlan, StateEncoder, TokenBlocks
from nmg.learners.base import LearnerContext
from nmg.policies.base import Policy
from nmg.policies.sampling import draw_by


def first_policy(ground: LearnerContext) -> Policy:
    """Return a new policy on the learner's device, with weights drawn from the random stream `policy`."""
    with (ground.randomness / "policy").torch():
        policy = ground.new_policy()
        policy.reset_parameters()
    return policy.to(ground.device)


def weights_of(policy: Policy) -> Tensor:
    """Return a copy of all weights of the policy as one vector [W]."""
    return parameters_to_vector(policy.parameters()).detach().clone()


def candidate_name(number: int) -> str:
    """Return the player name of the candidate with this number."""
    return f"candidate-{number}"


@torch.no_grad()
def propose_candidates(
    policy: Policy,
    candidates: Mapping[str, Tensor],
    ground: LearnerContext,
    episode: Episode,
    blocks: TokenBlocks,
    encode: StateEncoder,
) -> dict[str, MaskPlan]:
    """Sample a plan for each candidate. The policy's weights are unchanged afterwards.

    All candidates share the sampling noise, so their plans differ only because of their weights.

    Args:
        policy: The policy that the candidate weights are loaded into.
        candidates: Candidate name → weights [W].
        ground: The learner's context, which provides the masking rate and the random streams.
        episode: The episode, whose index selects the noise.
        blocks: The token blocks of the episode.
        encode: The LM that the policy may observe.

    Returns:
        Candidate name → plan.
    """
    kept, observation, plans = weights_of(policy), policy.observe(blocks, encode), {}
    for name, weights in candidates.items():
        vector_to_parameters(weights, policy.parameters())
        noise = (ground.randomness / "episode" / episode.index / "actions").generator()
        plans[name] = draw_by(policy, observation, blocks, ground.rate, noise)
    vector_to_parameters(kept, policy.parameters())
    return plans
