"""Command that measures: a run, or files of labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from pcdistill.cli.words import (
    OptionalDistance,
    OptionalPath,
    OptionalText,
    make_console,
    scene_progress,
)
from pcdistill.errors import ConfigError

if TYPE_CHECKING:
    from pcdistill.inference import FileIds


def evaluate(
    paths: Positional[
        Annotated[
            tuple[Path, ...],
            tyro.conf.arg(metavar="RUN | RUN RUN ... | PRED TRUTH", help_behavior_hint=""),
        ]
    ],
    redo: bool = False,
    jobs: int = 1,
    method: OptionalText = None,
    out: OptionalPath = None,
    label_set: OptionalText = None,
    protocol: OptionalText = None,
    within: OptionalDistance = None,
    ids: Literal["none", "truth", "both"] = "none",
) -> int:
    """Measure a run, compare finished runs, or measure files of labels; prints the table.

    Args:
        paths: Workspace of a run; or several, which are compared on the scenes and under the
            protocol that they have in common; or a file (.ply, .npz, .txt) of predicted labels and
            one of true labels; or two folders of such files.
        redo: Measure a run anew.
        jobs: Worker processes, of a run or of files; the numbers are the same.
        method: Of several runs: what to compare, or `best`, the best of each; by default
            everything that all of them measured.
        out: Of several runs: folder of a page, Markdown and JSON.
        label_set: Of files: what their labels count, such as scannet20, or your own .json.
        protocol: Of files: whose arithmetic, as evaluate.protocol; by default every point.
        within: Of files: take the nearest predicted point up to this distance; by default points
            must be the same.
        ids: Which .ply and .npz have ids of the data set, as ScanNet's own; a .txt always has.
    """
    of_files = {
        "--label-set": label_set,
        "--protocol": protocol,
        "--within": within,
        "--ids": None if ids == "none" else ids,
    }
    of_runs = {"--method": method, "--out": out}
    several = len(paths) > 2 or (len(paths) == 2 and all(map(_is_run, paths)))
    if jobs < 1:
        raise ConfigError(f"--jobs is {jobs}, expected 1 or more")
    if len(paths) == 1:
        _refuse(of_files, f"is for two files, got the run {paths[0]}; give PRED and TRUTH")
        _refuse(of_runs, f"is for several runs, got {paths[0]} alone; give more")
        return _evaluate_run(paths[0], redo, jobs)
    if len(paths) == 0:
        raise ConfigError("evaluate: got 0 paths, expected RUN, RUN RUN ..., or PRED and TRUTH")
    if redo:
        raise ConfigError(
            f"--redo: is for a run, got {len(paths)} paths; measure each run by itself, files are "
            "always measured anew"
        )
    if several:
        from pcdistill.cli.comparison import compare

        _refuse(of_files, f"is for two files, got {len(paths)} runs")
        return compare(paths, method, out)
    _refuse(of_runs, "is for several runs, got two files")
    if label_set is None:
        raise ConfigError(
            "--label-set: is missing, expected what the labels of the files count; give it, such "
            "as --label-set scannet20"
        )
    predicted, true = paths
    return _evaluate_files(predicted, true, label_set, protocol or "every point", within, ids, jobs)


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file()


def _refuse(options: Mapping[str, object], why: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ConfigError(f"{', '.join(given)}: {why}, or leave it out")


def _evaluate_run(run: Path, redo: bool, jobs: int) -> int:
    from pcdistill.cli.execute import execute_run
    from pcdistill.pipeline import load_workspace_config

    config = load_workspace_config(run)
    return execute_run(config, make_console(), only=("evaluate", "report"), jobs=jobs, redo=redo)


def _evaluate_files(
    predicted: Path,
    true: Path,
    label_set: str,
    protocol: str,
    within: float | None,
    ids: FileIds,
    jobs: int,
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
            jobs=jobs,
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
