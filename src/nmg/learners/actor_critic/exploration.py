"""Parameter noise: exploration that is consistent over an episode. It is not part of the paper.

Independent noise at each token averages out over the thousands of tokens of an episode. One random direction of feature
weights per episode does not average out, so it affects the score. Parameter-space noise (arXiv 1706.01905) is similar.
"""

import numpy as np
import torch
from torch import Tensor


def parameter_noise(observation: Tensor, is_maskable: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw a random direction u and compute z · u at each maskable token, where z is the standardized observation.

    Each feature of z has mean 0 and standard deviation 1 over the given maskable tokens. A constant feature counts as
    0. The direction is drawn from u ~ N(0, I / F), so the expected mean square of z · u over these tokens is 1.

    Args:
        observation: float [B, T, F], the observation of the policy.
        is_maskable: bool [B, T], True for tokens that may be masked.
        rng: Generator of the direction.

    Returns:
        float32 [B, T] on the device of `is_maskable`; 0 at positions that are not maskable.
    """
    n_features = observation.shape[2]
    direction = torch.from_numpy(rng.standard_normal(n_features) / np.sqrt(n_features)).to(observation)
    seen = observation[is_maskable.to(observation.device)]
    if len(seen) == 0:
        return torch.zeros(is_maskable.shape, device=is_maskable.device)
    deviation, mean = torch.std_mean(seen, dim=0, correction=0)
    # Rounding errors give a constant feature a standard deviation of about 1e-7 of its mean.
    slopes = torch.where(deviation > 1e-6 * mean.abs(), direction / deviation, 0.0)
    values = (seen - mean) @ slopes
    leans = torch.zeros(is_maskable.shape, device=is_maskable.device)
    return leans.masked_scatter(is_maskable, values.float().to(is_maskable.device))
