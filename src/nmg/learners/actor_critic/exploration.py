"""Exploration that is coherent over an episode: a player leans to the same tokens throughout. Ours.

Noise that is drawn anew at each token averages out over the thousands of an episode; a lean does not, so the score can
tell of it. Noise of the parameters explores likewise (arXiv 1706.01905).
"""

import numpy as np
import torch
from torch import Tensor


def lean(observation: Tensor, is_maskable: Tensor, rng: np.random.Generator) -> Tensor:
    """z · u at every maskable token, 0 elsewhere: u ~ N(0, I / F), z the observation standardised.

    z has mean 0 and deviation 1 over the maskable tokens given, so over draws of u its product with u has a mean square
    of 1 over these tokens. A feature that is the same everywhere counts as 0.

    Args:
        observation: float [B, T, F]
        is_maskable: bool [B, T]

    Returns:
        float32 [B, T] on the device of `is_maskable`.
    """
    n_features = observation.shape[2]
    direction = torch.from_numpy(rng.standard_normal(n_features) / np.sqrt(n_features)).to(observation)
    seen = observation[is_maskable.to(observation.device)]
    if len(seen) == 0:
        return torch.zeros(is_maskable.shape, device=is_maskable.device)
    deviation, mean = torch.std_mean(seen, dim=0, correction=0)
    # Rounding alone makes a feature that is the same everywhere deviate by some 1e-7 of its mean.
    slopes = torch.where(deviation > 1e-6 * mean.abs(), direction / deviation, 0.0)
    values = (seen - mean) @ slopes
    leans = torch.zeros(is_maskable.shape, device=is_maskable.device)
    return leans.masked_scatter(is_maskable, values.float().to(is_maskable.device))
