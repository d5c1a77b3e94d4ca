"""The measurement of label files as files: Markdown to paste, and JSON to compute with."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch

from pcdistill.atomic_io import atomic_file
from pcdistill.evaluation import SemanticResult, get_protocol
from pcdistill.inference import FileIds, MeasuredPair
from pcdistill.reporting.markdown import markdown_table, percent_text, plain_text
from pcdistill.reporting.page_numbers import interval_text
from pcdistill.scenes import LabelSet
from pcdistill.version import __version__

FORMAT = 1
"""Version of `evaluation.json`."""


@dataclass(frozen=True, eq=False)
class FilesReport:
    """What was measured of files of labels, and how."""

    result: SemanticResult
    label_set: LabelSet
    protocol: str
    """Name of the protocol."""
    within: float | None
    """As of `evaluate_files`."""
    ids: FileIds
    """As of `evaluate_files`."""
    pairs: tuple[MeasuredPair, ...]
    """The scenes, in order."""


def write_files_report(folder: Path, measured: FilesReport) -> Path:
    """Write `evaluation.json` and `evaluation.md`, each whole or not at all.

    Args:
        folder: created where it is missing; other files in it stay.
        measured: what to write.

    Returns:
        the path of the Markdown.
    """
    page = folder / "evaluation.md"
    text = json.dumps(
        files_report_json(measured), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False
    )
    for path, content in ((folder / "evaluation.json", text), (page, _markdown(measured))):
        with atomic_file(path) as temporary:
            temporary.write_text(content + "\n", encoding="utf-8")
    return page


def files_report_json(measured: FilesReport) -> dict[str, Any]:
    """Give the numbers, and what they are of, as JSON values; keys as of a run's `result.json`."""
    found, label_set = measured.result, measured.label_set
    rules = get_protocol(measured.protocol, label_set.name, label_set.names)
    return {
        "format": FORMAT,
        "miou": _known(found.miou),
        "macc": _known(found.macc),
        "overall_accuracy": _known(found.overall_accuracy),
        "interval": None if found.interval is None else list(found.interval),
        "per_class": found.per_class,
        "per_class_accuracy": found.per_class_accuracy,
        "groups": {
            group: {
                "miou": _known(score.miou),
                "macc": _known(score.macc),
                "classes": score.classes,
            }
            for group, score in found.groups.items()
        },
        "points": found.points,
        "points_without_answer": found.unseen_points,
        "scenes": [pair.scene for pair in measured.pairs],
        "scene_miou": [_known(value) for value in found.scene_miou],
        "files": [
            {
                "scene": pair.scene,
                "predicted": {"path": str(pair.files.predicted), "sha256": pair.checksums[0]},
                "true": {"path": str(pair.files.true), "sha256": pair.checksums[1]},
            }
            for pair in measured.pairs
        ],
        "within": measured.within,
        "ids": measured.ids,
        "protocol": found.protocol,
        "rules": rules.arithmetic_facts(),
        "label_set": label_set.name,
        "classes": list(label_set.names),
        "class_groups": list(label_set.groups),
        "software": {
            "pcdistill": __version__,
            "torch": torch.__version__,
            "numpy": numpy.__version__,
        },
        "confusion": [{pair.scene: pair.cells for pair in measured.pairs}],
    }


def _markdown(measured: FilesReport) -> str:
    found, first = measured.result, measured.pairs[0].files
    several = len(measured.pairs) > 1
    predicted, true = (path.parent if several else path for path in (first.predicted, first.true))
    scenes = f"{len(measured.pairs)} scenes" if several else "1 scene"
    lines = [
        f"# {plain_text(str(predicted))} measured against {plain_text(str(true))}",
        "",
        f"{found.points} points of {scenes}, {found.unseen_points} of them without a prediction.",
        "",
        f"Protocol {plain_text(found.protocol)}.",
        "",
        *markdown_table(
            ["", "mIoU %", "95 %", "mAcc %", "points %"],
            [
                [
                    "all classes",
                    percent_text(_known(found.miou)),
                    interval_text(found.interval),
                    percent_text(_known(found.macc)),
                    percent_text(_known(found.overall_accuracy)),
                ],
                *(
                    [
                        f"{group} ({score.classes} classes)",
                        percent_text(_known(score.miou)),
                        "",
                        percent_text(_known(score.macc)),
                        "",
                    ]
                    for group, score in found.groups.items()
                ),
            ],
        ),
        "",
        *markdown_table(
            ["class", "IoU %", "accuracy %"],
            [
                [name, percent_text(iou), percent_text(found.per_class_accuracy[name])]
                for name, iou in found.per_class.items()
            ],
        ),
        "",
    ]
    if several:
        lines += markdown_table(
            ["scene", "mIoU %"],
            [
                [pair.scene, percent_text(_known(value))]
                for pair, value in zip(measured.pairs, found.scene_miou, strict=True)
            ],
        )
        lines.append("")
    within = "none" if measured.within is None else f"{measured.within:g}"
    facts = {
        "nearest predicted point within": within,
        "files with ids of the data set": measured.ids,
        "pcdistill": __version__,
        "files, with their checksums": "evaluation.json",
    }
    lines += [f"- {plain_text(key)}: {plain_text(value)}" for key, value in facts.items()]
    return "\n".join(lines)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
