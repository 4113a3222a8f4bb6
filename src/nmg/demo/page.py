"""The demo's page: results of both tasks, built from blocks of the pages of audits, runs and comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass

from nmg.auditing.result import AuditResult
from nmg.comparison.results import ComparisonResults
from nmg.meta_training.log import RunLog
from nmg.report.audit_page import audit_tables
from nmg.report.comparison_page import score_blocks as comparison_blocks
from nmg.report.comparison_summary import reading
from nmg.report.document import Details, Document, Facts, Paragraph, Section
from nmg.report.experiment import summary
from nmg.report.numbers import percent
from nmg.report.run_page import learner_sections, sample_blocks
from nmg.report.run_scores import score_blocks

TITLES = {"classification": "Classification", "qa": "Question answering"}


@dataclass(frozen=True)
class TaskResult:
    """The results of the demo for one task."""

    task: str
    audit: AuditResult
    log: RunLog
    comparison: ComparisonResults


def demo_page(results: Sequence[TaskResult]) -> Document:
    """Build the page of the demo."""
    introduction = Section(
        "What was learned",
        [
            *(Paragraph(f"**{TITLES[result.task]}.** {_in_short(result)}") for result in results),
            Paragraph(
                "A small language model was trained on news. For each task, an audit tested whether there is anything "
                "to learn. A designed experiment then learned which tokens to mask, from the scores of models adapted "
                "with different masks. Finally, fresh models were adapted with these masks and with rules, "
                "fine-tuned on the same few labelled examples, and scored on the same test set. “placebo” learned from "
                "the same trials with random signs, so its gain is noise."
            ),
        ],
    )
    sections = [introduction, *(section for result in results for section in _task_sections(result))]
    return Document("Learning what to mask", "nmg demo · a small BERT on BBC News", sections)


def _in_short(result: TaskResult) -> str:
    """Return a summary of what was learned, of the comparison on the test set, and of the audit."""
    learned = summary(result.log) or "The learner wrote no summary."
    tested, audited = reading(result.comparison), result.audit.facts["recommendation"]
    return f"{learned} On the test set: {tested} The audit before learning: {audited}"


def _task_sections(result: TaskResult) -> list[Section]:
    log, comparison = result.log, result.comparison
    config, title = log.config, TITLES[result.task]
    facts = Facts(
        (
            ("episodes", str(len(log.episodes))),
            ("contexts per episode", str(config.meta.contexts)),
            ("masking rate", percent(config.masking.rate)),
            ("metric of the players", log.metric),
            ("seeds of the comparison", str(len({cell.spec.seed for cell in comparison.cells}))),
        )
    )
    tested = [block for setting in comparison.settings for block in comparison_blocks(comparison, setting)]
    return [
        Section(f"{title}: is there anything to learn?", audit_tables(result.audit)),
        Section(f"{title}: meta-training", (facts, *score_blocks(log))),
        *(Section(f"{title}: {part.heading}", part.blocks) for part in learner_sections(log)),
        Section(f"{title}: what the policy masks", (*sample_blocks(log), Details("Settings", config.to_yaml()))),
        Section(f"{title}: results on the test set", (Paragraph(reading(comparison)), *tested)),
    ]
