"""Masking rates that move."""

import math
import re
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from nmg.base.errors import UserError
from nmg.base.settings import MaskingSettings
from nmg.config import Config
from nmg.masking.mixture import parse_mixture
from nmg.masking.schedule import RateSchedule


def test_linear_cosine_and_constant() -> None:
    linear = RateSchedule(0.30, 0.15, steps=11)
    assert [linear.at(step) for step in (0, 5, 10, 99)] == pytest.approx([0.30, 0.225, 0.15, 0.15])
    cosine = RateSchedule(0.30, 0.15, steps=11, shape="cosine")
    expected = [0.15 + 0.15 * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(11)]
    assert [cosine.at(step) for step in range(11)] == pytest.approx(expected)
    phases = RateSchedule(0.30, 0.15, steps=11, shape="two-phase", decay_ratio=0.25)  # 2.75 steps are three
    assert [phases.at(step) for step in (0, 7, 8, 10, 99)] == [0.30, 0.30, 0.15, 0.15, 0.15]
    assert RateSchedule(0.2, 0.9, steps=11, shape="constant").at(7) == 0.2
    assert RateSchedule(0.3, 0.15, steps=1).at(0) == 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 0.1, 1), "rate: must be a number between 0 and 1, not 0.0"),
        ((0.1, 1.0, 1), "rate: must be"),
        (("0.15", 0.1, 1), "rate: must be a number between 0 and 1, not '0.15'"),
        ((0.1, None, 1), "not None"),
        ((True, 0.1, 1), "not True"),
        ((0.1, 0.1, 0), "RateSchedule, steps: must be a whole number ≥ 1, not 0"),
        ((0.1, 0.1, 10.5), "not 10.5"),
        (
            (0.3, 0.15, 10, "cosin"),
            "RateSchedule, shape: must be one of constant, linear, cosine, two-phase, not",
        ),
        ((0.3, 0.15, 10, "two-phase", 0.0), "RateSchedule, decay_ratio: must be above 0 and at most 1, not 0.0"),
    ],
)
def test_rates_steps_and_shapes_that_do_not_exist(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        RateSchedule(*arguments)


def test_rates_of_numpy_are_numbers() -> None:
    assert RateSchedule(np.float32(0.5), np.float64(0.25), np.int64(3)).at(1) == pytest.approx(0.375)


def test_settings_make_a_schedule() -> None:
    assert RateSchedule.of(MaskingSettings(rate=0.3, rate_schedule="linear"), 3).at(1) == pytest.approx(0.225)
    assert RateSchedule.of(MaskingSettings(rate=0.3, rate_schedule="cosine", rate_end=0.1), 3).at(2) == pytest.approx(
        0.1
    )
    assert RateSchedule.of(MaskingSettings(rate=0.3), 3).at(2) == 0.3


def test_masks_that_are_chosen_at_the_start_have_one_rate() -> None:
    fields = {"masking": {"rate_schedule": "cosine"}, "test": {"remask": "once"}}
    with pytest.raises(ValidationError, match=r"Set masking\.rate_schedule to constant"):
        Config.model_validate(fields)


def test_how_mixtures_are_written() -> None:
    assert parse_mixture("idf") == []
    assert parse_mixture("0.7*idf+0.3*runs/mine") == [(0.7, "idf"), (0.3, "runs/mine")]
    assert parse_mixture("idf + random") == [(1.0, "idf"), (1.0, "random")]
    for wrong in (
        "0*idf+random",
        "idf+",
        "x*idf+random",
        "-1*idf+random",
        "2*3*idf+random",
        "inf*idf+random",
        "nan*idf+random",
    ):
        with pytest.raises(UserError, match="a mixture is written"):
            parse_mixture(wrong)
