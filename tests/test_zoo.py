"""A few of the models of `python -m benchmarks.zoo`: each case works, or is refused before any training."""

from pathlib import Path

import pytest

from benchmarks import zoo
from benchmarks.zoo_models import family_of


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return zoo.write_data(tmp_path_factory.mktemp("data"))


REFUSED = {
    "big_bird": [],
    "distilbert": [],
    "longformer": [],
    "eurobert": ["adapt on the corpus's words", "qa"],
    "esm": ["adapt on the corpus's words", "qa"],
}
"""type of model → jobs that it cannot do"""


@pytest.mark.parametrize("kind", REFUSED)
def test_a_case_works_or_is_refused_before_training(kind, data, tmp_path):
    cases = zoo.run_model(kind, family_of(kind), data, tmp_path)
    assert [case.job for case in cases] == list(zoo.COLUMNS)
    assert [case.job for case in cases if case.state == "refused"] == REFUSED[kind]
    assert not [case for case in cases if case.state == "fault"]


def test_an_error_after_training_began_is_a_fault_and_so_is_a_raw_one():
    def late(watch: zoo.Watch) -> None:
        watch.steps("adapting · random")
        raise zoo.UserError("too late")

    def early(_watch: zoo.Watch) -> None:
        raise zoo.UserError("in time")

    def raw(_watch: zoo.Watch) -> None:
        raise KeyError("name")

    states = [zoo.run_case("m", "WordPiece", "adapt", work).state for work in (late, early, raw)]
    assert states == ["fault", "refused", "fault"]


def test_the_table_has_a_row_a_model_and_each_sentence_once():
    cases = [
        zoo.Case("a", "WordPiece", "adapt", "works"),
        zoo.Case("a", "WordPiece", "qa", "refused", "no head for '/tmp/x/a'"),
        zoo.Case("b", "Unigram", "qa", "refused", "no head for '/tmp/x/a'"),
    ]
    lines = zoo.markdown(cases).splitlines()
    assert lines[2] == "| a | WordPiece | works | – | – | refused [1] | – |"
    assert lines[3] == "| b | Unigram | – | – | – | refused [1] | – |"
    assert "1 cases work, 2 are refused before training, 0 are faults." in lines
    assert lines[-1] == "1. no head for 'a'"
