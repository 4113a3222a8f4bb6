"""The demo's page: learning curves, the table, and texts shaded by mask probability."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmg.config import Config
from nmg.inner.adapt import state_encoder
from nmg.masking.base import choose
from nmg.masking.neural import predict
from nmg.meta_train import MetaTraining
from nmg.report.page import (
    Facts,
    Listing,
    PageContent,
    Paragraph,
    Plot,
    Section,
    ShadedRow,
    ShadedText,
    ShadedTexts,
    ShadedToken,
)
from nmg.report.plots import learning_curve, results_plot, reward_and_entropy
from nmg.report.tables import ResultCell, results_table, summarise
from nmg.rl.network import log_probabilities

TITLES = {"classification": "Topic of a paragraph (classification)", "qa": "Cloze questions (extractive answers)"}


@dataclass(frozen=True)
class TaskResult:
    """What the demo has of one task when it is done with it."""

    task: str
    config: Config
    episodes: Sequence[dict[str, Any]]
    """the lines of metrics.jsonl"""
    cells: Sequence[ResultCell]
    metrics: tuple[str, ...]
    texts: ShadedTexts


def shade_texts(training: MetaTraining, count: int) -> ShadedTexts:
    """The learned policy's probability of each token of the first `count` blocks, and what it would mask (top k).

    States are those of the pre-trained LM, with which meta-testing begins.
    """
    corpus, policy = training.corpus, training.learner.policy
    tokenizer = training.lm.tokenizer
    training.arena.model.load_state_dict(training.pretrained)
    blocks = corpus.blocks(np.arange(min(count, len(corpus))))
    states = state_encoder(training.arena.model, training.arena.runtime)(blocks)
    logits, _ = predict(policy, states, blocks)
    probability = log_probabilities(logits, blocks.is_maskable).exp()
    is_masked = choose(logits, blocks, training.config.masking.rate).is_masked(blocks.input_ids.shape[1])
    texts = []
    for row in range(len(blocks)):
        length = int(blocks.is_token[row].sum())
        pieces = tokenizer.convert_ids_to_tokens(blocks.input_ids[row, :length].tolist())
        words = blocks.word_index[row, :length].tolist()
        tokens = tuple(
            ShadedToken(
                text=piece.removeprefix("##"),
                probability=float(probability[row, column]),
                starts_word=column == 0 or words[column] != words[column - 1],
                is_special=not bool(blocks.is_maskable[row, column]),
                is_masked=bool(is_masked[row, column]),
            )
            for column, piece in enumerate(pieces)
        )
        texts.append(ShadedText(f"Text {row + 1}", (ShadedRow("learned policy", tokens),)))
    return ShadedTexts(tuple(texts))


def demo_page(results: Sequence[TaskResult]) -> PageContent:
    introduction = Section(
        "What this is",
        (
            Paragraph(
                "A policy learned which tokens to mask, from the scores of the models that its masks gave. Fresh "
                "models were then adapted under its masks and under rules, fine-tuned on the same few labelled "
                "examples and scored on the same test set."
            ),
            Paragraph(
                "The sizes are a demonstration's: a few episodes and seeds on small data. Differences between maskings "
                "below are of the order of chance; look at the intervals before the means."
            ),
        ),
    )
    sections = [introduction, *(section for result in results for section in _task_sections(result))]
    return PageContent("Learning what to mask", "nmg demo · MiniLM on BBC News", sections)


def _task_sections(result: TaskResult) -> list[Section]:
    metric = result.episodes[0]["metric"]
    players = [name for name in ("learner", "opponent", "random") if any(name in e["scores"] for e in result.episodes)]
    scores = {name: [e["scores"].get(name, {}).get(metric, math.nan) for e in result.episodes] for name in players}
    entropies = [(e.get("learner_update") or {}).get("entropy_per_row", math.nan) for e in result.episodes]
    rows = summarise(result.cells, result.metrics)
    primary = result.metrics[0]
    by_masking: dict[str, list[float]] = {}
    for cell in result.cells:
        by_masking.setdefault(cell.masking, []).append(cell.scores[primary])
    config = result.config
    facts = Facts(
        (
            ("episodes", str(config.meta.episodes)),
            ("contexts an episode", str(config.meta.contexts)),
            ("masking rate", f"{config.masking.rate:.0%}"),
            ("reward", f"{config.reward.kind} of {metric}"),
            ("seeds of the comparison", str(len({cell.seed for cell in result.cells}))),
        )
    )
    title = TITLES[result.task]
    return [
        Section(
            f"{title}: meta-training",
            (
                facts,
                Plot(learning_curve(scores, metric), "Scores of the players on the validation set."),
                Plot(
                    reward_and_entropy([e["mean_reward"] for e in result.episodes], entropies),
                    "Mean reward of the learner's actions, and the entropy of its policy.",
                ),
            ),
        ),
        Section(
            f"{title}: results on the test set",
            (
                results_table(rows, result.metrics),
                Plot(results_plot(by_masking, primary), "A dot for each seed, a bar at the mean."),
            ),
        ),
        Section(f"{title}: what the policy masks", (result.texts, Listing("Settings", config.to_yaml()))),
    ]
