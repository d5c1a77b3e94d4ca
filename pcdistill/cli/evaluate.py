"""Command that measures: a run, or files of labels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from pcdistill.cli.words import OptionalDistance, OptionalText, make_console, scene_progress
from pcdistill.errors import ConfigError

if TYPE_CHECKING:
    from pcdistill.inference import FileIds


def evaluate(
    paths: Positional[
        Annotated[
            tuple[Path, ...],
            tyro.conf.arg(metavar="RUN | PRED TRUTH", help_behavior_hint=""),
        ]
    ],
    redo: bool = False,
    label_set: OptionalText = None,
    protocol: OptionalText = None,
    within: OptionalDistance = None,
    ids: Literal["none", "truth", "both"] = "none",
) -> int:
    """Measure a run, or files of labels, against true labels and print the table.

    Args:
        paths: Workspace of the run; or a file (.ply, .npz, .txt) of predicted labels and one of
            true labels; or two folders of such files.
        redo: Measure a run anew.
        label_set: Of files: what their labels count, such as scannet20, or your own .json.
        protocol: Of files: whose arithmetic, as evaluate.protocol; by default every point.
        within: Of files: take the nearest predicted point up to this distance; by default points
            must be the same.
        ids: Which .ply and .npz have ids of the data set, as ScanNet's own; a .txt always has.
    """
    files_only = {"--label-set": label_set, "--protocol": protocol, "--within": within}
    if len(paths) == 1:
        given = [name for name, value in files_only.items() if value is not None]
        given += ["--ids"] if ids != "none" else []
        if given:
            raise ConfigError(
                f"{', '.join(given)}: is for two files, got the run {paths[0]}; give PRED and "
                "TRUTH, or leave it out"
            )
        return _evaluate_run(paths[0], redo)
    if len(paths) != 2:
        raise ConfigError(f"evaluate: got {len(paths)} paths, expected RUN, or PRED and TRUTH")
    if redo:
        raise ConfigError("--redo: is for a run, got two files, which are always measured anew")
    if label_set is None:
        raise ConfigError(
            "--label-set: is missing, expected what the labels of the files count; give it, such "
            "as --label-set scannet20"
        )
    return _evaluate_files(*paths, label_set, protocol or "every point", within, ids)


def _evaluate_run(run: Path, redo: bool) -> int:
    from pcdistill.cli.execute import execute_run
    from pcdistill.pipeline import load_workspace_config

    config = load_workspace_config(run)
    return execute_run(config, make_console(), only=("evaluate", "report"), jobs=1, redo=redo)


def _evaluate_files(
    predicted: Path,
    true: Path,
    label_set: str,
    protocol: str,
    within: float | None,
    ids: FileIds,
) -> int:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from pcdistill.inference import evaluate_files
    from pcdistill.scenes import load_label_set

    console = make_console()
    with scene_progress(console) as report:
        found = evaluate_files(
            predicted,
            true,
            load_label_set(label_set),
            protocol,
            within=within,
            ids=ids,
            report=report,
        )
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
    return 0


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
