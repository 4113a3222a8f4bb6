"""The demo's HTML page: results of both tasks, built from blocks of the run's and the comparison's pages."""

from collections.abc import Sequence
from dataclasses import dataclass

from nmg.auditing.result import AuditResult
from nmg.comparison.results import ComparisonResults
from nmg.meta_training.log import RunLog
from nmg.report.audit_page import audit_tables
from nmg.report.comparison import reading
from nmg.report.comparison_page import score_blocks as comparison_blocks
from nmg.report.experiment import summary
from nmg.report.page import Facts, Listing, PageContent, Paragraph, Section
from nmg.report.run_page import learner_sections, sample_blocks
from nmg.report.run_scores import score_blocks

TITLES = {"classification": "Classification", "qa": "Question answering"}


@dataclass(frozen=True)
class TaskResult:
    """Results of the demo for one task."""

    task: str
    audit: AuditResult
    log: RunLog
    comparison: ComparisonResults


def demo_page(results: Sequence[TaskResult]) -> PageContent:
    """Build the page of the demo."""
    introduction = Section(
        "What was learned",
        [
            *(Paragraph(f"**{TITLES[result.task]}.** {_in_short(result)}") for result in results),
            Paragraph(
                "A small language model was trained on news. For each task an audit asked whether there is anything to "
                "learn; a designed experiment learned which tokens to mask from the scores of the models that masks "
                "gave; and fresh models were adapted under those masks and under rules, fine-tuned on the same few "
                "labelled examples, and scored on the same test set. “placebo” learned from the same plays with signs "
                "of chance: what it gains is noise."
            ),
        ],
    )
    sections = [introduction, *(section for result in results for section in _task_sections(result))]
    return PageContent("Learning what to mask", "nmg demo · a small BERT on BBC News", sections)


def _in_short(result: TaskResult) -> str:
    """Summary of what was learned, of the comparison on the test set, and of the audit."""
    learned = summary(result.log) or "The learner has nothing to tell."
    tested, audited = reading(result.comparison), result.audit.facts["recommendation"]
    return f"{learned} On the test set: {tested} The audit said beforehand: {audited}"


def _task_sections(result: TaskResult) -> list[Section]:
    log, comparison = result.log, result.comparison
    config, title = log.config, TITLES[result.task]
    facts = Facts(
        (
            ("episodes", str(len(log.episodes))),
            ("contexts per episode", str(config.meta.contexts)),
            ("masking rate", f"{config.masking.rate:.0%}"),
            ("players compared by", log.metric),
            ("seeds of the comparison", str(len({cell.seed for cell in comparison.cells}))),
        )
    )
    tested = [block for setting in comparison.settings for block in comparison_blocks(comparison, setting)]
    return [
        Section(f"{title}: is there anything to learn?", [table for _, table in audit_tables(result.audit)]),
        Section(f"{title}: meta-training", (facts, *score_blocks(log))),
        *(Section(f"{title}: {part.heading}", part.blocks) for part in learner_sections(log)),
        Section(f"{title}: what the policy masks", (*sample_blocks(log), Listing("Settings", config.to_yaml()))),
        Section(f"{title}: results on the test set", (Paragraph(reading(comparison)), *tested)),
    ]
