"""A miniature of domain adaptation in which only masking the domain's own words helps.

A tiny model is pre-trained on texts of two topics, known words and filler. The domain's texts also hold jargon: words
of a topic that pre-training never showed. Labelled texts hold known words, those to be labelled in the end hold jargon.
The classifier can label them only if adaptation has put jargon beside the known words of its topic, and that is what
predicting masked jargon does (its embedding is the one predicted with). Predicting filler, which is the same in both
topics, or known words, which are where they belong, teaches the task nothing.

No rule by frequency masks jargon: it is rarer than filler and more frequent than known words. Nor does it have a
feature of its own: what tells it apart is what the model makes of words it never saw.
"""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np

from nmg.base.progress import Silent
from nmg.base.seeding import StreamName, stream
from nmg.base.settings import MaskingSettings, ModelSettings, RuntimeSettings
from nmg.base.training_settings import AdaptSettings, FinetuneSettings
from nmg.base.types import Context
from nmg.config import Config
from nmg.data.corpus import Corpus
from nmg.data.formats.classification import ClassificationExample
from nmg.data.task_data import TaskData
from nmg.masking.corrupt import Vocabulary
from nmg.masking.rules import RandomMasking
from nmg.tasks.loaded import LoadedData
from nmg.tasks.registry import task_kind
from nmg.training.adapt import adapt
from nmg.training.context import TrainingContext
from nmg.training.lm import load_pretrained
from nmg.training.masks import DrawnMasks
from nmg.training.runtime import Runtime
from nmg.trials.session import ModelSession, Session
from support.tiny import save_tiny_bert

TOPICS = (0, 1)
KNOWN = [[f"known{topic}-{word}" for word in range(6)] for topic in TOPICS]
JARGON = [[f"jargon{topic}-{word}" for word in range(3)] for topic in TOPICS]
FILLER = [f"filler{word}" for word in range(6)]

N_CONTEXTS, JARGON_A_CONTEXT, EXAMPLES_A_CONTEXT = 36, 2, 2
Fields: TypeAlias = Mapping[str, object]
LINEAR: Fields = {"kind": "linear"}
EXPERIMENT: Fields = {"kind": "experiment", "budget": 140}
"""as every run has it, but for fewer plays"""
RUNTIME = {"device": "cpu", "precision": "fp32", "threads": 1, "trackers": []}


def pretrained(folder: Path) -> Path:
    """Save a model that has seen 2048 texts of known words and filler; a few seconds."""
    rng = stream(0, "pre-training texts")
    texts = [_shuffled(rng, rng.choice(KNOWN[i % 2], 4, replace=False), rng.choice(FILLER, 4)) for i in range(2048)]
    vocabulary = [*chain.from_iterable(KNOWN + JARGON), *FILLER]
    lm = load_pretrained(ModelSettings(name=str(save_tiny_bert(folder / "new", vocabulary, spread=0.1))))
    corpus = Corpus.build(texts, lm.tokenizer, 32, folder / "cache")
    context = TrainingContext(
        model=lm.model,
        vocabulary=Vocabulary.from_tokenizer(lm.tokenizer),
        masking=MaskingSettings(rate=0.25),
        adapt=AdaptSettings(epochs=12, batch_size=64, learning_rate=3e-3),
        finetune=FinetuneSettings(),
        runtime=Runtime.start(RuntimeSettings.model_validate(RUNTIME)),
    )
    adapt(context, DrawnMasks(corpus, RandomMasking()), StreamName(0) / "pre-training")
    lm.model.save_pretrained(folder / "pretrained")
    lm.tokenizer.save_pretrained(folder / "pretrained")
    return folder / "pretrained"


def workbench(model: Path, seed: int, policy: Fields = LINEAR, learner: Fields = EXPERIMENT) -> Session:
    """The domain's texts, its task, and settings under which an inner loop takes less than a tenth of a second."""
    config = Config.model_validate(
        {
            "run": {"seed": seed},
            "model": {"name": str(model)},
            "masking": {"rate": 0.25},
            "adapt": {"epochs": 10, "batch_size": N_CONTEXTS, "learning_rate": 3e-2, "block_size": 32},
            "finetune": {"epochs": 8, "batch_size": 256, "learning_rate": 8e-3, "max_length": 16},
            "meta": {"episodes": 1000, "contexts": N_CONTEXTS, "continual": False},
            "policy": policy,
            "learner": learner,
            "reward": {"metric": "loss"},
            "runtime": RUNTIME,
        }
    )
    data = _domain(stream(seed, "domain"))
    session = ModelSession.open(config, Silent())
    task = task_kind("classification").build(session.lm.tokenizer, data.train, config.finetune)
    return Session(config, session.lm, session.runtime, session.reporter, data, task, LoadedData(config.data))


def _domain(rng: np.random.Generator) -> TaskData:
    contexts, train = [], []
    for index in range(N_CONTEXTS):
        topic, first = index % 2, index // 2
        jargon = [JARGON[topic][(first + shift) % len(JARGON[topic])] for shift in range(JARGON_A_CONTEXT)]
        words = _shuffled(rng, jargon, rng.choice(KNOWN[topic], 2, replace=False), rng.choice(FILLER, 3))
        contexts.append(Context(index, words))
        for _ in range(EXAMPLES_A_CONTEXT):
            text = _shuffled(rng, rng.choice(KNOWN[topic], 1), rng.choice(FILLER, 3))
            train.append(ClassificationExample(str(len(train)), text, f"topic{topic}", index))
    validation = tuple(
        ClassificationExample(f"{word} {copy}", _shuffled(rng, [word], rng.choice(FILLER, 3)), f"topic{topic}", -1)
        for topic in TOPICS
        for word in JARGON[topic]
        for copy in range(4)
    )
    return TaskData(tuple(train), validation, None, tuple(contexts))


def _shuffled(rng: np.random.Generator, *groups: object) -> str:
    return " ".join(rng.permutation(np.concatenate([np.asarray(group) for group in groups])))
