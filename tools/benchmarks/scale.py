"""What a data set would cost, stage by stage, from the units of a finished run (docs/scale.md).

Seconds, bytes written and bytes read of every stage are those of the run's manifest, for each
frame, point, scene or pass over a scene; a data set has more of these. What does not grow with the
data set (synthesize, score, report) is taken as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pcdistill.pipeline import RunContext, Stage, Workspace, load_workspace_config
from pcdistill.scenes import open_scene
from pcdistill.stages import STAGES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
BEGIN, END = "<!-- scale: begin -->", "<!-- scale: end -->"
GROWS_WITH = {
    "ingest": "frames",
    "partition": "points",
    "lift": "views",
    "synthesize": "nothing",
    "score": "nothing",
    "fuse": "points",
    "distill": "visits",
    "evaluate": "measured",
    "report": "nothing",
}
"""What the cost of a stage is proportional to, a field of `Amounts`."""
GIB = 2**30


class Amounts(NamedTuple):
    """How much there is of what costs grow with."""

    scenes: int
    frames: float
    points: float
    """Of all scenes."""
    views: float
    """Points of a scene times its frames, summed up."""
    visits: float
    """Points that training passes over, in all epochs."""
    measured: float
    """Points of the scenes that are measured."""
    nothing: float = 1.0


class DataSet(NamedTuple):
    """Sizes of a data set, as published or as this project reads it."""

    name: str
    scenes: int
    measured: int
    frames: int
    """Of a scene."""
    points: int
    """Of a scene."""
    epochs: int = 100

    @property
    def amounts(self) -> Amounts:
        """Of all scenes."""
        points = self.scenes * self.points
        learned = (self.scenes - self.measured) * self.points
        return Amounts(
            self.scenes,
            self.scenes * self.frames,
            points,
            points * self.frames,
            self.epochs * learned,
            self.measured * self.points,
        )


DATA_SETS = (
    DataSet("ScanNet", 1513, 312, 80, 150_000),
    DataSet("nuScenes", 34_149, 6019, 6, 34_720),
    DataSet("100 k scenes", 100_000, 1000, 80, 150_000),
)
"""Every 20th frame of ScanNet; the keyframes of nuScenes with six images of one sweep each; rooms
like ScanNet's."""


class StageCost(NamedTuple):
    """What one stage of the measured run took."""

    seconds: float
    written: int
    read: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("workspace", type=Path, help="of a finished run")
    parser.add_argument("--image-seconds", type=float, nargs="*", default=(), metavar="S")
    parser.add_argument("--cores", type=int, default=16, help="cores or GPUs of the last column")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scale.md")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Print or write the tables."""
    opened = RunContext(load_workspace_config(arguments.workspace))
    stages = [stage(opened) for stage in STAGES]
    costs = {stage.name: measured_cost(opened.workspace, stage) for stage in stages}
    amounts = measured_amounts(opened)
    text = "\n\n".join(
        table(data, costs, amounts, arguments.image_seconds, arguments.cores) for data in DATA_SETS
    )
    if arguments.write:
        page = PAGE.read_text()
        before, rest = page.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")
    else:
        print(text)
    return {"scenes": amounts.scenes, "frames": amounts.frames, "points": amounts.points}


def measured_cost(workspace: Workspace, stage: Stage) -> StageCost:
    """Sum up the manifest entries of a stage; what a unit reads is what its inputs have written."""
    seconds, written, read = 0.0, 0, 0
    for unit in stage.units():
        record = workspace.record(stage.name, unit)
        if record is None or record.state != "done":
            raise SystemExit(f"{stage.name} {unit} is not done; measure a finished run")
        seconds += record.seconds
        written += sum(record.outputs.values())
        for needed in stage.inputs(unit):
            earlier = workspace.record(needed.stage, needed.unit)
            read += 0 if earlier is None else sum(earlier.outputs.values())
    return StageCost(seconds, written, read)


def measured_amounts(opened: RunContext) -> Amounts:
    """Count scenes, frames and points of a finished run."""
    from pcdistill.artifacts import split_scenes

    split = split_scenes(opened)
    sizes = {}
    for name in split.all:
        scene = open_scene(opened.workspace.scene(name))
        sizes[name] = len(scene.points), len(scene.frames)
    points = {name: size[0] for name, size in sizes.items()}
    students = len(opened.config.distill.student_names)
    learned = sum(points[name] for name in split.training)
    return Amounts(
        len(sizes),
        sum(size[1] for size in sizes.values()),
        sum(points.values()),
        sum(size[0] * size[1] for size in sizes.values()),
        opened.config.distill.epochs * learned * students,
        sum(points[name] for name in split.validation),
    )


def table(
    data: DataSet,
    costs: dict[str, StageCost],
    amounts: Amounts,
    image_seconds: Sequence[float],
    cores: int,
) -> str:
    """Compose the table of one data set.

    Args:
        data: its sizes.
        costs: of the measured run, by stage.
        amounts: of the measured run.
        image_seconds: processor seconds an image of other teachers, added up in a row of its own.
        cores: that share the work in the last column.

    Returns:
        Markdown.
    """
    rows = [
        f"**{data.name}**: {data.scenes:,} scenes of {data.points:,} points and {data.frames} "
        f"frames, {data.measured:,} of them measured, one student, {data.epochs} epochs.",
        "",
        f"| stage | grows with | core hours | written GiB | read GiB | hours of {cores} cores |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for stage, cost in costs.items():
        kind = GROWS_WITH[stage]
        factor = getattr(data.amounts, kind) / getattr(amounts, kind)
        in_points = data.amounts.points / amounts.points
        size = {"views": in_points, "visits": 1.0}.get(kind, factor)  # of what is written
        reads = in_points if kind in ("frames", "views", "visits") else factor
        hours = factor * cost.seconds / 3600
        alone = stage == "distill" or kind == "nothing"
        shared = f"{hours:,.1f}" if alone else f"{hours / cores:,.1f}"
        written, read = size * cost.written / GIB, reads * cost.read / GIB
        rows.append(
            f"| {stage} | {kind} | {hours:,.1f} | {written:,.1f} | {read:,.1f} | {shared} |"
        )
    if image_seconds:
        hours = data.amounts.frames * sum(image_seconds) / 3600
        told = " + ".join(f"{seconds:g}" for seconds in image_seconds)
        rows.append(
            f"| other teachers, {told} s an image | frames | {hours:,.0f} | | | "
            f"{hours / cores:,.0f} |"
        )
    return "\n".join(rows)
