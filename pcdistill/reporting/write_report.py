"""The report of a run as files: a page to read, Markdown to paste, and JSON to compute with."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pcdistill.atomic_io import atomic_file
from pcdistill.evaluation import confusion_cells
from pcdistill.reporting.html_page import render_html
from pcdistill.reporting.report_data import NOTHING_FITS, AskedQuestion, ReportData
from pcdistill.reporting.report_markdown import report_markdown

FORMAT = 1
"""Version of `report.json`."""


def write_report(folder: Path, data: ReportData) -> Path:
    """Write `report.json`, `report.md` and `index.html`, each whole or not at all.

    Args:
        folder: created where it is missing; other files in it stay.
        data: what to show.

    Returns:
        the path of the page, which needs no other file and no network.
    """
    text = json.dumps(report_json(data), indent=1, allow_nan=False, ensure_ascii=False)
    with atomic_file(folder / "report.json") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    with atomic_file(folder / "report.md") as temporary:
        temporary.write_text(report_markdown(data), encoding="utf-8")
    page = folder / "index.html"
    with atomic_file(page) as temporary:
        temporary.write_text(render_html(data), encoding="utf-8")
    return page


def report_json(data: ReportData) -> dict[str, Any]:
    """Give the numbers of a report as JSON values; what is not finite is null."""
    values: dict[str, Any] = {
        "format": FORMAT,
        "title": data.title,
        "protocol": data.protocol,
        "seed": data.seed,
        "rows": [
            {
                "name": row.name,
                "miou": row.miou,
                "macc": row.macc,
                "overall_accuracy": row.overall_accuracy,
                "interval": None if row.interval is None else list(row.interval),
                "per_class": dict(row.per_class),
                "per_class_accuracy": dict(row.per_class_accuracy),
            }
            for row in data.rows
        ],
        "conclusions": list(data.conclusions),
        "differences": [
            {"first": one.first, "second": one.second, **vars(one.apart)}
            for one in data.differences
        ],
        "confusions": [
            {
                "method": one.method,
                "classes": list(one.classes),
                "cells": confusion_cells(one.counts),
            }
            for one in data.confusions
        ],
        "evaluation": dict(data.evaluation),
        "capability": None,
        "examples": None,
        "queries": [_question_json(asked) for asked in data.queries],
        "costs": [vars(cost) for cost in data.costs],
        "pictures": [{"section": p.section, "caption": p.caption} for p in data.pictures],
        "provenance": dict(data.provenance),
        "summary": list(data.summary),
        "notes": list(data.notes),
    }
    if data.capability is not None:
        values["capability"] = {
            "teachers": list(data.capability.teachers),
            "vocabulary": list(data.capability.vocabulary),
            "values": data.capability.values.tolist(),
            "true": None if data.capability.true is None else data.capability.true.tolist(),
        }
    if data.examples is not None:
        values["examples"] = {
            "summary": data.examples.summary,
            "classes": [
                {
                    "word": shown.word,
                    "note": shown.note,
                    "samples": [[tile.caption for tile in tiles] for tiles in shown.samples],
                }
                for shown in data.examples.classes
            ],
        }
    finite: dict[str, Any] = _finite(values)
    return finite


def _question_json(asked: AskedQuestion) -> dict[str, Any]:
    match = asked.match
    return {
        "text": asked.text,
        "method": asked.method,
        "scene": asked.scene,
        "looks_like": NOTHING_FITS if match is None else match.looks_like,
        "position": None if match is None else list(match.position),
        "size": None if match is None else list(match.size),
        "score": None if match is None else match.relevancy,
        "truth": None if match is None else match.truth,
        "holds": asked.correct,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
