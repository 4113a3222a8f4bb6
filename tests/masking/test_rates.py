"""Masking rates that move."""

import math

import pytest
from pydantic import ValidationError

from nmg.config import Config
from nmg.errors import UserError
from nmg.masking.mixture import parse_mixture
from nmg.masking.schedule import RateSchedule
from nmg.settings import MaskingSettings


def test_linear_cosine_and_constant() -> None:
    linear = RateSchedule(0.30, 0.15, steps=11)
    assert [linear.at(step) for step in (0, 5, 10, 99)] == pytest.approx([0.30, 0.225, 0.15, 0.15])
    cosine = RateSchedule(0.30, 0.15, steps=11, shape="cosine")
    expected = [0.15 + 0.15 * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(11)]
    assert [cosine.at(step) for step in range(11)] == pytest.approx(expected)
    assert RateSchedule(0.2, 0.9, steps=11, shape="constant").at(7) == 0.2
    assert RateSchedule(0.3, 0.15, steps=1).at(0) == 0.3


@pytest.mark.parametrize(("start", "end", "steps"), [(0.0, 0.1, 1), (0.1, 1.0, 1), (0.1, 0.1, 0)])
def test_rates_and_steps_that_are_none(start: float, end: float, steps: int) -> None:
    with pytest.raises(ValueError, match=r"rate|step"):
        RateSchedule(start, end, steps)


def test_settings_make_a_schedule() -> None:
    assert RateSchedule.of(MaskingSettings(rate=0.3, rate_schedule="linear"), 3).at(1) == pytest.approx(0.225)
    assert RateSchedule.of(MaskingSettings(rate=0.3, rate_schedule="cosine", rate_end=0.1), 3).at(2) == pytest.approx(
        0.1
    )
    assert RateSchedule.of(MaskingSettings(rate=0.3), 3).at(2) == 0.3


def test_masks_that_are_chosen_at_the_start_have_one_rate() -> None:
    fields = {"masking": {"rate_schedule": "cosine"}, "test": {"policy_sees": "start"}}
    with pytest.raises(ValidationError, match="rate_schedule must be constant"):
        Config.model_validate(fields)


def test_how_mixtures_are_written() -> None:
    assert parse_mixture("idf") == []
    assert parse_mixture("0.7*idf+0.3*runs/mine") == [(0.7, "idf"), (0.3, "runs/mine")]
    assert parse_mixture("idf + random") == [(1.0, "idf"), (1.0, "random")]
    for wrong in ("0*idf+random", "idf+", "x*idf+random", "-1*idf+random", "2*3*idf+random"):
        with pytest.raises(UserError, match="a mixture is written"):
            parse_mixture(wrong)
