"""Measuring of label files in the terminal."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pcdistill.cli.words import make_console, scene_progress

if TYPE_CHECKING:
    from rich.console import Console

    from pcdistill.evaluation import SemanticResult
    from pcdistill.inference import FileIds, MeasuredPair

_HALFWAY = "counts"  # in the folder of the report, while it is not written


def evaluate_label_files(
    predicted: Path,
    true: Path,
    label_set: str,
    protocol: str,
    *,
    within: float | None,
    ids: FileIds,
    jobs: int,
    out: Path | None,
) -> int:
    """Measure files of labels, print the table, and write the report where it is asked for.

    Args:
        predicted: as of `evaluate_files`.
        true: as of `evaluate_files`.
        label_set: name or file of what the labels count.
        protocol: as of `evaluate_files`.
        within: as of `evaluate_files`.
        ids: as of `evaluate_files`.
        jobs: worker processes.
        out: folder of the JSON and the Markdown; none is written by default.

    Returns:
        the exit status.
    """
    from pcdistill.inference import evaluate_files
    from pcdistill.reporting import FilesReport, write_files_report
    from pcdistill.scenes import load_label_set

    console, known = make_console(), load_label_set(label_set)
    halfway = None if out is None else out / _HALFWAY
    pairs: list[MeasuredPair] = []
    with scene_progress(console) as report:
        found = evaluate_files(
            predicted,
            true,
            known,
            protocol,
            within=within,
            ids=ids,
            jobs=jobs,
            halfway=halfway,
            measured=pairs.append if out is not None else lambda pair: None,
            report=report,
        )
    _print_result(console, found)
    if out is not None and halfway is not None:
        page = write_files_report(
            out, FilesReport(found, known, protocol, within, ids, tuple(pairs))
        )
        shutil.rmtree(halfway, ignore_errors=True)
        before = sum(not pair.is_new for pair in pairs)
        if before:
            console.print(f"{before} of {len(pairs)} scenes were counted before the interruption")
        console.print(f"report: {page}", markup=False)
    return 0


def _print_result(console: Console, found: SemanticResult) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("class")
    table.add_column("IoU %", justify="right")
    table.add_column("accuracy %", justify="right")
    for name, iou in found.per_class.items():
        table.add_row(Text(name), _percent(iou), _percent(found.per_class_accuracy[name]))
    console.print(table)
    between = f" [{found.interval[0]:.1f}, {found.interval[1]:.1f}]" if found.interval else ""
    console.print(
        f"mIoU {found.miou:.1f} %{between}, mAcc {found.macc:.1f} %, overall accuracy "
        f"{found.overall_accuracy:.1f} %",
        markup=False,
    )
    for group, score in found.groups.items():
        console.print(
            f"{group}: mIoU {_percent(_known(score.miou))} %, mAcc {_percent(_known(score.macc))} "
            f"%, {score.classes} classes with a true point",
            markup=False,
        )
    scenes = "1 scene" if found.scenes == 1 else f"{found.scenes} scenes"
    console.print(
        f"{found.points} points of {scenes}, {found.unseen_points} of them without a prediction"
    )
    console.print(f"protocol {found.protocol}")


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
