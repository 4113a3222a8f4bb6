"""Where the GPU's memory is short, real trainings go on in parts of a batch, and end as whole batches would have."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nmg.base.progress import Silent
from nmg.base.seeding import StreamName, stream
from nmg.base.types import IGNORED_LABEL, CorruptedBlocks
from nmg.masking.rules import RandomMasking
from nmg.training.adapt import adapt
from nmg.training.context import TrainingContext
from nmg.training.finetune import finetune, task_model
from nmg.training.lm import masked_lm_loss
from nmg.training.masks import FixedMasks
from nmg.trials.session import Session
from support.models import CONFIGS, VOCABULARY, tiny_model
from support.runs import Inputs

NAME = StreamName(0) / "test"


def shorten_memory(model: nn.Module, fits: int) -> list[int]:
    """From here on `model` takes no more than so many rows; returns the numbers of rows that it was asked to take."""
    asked: list[int] = []

    def refuse(_module: nn.Module, _positional: Any, named: dict[str, Any]) -> None:
        asked.append(len(named["input_ids"]))
        if asked[-1] > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    model.register_forward_pre_hook(refuse, with_kwargs=True)
    return asked


@pytest.fixture
def session(inputs: Inputs) -> Session:
    """Without dropout, whose draws depend on the size of a pass."""
    session = Session.prepare(inputs.config(), Silent())
    for module in session.lm.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        setattr(session.lm.model.config, name, 0.0)
    return session


def assert_close(first: nn.Module, second: nn.Module) -> None:
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(tensor, second.state_dict()[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_parts_of_a_batch_add_up_to_its_loss(kind: str):
    """Also where rows have different numbers of masks, and one has none."""
    model, generator = tiny_model(kind), torch.Generator().manual_seed(0)
    labels = torch.full((4, 9), IGNORED_LABEL)
    for row, n_masks in enumerate((3, 0, 1, 5)):
        labels[row, 1 : 1 + n_masks] = torch.randint(5, VOCABULARY, (n_masks,), generator=generator)
    input_ids = torch.randint(5, VOCABULARY, (4, 9), generator=generator)
    batch = CorruptedBlocks(input_ids, torch.ones(4, 9, dtype=torch.bool), labels)
    parts = [masked_lm_loss(model, batch, slice(first, first + 2)) for first in (0, 2)]
    torch.testing.assert_close(sum(parts), masked_lm_loss(model, batch), rtol=1e-5, atol=1e-5)


def test_an_adaptation_in_parts(session: Session):
    blocks = session.corpus([context.text for context in session.data.contexts]).blocks(np.arange(16))
    masks = FixedMasks(blocks, RandomMasking().plan(blocks, 0.3, stream(0, "plan")))
    whole = session.context
    parts = TrainingContext(**vars(whole) | {"model": copy.deepcopy(whole.model)})
    expected = adapt(whole, masks, NAME)
    asked = shorten_memory(parts.model, fits=3)
    with pytest.warns(UserWarning, match="2 rows at a time"):
        found = adapt(parts, masks, NAME)
    assert set(asked[1:]) == {2}
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.masked_tokens == expected.masked_tokens
    assert_close(parts.model, whole.model)


def test_a_fine_tuning_in_parts(session: Session):
    features = session.task.encode(session.data.train)
    whole, parts = (task_model(session.task, session.lm.model, NAME / "head") for _ in range(2))
    rows, settings = np.arange(15), session.config.finetune  # the last batch has three rows
    expected = finetune(whole, features, rows, settings, session.runtime, NAME)
    shorten_memory(parts, fits=2)
    with pytest.warns(UserWarning, match="2 rows at a time"):
        found = finetune(parts, features, rows, settings, session.runtime, NAME)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert_close(parts, whole)
