"""The demo's page: what was learned and what its masks were worth, in blocks of the run's and comparison's pages."""

from collections.abc import Sequence
from dataclasses import dataclass

from nmg.comparison.results import ComparisonResults
from nmg.report.comparison import reading
from nmg.report.comparison_page import score_blocks as comparison_blocks
from nmg.report.page import Facts, Listing, PageContent, Paragraph, Section
from nmg.report.run_page import learner_sections, sample_blocks
from nmg.report.run_scores import score_blocks
from nmg.runs.log import RunLog

TITLES = {"classification": "Classification", "qa": "Question answering"}


@dataclass(frozen=True)
class TaskResult:
    """What the demo did for one task."""

    task: str
    log: RunLog
    comparison: ComparisonResults


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
    log, comparison = result.log, result.comparison
    config, title = log.config, TITLES[result.task]
    facts = Facts(
        (
            ("episodes", str(config.meta.episodes)),
            ("contexts per episode", str(config.meta.contexts)),
            ("masking rate", f"{config.masking.rate:.0%}"),
            ("players compared by", log.metric),
            ("seeds of the comparison", str(len({cell.seed for cell in comparison.cells}))),
        )
    )
    tested = [block for setting in comparison.settings for block in comparison_blocks(comparison, setting)]
    return [
        Section(f"{title}: meta-training", (facts, *score_blocks(log))),
        *(Section(f"{title}: {part.heading}", part.blocks) for part in learner_sections(log)),
        Section(f"{title}: what the policy masks", (*sample_blocks(log), Listing("Settings", config.to_yaml()))),
        Section(f"{title}: results on the test set", (Paragraph(reading(comparison)), *tested)),
    ]
