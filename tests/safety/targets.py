"""What reads files that anyone may have written, each with files to begin from.

A target takes an empty folder and the bytes of a file. It may raise nothing: what is wrong with a file is a UserError,
which it swallows.
"""

import contextlib
import gzip
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from datasets import ClassLabel, Dataset

from nmg.base.errors import UserError
from nmg.comparison.scores import read_scores
from nmg.config import load_config
from nmg.data.formats.classification import read_classification
from nmg.data.formats.mrqa import read_mrqa
from nmg.data.formats.newsqa import read_newsqa_csv
from nmg.data.formats.question_files import read_question_json, read_question_lines, read_question_table
from nmg.data.formats.question_rows import read_question_rows
from nmg.data.formats.squad import read_squad
from nmg.data.formats.text import read_texts
from nmg.data.formats.tokens import read_conll, read_token_records
from nmg.data.plausibility import text_doubts
from nmg.policies.attention import AttentionConfig, AttentionPolicy
from nmg.policies.linear import LinearConfig, LinearPolicy
from nmg.policies.registry import load_policy
from nmg.report.run_files import render_run
from nmg.tasks.load import guess_task
from nmg.trials.provenance import TrialProvenance
from nmg.trials.store import TRIALS, TrialStore
from support.run_logs import PROBABILITIES, TEXTS, UPDATE, episode, snapshot

Run = Callable[[Path, bytes], None]


@dataclass(frozen=True)
class Target:
    run: Run
    seeds: Sequence[bytes]
    """files that are read without an error"""


def reading(name: str, read: Callable[[Path], Any]) -> Run:
    """A file of that name, packed or not, through `read`."""

    def run(folder: Path, content: bytes) -> None:
        (folder / name).write_bytes(content)
        with contextlib.suppress(UserError):
            for _ in read(folder / name):
                pass

    return run


def packed(read: Callable[[Path], Any]) -> Run:
    """As .txt.gz: the bytes as they are, and packed."""

    def run(folder: Path, content: bytes) -> None:
        for bytes_ in (content, gzip.compress(content, 1)):
            (folder / "a.txt.gz").write_bytes(bytes_)
            with contextlib.suppress(UserError):
                for _ in read(folder / "a.txt.gz"):
                    pass

    return run


def configuration(folder: Path, content: bytes) -> None:
    """A file, and its text as a word of the command line; what loads can be written, and reads as it was."""
    (folder / "c.yaml").write_bytes(content)
    with contextlib.suppress(UserError):
        config = load_config(folder / "c.yaml")
        (folder / "again.yaml").write_text(config.to_yaml(), encoding="utf-8")
        assert load_config(folder / "again.yaml") == config
        assert config.digest
    word = content.decode(errors="ignore")
    with contextlib.suppress(UserError):
        load_config(None, ["--data.train", word, "--policy.features", word])
    with contextlib.suppress(UserError):
        load_config(None, [word, word])


def log(name: str) -> Run:
    """The page of a run of which one file is the content."""

    def run(folder: Path, content: bytes) -> None:
        is_experiment = name == "effects.json"
        learner = "experiment" if is_experiment else "actor-critic"
        (folder / "config.yaml").write_text(f"learner: {{kind: {learner}}}\n")
        (folder / "metrics.jsonl").write_bytes(METRICS)
        (folder / "run.json").write_bytes(RUN)
        (folder / name).write_bytes(content)
        with contextlib.suppress(UserError), without_figures():
            render_run(folder)

    return run


@contextlib.contextmanager
def without_figures() -> Iterator[None]:
    """They take most of a page's time."""
    with contextlib.ExitStack() as stack:
        for place in ("run_scores.curves_plot", "actor_critic.curves_plot", "actor_critic.bars_plot"):
            stack.enter_context(patch(f"nmg.report.{place}", return_value="<svg></svg>"))
        for place in ("run_page.bars_plot", "experiment.forest_plot"):
            stack.enter_context(patch(f"nmg.report.{place}", return_value="<svg></svg>"))
        yield


def policy(facts: Any, weights_name: str) -> Run:
    """A policy's folder of which one file is the content; what loads can be used."""

    def run(folder: Path, content: bytes) -> None:
        (LINEAR if facts is LINEAR else ATTENTION).save_pretrained(folder)
        (folder / weights_name).write_bytes(content)
        with contextlib.suppress(UserError):
            loaded = load_policy(folder)
            loaded.check_fits(8, 6)
            seen = torch.zeros(1, 3, loaded.observation_size)
            is_token = torch.ones(1, 3, dtype=torch.bool)
            with torch.no_grad():
                assert loaded.logits(seen, is_token, is_token).dtype == torch.float32

    return run


def trials(folder: Path, content: bytes) -> None:
    (folder / TRIALS).write_bytes(content)
    with contextlib.suppress(UserError):
        TrialStore(folder, TrialProvenance({})).load()


def _lines(*records: Any) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def _parquet(**columns: Any) -> bytes:
    """As `datasets` writes it, with the names of labels."""
    sink = io.BytesIO()
    rows = Dataset.from_dict(columns)
    if "label" in columns:
        rows = rows.cast_column("label", ClassLabel(names=["bad", "good"]))
    rows.to_parquet(sink)
    return sink.getvalue()


def _saved(made: LinearPolicy | AttentionPolicy, name: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(Path(folder))
        return (Path(folder) / name).read_bytes()


LINEAR = LinearPolicy(LinearConfig(features=("idf", "digit"), vocabulary_size=6))
ATTENTION = AttentionPolicy(AttentionConfig(hidden_size=8, num_attention_heads=2, head_hidden=4))
RUN = b'{"device": "cpu", "precision": "fp32", "seed": 0, "planned_episodes": 2, "is_finished": false}'
METRICS = _lines(*(episode(i, 0.5, 0.4, 0.6, learner_update=UPDATE, opponent_update=UPDATE) for i in range(3)))
EFFECTS = {
    "stage": "done",
    "trials": 40,
    "pairs": 20,
    "features": [{"feature": "idf", "effect": 0.1, "low": -0.1, "high": 0.2}],
    "noise": 0.1,
    "f": 1.0,
    "f_p": 0.3,
    "length": 0.5,
    "placebo_length": {"median": 0.1, "high": 0.6},
    "possible_gain": None,
    "tuned": {"idf-2": 0.1},
    "rule": 2.0,
    "strength": 1.0,
    "gate": {"n": 3, "level": 0.05, "against": {"none": {"mean": 0.1, "p": 0.2}}, "passes": False},
    "selected": "rule",
}
SQUAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": "Rome is old.",
                    "qas": [{"id": "1", "question": "Which?", "answers": [{"text": "Rome", "answer_start": 0}]}],
                }
            ]
        }
    ]
}
MRQA = {
    "context": "Rome is old.",
    "qas": [{"qid": "1", "question": "Which?", "detected_answers": [{"text": "rome", "char_spans": [[0, 3]]}]}],
}
TRIAL = {
    "spec": {"masking": "random", "seed": 0, "condition": {"labelled": "all", "adapt_steps": 1}, "learning_rate": 0.1},
    **{"scores": {"accuracy": 0.5}, "adaptation": {"steps": 1, "loss": 1.0, "seconds": 1.0, "tokens": 2}},
    **{"finetuning": {"steps": 1, "loss": None}, "held_out_loss": None, "seconds": {"evaluate": 1.0}},
}
NEWSQA = {
    "data": [
        {
            "storyId": "./a.story",
            "type": "train",
            "text": "Rome is old.",
            "questions": [
                {"q": "Which?", "consensus": {"s": 0, "e": 4}},
                {"q": "Who?", "consensus": {"noAnswer": True}},
            ],
        }
    ]
}
NEWSQA_CSV = b"""story_id,question,answer_char_ranges,is_answer_absent,is_question_bad,validated_answers,story_text
./a.story,Which?,"0:4|None|0:4,8:11",0.0,0.0,"{""0:4"": 1}",Rome is old.
"""
SUBJQA_CSV = b"""q_review_id,question,review,human_ans_spans,human_ans_indices
7,Which?,Rome is old. ANSWERNOTFOUND,is old .,"(5, 12)"
8,Who?,Rome is old. ANSWERNOTFOUND,ANSWERNOTFOUND,"(13, 27)"
"""
NOTE = {"context": ["Rome is old.\n", "So is he.\n"]}
EMRQA_ANSWER = {"evidence": "Rome is  old", "evidence_start": 1, "answer_entity_type": "single"}
EMRQA = {"data": [{"paragraphs": [NOTE | {"qas": [{"question": ["Which?", "Who?"], "answers": [EMRQA_ANSWER]}]}]}]}
CONLL = b"-DOCSTART- O\n\nbreast\tNN\tB-Disease\ncancer\tNN\tI-Disease\n\nRome O\r\n"
GERMEVAL = b"# id 1\n1\tUlm\tB\tO\n2\tist\tO\tO\n\n#\tb\n1\tRom\tLOC-B\tO\n"
TOKENS = _lines({"text": ["breast", "cancer"], "label": ["B-X", "L-X"]}, {"text": ["é"], "label": ["O"], "id": 1})
ROWS = {"question": ["Which?"], "context": ["Rome is old."], "answers": [{"text": ["Rome"], "answer_start": [0]}]}
QUESTION_ROW = {name: values[0] for name, values in ROWS.items()}
LABELLED = _lines({"text": "one", "label": "x", "id": 7}, {"text": "two é", "label": 1})
LABELLED_LIST = b"[" + LABELLED.replace(b"}\n{", b"},{") + b"]"

TARGETS: dict[str, Target] = {
    "txt": Target(reading("a.txt", read_texts), [b"one\r\n\ntwo \xc3\xa9\n"]),
    "txt.gz": Target(packed(read_texts), [gzip.compress(b"one\ntwo\n")]),
    "jsonl texts": Target(reading("a.jsonl", read_texts), [_lines({"text": "one"}, {"text": "two"})]),
    "labelled jsonl": Target(reading("a.jsonl", read_classification), [LABELLED]),
    "labelled csv": Target(reading("a.csv", read_classification), [b'text,label,id\n"a ""b"",\nc",x,1\nd,y,2\n']),
    "labelled tsv": Target(reading("a.tsv", read_classification), [b"text\tlabel\na\tx\n"]),
    "plain quotes": Target(reading("a.tsv", read_classification), [b'text\tlabel\n"a\tx\nb"\ty\n']),
    "labelled parquet": Target(reading("a.parquet", read_classification), [_parquet(text=["a", "b"], label=[0, 1])]),
    "labelled json": Target(
        reading("a.json", read_classification), [LABELLED, b"[" + LABELLED.replace(b"}\n{", b"},{") + b"]"]
    ),
    "labels": Target(
        reading("a.csv", read_classification), [b"text,label\na,1.0\nb,nan\nc,-2.0\n", b"text;label\na;x\n\n;\nb; x\n"]
    ),
    "json texts": Target(reading("a.json", read_texts), [b'{"data": [{"text": "one"}, {"text": " "}]}', LABELLED]),
    "question parquet": Target(reading("a.parquet", read_question_rows), [_parquet(**ROWS)]),
    "question json": Target(
        reading("a.json", read_question_json),
        [json.dumps(one).encode() for one in (SQUAD, NEWSQA, EMRQA, [QUESTION_ROW])],
    ),
    "newsqa csv": Target(reading("a.csv", read_newsqa_csv), [NEWSQA_CSV]),
    "conll": Target(reading("a.conll", read_conll), [CONLL]),
    "columns": Target(reading("a.tsv", lambda path: read_conll(path, None, 2, 3)), [GERMEVAL]),
    "tokens": Target(reading("a.jsonl", read_token_records), [TOKENS]),
    "doubts": Target(
        reading("a.txt", lambda path: text_doubts(read_texts(path))), [LABELLED, b"<p>\n<b>\n", b"a\tO\n" * 20]
    ),
    "squad": Target(reading("a.json", read_squad), [json.dumps(SQUAD).encode()]),
    "question lines": Target(reading("a.jsonl", read_question_lines), [_lines(QUESTION_ROW, QUESTION_ROW)]),
    "subjqa csv": Target(reading("a.csv", read_question_table), [SUBJQA_CSV]),
    "mrqa": Target(reading("a.jsonl", read_mrqa), [_lines({"header": {"dataset": "T"}}, MRQA)]),
    "task": Target(reading("a.jsonl", lambda path: [guess_task(path)]), [LABELLED, _lines(MRQA)]),
    "configuration": Target(
        configuration, [b"masking: &a {rate: 0.1}\nadapt: {epochs: 3}\nlearner:\n  kind: evolution\n"]
    ),
    "metrics": Target(log("metrics.jsonl"), [METRICS]),
    "samples": Target(log("samples.jsonl"), [_lines({"texts": TEXTS}, snapshot(0, PROBABILITIES))]),
    "run": Target(log("run.json"), [RUN]),
    "effects": Target(log("effects.json"), [json.dumps(EFFECTS).encode()]),
    "linear policy": Target(policy(LINEAR, "config.json"), [_saved(LINEAR, "config.json")]),
    "attention policy": Target(policy(ATTENTION, "config.json"), [_saved(ATTENTION, "config.json")]),
    "policy weights": Target(policy(LINEAR, "model.safetensors"), [_saved(LINEAR, "model.safetensors")]),
    "trials": Target(trials, [_lines(TRIAL, TRIAL)]),
    "scores": Target(reading("a.csv", read_scores), [b"method,seed,item,score\na,0,x,1\nb,0,x,0.5\n"]),
}
