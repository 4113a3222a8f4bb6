"""The demo's answer in one short sentence, and what its page warns of."""

from types import SimpleNamespace
from typing import Any

import pytest

from nmg.demo.page import DemoResult, answer, held_out_warning


def result(selected: str | None = None, losses: tuple[float, float] = (4.87, 4.85), rule: float = 5.0) -> DemoResult:
    def one(masking: str, accuracy: float, loss: float) -> Any:
        estimates = {
            name: SimpleNamespace(mean=mean) for name, mean in (("accuracy", accuracy), ("held_out_loss", loss))
        }
        return SimpleNamespace(masking=masking, estimates=estimates)

    maskings = [one("none", 0.861, losses[0]), one("random", 0.867, losses[1]), one("learned", 0.879, 5.0)]
    comparison: Any = SimpleNamespace(settings=[SimpleNamespace(maskings=maskings)])
    log: Any = None if selected is None else SimpleNamespace(findings={"selected": selected, "rule": rule})
    return DemoResult(comparison, log)


@pytest.mark.parametrize("selected", [None, "policy", "none", "random", "rule"])
def test_the_answer_has_at_most_twenty_words_and_all_numbers(selected: str | None):
    text = answer(result(selected))
    words = [word for word in text.split() if word != "%"]
    assert len(words) <= 20, text
    assert "86.1" in text
    assert "86.7" in text
    assert ("87.9" in text) is (selected is not None)


def test_the_answer_names_what_was_selected():
    assert answer(result("policy")).startswith("Adapted with learned masks, the model reaches 87.9 % accuracy")
    assert "idf with exponent 5 did as well" in answer(result("rule"))
    assert "no adaptation did as well" in answer(result("none"))


def test_random_masks_that_do_not_lower_the_held_out_loss_are_said():
    assert held_out_warning(result()) == []
    (warning,) = held_out_warning(result(losses=(4.85, 5.2)))
    assert "did not lower the held-out LM loss** (4.850 → 5.200)" in warning
