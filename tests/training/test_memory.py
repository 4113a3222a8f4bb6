"""Reading, scoring and probing in bounded memory: the same results from fewer rows, and from parts of a large table."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.base.seeding import StreamName
from nmg.base.types import TokenBlocks
from nmg.data.corpus import Corpus
from nmg.training import lm as reading
from nmg.training.context import TrainingContext
from nmg.training.finetune import predict, task_model
from nmg.training.head_init import _states
from nmg.training.lm import masked_logits
from nmg.training.lm_quality import held_out_loss
from nmg.training.lm_reader import LMReader, PlainPasses
from nmg.training.memory import in_passes
from nmg.training.probe import probe
from nmg.trials.held_out import HeldOutText
from nmg.trials.session import Session
from support.models import CONFIGS, VOCABULARY, tiny_model
from support.runs import Inputs

NAME = StreamName(0) / "test"


@contextmanager
def short_memory(model: nn.Module, fits: int) -> Iterator[list[int]]:
    """Inside of it `model` takes at most `fits` rows; gives the numbers of rows that it was asked to take."""
    asked: list[int] = []

    def refuse(_module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        asked.append(len(positional[0] if positional else named["input_ids"]))
        if asked[-1] > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    handle = model.register_forward_pre_hook(refuse, with_kwargs=True)
    yield asked
    handle.remove()


@pytest.fixture(scope="module")
def session(inputs: Inputs) -> Session:
    return Session.prepare(inputs.config(), Silent())


@pytest.fixture(scope="module")
def text(session: Session) -> Corpus:
    return session.corpus([context.text for context in session.data.contexts])


def held_out(session: Session, context: TrainingContext, corpus: Corpus) -> float:
    text = HeldOutText.build(session, [context.text for context in session.data.contexts], ())
    assert text is not None
    return text.loss(context)[0]


READINGS: dict[str, Callable[[Session, TrainingContext, Corpus], Any]] = {
    "states": lambda session, context, corpus: context.reader(corpus.blocks(np.arange(len(corpus)))),
    "surprise": lambda session, context, corpus: context.reader.surprise(corpus.blocks(np.arange(len(corpus)))),
    "held-out loss": lambda session, context, corpus: held_out_loss(context, corpus, np.arange(len(corpus)), NAME),
    "held-out text": held_out,
    "a head in closed form": lambda session, context, corpus: _states(context, corpus, np.arange(12), NAME)[0],
    "a probe": lambda session, context, corpus: probe(
        context,
        session.task,
        session.task.encode(session.data.train),
        np.arange(12),
        session.task.encode(session.data.train[:9]),
    )[session.task.outputs[0]],
}


@pytest.mark.parametrize("name", READINGS)
def test_where_memory_runs_out_fewer_rows_are_read_at_once(session: Session, text: Corpus, name: str):
    context = session.context
    expected = READINGS[name](session, context, text)
    with (
        short_memory(context.model.base_model, fits=4) as asked,
        pytest.warns(UserWarning, match=r"read \d+ rows at a"),
    ):
        found = READINGS[name](session, context, text)
    assert max(asked) > 4
    assert max(asked[-2:]) <= 4
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_task_model_is_scored_in_fewer_rows_too(session: Session):
    features = session.task.encode(session.data.train[:15])
    model = task_model(session.task, session.lm.model, NAME / "head")
    expected = predict(model, session.task, features, session.runtime)
    with short_memory(model, fits=2) as asked, pytest.warns(UserWarning, match="read 3 rows at a time"):
        found = predict(model, session.task, features, session.runtime)
    assert asked[:4] == [15, 7, 3, 1]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_text_too_long_by_itself_is_a_clear_error():
    def read(_rows: slice) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with (
        pytest.warns(UserWarning, match="1 rows"),
        pytest.raises(UserError, match="while reading a single text: use shorter texts"),
    ):
        list(in_passes(2, 2, read))


class LargestTensor(TorchDispatchMode):
    """Notes the most numbers that a new tensor holds."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        self.numbers = max([self.numbers, *sizes])
        return made


def blocks(n_blocks: int, n_tokens: int) -> TokenBlocks:
    shape, rows = (n_blocks, n_tokens), torch.arange(n_blocks)
    ids = torch.randint(5, VOCABULARY, shape, generator=torch.Generator().manual_seed(0))
    is_token = torch.arange(n_tokens) < n_tokens - rows[:, None] % 3
    return TokenBlocks(rows, rows, ids, is_token, is_token, torch.arange(n_tokens).expand(shape))


@pytest.mark.parametrize("kind", CONFIGS)
def test_how_hard_tokens_are_is_read_from_parts_of_the_vocabularys_table(kind: str, monkeypatch: pytest.MonkeyPatch):
    """With XLM-R one table of a batch would take up to 4 GiB, and there were three."""
    model, some = tiny_model(kind), blocks(9, 20)
    reader = LMReader(model, 4, PlainPasses())
    expected = reader.surprise(some)
    monkeypatch.setattr(reading, "LARGEST_TABLE", 5 * VOCABULARY)
    torch.testing.assert_close(reader.surprise(some), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("measure", ["surprise", "held-out loss"])
def test_no_table_is_larger_than_allowed(session: Session, text: Corpus, measure: str, monkeypatch: pytest.MonkeyPatch):
    """A vocabulary of 20 000 words. Before, all hidden words of a batch were in one table."""
    context, vocabulary = session.context, 20_000
    model = copy.deepcopy(context.model)
    model.resize_token_embeddings(vocabulary, mean_resizing=False)
    # The embeddings are a table, too.
    allowed = max(10 * vocabulary, model.get_input_embeddings().weight.numel())
    large = TrainingContext(**vars(context) | {"model": model})
    with LargestTensor() as whole:
        expected = READINGS[measure](session, large, text)
    assert whole.numbers > allowed
    monkeypatch.setattr(reading, "LARGEST_TABLE", 10 * vocabulary)
    with LargestTensor() as parts:
        found = READINGS[measure](session, large, text)
    assert parts.numbers <= allowed
    assert math.isclose(float(torch.as_tensor(found).sum()), float(torch.as_tensor(expected).sum()), rel_tol=1e-5)


def test_logits_of_all_positions_are_one_table_where_it_is_small():
    model, some = tiny_model("bert"), blocks(3, 9)
    is_masked = some.is_maskable & (torch.arange(9) % 4 == 1)
    parts = list(reading.logits_in_parts(model, some.input_ids, some.is_token, is_masked))
    assert len(parts) == 1
    with torch.no_grad():
        assert torch.equal(parts[0][1], masked_logits(model, some.input_ids, some.is_token, is_masked))
