"""The masked language model: loading, hidden states, and logits at masked positions only."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from nmg.base.errors import UserError
from nmg.base.files import is_folder
from nmg.base.hub import first_line, is_cached, is_only_local
from nmg.base.settings import ModelSettings
from nmg.base.types import IGNORED_LABEL, CorruptedBlocks, TokenBlocks
from nmg.data.framing import vocabulary_size
from nmg.training.attention import attention_error
from nmg.training.fast.attention_mask import needed_inputs
from nmg.training.fast.packing import packed_inputs, packing
from nmg.training.fast.positions import Places, given_states, restrict_to_positions
from nmg.training.fast.shapes import has_costly_shapes, with_rounded_length
from nmg.training.runtime import send

CONFIG_FILE = "config.json"
"""File that every model folder must contain."""
ModelState: TypeAlias = Mapping[str, Tensor]
"""Copy of a model's weights, on the model's device, or on the CPU if another process made it."""


@dataclass(frozen=True)
class PretrainedLM:
    """A masked LM as loaded. `model` is the only working copy."""

    name: str
    """Hub name or folder of the model."""
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    new_parameters: tuple[str, ...]
    """Names of parameters that the checkpoint lacked (a missing LM head), initialised randomly on loading."""
    extended: tuple[str, ...] = ()
    """Names of parameters with rows for added words (`adapt.add_words`)."""

    def newly_initialized(self) -> list[nn.Parameter]:
        """Return the parameters named by `new_parameters`, each once."""
        names = set(self.new_parameters)
        return [parameter for name, parameter in self.model.named_parameters() if name in names]

    @property
    def hidden_size(self) -> int:
        """Size H of the hidden states."""
        return int(self.model.config.hidden_size)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids that the tokenizer uses, from 0. The embeddings may have more rows."""
        return vocabulary_size(self.tokenizer)


def load_tokenizer(settings: ModelSettings) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model.

    Raises:
        UserError: If it cannot be loaded, has no mask token, or is not a fast tokenizer and cannot identify words.
    """
    name = settings.name
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, trust_remote_code=settings.trust_remote_code, local_files_only=_only_local(name)
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _cannot_load(name, "tokenizer", error) from error
    if not tokenizer.is_fast:
        raise UserError(f"model.name: '{name}' has no fast tokenizer, which nmg needs to find words: use another model")
    if tokenizer.mask_token_id is None:
        raise UserError(f"model.name: the tokenizer of '{name}' has no mask token: choose a masked language model")
    return tokenizer


def load_pretrained(settings: ModelSettings) -> PretrainedLM:
    """Load any `AutoModelForMaskedLM` with its tokenizer.

    New parameters are drawn from torch's generators, so call it within `torch_stream`.

    Raises:
        UserError: If the model cannot be loaded or its checkpoint lacks more than the LM head. Also if it needs custom
            code that the settings do not trust, or does not support `model.attention`.
    """
    tokenizer = load_tokenizer(settings)
    try:
        with _quiet_transformers():
            model, report = AutoModelForMaskedLM.from_pretrained(
                settings.name,
                output_loading_info=True,
                dtype=torch.float32,
                attn_implementation=None if settings.attention == "auto" else settings.attention,
                trust_remote_code=settings.trust_remote_code,
                local_files_only=_only_local(settings.name),
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise attention_error(settings, error) or _cannot_load(settings.name, "masked language model", error) from error
    _fit_together(model, tokenizer)
    missing = tuple(sorted(report["missing_keys"]))
    encoder = tuple(name for name in missing if name.startswith(model.base_model_prefix + "."))
    if encoder:
        raise UserError(
            f"model.name: the checkpoint '{settings.name}' lacks weights of its encoder, such as {encoder[0]}: choose "
            "a complete checkpoint"
        )
    return PretrainedLM(settings.name, model, tokenizer, missing)


def _fit_together(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Adjust tokenizer and model to each other if there is only one way to do so.

    Token types are removed from the tokenizer's inputs if the model has only one type or does not accept them. A model
    with adapters for a single language (X-MOD) uses that language.
    """
    config = model.config
    n_types = getattr(config, "type_vocab_size", None)
    parameters = signature(model.forward).parameters
    is_taken = "token_type_ids" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    if not is_taken or (n_types is not None and n_types < 2):
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
    languages = getattr(config, "languages", None)
    if hasattr(model, "set_default_language") and config.default_language is None and languages and len(languages) == 1:
        model.set_default_language(languages[0])


def _cannot_load(name: str, what: str, error: Exception) -> UserError:
    """Return the error for a model or tokenizer that cannot be loaded."""
    if "trust_remote_code" in str(error):  # transformers' message names its own argument
        return UserError(
            f"model.name: the {what} of '{name}' needs its own Python code, which nmg does not run by default: read "
            "the code and, if you trust it, add --model.trust_remote_code true"
        )
    if is_folder(name):
        if not (Path(name) / CONFIG_FILE).is_file():
            return UserError(f"model.name: the folder '{name}' contains no model: there is no {CONFIG_FILE}")
        return UserError(f"model.name: cannot load a {what} from the folder '{name}': {first_line(error)}")
    if _only_local(name) and not is_cached(name, CONFIG_FILE):
        return UserError(
            f"model.name: there is no folder '{name}', the hub cannot be reached, and its cache does not contain it"
        )
    return UserError(f"model.name: cannot load a {what} '{name}' from the hub: {first_line(error)}")


def _only_local(name: str) -> bool:
    """Return `is_only_local(name)`; its errors name the setting `model.name`."""
    try:
        return is_only_local(name)
    except UserError as error:
        raise UserError(f"model.name: {error}") from error


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Suppress warnings on loading, such as the one about a missing head, which `training.head` reports."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


def copy_state(model: nn.Module) -> ModelState:
    """Return a copy of the model's weights."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def restore_state(model: PreTrainedModel, state: ModelState) -> None:
    """Load the weights of `state` and undo other changes of the model by earlier passes.

    BigBird permanently disables sparse attention at its first short batch. Without this reset, an inner loop would
    depend on earlier ones.
    """
    model.load_state_dict(state)
    attention_type = getattr(model.config, "attention_type", None)
    if attention_type is not None and hasattr(model.base_model, "set_attention_type"):
        # New modules are initialised randomly and then receive the existing weights.
        with torch.random.fork_rng(devices=[]):
            model.base_model.set_attention_type(attention_type)


def masked_logits(
    model: PreTrainedModel,
    input_ids: Tensor,
    is_token: Tensor,
    is_masked: Tensor,
    *,
    is_packed: bool = False,
    is_rounded: bool = False,
) -> Tensor:
    """Compute vocabulary logits at the M masked positions, in row-major order of `is_masked`.

    Every masked-LM head is position-wise. The head therefore reads the gathered states [1, M, H] instead of [B, T, H].
    The logits are the same, and the head costs V x H per position it reads.

    For a batch on the CPU, no GPU synchronisation is needed, because M is known on the CPU. However, transformers
    itself inspects a mask with padding on the GPU.

    Args:
        model: The masked LM.
        input_ids: int64 [B, T]: token ids.
        is_token: bool [B, T]: False at padding.
        is_masked: bool [B, T]: positions to predict.
        is_packed: Whether to pack the batch into one row (see `fast.packing`).
        is_rounded: Whether to round shapes up (see `fast.shapes`). A packed batch is not rounded.

    Returns:
        Float [M, V]; with `is_rounded`, rows without meaning may follow.
    """
    is_rounded = is_rounded and not is_packed
    inputs: dict[str, Any]
    if is_packed:
        inputs, is_masked = packed_inputs(model, input_ids, is_token), is_masked[is_token].unsqueeze(0)
    else:
        if is_rounded:
            input_ids, is_token, is_masked = with_rounded_length(model, input_ids, is_token, is_masked)
        inputs = needed_inputs(model, {"input_ids": input_ids, "attention_mask": is_token.long()})
    places = Places.where(is_masked)
    places = (places.rounded() if is_rounded else places).sent(partial(send, device=model.device))
    sent = {name: send(value, model.device) if isinstance(value, Tensor) else value for name, value in inputs.items()}
    with restrict_to_positions(model, places, is_packed=is_packed), packing(model) if is_packed else nullcontext():
        logits = model(**sent).logits
    return logits.squeeze(0)  # type: ignore[no-any-return]


def masked_lm_loss(
    model: PreTrainedModel, corrupted: CorruptedBlocks, part: slice = slice(None), *, is_packed: bool = False
) -> Tensor:
    """Compute the mean cross-entropy over the masked positions of a batch; 0, with zero gradients, if there are none.

    Args:
        model: The masked LM.
        corrupted: The batch with its labels.
        part: Rows to read. The losses of the parts of a batch sum to the loss of the whole.
        is_packed: Whether to pack the batch into one row (see `fast.packing`).

    Returns:
        The loss in nats, a scalar.
    """
    some = corrupted[part]
    is_masked = some.labels != IGNORED_LABEL
    logits = masked_logits(
        *(model, some.input_ids, some.is_token, is_masked), is_packed=is_packed, is_rounded=has_costly_shapes(model)
    )
    labels = send(some.labels[is_masked], model.device)
    labels = F.pad(labels, (0, len(logits) - len(labels)), value=IGNORED_LABEL)
    n_masked = max(int((corrupted.labels != IGNORED_LABEL).sum()), 1)
    return cross_entropy(logits.float(), labels, reduction="sum") / n_masked


LARGEST_TABLE = 2**26
"""Maximum number of logits (positions x vocabulary) computed at once: 256 MiB in float32."""


@torch.no_grad()
def logits_in_parts(
    model: PreTrainedModel, input_ids: Tensor, is_token: Tensor, is_masked: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """Yield vocabulary logits at some of the M masked positions at a time, in the order of `masked_logits`.

    The encoder runs once. With a vocabulary of 250 000 words, the logits of a batch take several gigabytes. The head
    therefore runs on as many positions at once as `LARGEST_TABLE` allows.

    Args:
        model: The masked LM.
        input_ids: int64 [B, T]: token ids.
        is_token: bool [B, T]: False at padding.
        is_masked: bool [B, T]: positions to predict.

    Yields:
        The slice of the M masked positions and their logits, float [m, V].
    """
    n_masked = int(is_masked.sum())
    at_once = max(LARGEST_TABLE // int(model.config.vocab_size), 1)
    if n_masked <= at_once:
        yield slice(0, n_masked), masked_logits(model, input_ids, is_token, is_masked)
        return
    inputs = needed_inputs(model, {"input_ids": input_ids, "attention_mask": is_token.long()})
    sent = {name: send(value, model.device) for name, value in inputs.items()}
    with restrict_to_positions(model, Places.where(is_masked).sent(partial(send, device=model.device))):
        states = model.base_model(**sent)[0]
    for first in range(0, n_masked, at_once):
        part = slice(first, min(first + at_once, n_masked))
        with given_states(model, states[:, part]):
            logits = model(**sent).logits.squeeze(0)
        yield part, logits


@torch.no_grad()
def summed_masked_lm_loss(model: PreTrainedModel, corrupted: CorruptedBlocks) -> float:
    """Sum the cross-entropy over the masked positions of a batch, in nats. The model must be in evaluation mode."""
    is_masked = corrupted.labels != IGNORED_LABEL
    labels, total = send(corrupted.labels[is_masked], model.device), 0.0
    for part, logits in logits_in_parts(model, corrupted.input_ids, corrupted.is_token, is_masked):
        total += float(cross_entropy(logits.float(), labels[part], reduction="sum"))
    return total


def encoder_states(model: PreTrainedModel, blocks: TokenBlocks | CorruptedBlocks) -> Tensor:
    """Return the last hidden states, float32 [B, T, H], without dropout or gradient, on the model's device.

    To encode in mixed precision, call it within the runtime's autocast.
    """
    inputs = {"input_ids": blocks.input_ids, "attention_mask": blocks.is_token.long()}
    sent = {name: send(tensor, model.device) for name, tensor in needed_inputs(model.base_model, inputs).items()}
    was_training = model.training
    model.eval()
    with torch.no_grad():
        output = model.base_model(**sent)
    model.train(was_training)
    return output[0].float()  # type: ignore[no-any-return]
