"""Some devices have no float64 (Apple GPUs): numbers go to the CPU first, and become float64 there."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import nmg
from nmg.base.progress import Silent
from nmg.base.seeding import StreamName
from nmg.learners.experiment.learner import mean_features
from nmg.policies.features import Vocabulary
from nmg.training import head_init as head_start
from nmg.training.context import TrainingContext
from nmg.training.head_init import newton_step
from nmg.training.probe import probe
from nmg.trials.session import Session
from support.elsewhere import OnDevice, Reachable
from support.runs import Inputs


def test_the_device_of_these_tests_has_no_float64():
    tensor = OnDevice(torch.ones(2))
    assert tensor.device.type == "mps"
    assert torch.equal((tensor * 2).cpu(), torch.full((2,), 2.0))
    with pytest.raises(TypeError, match="no float64"):
        tensor.double()
    with pytest.raises(RuntimeError, match="mixes devices"):
        tensor + torch.ones(2)


@pytest.fixture
def session(inputs: Inputs) -> Session:
    return Session.prepare(inputs.config(), Silent())


class ReadElsewhere:
    """A model whose encoder gives states that are on the device."""

    device = torch.device("cpu")

    def __init__(self, model: Any) -> None:
        self._model = model

    def eval(self) -> None:
        self._model.eval()

    def base_model(self, **inputs: Tensor) -> list[Tensor]:
        return [OnDevice(self._model.base_model(**inputs)[0])]


def test_a_probe(session: Session):
    features, rows = session.task.encode(session.data.train[:12]), np.arange(12)
    elsewhere = TrainingContext(**vars(session.context) | {"model": ReadElsewhere(session.lm.model)})
    found, expected = (
        probe(context, session.task, features, rows, features) for context in (elsewhere, session.context)
    )
    for name, values in expected.items():
        assert torch.equal(found[name], values)


def test_a_head_in_closed_form(session: Session, monkeypatch: pytest.MonkeyPatch):
    corpus = session.corpus([context.text for context in session.data.contexts])
    read = head_start.encoder_states
    monkeypatch.setattr(head_start, "encoder_states", lambda *args: OnDevice(read(*args)))
    with Reachable():
        states, words = head_start._states(session.context, corpus, np.arange(8), StreamName(0))
    embeddings = session.lm.model.get_input_embeddings().weight.detach()
    frequencies = np.log(np.full(len(embeddings), 1 / len(embeddings)))
    found = newton_step(states, words, OnDevice(embeddings), frequencies)
    assert torch.equal(found, newton_step(states, words, embeddings, frequencies))


def test_features_of_word_pieces(inputs: Inputs):
    session = Session.prepare(inputs.config(), Silent())
    ground = session.policy_ground(session.corpus([context.text for context in session.data.contexts]), [])
    elsewhere = replace(ground, embeddings=OnDevice(ground.embeddings))
    found, expected = (Vocabulary(one).components for one in (elsewhere, ground))
    assert np.array_equal(found, expected)


def test_the_features_that_an_experiment_writes_down():
    observed, is_masked = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)), torch.ones(2, 3).bool()
    with Reachable():
        elsewhere = mean_features(OnDevice(observed), is_masked)
    assert np.array_equal(elsewhere, mean_features(observed, is_masked))


def test_no_line_makes_float64_before_it_leaves_the_device():
    source = Path(nmg.__file__).parent
    lines = [
        f"{path.relative_to(source)}:{number}"
        for path in sorted(source.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(r"\.double\(\)[^#]*\.cpu\(\)", line)
    ]
    assert lines == []
