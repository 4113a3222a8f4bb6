"""The parts of a comparison: held-out text, the meter of a masking, names and costs of learned maskings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.base.seeding import StreamName, stream
from nmg.base.types import IGNORED_LABEL, INNER_PHASES, PHASES
from nmg.comparison.learned import meta_training_seconds
from nmg.comparison.run import Comparison
from nmg.data.corpus import Corpus
from nmg.data.near_duplicates import folded
from nmg.masking.rules import RandomMasking
from nmg.meta_training.loop import MetaTraining
from nmg.policies.maskings import parse_policies
from nmg.policies.storage import policy_digest
from nmg.tasks.loaded import LoadedData
from nmg.training.adapt import adapt
from nmg.training.masks import DrawnMasks
from nmg.trials import held_out
from nmg.trials.held_out import HeldOutText
from nmg.trials.metered import MeteredMasking
from nmg.trials.session import ModelSession, Session
from support.planted import FILLER, WORDS
from support.runs import Inputs, Notes

from .helpers import plan

TEXTS = [" ".join(WORDS[first : first + length]) for first, length in ((0, 10), (20, 7), (40, 4), (60, 9), (80, 1))]


def new_bench(inputs: Inputs, **changes: dict[str, Any]) -> ModelSession:
    return ModelSession.open(inputs.config(**changes), Silent())


@pytest.fixture(scope="module")
def session(inputs: Inputs) -> ModelSession:
    return new_bench(inputs, runtime={"evaluation_batch_size": 2})


def build(session: ModelSession, texts: list[str] = TEXTS, seen: tuple[str, ...] = ()) -> HeldOutText:
    held = HeldOutText.build(session, texts, seen)
    assert held is not None
    return held


def test_held_out_loss_by_the_whole_logits(session: ModelSession):
    """Block by block, logits of every position, summed at the masked ones: the mean is over tokens, not over blocks."""
    held, lm = build(session), session.lm
    total, counts = 0.0, []
    for row, length in enumerate(held.lengths):
        corrupted = held.batches(np.array([row]))
        assert corrupted.input_ids.shape == (1, length)
        with torch.no_grad():
            logits = lm.model(input_ids=corrupted.input_ids, attention_mask=corrupted.is_token.long()).logits[0]
        is_masked = corrupted.labels[0] != IGNORED_LABEL
        assert (corrupted.input_ids[0] == lm.tokenizer.mask_token_id).tolist() == is_masked.tolist()
        counts.append(int(is_masked.sum()))
        total += float(cross_entropy(logits[is_masked], corrupted.labels[0, is_masked], reduction="sum"))
    assert counts == [3, 2, 1, 2, 1], "30 % of 10, 7, 4, 9 and 1 words"
    lm.model.train()  # the state that an adaptation leaves; dropout must not count
    loss, seconds = held.loss(session.context)
    assert loss == pytest.approx(total / sum(counts), rel=1e-5)
    assert seconds > 0


def test_held_out_masks_are_the_same_for_all(inputs: Inputs, session: ModelSession):
    rows = np.arange(len(TEXTS))
    first, again = build(session).batches(rows), build(new_bench(inputs, run={"seed": 5})).batches(rows)
    assert torch.equal(again.input_ids, first.input_ids)
    assert torch.equal(again.labels, first.labels)


def test_held_out_text_was_not_adapted_on(session: ModelSession):
    assert build(session, seen=(TEXTS[0], TEXTS[3])).lengths.tolist() == [9, 6, 3]
    assert HeldOutText.build(session, TEXTS, TEXTS) is None
    in_lines = [text.replace(" ", "\r\n").upper() for text in TEXTS]
    assert HeldOutText.build(session, TEXTS, in_lines) is None, "line breaks and case make no other text"
    assert HeldOutText.build(session, [" "], ()) is None


def test_held_out_text_is_a_sample_where_there_is_much(session: ModelSession, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(held_out, "MAX_BLOCKS", 20)
    texts = [" ".join(WORDS[: 1 + first % 14]) + f" {FILLER[first % 10]}" for first in range(60)]
    lengths = build(session, texts).lengths
    assert len(lengths) == 20
    assert lengths.tolist() != [4 + first % 14 for first in range(20)], "not just the first"
    assert build(session, texts).lengths.tolist() == lengths.tolist()


def test_without_held_out_text_there_is_no_loss(inputs: Inputs, tmp_path: Path):
    notes = Notes()
    config = inputs.config(data={"test": str(inputs.train)}, finetune={"batch_size": 40})
    comparison = Comparison.open(config, plan(["none"], 1), tmp_path, notes).with_head()
    assert notes.lines[0].startswith("warning: every test text is in train. Scores on test therefore include texts")
    assert "masked-LM loss on held-out text is not measured" in notes.lines[1]
    assert comparison.run(lambda _event: None).cells[0].held_out_loss is None


def test_held_out_loss_of_a_comparison(inputs: Inputs, tmp_path: Path):
    """Of the whole test set, where cells are scored on a sample; without adaptation the same for every seed."""
    config = inputs.config(data={"test_examples": 5}, adapt={"batch_size": 40}, finetune={"batch_size": 40})
    comparison = Comparison.open(config, plan(["none", "random"], 2), tmp_path, Silent()).with_head()
    session = comparison.session
    assert session.held_out is not None
    test = LoadedData(config.data).test
    train = {folded(one.passage) for one in session.model.data.train}
    assert len(session.held_out.lengths) == sum(folded(one.passage) not in train for one in test or ()) == 16
    cells = comparison.run(lambda _event: None).cells
    losses = {(cell.spec.masking, cell.spec.seed): cell.held_out_loss for cell in cells}
    assert losses["none", 0] == losses["none", 1]
    assert len(set(losses.values())) == 3
    context = session.model.context
    context.model.load_state_dict(session.pretrained)
    adapt(context, DrawnMasks(session.corpus, session.maskings["random"]), StreamName(1) / "meta-test")
    assert session.held_out.loss(context)[0] == losses["random", 1]


def test_a_meter_changes_no_mask_and_takes_the_time(
    session: ModelSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    clock = iter([10.0, 10.5, 20.0, 22.0])
    monkeypatch.setattr("nmg.trials.metered.time.perf_counter", lambda: next(clock))
    blocks = Corpus.build(TEXTS, session.lm.tokenizer, 16, tmp_path).blocks(np.arange(5))
    masking = MeteredMasking("mine", RandomMasking())
    plan = masking.plan(blocks, 0.3, stream(0, "masks"))
    masking.plan(blocks, 0.3, stream(1, "masks"))
    monkeypatch.undo()
    assert torch.equal(plan.positions, RandomMasking().plan(blocks, 0.3, stream(0, "masks")).positions)
    assert masking.name == "mine"
    assert masking.seconds == 2.5


def parsed(words: str) -> dict[str, Path]:
    return parse_policies(words.split(","), "--policies")


def test_names_of_policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert parsed("runs/a, best=runs/b ,") == {"a": Path("runs/a"), "best": Path("runs/b")}
    assert parsed("") == {}
    assert parsed("learned=runs/a") == {"learned": Path("runs/a")}
    monkeypatch.chdir(tmp_path)
    assert parsed(".") == {tmp_path.name: Path()}
    assert parsed("runs/a/policy") == {"a": Path("runs/a/policy")}, "the policy in a run is called as the run"
    for words, message in (
        ("runs/a,other/a", "also the name of runs/a"),
        ("random=runs/a", "the name of a masking"),
        ("runs/none", "the name of a masking"),
        ("=runs/a", "NAME=FOLDER"),
        ("a=", "NAME=FOLDER"),
    ):
        with pytest.raises(UserError, match=f"^--policies .*{message}"):
            parsed(words)


def test_the_digest_is_of_the_policy_wherever_it_stands(tmp_path: Path):
    for folder in (tmp_path / "run" / "policy", tmp_path / "copy"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"weights")
    digest = policy_digest(tmp_path / "run")
    assert policy_digest(tmp_path / "run" / "policy") == policy_digest(tmp_path / "copy") == digest
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"others")
    assert policy_digest(tmp_path / "copy") != digest
    (tmp_path / "run" / "policy" / "config.json").write_text("{ }")
    assert policy_digest(tmp_path / "run") != digest


def test_seconds_of_meta_training_count_once(tmp_path: Path):
    """An inner loop of 6 s holds phases of 3, 2 and 1 s."""
    run = tmp_path / "run"
    (run / "policy").mkdir(parents=True)
    (run / "policy" / "config.json").write_text("{}")
    assert meta_training_seconds(run) is None
    (run / "run.json").write_text("{}")
    phases = {"masks": 1.5, "inner loops": 6, "update": 2, "adapt": 3, "finetune": 2, "evaluate": 1}
    line = json.dumps({"episode": 0, "seconds": phases}) + "\n"
    (run / "metrics.jsonl").write_text(line * 3 + line[:20])  # one is being written
    assert meta_training_seconds(run) == meta_training_seconds(run / "policy") == 3 * 9.5
    (tmp_path / "policy").mkdir()
    assert meta_training_seconds(tmp_path / "policy") is None, "a policy without its run"


def test_an_episode_logs_every_phase(inputs: Inputs):
    record = MetaTraining(Session.prepare(inputs.config(), Silent())).episode()
    assert set(record.seconds) == {*PHASES, *INNER_PHASES}
    assert sum(record.seconds[phase] for phase in INNER_PHASES) <= record.seconds["inner loops"]
