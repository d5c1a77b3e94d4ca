"""The comparison of several runs as files: a page, Markdown to paste, and JSON to compute with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pcdistill.atomic_io import atomic_file
from pcdistill.evaluation import confusion_cells
from pcdistill.reporting.comparison_page import comparison_sentences, scenes_line
from pcdistill.reporting.html_page import render_comparison
from pcdistill.reporting.markdown import markdown_table, percent_text, plain_text
from pcdistill.reporting.page_numbers import interval_text
from pcdistill.reporting.run_comparison import BEST, ComparedMethod, RunsComparison

FORMAT = 1
"""Version of `comparison.json`."""


def write_comparison(folder: Path, compared: RunsComparison) -> Path:
    """Write `comparison.json`, `comparison.md` and `index.html`, each whole or not at all.

    Args:
        folder: created where it is missing; other files in it stay.
        compared: what to show.

    Returns:
        the path of the page, which needs no other file and no network.
    """
    page = folder / "index.html"
    files = {
        folder / "comparison.json": json.dumps(comparison_json(compared), indent=1, sort_keys=True),
        folder / "comparison.md": comparison_markdown(compared),
        page: render_comparison(compared),
    }
    for path, text in files.items():
        with atomic_file(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    return page


def comparison_json(compared: RunsComparison) -> dict[str, Any]:
    """Give the numbers of a comparison, and what made each run, as JSON values."""
    return {
        "format": FORMAT,
        "protocol": compared.protocol_line,
        "rules": compared.protocol.facts(),
        "label_set": compared.label_set,
        "classes": list(compared.classes),
        "scenes": list(compared.scenes),
        "runs": [
            {
                "run": run.name,
                "title": run.title,
                "scenes_left_out": others,
                **{
                    key: next(iter(run.results.values()))[key]
                    for key in ("prompts", "teachers", "text_space", "software")
                },
            }
            for run, others in zip(compared.runs, compared.others, strict=True)
        ],
        "methods": [
            {
                "name": method.name,
                "runs": [
                    {"run": run.name, "method": name, **score, "confusion": confusion_cells(counts)}
                    for run, name, score, counts in zip(
                        compared.runs,
                        method.methods,
                        method.scores,
                        method.confusions,
                        strict=True,
                    )
                ],
                "against_the_first": [
                    {"run": run.name, **vars(apart), "verdict": apart.verdict}
                    for run, apart in zip(compared.runs[1:], method.differences, strict=True)
                ],
            }
            for method in compared.methods
        ],
    }


def comparison_markdown(compared: RunsComparison) -> str:
    """Give the comparison as Markdown, with a table of the methods and one of the classes."""
    lines = [
        f"# {len(compared.runs)} runs side by side",
        "",
        scenes_line(compared),
        "",
        f"Protocol {plain_text(compared.protocol_line)}.",
        "",
        *markdown_table(
            ["method", "run", "mIoU %", "95 %", "mAcc %", "points %", "against the first", "p"],
            [row for method in compared.methods for row in _rows(compared, method)],
        ),
        "",
        *(f"{plain_text(sentence)}.\n" for sentence in comparison_sentences(compared)),
        f"IoU of each class, {compared.shown.name}, in per cent:",
        "",
        *markdown_table(
            ["class", *(run.name for run in compared.runs)],
            [
                [name, *(percent_text(score["per_class"][name]) for score in compared.shown.scores)]
                for name in compared.classes
                if any(score["per_class"][name] is not None for score in compared.shown.scores)
            ],
        ),
    ]
    return "\n".join(lines)


def _rows(compared: RunsComparison, method: ComparedMethod) -> list[list[str]]:
    rows = []
    apart = [None, *method.differences]
    for run, name, score, difference in zip(
        compared.runs, method.methods, method.scores, apart, strict=True
    ):
        p_value = None if difference is None else difference.p_value
        rows.append(
            [
                f"best: {name}" if method.name == BEST else name,
                run.name,
                percent_text(score["miou"]),
                interval_text(score["interval"]),
                percent_text(score["macc"]),
                percent_text(score["overall_accuracy"]),
                "" if difference is None else str(difference),
                "" if p_value is None else f"{p_value:.2g}",
            ]
        )
    return rows
