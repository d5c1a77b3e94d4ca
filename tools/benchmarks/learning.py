"""What a student lacks, homes, steps, width or input: learning curves on development homes."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from pcdistill.pipeline.artifact_files import read_json
from pcdistill.pipeline.workspace import Workspace

from . import DOCS

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
SEED = 7
"""Of the development homes on which settings are chosen."""
BEFORE = ("ingest", "partition", "lift", "synthesize", "score", "fuse")
STUDENT = "student:superpoint"
ALWAYS = ("distill.students=[superpoint]", "distill.voxel_size=0.1")
"""Settings of every training, as those of the test homes."""
VOTES = 5
REFERENCES = ("fused", "fused+voxels", "fused+superpoints")


class Training(NamedTuple):
    """One point of a curve."""

    homes: int
    steps: int
    width: float
    input: str

    def settings(self) -> list[str]:
        """What a run has to be told."""
        return [
            f"ingest.train={self.homes}",
            f"distill.epochs={max(1, round(self.steps / self.homes))}",
            f"distill.width={self.width}",
            f"distill.input={self.input}",
        ]


CURVES: dict[str, tuple[Training, ...]] = {
    "homes": tuple(Training(homes, 2400, 0.5, "color") for homes in (3, 12, 48)),
    "steps": tuple(Training(48, steps, 0.5, "color") for steps in (600, 1200, 2400)),
    "width": tuple(Training(48, 1200, width, "color") for width in (0.5, 0.75)),
    "input": tuple(Training(48, 1200, 0.5, kind) for kind in ("constant", "color")),
}
"""What is changed along each curve; nothing else differs between its trainings."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--workspace", type=Path, default=Path("runs/learning"))
    parser.add_argument("--write", type=Path, default=DOCS / "learning_curves.md")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one student after the other; one that was measured before is not trained again.

    The page is written after each, so that whoever interrupts has what was measured until then.
    """
    workspace, always = arguments.workspace, [*ALWAYS, *arguments.set]
    wanted = sorted({one for curve in CURVES.values() for one in curve})
    limit = f"ingest.train={max(one.homes for one in wanted)}"
    _pcdistill(workspace, BEFORE, [limit, *always])
    kept = workspace / "learning.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    for one in wanted:
        key = " ".join([*one.settings(), *always])
        if key not in known:
            known[key] = _measured(workspace, [*one.settings(), *always])
            kept.write_text(json.dumps(known, indent=1))
        arguments.write.write_text(page(those_of(known, wanted, always), always))
    return {" ".join(one.settings()): m for one, m in those_of(known, wanted, always).items()}


def those_of(
    known: dict[str, Any], wanted: list[Training], always: list[str]
) -> dict[Training, dict[str, Any]]:
    """Find what is known of the wanted trainings, in their order.

    Args:
        known: settings as one text -> what was measured.
        wanted: the trainings.
        always: settings of all of them.
    """
    keys = {one: " ".join([*one.settings(), *always]) for one in wanted}
    return {one: known[key] for one, key in keys.items() if key in known}


def _measured(workspace: Path, changes: list[str]) -> dict[str, Any]:
    """Number of cuts -> row -> mIoU in %, after training a student."""
    found = {}
    for votes in (VOTES, 1):
        _pcdistill(workspace, ("distill", "evaluate"), [*changes, f"evaluate.votes={votes}"])
        found[str(votes)] = {row: _miou(workspace, row) for row in (*REFERENCES, STUDENT)}
    return found


def _pcdistill(workspace: Path, stages: tuple[str, ...], changes: list[str]) -> None:
    command = [sys.executable, "-m", "pcdistill.cli", "run", str(CONFIG)]
    command += ["--workspace", str(workspace), "--only", *stages]
    command += ["--set", f"run.seed={SEED}", *changes]
    subprocess.run(command, check=True)


def _miou(workspace: Path, row: str) -> float:
    value: float = read_json(Workspace(workspace).evaluation(row) / "result.json")["miou"]
    return value


def page(measured: dict[Training, dict[str, Any]], changes: list[str]) -> str:
    """The documentation page."""
    base = next(iter(measured.values()))
    many = f"{VOTES} cuts"
    lines = [
        "# Learning curves",
        "",
        "What `python tools/benchmark.py learning` wrote: one student (superpoint) a line, trained "
        f"on development homes of seed {SEED} and measured on four others of that seed; one "
        "training each, so that differences of a point mean nothing. mIoU in %. "
        "No test home was looked at.",
        "",
        f"- otherwise as in `configs/demo.yaml` with {', '.join(f'`{one}`' for one in changes)}",
        f"- {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "",
        "To compare with, on the same homes: "
        + "; ".join(
            f"`{row}` {base['1'][row]:.1f}"
            + (f" ({base[str(VOTES)][row]:.1f} with {many})" if row == "fused+voxels" else "")
            for row in REFERENCES
        )
        + ".",
        "",
        f"| homes | steps | width | input | one cut | {many} |",
        "|---:|---:|---:|---|---:|---:|",
    ]
    for one, found in measured.items():
        lines.append(
            f"| {one.homes} | {one.steps} | {one.width:g} | {one.input} "
            f"| {found['1'][STUDENT]:.1f} | {found[str(VOTES)][STUDENT]:.1f} |"
        )
    return "\n".join([*lines, "", *reading(measured)]) + "\n"


def reading(measured: dict[Training, dict[str, Any]]) -> list[str]:
    """What the curves say, in sentences that follow from the numbers."""
    lines = []
    for name, whole in CURVES.items():
        curve = [one for one in whole if one in measured]
        if len(curve) < 2:
            continue
        values = [getattr(one, name) for one in curve]
        steps = [f"{value:g}" if name != "input" else str(value) for value in values]
        found = [measured[one]["1"][STUDENT] for one in curve]
        rest = ", ".join(
            f"{field} {getattr(curve[0], field)}" for field in Training._fields if field != name
        )
        said = ", ".join(f"{step}: {miou:.1f}" for step, miou in zip(steps, found, strict=True))
        lines.append(
            f"- {name} ({rest}; one cut): {said}; {found[-1] - found[0]:+.1f} points from the "
            "first to the last."
        )
    missing = sum(one not in measured for curve in CURVES.values() for one in curve)
    if missing:
        lines.append(f"- Of the curves {missing} trainings are not measured yet.")
    return lines
