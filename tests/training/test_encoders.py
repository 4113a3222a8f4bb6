"""Every type of encoder goes the whole way: two episodes, an adaptation, a folder, a pipeline."""

from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification, pipeline

from nmg.adaptation.adapt import adapt_corpus
from nmg.base.progress import Silent
from nmg.meta_training.loop import MetaTraining
from nmg.trials.session import Session
from support.encoders import FAMILY, save_tiny_encoder
from support.models import CONFIGS
from support.runs import Inputs


def test_every_type_has_a_tokenizer_of_its_family():
    assert set(FAMILY) == set(CONFIGS)


@pytest.mark.parametrize("kind", CONFIGS)
def test_two_episodes_then_adapt_save_and_load(kind: str, inputs: Inputs, tmp_path: Path):
    model = save_tiny_encoder(kind, tmp_path / "model")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("He doesn't know the naïve café.\n我们喜欢吃米饭。\nผมชอบกินข้าว\nSo good 👍🏽!\n")
    config = inputs.config(
        model={"name": str(model)}, data={"corpus": str(corpus)}, meta={"episodes": 2, "contexts": 3, "examples": 3}
    )
    training = MetaTraining(Session.prepare(config, Silent()))
    with training.engine:
        records = [training.episode() for _ in range(2)]
    assert all(0 < loss < 50 for record in records for loss in record.lm_loss.values())
    result = adapt_corpus(config, "whole-word", tmp_path / "adapted")
    assert result.steps > 0
    fill = pipeline("fill-mask", str(tmp_path / "adapted"))
    assert len(fill(f"Hello {fill.tokenizer.mask_token} world")) == 5
    classifier, report = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "adapted", num_labels=3, output_loading_info=True
    )
    encoder = f"{classifier.base_model_prefix}."
    assert not [name for name in report["missing_keys"] if name.startswith(encoder) and "pooler" not in name]
