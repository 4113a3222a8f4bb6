"""`adapt.terms`: which terms are chosen, where they occur, and how well a model predicts them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, BertForMaskedLM, PreTrainedTokenizerFast

from nmg.adaptation import terms as measuring
from nmg.adaptation.term_rows import SHOWN
from nmg.adaptation.terms import Terms
from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.config import Config, load_config
from nmg.report.terms import terms_table
from nmg.trials.session import ModelSession
from nmg.vocabulary.terms import choose_terms, read_terms
from support.command import Nmg

TEXTS = [
    "the inhibitor binds it, the inhibitor",  # [CLS] the in ##hibit ##or binds it , the in ##hibit ##or [SEP]
    "Inhibitors (kinase inhibitor)",  # [CLS] in ##hibit ##or ##s ( kin ##ase in ##hibit ##or ) [SEP]
    "a kinase-inhibitor binds kinase",
    "the s s 2",
]


def session_of(model: Path, **adapt: Any) -> ModelSession:
    settings = {
        "model": {"name": str(model)},
        "runtime": {"device": "cpu", "precision": "fp32"},
        "adapt": {"block_size": 20, **adapt},
    }
    return ModelSession.open(Config.model_validate(settings), Silent())


def found(session: ModelSession, names: list[str], texts: list[str] | None = None) -> Terms:
    return Terms.find("terms.txt", names, session.corpus(texts or TEXTS), session.lm)


def test_terms_are_found_as_whole_words_once_in_a_text(model: Path, bert: PreTrainedTokenizerFast):
    terms = found(session_of(model), ["inhibitor", "kinase inhibitor", "it", "zebra", "Kinase"])
    places = [(one.term, one.block, one.first, bert.decode(list(one.pieces))) for one in terms.occurrences]
    assert places == [
        (0, 0, 2, "inhibitor"),
        (0, 1, 8, "inhibitor"),
        (0, 2, 5, "inhibitor"),
        (1, 1, 6, "kinase inhibitor"),
        (2, 0, 6, "it"),
        (4, 1, 6, "kinase"),
        (4, 2, 2, "kinase"),
    ]


@pytest.mark.parametrize(
    ("words", "is_term"),
    [([-1, 0, 1, 1, 2], True), ([-1, 0, 0, 0, 1], False), ([-1, 0, 1, 1, 1], False), ([-1, 0, -1, 1, 2], False)],
    ids=["a word", "the end of a word", "the start of a word", "a special token"],
)
def test_a_part_of_a_word_is_no_term(words: list[int], is_term: bool):
    """Byte-level tokenizers have the same pieces within words."""
    assert measuring._is_at((7, 8), 2, [2, 5, 7, 8, 6], words) == is_term


def test_the_number_of_rows_is_limited(model: Path, monkeypatch: pytest.MonkeyPatch):
    texts = [f"{'the ' * n}kinase binds" for n in range(1, 13)]
    session = session_of(model)
    assert [one.block for one in found(session, ["kinase"], texts).occurrences] == list(range(8))
    monkeypatch.setattr(measuring, "MAX_ROWS", 6)
    terms = found(session, ["kinase", "binds"], texts)
    assert [(one.term, one.block) for one in terms.occurrences] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_scores_by_hand(model: Path, bert: PreTrainedTokenizerFast):
    """A model whose logits are its output bias at every position: p = (in .4, kin .3, ##hibit .1, ##or .05, …)."""
    session = session_of(model)
    p = dict.fromkeys(bert.get_vocab(), 0.15 / (len(bert) - 4)) | {"in": 0.4, "kin": 0.3, "##hibit": 0.1, "##or": 0.05}
    lm = session.lm.model
    assert isinstance(lm, BertForMaskedLM)
    with torch.no_grad():
        for weight in (lm.cls.predictions.transform.LayerNorm.weight, lm.cls.predictions.transform.LayerNorm.bias):
            weight.zero_()
        for token, index in bert.get_vocab().items():
            lm.cls.predictions.bias[index] = np.log(p[token])
    terms = found(session, ["inhibitor", "kinase"])
    scores, ranks = terms.measure(session.context)
    inhibitor, kinase = np.log([0.4, 0.1, 0.05]).mean(), np.log([0.3, p["##ase"]]).mean()
    assert scores == pytest.approx([inhibitor] * 3 + [kinase] * 2, rel=1e-5)
    assert ranks.tolist() == [1, 1, 1, 2, 2]
    after = (scores + np.array([1.0, 2.0, 3.0, 0.5, 0.5]), ranks + np.array([0, 5, 1, 1, 2]))
    result = terms.result((scores, ranks), after, session.lm).to_json()
    first, second = result["measured"]
    assert (first["term"], first["pieces"], first["occurrences"]) == ("inhibitor", ["in", "##hibit", "##or"], 3)
    assert first["log_probability"]["after"] - first["log_probability"]["before"] == pytest.approx(2.0)
    assert first["rank"] == {"before": 1.0, "after": 2.0}
    assert second["rank"]["after"] == 3.5


def test_scores_are_those_of_plain_transformers_row_by_row(model: Path, bert: PreTrainedTokenizerFast):
    session = session_of(model)
    terms, plain = found(session, ["inhibitor", "it"]), AutoModelForMaskedLM.from_pretrained(model).eval()
    scores, ranks = terms.measure(session.context)
    assert session.lm.model.training is False
    for one, score, rank in zip(terms.occurrences, scores, ranks, strict=True):
        ids = bert(TEXTS[one.block], return_tensors="pt").input_ids
        places = range(one.first, one.first + len(one.pieces))
        masked = ids.clone()
        masked[0, list(places)] = bert.mask_token_id
        with torch.no_grad():
            log_p = plain(input_ids=masked).logits[0].log_softmax(-1)
        right = [float(log_p[place, ids[0, place]]) for place in places]
        assert score == pytest.approx(np.mean(right), rel=1e-4)
        assert rank == 1 + int((log_p[one.first] > right[0]).sum())


def test_words_are_chosen_by_what_they_say_of_the_corpus(bert: PreTrainedTokenizerFast):
    texts = ["the kinase binds"] * 6 + ["the inhibitor"] * 5 + ["the it"] * 4
    assert choose_terms(texts, None, bert, 5, Silent()) == ("inhibitor", "kinase"), "10 and 6 pieces too many"
    assert choose_terms(texts, None, bert, 1, Silent()) == ("inhibitor",)
    general = ["the the the inhibitor it"] * 10
    # 36 words against 50: kinase and binds 6 ln((7 / 37) / (1 / 51)), inhibitor 5 ln((6 / 37) / (11 / 51)) < 0
    assert choose_terms(texts, general, bert, 5, Silent()) == ("binds", "kinase")
    with pytest.raises(UserError, match=r"adapt\.terms auto:3: no word of the corpus is typical of it"):
        choose_terms(["the it"] * 9, None, bert, 3, Silent())


def test_a_file_of_terms(tmp_path: Path):
    (tmp_path / "terms.txt").write_text("kinase  inhibitor\n\nkinase\nkinase\n")
    assert read_terms(str(tmp_path / "terms.txt")) == ("kinase inhibitor", "kinase")
    assert read_terms("auto:5") == ()
    with pytest.raises(UserError, match=r"adapt\.terms: must be auto:N .* with one term per line"):
        load_config(None, ["--adapt.terms=auto:0"])


def test_the_command(model: Path, tmp_path: Path, nmg: Nmg):
    rng = np.random.default_rng(0)
    words = ("inhibitor", "kinase", "the", "binds", "it", "a", "s")
    (tmp_path / "corpus.txt").write_text("\n".join(" ".join(rng.choice(words, 30)) for _ in range(80)))
    (tmp_path / "terms.txt").write_text("kinase\ninhibitor\nzebra\n")
    small = ["--adapt.epochs", 2, "--adapt.block_size", 20, "--adapt.held_out", 0.3, "--adapt.learning_rate", 0.01]
    common = ["adapt", "--model", model, "--corpus", tmp_path / "corpus.txt", *small, "--runtime.device", "cpu"]
    answer = nmg(*common, "--out", tmp_path / "out", "--adapt.terms", tmp_path / "terms.txt")
    assert answer.code == 0, answer.err
    assert "adapt.terms: 2 of 3 terms occur in held-out text and are measured." in answer.err
    facts = json.loads((tmp_path / "out" / "nmg.json").read_text())["terms"]
    assert [one["term"] for one in facts["measured"]] == ["kinase", "inhibitor"]
    assert all(one["occurrences"] == 8 for one in facts["measured"])
    assert all(one["log_probability"]["after"] > one["log_probability"]["before"] for one in facts["measured"])
    assert facts["left_out"] == ["zebra"]
    assert "kin ##ase" in answer.out
    session = session_of(tmp_path / "out")
    assert "adapt.terms" in json.loads((tmp_path / "out" / "run.json").read_text())["inputs"]
    assert session.lm.vocabulary_size == 23
    answer = nmg(*common, "--out", tmp_path / "auto", "--adapt.terms", "auto:1")
    facts = json.loads((tmp_path / "auto" / "nmg.json").read_text())["terms"]
    assert ([one["term"] for one in facts["measured"]], facts["source"]) == (["inhibitor"], "auto:1")
    answer = nmg(*common, "--out", tmp_path / "none", "--adapt.terms", "auto:1", "--adapt.held_out", 0)
    assert "adapt.terms: no text is held out, so no terms are measured." in answer.err
    assert json.loads((tmp_path / "none" / "nmg.json").read_text())["terms"] is None
    answer = nmg(*common, "--out", tmp_path / "no", "--adapt.terms", tmp_path / "no.txt")
    assert answer.code == 2
    assert "no.txt" in answer.err
    assert not (tmp_path / "no" / "config.yaml").exists()


def test_the_table_is_sorted_by_gain_and_may_be_short():
    measured = [
        {
            "term": f"t{n:02}",
            "pieces": ["t", f"##{n:02}"],
            "occurrences": 8,
            "log_probability": {"before": -5.0, "after": -5.0 + n / 4},
            "rank": {"before": 10.0, "after": 1.5},
        }
        for n in range(12)
    ]
    terms = {"source": "auto:12", "measured": measured, "left_out": []}
    whole, short = terms_table(terms), terms_table(terms, SHOWN)
    assert [row[0] for row in whole.rows] == [f"t{n:02}" for n in range(11, -1, -1)]
    assert [row[0] for row in short.rows] == ["t11", "t10", "t09", "t08", "t07", "t04", "t03", "t02", "t01", "t00"]
    assert whole.rows[0] == ("t11", "t ##11", "8", "-5.00", "-2.25", "+2.75", "10", "1.5")
    assert "5 that gained most and the 5 that gained least of 12" in short.caption
