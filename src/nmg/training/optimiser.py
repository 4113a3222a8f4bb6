"""Builds optimisers and learning-rate schedules from the names that settings give them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
    get_wsd_schedule,
)

from nmg.base.errors import UserError
from nmg.base.extras import install_command
from nmg.base.training_settings import OptimiserSettings

STABLE_BETAS = (0.9, 0.98)
"""Decay rates of StableAdamW's moments, as in ModernBERT and BioClinical ModernBERT (arXiv 2506.10896)."""
STABLE_EPS = 1e-6
"""Epsilon of StableAdamW, from the same source."""


def new_optimiser(weights: Sequence[Tensor], settings: OptimiserSettings, device: torch.device) -> Optimizer:
    """Return the optimiser that `settings.optimiser` names.

    Args:
        weights: The tensors to train.
        settings: Name of the optimiser, learning rate and weight decay.
        device: The device of the weights.

    Returns:
        AdamW with torch's defaults, or StableAdamW (Wortsman et al., arXiv 2304.13013). In both a step multiplies the
        weights by 1 − learning rate · weight decay.

    Raises:
        UserError: If the package of StableAdamW is needed but not installed.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimiser == "adamw":
        return AdamW(weights, lr=rate, weight_decay=decay, fused=device.type != "mps")
    if not has_stable_adamw():
        raise UserError(
            "optimiser: 'stable-adamw' needs the package torch-optimi. Install it with "
            f"{install_command('stable-adamw')}, or use 'adamw'."
        )
    from optimi import StableAdamW

    stable: Optimizer = StableAdamW(
        weights, lr=rate, betas=STABLE_BETAS, eps=STABLE_EPS, weight_decay=decay, triton=False
    )
    return stable


def has_stable_adamw() -> bool:
    """Return whether the package of StableAdamW is installed (the extra `stable-adamw`)."""
    try:
        import optimi  # noqa: F401
    except ImportError:
        return False
    return True


def new_schedule(optimiser: Optimizer, settings: OptimiserSettings, n_steps: int) -> LambdaLR:
    """Return the learning-rate schedule that `settings.schedule` names, over `n_steps` steps.

    Each schedule rises linearly from 0 over the first `warmup_ratio` of the steps. `warmup-stable-decay` then stays
    constant until the last `decay_ratio` of the steps, where the rate falls as 1 − √progress to 0 (Hägele et al.,
    arXiv 2405.18392).

    Args:
        optimiser: The optimiser.
        settings: Name of the schedule and its ratios.
        n_steps: Number of training steps.

    Returns:
        The schedule, to be advanced after each step.
    """
    warm_up = math.ceil(settings.warmup_ratio * n_steps)
    schedule: LambdaLR
    match settings.schedule:
        case "linear":
            schedule = get_linear_schedule_with_warmup(optimiser, warm_up, n_steps)
        case "cosine":
            schedule = get_cosine_schedule_with_warmup(optimiser, warm_up, n_steps)
        case "constant":
            schedule = get_constant_schedule_with_warmup(optimiser, warm_up)
        case "warmup-stable-decay":
            decay = min(math.ceil(settings.decay_ratio * n_steps), n_steps - warm_up)
            schedule = get_wsd_schedule(optimiser, warm_up, decay, num_training_steps=n_steps, decay_type="1-sqrt")
    return schedule
