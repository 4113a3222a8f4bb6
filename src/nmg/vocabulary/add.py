"""Adds whole words to a pretrained masked LM and its tokenizer."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nmg.base.errors import UserError
from nmg.data.framing import vocabulary_size
from nmg.training.lm import PretrainedLM
from nmg.vocabulary.fragments import Ids
from nmg.vocabulary.tokenizer import extend_tokenizer, pieces_of


def add_words(lm: PretrainedLM, words: Sequence[str]) -> PretrainedLM:
    """Add whole words to a model, in place, and to a copy of its tokenizer.

    The input embedding, the output embedding (if it is not tied to the former) and the output bias of a new word start
    as the mean of those of its pieces: fast vocabulary transfer (Gee et al. 2022, arXiv 2402.09977), which AVocaDo
    (Hong et al. 2021, arXiv 2110.13434) uses as well. The logit of a new word is therefore the mean of the logits of
    its pieces until training starts.

    Args:
        lm: The model and its tokenizer.
        words: Distinct words, normalised, each one word of the tokenizer with more than one piece or an unknown one
            (`check_word_list` and `choose_words` return such words).

    Returns:
        The same model with the new tokenizer. The ids of the new words follow the largest id, in the order of `words`.

    Raises:
        UserError: The tokenizer or the model cannot be extended.
    """
    if not words:
        return lm
    pieces = [of_word[0][1] for of_word in pieces_of(lm.tokenizer, words)]
    first = vocabulary_size(lm.tokenizer)
    tokenizer = extend_tokenizer(lm.tokenizer, words)
    n_rows = max(lm.model.get_input_embeddings().weight.shape[0], first + len(words))
    try:
        with torch.random.fork_rng():  # new rows are drawn, then replaced
            _resize(lm.model, n_rows)
    except (NotImplementedError, TypeError, AttributeError) as error:
        raise UserError(f"adapt.add_words: the vocabulary of '{lm.name}' cannot be extended ({error})") from error
    tables = _tables(lm.model)
    for table in tables:
        _start_rows(table, first, pieces)
    extended = {id(table) for table in tables}
    names = tuple(name for name, parameter in lm.model.named_parameters() if id(parameter) in extended)
    return replace(lm, tokenizer=tokenizer, extended=names)


def _resize(model: PreTrainedModel, n_rows: int) -> None:
    """Extend all tables and biases with one row per token id to `n_rows` rows."""
    before = model.get_input_embeddings().weight.shape[0]
    output = model.get_output_embeddings()
    if output is None or output.weight.shape[0] == before:
        model.resize_token_embeddings(n_rows, mean_resizing=False)
        return
    # The head of DeBERTa v3 multiplies by the input embeddings, and its "output embeddings" are another layer, which
    # transformers would destroy.
    model.base_model.resize_token_embeddings(n_rows, mean_resizing=False)
    for module in _head_modules(model):
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter) and bias.shape == (before,):
            module.bias = nn.Parameter(torch.cat([bias.detach(), bias.new_zeros(n_rows - before)]))


def _tables(model: PreTrainedModel) -> list[Tensor]:
    """Return the parameters of the model that have one row or value per token id, without repetitions."""
    embeddings = model.get_input_embeddings().weight
    n_rows = embeddings.shape[0]
    found = {id(embeddings): embeddings}
    for module in _head_modules(model):
        for parameter in module.parameters(recurse=False):
            if parameter.shape[:1] == (n_rows,):
                found[id(parameter)] = parameter
    return list(found.values())


def _head_modules(model: PreTrainedModel) -> list[nn.Module]:
    """Return the modules of the LM head."""
    encoder = set(model.base_model.modules())
    return [module for module in model.modules() if module not in encoder]


@torch.no_grad()
def _start_rows(table: Tensor, first: int, pieces: Sequence[Ids]) -> None:
    """Initialise the rows of new words as the mean of the rows of their pieces.

    `table` is [V, H] or [V]; row `first` + i belongs to the word with the ids `pieces`[i].
    """
    table[first : first + len(pieces)] = torch.stack([table[list(ids)].mean(dim=0) for ids in pieces])
