"""The numbers of a report as Markdown, to paste into a text."""

from __future__ import annotations

from pcdistill.reporting.markdown import markdown_table, percent_text, plain_text
from pcdistill.reporting.page_numbers import interval_text
from pcdistill.reporting.report_data import ReportData


def report_markdown(data: ReportData) -> str:
    """Give the methods, what they say, the classes, and what made them."""
    lines = [f"# {plain_text(data.title)}", ""]
    for text in (*data.summary, *data.notes):
        lines += [plain_text(text), ""]
    lines += [f"Protocol {plain_text(data.protocol)}.", ""]
    if data.rows:
        lines += markdown_table(
            ["method", "mIoU %", "95 %", "mAcc %", "points %"],
            [
                [
                    row.name,
                    percent_text(row.miou),
                    interval_text(row.interval),
                    percent_text(row.macc),
                    percent_text(row.overall_accuracy),
                ]
                for row in data.rows
            ],
        )
        lines += ["", *(f"{plain_text(sentence)}.\n" for sentence in data.conclusions)]
        names = dict.fromkeys(name for row in data.rows for name in row.per_class)
        per_class = [row.per_class for row in data.rows]
        lines += ["IoU of each class, in per cent:", ""]
        lines += markdown_table(
            ["class", *(row.name for row in data.rows)],
            [[name, *(percent_text(one.get(name)) for one in per_class)] for name in names],
        )
        lines.append("")
    facts = {"seed": str(data.seed), **data.provenance}
    lines += [f"- {plain_text(key)}: {plain_text(value)}" for key, value in facts.items()]
    return "\n".join(lines) + "\n"
