"""Rounded shapes: the same loss and gradients, and few different shapes."""

import pytest
import torch
from torch import Tensor

from nmg.base.types import IGNORED_LABEL, CorruptedBlocks
from nmg.training import lm
from nmg.training.fast.model_types import PURE_ATTENTION
from nmg.training.fast.shapes import has_costly_shapes, rounded_up
from nmg.training.lm import masked_lm_loss
from support.models import CONFIGS, tiny_model

KINDS = sorted(kind for kind, config in CONFIGS.items() if config.model_type in PURE_ATTENTION)


def batch(lengths: tuple[int, ...] = (11, 9, 5), n_masked: int = 2, seed: int = 0) -> CorruptedBlocks:
    draw = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    ids = torch.randint(5, 30, shape, generator=draw)
    is_token = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
    labels = torch.full(shape, IGNORED_LABEL)
    for row in range(len(lengths)):
        columns = torch.randperm(lengths[row], generator=draw)[: n_masked + row % 2 if n_masked else 0]
        labels[row, columns] = ids[row, columns]
    return CorruptedBlocks(ids, is_token, labels)


def loss_and_gradients(kind: str, corrupted: CorruptedBlocks) -> list[Tensor]:
    model = tiny_model(kind)
    loss = masked_lm_loss(model, corrupted)
    loss.backward()  # type: ignore[no-untyped-call]
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_masked", [0, 2])
def test_rounding_changes_neither_loss_nor_gradients(kind: str, n_masked: int, monkeypatch: pytest.MonkeyPatch):
    corrupted = batch(n_masked=n_masked)
    plain = loss_and_gradients(kind, corrupted)
    monkeypatch.setattr(lm, "has_costly_shapes", lambda _: True)
    rounded = loss_and_gradients(kind, corrupted)
    for found, wanted in zip(rounded, plain, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_batches_share_shapes(monkeypatch: pytest.MonkeyPatch):
    """Shapes of the inputs of all layers, of batches with different lengths and numbers of masked tokens."""
    monkeypatch.setattr(lm, "has_costly_shapes", lambda _: True)
    model, shapes = tiny_model("bert").train(), []
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    seen = []
    for lengths, n_masked in (((9, 9, 9), 1), ((14, 12, 10), 3), ((16, 16, 16), 2)):
        masked_lm_loss(model, batch(lengths, n_masked))
        seen.append(list(shapes))
        shapes.clear()
    assert seen[0] == seen[1] == seen[2]


def test_a_row_is_not_longer_than_the_model_allows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lm, "has_costly_shapes", lambda _: True)
    model = tiny_model("bert")
    most = model.config.max_position_embeddings
    loss = masked_lm_loss(model, batch((most, most - 1)))
    assert loss.isfinite()


def test_shapes_are_costly_only_in_a_training_step_in_bfloat16():
    model = tiny_model("bert").train()
    assert not has_costly_shapes(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert has_costly_shapes(model)
        assert not has_costly_shapes(model.eval())
        with torch.no_grad():
            assert not has_costly_shapes(model.train())
        model.config.model_type = "convbert"
        assert not has_costly_shapes(model.train())


def test_rounding_up_by_hand():
    assert [rounded_up(number, 8) for number in (1, 8, 9, 16)] == [8, 8, 16, 16]
