"""Errors for values of `model.attention` that the device, the precision or the model does not support."""

from nmg.base.errors import UserError
from nmg.base.settings import ModelSettings
from nmg.training.runtime import Runtime


def check_attention(settings: ModelSettings, runtime: Runtime) -> None:
    """Raise UserError if `model.attention` cannot work on the device or in the precision of `runtime`."""
    if settings.attention == "flash_attention_2" and (runtime.device.type != "cuda" or runtime.precision == "fp32"):
        raise UserError(
            "model.attention: flash_attention_2 needs an NVIDIA GPU and runtime.precision bf16 or fp16 (here: "
            f"{runtime.device.type}, {runtime.precision}); use model.attention sdpa"
        )


def attention_error(settings: ModelSettings, error: Exception) -> UserError | None:
    """Return the error for a model that cannot be loaded with the implementation `model.attention`.

    Args:
        settings: The model and its implementation of attention.
        error: The exception that transformers raised on loading.

    Returns:
        The error to raise, or None if `error` has another cause.
    """
    is_about_attention = isinstance(error, ValueError | ImportError) and "attention" in str(error).lower()
    if settings.attention == "auto" or not is_about_attention:
        return None
    if isinstance(error, ImportError):
        reason = "the package flash-attn is not installed"
    else:
        reason = f"{str(error).split()[0]} does not support it"
    return UserError(
        f"model.attention: '{settings.name}' cannot use {settings.attention}, because {reason}: "
        "use model.attention auto"
    )
