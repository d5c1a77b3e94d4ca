"""Command that measures: a run, or files of labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from pcdistill.cli.words import (
    OptionalDistance,
    OptionalPath,
    OptionalText,
    make_console,
)
from pcdistill.errors import ConfigError


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
        out: Of several runs: folder of a page, Markdown and JSON; of files: of Markdown and JSON,
            and of what is counted so far: after an interruption the same command goes on.
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
    of_runs = {"--method": method}
    several = len(paths) > 2 or (len(paths) == 2 and all(map(_is_run, paths)))
    if jobs < 1:
        raise ConfigError(f"--jobs is {jobs}, expected 1 or more")
    if len(paths) == 1:
        _refuse(of_files, f"is for two files, got the run {paths[0]}; give PRED and TRUTH")
        _refuse(of_runs, f"is for several runs, got {paths[0]} alone; give more")
        _refuse({"--out": out}, f"is for several runs or for files, got the run {paths[0]} alone")
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
    from pcdistill.cli.label_files import evaluate_label_files

    predicted, true = paths
    return evaluate_label_files(
        predicted,
        true,
        label_set,
        protocol or "every point",
        within=within,
        ids=ids,
        jobs=jobs,
        out=out,
    )


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
