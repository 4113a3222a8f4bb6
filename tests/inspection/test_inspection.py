"""From texts to the records of the page, and `nmg inspect` as a whole."""

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.base.seeding import torch_stream
from nmg.base.settings import DataSettings, MaskingSettings
from nmg.inspection import page as inspection_page
from nmg.inspection.draws import Observed, views_of
from nmg.inspection.page import block_titles, group_tokens, inspect_page, overlap_table, vocabulary_subset
from nmg.inspection.render import PACKED_FROM
from nmg.inspection.run import inspect_texts, sample_texts
from nmg.inspection.tags import Labels, Tags
from nmg.policies.attention import AttentionConfig, AttentionPolicy
from nmg.policies.maskings import parse_policies
from nmg.tasks.load import read_any_texts
from support.command import Nmg
from support.planted import WORDS
from support.runs import Inputs, Notes
from support.tiny import save_headless_bert

from .helpers import drawn, table_of

FAST = ("--no-tags", "--adapt.block_size=16", "--runtime.precision=fp32", "--runtime.threads=1", "--draws=20")


def save_policy(folder: Path, hidden_size: int = 16, rate: float = 0.2, seed: int = 0) -> Path:
    with torch_stream(seed, "policy"):
        policy = AttentionPolicy(
            AttentionConfig(hidden_size=hidden_size, num_attention_heads=2, head_hidden=8, masking_rate=rate)
        )
        policy.reset_parameters()
    policy.save_pretrained(folder)
    return folder


@pytest.fixture
def nmg(nmg: Nmg) -> Nmg:
    return partial(nmg, "inspect")


def data_of(path: Path, name: str) -> dict[str, Any]:
    [text] = re.findall(rf'id="{name}">(.*?)</script>', path.read_text(encoding="utf-8"), flags=re.DOTALL)
    found: dict[str, Any] = json.loads(text)
    return found


def numbers(packed: str) -> list[int]:
    return [ord(character) - PACKED_FROM for character in packed]


# ---- the records


def test_rates_of_words(tmp_path: Path):
    """The · cat ##s · sat · the | cat ##s"""
    table = table_of(["The cats sat the", "cats"], tmp_path)
    distinct = Labels.of(word.lower() for word in table.words())
    masked = drawn("r", 10, 40, 60, 0, 20, 0, 100)
    words = vocabulary_subset(distinct, views_of([masked]), table)
    assert words.words == ["the", "cats", "sat"]
    assert words.counts.tolist() == [2, 2, 1]
    # "cats" is masked to one half in both of its occurrences: (0.4 + 0.6) / 2 and (0 + 1) / 2.
    assert words.rates.tolist() == [pytest.approx([0.15, 0.5, 0])]


def test_only_the_most_frequent_words_are_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inspection_page, "MOST_WORDS", 2)
    table = table_of(["dog sat cat sat cat sat"], tmp_path)
    distinct = Labels.of(table.words())
    words = vocabulary_subset(distinct, views_of([drawn("r", *[50] * 6)]), table)
    assert words.words == ["sat", "cat"]
    assert "2 most frequent of 3 words" in words.note


def test_groupings_need_no_tags_and_take_those_there_are(tmp_path: Path):
    table = table_of(["The cat sat"], tmp_path)
    words = list(table.words())
    distinct = Labels.of(word.lower() for word in words)
    plain = ["Frequency of the word", "Whole words and pieces", "Form of the word", "Position in the text"]
    assert [one.title for one in group_tokens(table, words, distinct, None)] == plain
    tags = Tags(Labels.of(["determiner", "noun", "verb"]), None)
    assert [one.title for one in group_tokens(table, words, distinct, tags)] == ["Part of speech", *plain]
    tags = Tags(tags.part_of_speech, tags.part_of_speech)
    assert [one.title for one in group_tokens(table, words, distinct, tags)][:2] == ["Part of speech", "Named entity"]


def test_titles_count_the_parts_of_a_text():
    assert block_titles(np.array([0, 1, 1, 3])) == ["Text 1", "Text 2, part 1 of 2", "Text 2, part 2 of 2", "Text 4"]


def test_a_greedy_choice_agrees_with_itself(tmp_path: Path):
    table = table_of(["the cat sat on", "dog sat"], tmp_path)
    taken = np.array([True, True, False, False, True, False])
    policy = Observed("p", "", 2, np.array([1, 1, 1, 1, 2, 0]), np.full(6, 0.3), taken)
    found = overlap_table(views_of([policy]), policy, table)
    assert found.header == ("", "p", "p, in use")
    # Chance: 2 of 4 and 1 of 2 give (4/4 + 1/2) / 3.
    assert found.rows[1] == ("p, in use", "66.7 % (×1.33)", "100.0 % (×2.00)")
    assert "share 50.0 %" in found.notes[0]


def test_what_was_seen_becomes_the_page(inputs: Inputs, tmp_path: Path):
    """Every number of the page is that of its token."""
    text = tmp_path / "texts.txt"
    text.write_text(f"{' '.join(WORDS[:9])}\n{' '.join(WORDS[9:40])}\n{WORDS[0]}\n")
    config = inputs.config()
    policies = {"mine": save_policy(tmp_path / "policy")}
    seen = inspect_texts(config, text, policies, ["random"], Silent(), draws=10, with_tags=False)
    page = inspect_page(seen)
    assert page.titles == ["Text 1", "Text 2, part 1 of 2", "Text 2, part 2 of 2", "Text 3"]
    assert (page.unit, page.maskings[0].draws) == ("part", 10)
    assert dict(page.facts.items)["texts"] == "3"
    assert dict(page.facts.items)["parts"] == "4"
    assert [name for name, _ in page.views] == ["mine", "mine, in use", "random"]
    mine, random = page.maskings
    budgets = [2, 4, 4, 1]  # 0.3 of 9, 16, 15 and 1
    for masking in (mine, random):
        assert [int(counts.sum()) for counts in page.table.by_block(masking.drawn)] == [
            10 * budget for budget in budgets
        ]
    assert mine.probability is not None
    assert mine.taken is not None
    probability, taken = page.table.by_block(mine.probability), page.table.by_block(mine.taken)
    assert [float(p.sum()) for p in probability] == pytest.approx([1] * 4)
    for p, is_taken in zip(probability, taken, strict=True):
        assert set(np.flatnonzero(is_taken)) == set(np.argsort(-p)[: is_taken.sum()])
    assert [int(is_taken.sum()) for is_taken in taken] == budgets
    assert random.probability is None
    whole = next(shares for shares in page.shares if shares.title == "Whole words and pieces")
    assert whole.counts.tolist() == [41]
    assert whole.masked == pytest.approx(np.full((3, 1), sum(budgets)))
    headings = ["Words masked most often", "Agreement: shared tokens", "Agreement: ranks", "Entropy"]
    assert [table.caption for table in page.tables] == headings
    entropy = page.tables[3].rows
    assert entropy[1][1:4] == ("–", "–", "–"), "a rule has no probabilities"
    assert "MB" not in page.subtitle
    assert page.notices == ()


def test_the_page_says_anchors_and_the_words_of_each_rule(inputs: Inputs, tmp_path: Path):
    text = tmp_path / "texts.txt"
    text.write_text(f"{' '.join(WORDS[:12])}\n" * 6)
    config = inputs.config().model_copy(update={"masking": MaskingSettings(rate=0.2, difference_anchors=2)})
    seen = inspect_texts(config, text, {}, ["random", "difference"], Silent(), draws=10, with_tags=False)
    (said,) = seen.notices
    anchors = said.removeprefix("difference: anchors ").split(", ")
    assert len(anchors) == 2
    assert set(anchors) <= set(WORDS[:12])
    page = inspect_page(seen)
    assert page.notices == (said,)
    table, *_ = page.tables
    assert table.caption == "Words masked most often"
    assert [row[0] for row in table.rows] == ["random", "difference"]
    assert {word.split()[0] for word in table.rows[1][1].split(", ")[:2]} == set(anchors)


def test_tags_reach_the_page(inputs: Inputs, tmp_path: Path):
    text = tmp_path / "texts.txt"
    text.write_text(" ".join(WORDS[:3]))
    seen = inspect_texts(inputs.config(), text, {}, ["random"], Silent(), draws=2, with_tags=False)
    tags = Tags(Labels.of(["noun", "verb", "noun"]), Labels.of(["–", "ORG", "–"]))
    labels = inspect_page(replace(seen, tags=tags)).labels
    assert {name: [one.names[i] for i in one.of_word] for name, one in labels.items()} == {
        "part of speech": ["noun", "verb", "noun"],
        "named entity": ["–", "ORG", "–"],
    }


def test_a_page_without_spacy_says_how_to_get_it(inputs: Inputs, tmp_path: Path):
    notes = Notes()
    config = inputs.config(masking={"spacy_model": "no_such_model"})
    seen = inspect_texts(config, inputs.train, {}, ["random"], notes, draws=2)
    page = inspect_page(seen)
    assert "pip install" in page.notices[0]
    assert notes.lines == list(page.notices)
    assert "Part of speech" not in [shares.title for shares in page.shares]


def test_a_policy_reads_the_model_that_its_run_gave_a_head(inputs: Inputs, tmp_path: Path):
    """The head's training moves the encoder, so what the policy does is another thing without it."""
    folder = save_headless_bert(tmp_path / "headless", WORDS, hidden=16)
    model = {"name": str(folder), "head_tuning_learning_rate": 0.05}
    policies = {"mine": save_policy(tmp_path / "p", rate=0.3)}
    config, told, silent = inputs.config(model=model), Notes(), Notes()
    seen = inspect_texts(config, inputs.train, policies, [], told, draws=50, with_tags=False)
    assert [phase for phase in told.phases if "LM" in phase] == ["LM head warm-up", "LM with its new head"]
    assert seen.notices == ()

    without_data = config.model_copy(update={"data": DataSettings()})
    bare = inspect_texts(without_data, inputs.train, policies, [], silent, draws=50, with_tags=False)
    assert "--config RUN/config.yaml" in bare.notices[0]
    assert silent.lines == list(bare.notices)

    rules = inspect_texts(without_data, inputs.train, {}, ["random"], silent, draws=2, with_tags=False)
    assert rules.notices == (), "rules read no model"


# ---- texts


def test_all_readers(tmp_path: Path):
    def write(name: str, content: str) -> Path:
        path = tmp_path / name
        path.write_text(content)
        return path

    settings = DataSettings()
    squad = {"context": "c d", "qas": [{"id": "1", "question": "q", "answers": [{"text": "c", "answer_start": 0}]}]}
    mrqa = {"context": "c d", "qas": [{"qid": "1", "question": "q", "detected_answers": [
        {"text": "c", "char_spans": [[0, 0]]}]}]}  # fmt: skip
    assert read_any_texts(write("a.txt", "one\ntwo\n"), settings) == ["one", "two"]
    assert read_any_texts(write("a.jsonl", '{"text": "one"}\n{"text": "two", "label": 1}\n'), settings) == [
        "one",
        "two",
    ]
    assert read_any_texts(write("a.csv", "text,label\none,x\ntwo,y\n"), settings) == ["one", "two"]
    assert read_any_texts(write("a.json", json.dumps({"data": [{"paragraphs": [squad]}]})), settings) == ["c d"]
    assert read_any_texts(write("b.jsonl", '{"header": {}}\n' + json.dumps(mrqa)), settings) == ["c d"]
    other = DataSettings(text_field="body")
    assert read_any_texts(write("c.jsonl", '{"body": "one", "label": "x"}\n'), other) == ["one"]
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"one\n"))
    assert read_any_texts(tmp_path / "d.txt.gz", settings) == ["one"]
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x.txt").write_text("whole\ntext")
    assert read_any_texts(folder, settings) == ["whole\ntext"]
    with pytest.raises(UserError, match="texts must be"):
        read_any_texts(write("a.pdf", "x"), settings)


def test_a_sample_keeps_the_order_of_the_file():
    texts = [str(number) for number in range(100)]
    assert sample_texts(texts, 100, seed=0) == texts
    some = sample_texts(texts, 10, seed=0)
    assert some == sorted(set(some), key=int)
    assert len(some) == 10
    assert some == sample_texts(texts, 10, seed=0)
    assert some != sample_texts(texts, 10, seed=1)
    assert some != texts[:10]


def test_names_of_policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/a/policy", "runs/b", "odd=name"):
        (tmp_path / folder).mkdir(parents=True)
    assert parse_policies(["runs/a", "b2=runs/b", "odd=name"], "--policy") == {
        "a": Path("runs/a"),
        "b2": Path("runs/b"),
        "odd=name": Path("odd=name"),
    }
    assert list(parse_policies(["runs/a/policy"], "--policy")) == ["a"]
    for folder in ("news/run", "news/run/policy", "./news/run", str(tmp_path / "news" / "run")):
        assert list(parse_policies([folder], "--policy")) == ["news"]
    for folder in ("run", "run/policy", "./run"):
        assert list(parse_policies([folder], "--policy")) == ["learned"]
    for words in (["runs/a", "runs/a/policy"], ["x=runs/a", "x=runs/b"], ["=runs/a"]):
        with pytest.raises(UserError, match=r"--policy .*NAME=FOLDER"):
            parse_policies(words, "--policy")


# ---- the command


def test_the_command(nmg: Nmg, inputs: Inputs, tmp_path: Path):
    first, other = save_policy(tmp_path / "run" / "policy"), save_policy(tmp_path / "other", seed=1)
    words = ("--policy", first.parent, "--policy", f"second={other}", "--model", inputs.model, "--text", inputs.train)
    answer = nmg(*words, "--maskings", "random,idf,whole-word", "--out", "page.html", *FAST)
    assert answer.code == 0, answer.err
    assert answer.out.startswith("page: page.html (40 texts, ")
    page = tmp_path / "page.html"
    corpus, texts = data_of(page, "corpus-data"), data_of(page, "text-data")
    assert [one["name"] for one in corpus["maskings"]] == [tmp_path.name, "second", "random", "idf", "whole-word"]
    assert [one["entropy"] is None for one in texts["maskings"]] == [False, False, True, True, True]
    assert len(texts["texts"]) == 40
    # 10 tokens a text, and the rate the first policy was trained with: 2 of them, in 20 draws.
    assert {sum(numbers(drawn)) for one in texts["maskings"] for drawn in one["drawn"]} == {40}
    assert texts["maskings"][0]["probability"] != texts["maskings"][1]["probability"]

    last = ["Verdict: page.html shows which tokens are masked.", "Why: Open it in a browser; it needs no network."]
    assert answer.out.splitlines()[-2:] == last
    again = nmg(*words, "--maskings", "random,idf,whole-word", "--out", "again.html", *FAST)
    assert again.code == 0
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()
    other_seed = nmg(*words, "--maskings", "random", "--out", "seed.html", "--run.seed=1", *FAST)
    assert other_seed.code == 0
    assert data_of(tmp_path / "seed.html", "text-data")["maskings"][2] != texts["maskings"][2]


@pytest.mark.parametrize(("words", "budget"), [(["--rate", "0.5"], 5), (["--masking.rate=0.4"], 4), ([], 2)], ids=str)
def test_the_rate_is_that_of_the_policy_if_none_is_given(
    nmg: Nmg, inputs: Inputs, tmp_path: Path, words: Sequence[str], budget: int
):
    policy = save_policy(tmp_path / "policy")
    named = ("--policy", policy, "--model", inputs.model, "--text", inputs.train, "--maskings", "", "--limit", "3")
    answer = nmg(*named, "--out", "page.html", *FAST, *words)
    assert answer.code == 0, answer.err
    [masking] = data_of(tmp_path / "page.html", "text-data")["maskings"]
    assert [sum(numbers(drawn)) for drawn in masking["drawn"]] == [20 * budget] * 3
    assert [len(taken) for taken in masking["taken"]] == [budget] * 3
    assert "3 (random, of 40)" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "page.txt"], "--out page.txt: name a file that ends in .html"),
        (["--maskings", "none"], "masks nothing"),
        (["--maskings", "learned"], "--policy RUN"),
        (["--maskings", "whole_wort"], "did you mean 'whole-word'"),
        (["--maskings", ""], "name a policy"),
        (["--policy", "nowhere"], "nowhere is not the folder of a mask policy"),
        (["--policy", "random=nowhere"], "'random' is the name of a masking"),
        (["--policy", "small"], "size 8"),
        (["--text", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["--text", "special.txt"], "contains only special tokens"),
        (["--rate", "1.5"], "--masking.rate"),
        (["--adapt.block_size=63"], "adapt.block_size"),
        (["--masking.rat=0.2"], "did you mean '--masking.rate'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused(nmg: Nmg, inputs: Inputs, tmp_path: Path, words: list[str], message: str):
    save_policy(tmp_path / "small", hidden_size=8)
    (tmp_path / "special.txt").write_text("[SEP]\n")
    given = {"--out": "page.html", "--text": str(inputs.train), "--model": str(inputs.model), "--maskings": "random"}
    if words[0] in given:
        given[words[0]] = words[1]
        words = []
    answer = nmg(*(word for option in given.items() for word in option), *FAST, *words)
    assert answer.code == 2, answer
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert not list(tmp_path.glob("*.html"))


def test_the_model_must_be_named(nmg: Nmg, inputs: Inputs):
    answer = nmg("--text", inputs.train, "--out", "page.html", *FAST)
    assert answer.code == 2
    assert "--model" in answer.err
    config = inputs.write_config(Path("config.yaml"))
    assert nmg("--text", inputs.train, "--out", "page.html", "--config", config, *FAST).code == 0
