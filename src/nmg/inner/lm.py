"""The masked language model: loading, hidden states, and a head that runs on masked positions only."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from nmg.data.framing import vocabulary_size
from nmg.errors import UserError
from nmg.fast.attention_mask import needed_inputs
from nmg.fast.packing import packed_inputs, packing
from nmg.fast.positions import Places, given_states, only_places
from nmg.files import is_folder
from nmg.hub import first_line, is_cached, is_only_local
from nmg.inner.memory import in_passes
from nmg.inner.runtime import send
from nmg.settings import ModelSettings
from nmg.types import IGNORED_LABEL, CorruptedBlocks, TokenBlocks

CONFIG_FILE = "config.json"
"""without which a folder holds no model"""
ModelState: TypeAlias = Mapping[str, Tensor]
"""A copy of a model's weights: on the model's device, or on the CPU if another process made it."""


@dataclass(frozen=True)
class PretrainedLM:
    """A masked LM as it was loaded. `model` is the one working copy; `state` restores it."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    new_parameters: tuple[str, ...]
    """parameters the checkpoint lacked (a missing LM head), drawn anew when it was loaded"""

    def drawn_anew(self) -> list[nn.Parameter]:
        """The parameters named by `new_parameters`, each once."""
        names = set(self.new_parameters)
        return [parameter for name, parameter in self.model.named_parameters() if name in names]

    @property
    def hidden_size(self) -> int:
        return int(self.model.config.hidden_size)

    @property
    def vocabulary_size(self) -> int:
        """Ids that the tokenizer gives, from 0; the embeddings may have more rows."""
        return vocabulary_size(self.tokenizer)


def load_tokenizer(settings: ModelSettings) -> PreTrainedTokenizerBase:
    """Raises UserError where there is none, where it has no mask token, or where it cannot tell words apart."""
    name = settings.name
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, trust_remote_code=settings.trust_remote_code, local_files_only=_only_local(name)
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _cannot_load(name, "tokenizer", error) from error
    if not tokenizer.is_fast:
        raise UserError(f"model.name: '{name}' has no fast tokenizer; nmg needs one to know words and characters")
    if tokenizer.mask_token_id is None:
        raise UserError(f"model.name: the tokenizer of '{name}' has no mask token, so nothing can be masked")
    return tokenizer


def load_pretrained(settings: ModelSettings) -> PretrainedLM:
    """Load any `AutoModelForMaskedLM` with its tokenizer.

    New parameters are drawn from torch's generators: call it under `torch_stream`. Raises UserError for a model that
    does not load, whose checkpoint lacks more than the LM head, or that needs Python of its own which the settings do
    not trust.
    """
    tokenizer = load_tokenizer(settings)
    try:
        with _quiet_transformers():
            model, report = AutoModelForMaskedLM.from_pretrained(
                settings.name,
                output_loading_info=True,
                dtype=torch.float32,
                trust_remote_code=settings.trust_remote_code,
                local_files_only=_only_local(settings.name),
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise _cannot_load(settings.name, "masked language model", error) from error
    _fit_together(model, tokenizer)
    missing = tuple(sorted(report["missing_keys"]))
    encoder = tuple(name for name in missing if name.startswith(model.base_model_prefix + "."))
    if encoder:
        raise UserError(f"model.name: the checkpoint '{settings.name}' lacks weights of its encoder, e.g. {encoder[0]}")
    return PretrainedLM(settings.name, model, tokenizer, missing)


def _fit_together(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Settle what model and tokenizer leave open, if there is one way to do it.

    A tokenizer that gives token types to a model that has one type, or does not take them, keeps them to itself. A
    model with adapters for one language (X-MOD) uses that.
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
    if "trust_remote_code" in str(error):  # transformers' advice, in the words of its own argument
        return UserError(
            f"model.name: the {what} of '{name}' needs Python that comes with it, and nmg runs none; "
            "--model.trust_remote_code true runs it: read it first"
        )
    if is_folder(name):
        if not (Path(name) / CONFIG_FILE).is_file():
            return UserError(f"model.name: the folder '{name}' holds no model: there is no {CONFIG_FILE}")
        return UserError(f"model.name: cannot load a {what} from the folder '{name}': {first_line(error)}")
    if _only_local(name) and not is_cached(name, CONFIG_FILE):
        return UserError(
            f"model.name: there is no folder '{name}', the hub cannot be reached, and its cache holds no such model"
        )
    return UserError(f"model.name: cannot load a {what} '{name}' from the hub: {first_line(error)}")


def _only_local(name: str) -> bool:
    """As `is_only_local`, for the setting `model.name`."""
    try:
        return is_only_local(name)
    except UserError as error:
        raise UserError(f"model.name: {error}") from error


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Loading reports a missing head in capitals; we say it ourselves (`inner.head`)."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


def copy_state(model: nn.Module) -> ModelState:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def restore_state(model: PreTrainedModel, state: ModelState) -> None:
    """Give the model the weights of `state`, and undo what passes change beyond weights.

    BigBird leaves sparse attention for good at its first short batch, so an inner loop would depend on those before it.
    """
    model.load_state_dict(state)
    attention_type = getattr(model.config, "attention_type", None)
    if attention_type is not None and hasattr(model.base_model, "set_attention_type"):
        with torch.random.fork_rng(devices=[]):  # new modules are drawn, and then given the weights there are
            model.base_model.set_attention_type(attention_type)


def masked_logits(
    model: PreTrainedModel, input_ids: Tensor, is_token: Tensor, is_masked: Tensor, *, is_packed: bool = False
) -> Tensor:
    """Vocabulary logits [M, V] at the M masked positions, in row-major order of `is_masked` [B, T].

    Every masked-LM head is position-wise, so the gathered states [1, M, H] in the place of [B, T, H] give the same
    logits for a fraction of the head's work (it is V x H a position), whatever the architecture.

    For a batch on the CPU a GPU need not be waited for: how many positions are masked is known here. But for a batch
    with padding transformers itself looks, on the GPU, whether there is any. `is_packed`: see `fast.packing`.
    """
    inputs: dict[str, Any]
    if is_packed:
        inputs, is_masked = packed_inputs(model, input_ids, is_token), is_masked[is_token].unsqueeze(0)
    else:
        inputs = needed_inputs(model, {"input_ids": input_ids, "attention_mask": is_token.long()})
    places = Places.where(is_masked).sent(partial(send, device=model.device))
    sent = {name: send(value, model.device) if isinstance(value, Tensor) else value for name, value in inputs.items()}
    with only_places(model, places, is_packed=is_packed), packing(model) if is_packed else nullcontext():
        logits = model(**sent).logits
    return logits.squeeze(0)  # type: ignore[no-any-return]


def masked_lm_loss(
    model: PreTrainedModel, corrupted: CorruptedBlocks, part: slice = slice(None), *, is_packed: bool = False
) -> Tensor:
    """Mean cross-entropy over the masked positions of a batch (scalar); 0, with a gradient of 0, where none is.

    Of a `part` of its blocks, what these add to that mean: the parts of a batch sum to the loss of the whole.
    """
    some = corrupted[part]
    is_masked = some.labels != IGNORED_LABEL
    logits = masked_logits(model, some.input_ids, some.is_token, is_masked, is_packed=is_packed)
    labels = send(some.labels[is_masked], model.device)
    n_masked = max(int((corrupted.labels != IGNORED_LABEL).sum()), 1)
    return cross_entropy(logits.float(), labels, reduction="sum") / n_masked


LARGEST_TABLE = 2**26
"""numbers of a table of logits, positions x vocabulary, that is read at once: 256 MiB"""


@torch.no_grad()
def logits_in_parts(
    model: PreTrainedModel, input_ids: Tensor, is_token: Tensor, is_masked: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """(places among the M masked positions, their logits [m, V]), in the order of `masked_logits`.

    The encoder runs once. A vocabulary of 250 000 words makes a table of some gigabytes of a batch's positions, so the
    head runs on as many of them at once as `LARGEST_TABLE` allows.
    """
    n_masked = int(is_masked.sum())
    at_once = max(LARGEST_TABLE // int(model.config.vocab_size), 1)
    if n_masked <= at_once:
        yield slice(0, n_masked), masked_logits(model, input_ids, is_token, is_masked)
        return
    inputs = needed_inputs(model, {"input_ids": input_ids, "attention_mask": is_token.long()})
    sent = {name: send(value, model.device) for name, value in inputs.items()}
    with only_places(model, Places.where(is_masked).sent(partial(send, device=model.device))):
        states = model.base_model(**sent)[0]
    for first in range(0, n_masked, at_once):
        part = slice(first, min(first + at_once, n_masked))
        with given_states(model, states[:, part]):
            logits = model(**sent).logits.squeeze(0)
        yield part, logits


@torch.no_grad()
def summed_masked_lm_loss(model: PreTrainedModel, corrupted: CorruptedBlocks) -> float:
    """Sum of the cross-entropy over the masked positions of a batch, for a model in evaluation mode."""
    is_masked = corrupted.labels != IGNORED_LABEL
    labels, total = send(corrupted.labels[is_masked], model.device), 0.0
    for part, logits in logits_in_parts(model, corrupted.input_ids, corrupted.is_token, is_masked):
        total += float(cross_entropy(logits.float(), labels[part], reduction="sum"))
    return total


def encoder_states(model: PreTrainedModel, blocks: TokenBlocks | CorruptedBlocks) -> Tensor:
    """Last hidden states [B, T, H], float32, without dropout or gradient, on the model's device.

    Call it inside the runtime's autocast to encode in mixed precision.
    """
    inputs = {"input_ids": blocks.input_ids, "attention_mask": blocks.is_token.long()}
    sent = {name: send(tensor, model.device) for name, tensor in needed_inputs(model.base_model, inputs).items()}
    was_training = model.training
    model.eval()
    with torch.no_grad():
        output = model.base_model(**sent)
    model.train(was_training)
    return output[0].float()  # type: ignore[no-any-return]


HIDDEN_AT_ONCE = 7
"""To see how hard tokens are to predict, every seventh position is hidden at once, as in training at a rate of 1/7."""


class Passes(Protocol):
    """How forward passes run; a `Runtime` says."""

    @property
    def evaluation_batch_size(self) -> int: ...

    def autocast(self) -> AbstractContextManager[None]: ...


@dataclass(frozen=True)
class PlainPasses:
    """In the precision of the model's weights, on the device where it is."""

    evaluation_batch_size: int = 64

    def autocast(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True)
class LMReader:
    """A `types.StateEncoder`: reads `model` as it is at the time of each call."""

    model: PreTrainedModel
    mask_id: int
    runtime: Passes

    def __call__(self, blocks: TokenBlocks) -> Tensor:
        def read(part: TokenBlocks) -> Tensor:
            with self.runtime.autocast():
                return encoder_states(self.model, part)

        return self._in_parts(blocks, read)

    def surprise(self, blocks: TokenBlocks) -> Tensor:
        return self._in_parts(blocks, self._surprise)

    @torch.no_grad()
    def _surprise(self, blocks: TokenBlocks) -> Tensor:
        ids, is_token, is_maskable = (t.cpu() for t in (blocks.input_ids, blocks.is_token, blocks.is_maskable))
        device, place = self.model.device, torch.arange(ids.shape[1])
        found = torch.zeros(*ids.shape, 2, device=device)
        was_training = self.model.training
        self.model.eval()
        for shift in range(HIDDEN_AT_ONCE):
            is_hidden = is_maskable & (place % HIDDEN_AT_ONCE == shift)
            if not bool(is_hidden.any()):
                continue
            words, read = send(ids[is_hidden], device), []
            with self.runtime.autocast():
                hidden = ids.masked_fill(is_hidden, self.mask_id)
                for part, logits in logits_in_parts(self.model, hidden, is_token, is_hidden):
                    read.append(_loss_and_entropy(logits.float(), words[part]))
            found[send(is_hidden, device)] = torch.cat(read)
        self.model.train(was_training)
        return found

    def _in_parts(self, blocks: TokenBlocks, read: Callable[[TokenBlocks], Tensor]) -> Tensor:
        """`read` of as many blocks at once as an evaluation takes; each part without padding that only others need."""
        lengths = blocks.is_token.sum(dim=1)

        def read_part(rows: slice) -> Tensor:
            longest = int(lengths[rows].max())
            columns = {name: tensor[rows] for name, tensor in vars(blocks).items()}
            return read(TokenBlocks(**{n: c[:, :longest] if c.ndim > 1 else c for n, c in columns.items()}))

        whole: Tensor | None = None
        if not len(blocks):
            return read(blocks)
        for rows, part in in_passes(len(blocks), self.runtime.evaluation_batch_size, read_part):
            if whole is None:
                whole = part.new_zeros(*blocks.input_ids.shape, part.shape[2])
            whole[rows, : part.shape[1]] = part
        assert whole is not None, "there is at least one block"
        return whole


def _loss_and_entropy(logits: Tensor, words: Tensor) -> Tensor:
    """[m, 2] of logits [m, V] at places that hide `words` [m]: -ln p(word), and the entropy (nats) of p."""
    log_probs = logits.log_softmax(dim=1)
    loss = -log_probs.gather(1, words[:, None]).squeeze(1)
    return torch.stack([loss, -(log_probs.exp() * log_probs).sum(dim=1)], dim=1)
