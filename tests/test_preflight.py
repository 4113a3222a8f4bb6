"""What cannot work is said before any training, in one sentence; what can work leaves no trace of having been tried."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

import nmg.training.runtime
import nmg.trials.preflight
import nmg.trials.session
from benchmarks import zoo
from benchmarks.zoo_models import family_of, save_model
from nmg import adapt, compare
from nmg.auditing.run import audit
from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.base.seeding import StreamName
from nmg.base.settings import RuntimeSettings
from nmg.meta_training.estimate import estimate
from nmg.meta_training.run import start
from nmg.training.context import TrainingContext
from nmg.training.finetune import predict, task_model
from nmg.training.runtime import Runtime
from nmg.trials.session import ModelSession, Session
from support.command import Nmg
from support.planted import WORDS
from support.runs import Inputs, Notes, is_same

PLAIN = RuntimeSettings(device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return zoo.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a small random model of a type, each once."""
    folder, made = tmp_path_factory.mktemp("models"), {}

    def make(kind: str, family: str | None = None, **changes: Any) -> Path:
        key = (kind, family, str(changes))
        if key not in made:
            made[key] = save_model(kind, family or family_of(kind), folder / str(len(made)), **changes)
        return made[key]

    return make


def workbench(model: Path, data: dict[str, Path], task: str, *given: str, notes: Any = None) -> Session:
    files = [f"data.task={task}", f"data.train={data[task]}", f"data.test={data[task]}", "runtime.device=cpu"]
    return Session.open_all(zoo.settings(model, *files, *given), notes or Silent())


def session(model: Path, data: dict[str, Path], *given: str, notes: Any = None) -> ModelSession:
    config = zoo.settings(model, f"data.corpus={data['corpus']}", "runtime.device=cpu", *given)
    return ModelSession.open(config, notes or Silent())


def corpus(data: dict[str, Path]) -> list[str]:
    return data["corpus"].read_text("utf-8").splitlines()


def scores_all_rows(found: Session) -> bool:
    """Whether a new task model gives each row of the training examples a span with a finite score."""
    features = found.task.encode(found.data.train)
    model = task_model(found.task, found.lm.model, StreamName(0))
    outputs = predict(model, found.task, features, Runtime.start(PLAIN))
    return all(one.shape[0] == len(features) and bool(one.amax(dim=1).isfinite().all()) for one in outputs.values())


class TestNoTraceIsLeft:
    def test_weights_and_all_random_streams_are_as_they_were(self, model, data):
        before = workbench(model("big_bird"), data, "token-classification", "runtime.precision=fp32")
        weights = {name: tensor.clone() for name, tensor in before.lm.model.state_dict().items()}
        states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        after = before.preflight()
        assert after is before
        assert is_same(before.lm.model.state_dict(), weights)
        assert before.lm.model.base_model.attention_type == "block_sparse"
        assert all(parameter.grad is None for parameter in before.lm.model.parameters())
        now = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        assert torch.equal(states[0], now[0])
        assert states[1:] == now[1:]

    def test_an_adaptation_gives_the_same_model(self, model, data, tmp_path, monkeypatch):
        config = zoo.settings(model("roberta"), f"data.corpus={data['corpus']}")
        adapt(config, masking="random", out=tmp_path / "tried")
        monkeypatch.setattr(nmg.trials.session, "preflight", lambda _lm, context, *_others, **_more: context)
        adapt(config, masking="random", out=tmp_path / "not tried")
        first, second = (AutoModelForMaskedLM.from_pretrained(tmp_path / n) for n in ("tried", "not tried"))
        assert is_same(first, second)


class TestEveryCommandTriesItsModelOnce:
    @pytest.fixture
    def tried(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Number of tasks of each preflight."""
        found: list[int] = []

        def count(_lm: Any, context: TrainingContext, _texts: Any, tasks: Any = (), **_more: Any) -> TrainingContext:
            found.append(len(tasks))
            return context

        monkeypatch.setattr(nmg.trials.session, "preflight", count)
        return found

    def test_adapt(self, inputs: Inputs, tried, tmp_path):
        corpus = tmp_path / "corpus.txt"
        corpus.write_text(" ".join(WORDS[:9]))
        adapt(inputs.config(data={"corpus": str(corpus)}), masking="random", out=tmp_path / "out")
        assert tried == [0]

    def test_compare(self, inputs: Inputs, tried, tmp_path):
        compare(inputs.config(), ["none"], tmp_path / "out", seeds=1)
        assert tried == [1]

    def test_meta_train(self, inputs: Inputs, tried, tmp_path):
        start(inputs.config(meta={"episodes": 1}), tmp_path / "run", Silent(), lambda *_: None)
        assert tried == [1]

    def test_estimate(self, inputs: Inputs, tried):
        estimate(inputs.config(), Silent())
        assert tried == [1]

    def test_audit(self, inputs: Inputs, tried, tmp_path):
        with pytest.raises(StopIteration):  # at the first play
            audit(inputs.config(), tmp_path / "audit", on_trial=lambda *_: next(iter(())))
        assert tried == [1]


class TestModels:
    def test_a_model_without_a_head_for_the_task_is_refused_before_any_cell(self, model, data, tmp_path):
        config = zoo.settings(model("eurobert"), "data.task=qa", f"data.train={data['qa']}", f"data.test={data['qa']}")
        with pytest.raises(UserError, match=r"type 'eurobert' does not support this task.*another data.task"):
            compare(config, ["none"], tmp_path / "out", seeds=1)
        assert not list((tmp_path / "out").glob("trials.jsonl"))

    @pytest.mark.parametrize(
        ("kind", "task"), [("big_bird", "qa"), ("luke", "token-classification"), ("funnel", "classification")]
    )
    def test_a_part_of_the_language_model_may_be_left_out(self, model, data, kind, task):
        found = workbench(model(kind), data, task)
        tuned = task_model(found.task, found.lm.model, StreamName(0))
        ours, theirs = (m.get_input_embeddings().weight for m in (tuned, found.lm.model))
        assert torch.equal(ours, theirs)

    def test_a_tokenizer_with_more_tokens_than_the_model_embeds(self, model, data, tmp_path):
        tokenizer = AutoTokenizer.from_pretrained(model("bert"))
        AutoModelForMaskedLM.from_pretrained(model("bert")).save_pretrained(tmp_path)
        n = len(tokenizer)
        tokenizer.add_tokens(["osimertinib", "nivolumab"])
        tokenizer.save_pretrained(tmp_path)
        with pytest.raises(
            UserError, match=rf"has {n + 2} tokens, but the model embeds only {n}. Call .*resize_token_emb"
        ):
            session(tmp_path, data).preflight(corpus(data))

    def test_a_model_of_one_token_type_reads_the_rows_of_a_tokenizer_that_gives_two(self, model, data):
        one = workbench(model("roberta", "WordPiece", type_vocab_size=1), data, "qa")
        assert "token_type_ids" not in one.task.encode(one.data.train).tokens
        one.preflight()
        two = workbench(model("bert"), data, "qa")
        assert "token_type_ids" in two.task.encode(two.data.train).tokens

    def test_positions_that_a_model_lacks(self, model, data):
        few = session(model("xlm"), data)
        few.lm.model.transformer.position_embeddings = torch.nn.Embedding(20, 32)
        with pytest.raises(UserError, match=r"adapt.block_size: .* has 20 positions, and a row needs 62; lower adapt"):
            few.preflight(corpus(data))

    def test_nystromformer_with_rows_of_one_length_alone(self, model, data):
        with pytest.raises(UserError, match="takes only rows of exactly 16 tokens"):
            session(model("nystromformer", segment_means_seq_len=16, num_landmarks=4), data).preflight(corpus(data))

    def test_adapters_for_languages(self, model, data):
        one = session(model("xmod"), data)
        assert one.lm.model.config.default_language == "en_XX"
        one.preflight(corpus(data))
        with pytest.raises(UserError, match=r"adapters for 2 languages; .* as default_language, e.g. de_DE"):
            session(model("xmod", languages=["de_DE", "en_XX"]), data).preflight(corpus(data))
        chosen = model("xmod", languages=["de_DE", "en_XX"], default_language="en_XX")
        session(chosen, data).preflight(corpus(data))

    @pytest.mark.parametrize("kind", ["mobilebert", "esm"])
    def test_logits_that_need_the_whole_vocabulary(self, model, data, kind):
        few = session(model(kind), data, "adapt.vocabulary=corpus")
        with pytest.raises(UserError, match=f"adapt.vocabulary corpus: .*type {kind}.*use adapt.vocabulary all"):
            few.preflight(corpus(data))
        session(model(kind), data).preflight(corpus(data))

    def test_a_tokenizer_that_pads_with_another_id_than_the_model(self, model, data):
        """MPNet's table has its padding at 1, this tokenizer at 0: padding is among the corpus's words all the same."""
        few = session(model("mpnet"), data, "adapt.vocabulary=corpus")
        assert few.lm.model.get_input_embeddings().padding_idx != few.lm.tokenizer.pad_token_id
        few.preflight(corpus(data))

    def test_token_types_that_are_looked_up_among_the_words(self, model, data):
        """As XLM does, whose types 0 and 1 need not be among the words of the rows."""
        found = workbench(model("xlm", "WordPiece"), data, "qa").preflight()
        types = found.task.encode(found.data.train).tokens["token_type_ids"].values
        assert set(types.tolist()) == {0, 1}
        assert scores_all_rows(found)

    def test_a_head_that_mixes_positions(self, model, data, monkeypatch):
        mixing = session(model("bert"), data)
        head = mixing.lm.model.cls.forward
        monkeypatch.setattr(type(mixing.lm.model.cls), "forward", lambda _, states: head(states.flip(1)))
        with pytest.raises(UserError, match="type 'bert' cannot be adapted: its head mixes positions"):
            mixing.preflight(corpus(data))

    def test_weights_that_are_not_finite(self, model, data):
        broken = session(model("bert"), data)
        with torch.no_grad():
            broken.lm.model.get_input_embeddings().weight.fill_(float("nan"))
        with pytest.raises(UserError, match="cannot be adapted"):
            broken.preflight(corpus(data))


class TestPrecision:
    @pytest.fixture(autouse=True)
    def _bf16(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(nmg.training.runtime, "_multiplies_bf16", lambda _on_cpu: True)

    def test_a_model_that_does_not_train_in_bf16_trains_in_fp32_and_that_is_said(self, model, data):
        notes = Notes()
        tried = workbench(model("big_bird"), data, "token-classification", notes=notes).preflight()
        assert (tried.runtime.precision, tried.config.runtime.precision) == ("fp32", "fp32")
        assert tried.context.runtime.precision == "fp32"
        assert len([line for line in notes.lines if line.endswith("fp32 is used")]) == 1

    def test_one_that_does_is_left_alone(self, model, data):
        assert workbench(model("bert"), data, "qa").preflight().runtime.precision == "bf16"

    @pytest.mark.parametrize("precision", ["bf16", "fp16"])
    def test_who_asks_for_a_precision_is_told(self, model, data, precision):
        asked = session(model("big_bird"), data, f"runtime.precision={precision}")
        with pytest.raises(UserError, match=rf"runtime.precision {precision}: .*use fp32"):
            asked.preflight(corpus(data))


class TestLongformer:
    def test_any_separators_and_any_passage(self, model, data, tmp_path):
        workbench(model("longformer", "WordPiece"), data, "qa").preflight()
        squad = json.loads(data["qa"].read_text())
        squad["data"][0]["paragraphs"][0]["context"] += " </s> more"
        changed = tmp_path / "qa.json"
        changed.write_text(json.dumps(squad))
        found = workbench(model("longformer"), data | {"qa": changed}, "qa").preflight()
        ids = found.task.encode(found.data.train[:1]).tokens["input_ids"].values
        assert (ids == found.lm.tokenizer.sep_token_id).sum() > 3, "the passage has one of its own"
        assert scores_all_rows(found)

    def test_rows_of_three_separators_are_read_as_transformers_reads_them(self, model, data):
        found = workbench(model("longformer"), data, "qa", "runtime.precision=fp32")
        features = found.task.encode(found.data.train[:4])
        ours = task_model(found.task, found.lm.model, StreamName(0))
        outputs = predict(ours, found.task, features, Runtime.start(PLAIN))
        ours._forward_pre_hooks.clear()
        theirs = predict(ours, found.task, features, Runtime.start(PLAIN))
        assert is_same(outputs, theirs)


class TestDroppedText:
    """The tokenizer of BERT drops marks that have no width."""

    def conll(self, path: Path, *sentences: tuple[str, ...]) -> Path:
        lines = ["".join(f"{word}\n" for word in one) for one in sentences]
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    def session(self, model: Path, train: Path, test: Path, notes: Any = None) -> Session:
        files = ["data.task=token-classification", f"data.train={train}", f"data.test={test}", "runtime.device=cpu"]
        return Session.open_all(zoo.settings(model, *files), notes or Silent())

    @pytest.mark.parametrize("side", ["train", "test"])
    def test_sentences_without_any_token_are_named_with_their_file(self, model, data, tmp_path, side):
        found = self.conll(tmp_path / "some.conll", ("gene\tO", "Berlin\tB-PLACE"), ("\u200d\tO",), ("\u200b\tO",))
        files = {"train": data["token-classification"], "test": data["token-classification"]} | {side: found}
        said = r"some.conll: .* no token in 2 of 3 examples \(line or id: '4', '6'\), as in .*; remove them"
        with pytest.raises(UserError, match=said):
            self.session(model("bert"), **files).preflight()

    def test_a_comparison_says_so_before_any_cell(self, model, data, tmp_path):
        test = self.conll(tmp_path / "test.conll", ("\u200d\tO",))
        train = data["token-classification"]
        files = ("data.task=token-classification", f"data.train={train}", f"data.test={test}")
        with pytest.raises(UserError, match=r"test.conll: .* no token in 1 of 1 examples"):
            compare(zoo.settings(model("bert"), *files), ["random"], tmp_path / "out", seeds=1)
        assert not list((tmp_path / "out").glob("trials.jsonl"))

    def test_what_a_perfect_model_scores_at_most(self, model, data, tmp_path):
        notes = Notes()
        sentence = ("gene\tO", "Berlin\tB-PLACE", "cell\tO", "\u200d\tB-PLACE")
        test = self.conll(tmp_path / "test.conll", sentence, ("Rome\tB-PLACE",))
        self.session(model("bert"), data["token-classification"], test, notes).preflight()
        # Two of three entities can be found: precision 1, recall 2/3.
        (line,) = [line for line in notes.lines if line.startswith("data.test")]
        assert "drops 1 words that are labelled as part of an entity" in line
        assert "the highest possible entity_f1 is 0.8000" in line

    def test_test_texts_without_tokens_leave_no_held_out_loss(self, model, tmp_path):
        rows = [{"text": "the gene binds", "label": "a"}, {"text": "the cell growth", "label": "b"}]
        train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
        train.write_text("".join(json.dumps(row) + "\n" for row in rows))
        test.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"text": "\u200d", "label": "a"}]))
        results = compare(
            zoo.settings(model("bert"), f"data.train={train}", f"data.test={test}"), ["none"], tmp_path / "out", seeds=1
        )
        assert [cell.held_out_loss for cell in results.cells] == [None]

    def test_a_corpus_without_tokens_says_why(self, model, tmp_path):
        (tmp_path / "corpus.txt").write_text("\u200d\u200b\n")
        config = zoo.settings(model("bert"), f"data.corpus={tmp_path / 'corpus.txt'}")
        with pytest.raises(UserError, match=r"texts of the corpus have no tokens: the tokenizer drops every character"):
            adapt(config, masking="random", out=tmp_path / "out")


class TestRawErrors:
    def test_one_becomes_a_sentence_and_keeps_its_traceback(self, model, data, monkeypatch):
        def fail(*_: Any) -> None:
            raise ValueError("first line\nsecond line")

        monkeypatch.setattr(nmg.trials.preflight, "held_out_loss", fail)
        with pytest.raises(UserError, match="cannot be adapted: ValueError: first line") as found:
            session(model("bert"), data).preflight(corpus(data))
        assert "second line" not in str(found.value)
        assert isinstance(found.value.__cause__, ValueError)

    def test_nmg_debug_shows_where(self, nmg: Nmg, model, data, monkeypatch):
        lacking = model("nystromformer", segment_means_seq_len=16, num_landmarks=4)
        words = ("adapt", "--corpus", data["corpus"], "--model", lacking, "--out", "out")
        assert "Traceback" not in nmg(*words).err
        monkeypatch.setenv("NMG_DEBUG", "1")
        answer = nmg(*words)
        assert answer.code == 2
        assert "Traceback" in answer.err
        assert answer.err.strip().splitlines()[-1].startswith("error: ")


def test_an_arena_of_other_settings_is_tried_as_it_is(model, data):
    packed = session(model("bert"), data, "runtime.packing=true")
    assert packed.preflight(corpus(data)).runtime == replace(packed.runtime)


def test_a_cell_of_bigbird_does_not_depend_on_the_cells_before_it(model, data, tmp_path):
    """At the first short batch it leaves sparse attention for good: another inner loop must begin with it again."""
    files = (f"data.train={data['classification']}", f"data.test={data['classification']}")
    config = zoo.settings(model("big_bird"), *files, "runtime.precision=fp32", "adapt.batch_size=2")
    alone = compare(config, ["random"], tmp_path / "alone", seeds=1)
    after = compare(config, ["whole-word", "random"], tmp_path / "after", seeds=1)
    (first,) = alone.cells
    (second,) = (cell for cell in after.cells if cell.spec.masking == "random")
    assert first.adaptation.loss == second.adaptation.loss
    assert first.scores == second.scores
