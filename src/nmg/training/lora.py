"""Low-rank adaptation (LoRA, Hu et al., arXiv 2106.09685) by peft.

The weight W of a linear layer becomes W + alpha / rank · B · A, and only A and B are trained. The optimiser
then holds a hundredth of the values. At the end the product is added to W, so the model has the same layers as before.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from torch import nn
from transformers import PreTrainedModel

from nmg.base.errors import UserError
from nmg.base.extras import install_command
from nmg.base.seeding import StreamName
from nmg.base.training_settings import AdaptSettings, LoraSettings

LEARNING_RATE_FACTOR = 4.0
"""Factor of the learning rate if only low-rank matrices are trained."""


def with_rank(settings: AdaptSettings, rank: int) -> AdaptSettings:
    """Return the settings with another rank of LoRA, or 0 to train the whole model.

    The learning rate is multiplied by `LEARNING_RATE_FACTOR` if this changes from the whole model to LoRA, and divided
    by it in the other direction.
    """
    factor = LEARNING_RATE_FACTOR ** (bool(rank) - bool(settings.lora.rank))
    lora = settings.lora.model_copy(update={"rank": rank})
    return settings.model_copy(update={"lora": lora, "learning_rate": settings.learning_rate * factor})


def check_lora(settings: LoraSettings) -> None:
    """Raise UserError if the settings ask for LoRA and peft is not installed."""
    if settings.rank and find_spec("peft") is None:
        raise UserError(f"adapt.lora.rank: LoRA needs peft: {install_command('lora')}")


@contextmanager
def low_rank(
    model: PreTrainedModel, settings: LoraSettings, randomness: StreamName, trained_fully: Collection[str] = ()
) -> Iterator[list[nn.Parameter]]:
    """Give linear layers of the encoder trainable matrices within the context; on exit, merge them into the model.

    LM head and embeddings are not trained, except for parameters in `trained_fully`. If training fails, the matrices
    are removed without merging. If `settings` has no rank, the context changes nothing.

    Args:
        model: The masked LM, changed in place.
        settings: Rank, scale, dropout and layers.
        randomness: Random stream of the initial matrices.
        trained_fully: Names of parameters to train as well.

    Yields:
        The parameters to train.

    Raises:
        UserError: If peft is not installed, or no layer has a name of `adapt.lora.targets`.
    """
    if not settings.rank:
        yield list(model.parameters())
        return
    check_lora(settings)
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=lora_targets(model, settings),
    )
    is_trained = {parameter: parameter.requires_grad for parameter in model.parameters()}
    with randomness.torch():
        adapters = LoraModel(model, config, "default")
    try:
        for name in trained_fully:
            model.get_parameter(name).requires_grad_(True)
        yield [parameter for parameter in model.parameters() if parameter.requires_grad]
        adapters.merge_adapter()
    finally:
        adapters.unload()  # not merge_and_unload, which may change `tie_word_embeddings` of the model's configuration
        for parameter, was_trained in is_trained.items():
            parameter.requires_grad_(was_trained)


def lora_targets(model: PreTrainedModel, settings: LoraSettings) -> list[str]:
    """Return the names of the layers to adapt. Raises UserError if no layer has one of the given names."""
    # Subclasses of nn.Linear belong to modules that read their weights without calling them.
    linear = [name for name, module in model.base_model.named_modules() if type(module) is nn.Linear]
    prefix = next(f"{name}." if name else "" for name, module in model.named_modules() if module is model.base_model)
    asked = settings.targets
    found = [name for name in linear if asked == "all-linear" or f".{name}".endswith(tuple(f".{one}" for one in asked))]
    lacking = (
        [] if asked == "all-linear" else [one for one in asked if not any(f".{n}".endswith(f".{one}") for n in linear)]
    )
    if lacking or not found:
        names = ", ".join(sorted({name.rpartition(".")[2] for name in linear})) or "none"
        what = f"named {', '.join(lacking)}" if lacking else "that LoRA can adapt"
        raise UserError(
            f"adapt.lora.targets: the encoder of a model of type '{model.config.model_type}' has no linear layer "
            f"{what} (its linear layers: {names})"
        )
    return [prefix + name for name in found]
