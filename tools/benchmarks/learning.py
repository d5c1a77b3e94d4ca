"""What a student lacks, homes, steps, width or input: learning curves on development homes."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from pcdistill.stages.files import read_json
from pcdistill.stages.workspace import Workspace

from . import DOCS

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
SEED = 7
"""Of the development homes on which settings are chosen."""
BEFORE = ("ingest", "partition", "lift", "synthesize", "score", "fuse")
STUDENT = "student:superpoint"
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


def trainings(steps: int, width: float) -> list[Training]:
    """The curves: one thing is changed at a time, from the middle of what is tried."""
    middle = Training(48, steps, width, "color")
    changed = [
        *(middle._replace(homes=homes) for homes in (3, 12)),
        *(middle._replace(steps=round(steps * share)) for share in (0.25, 0.5, 2)),
        *(middle._replace(width=width * share) for share in (0.75, 1.5)),
        *(middle._replace(input=kind) for kind in ("constant", "geometry")),
    ]
    return [middle, *changed]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--workspace", type=Path, default=Path("runs/learning"))
    parser.add_argument("--write", type=Path, default=DOCS / "learning_curves.md")


def run(arguments: argparse.Namespace) -> dict:
    """Train one student after the other; one that was measured before is not trained again."""
    workspace, always = arguments.workspace, ["distill.students=[superpoint]", *arguments.set]
    wanted = trainings(arguments.steps, arguments.width)
    most = f"ingest.train={max(one.homes for one in wanted)}"
    _pcdistill(workspace, BEFORE, [most, *always])
    kept = workspace / "learning.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    for one in wanted:
        key = " ".join([*one.settings(), *always])
        if key in known:
            continue
        begin = time.perf_counter()
        found = {}
        for votes in (VOTES, 1):
            changes = [*one.settings(), *always, f"evaluate.votes={votes}"]
            _pcdistill(workspace, ("distill", "evaluate"), changes)
            found[str(votes)] = {row: _miou(workspace, row) for row in (*REFERENCES, STUDENT)}
        found["seconds"] = round(time.perf_counter() - begin)
        known[key] = found
        kept.write_text(json.dumps(known, indent=1))
    measured = [(one, known[" ".join([*one.settings(), *always])]) for one in wanted]
    arguments.write.write_text(page(measured, arguments.set))
    return {" ".join(one.settings()): found for one, found in measured}


def _pcdistill(workspace: Path, stages: tuple[str, ...], changes: list[str]) -> None:
    command = [sys.executable, "-m", "pcdistill.cli", "run", str(CONFIG)]
    command += ["--workspace", str(workspace), "--only", *stages]
    command += ["--set", f"run.seed={SEED}", *changes]
    subprocess.run(command, check=True)


def _miou(workspace: Path, row: str) -> float:
    value: float = read_json(Workspace(workspace).evaluation(row) / "result.json")["miou"]
    return value


def page(measured: list[tuple[Training, dict]], changes: list[str]) -> str:
    """The documentation page."""
    base = measured[0][1]
    many = f"{VOTES} cuts"
    lines = [
        "# Learning curves",
        "",
        "What `python tools/benchmark.py learning` wrote: one student (superpoint) a line, trained "
        f"on development homes of seed {SEED} and measured on four others of that seed; one "
        "training each, so that differences of a point mean nothing. mIoU in %. "
        "No test home was looked at.",
        "",
        f"- otherwise as in `configs/demo.yaml`{' with ' if changes else ''}"
        + ", ".join(f"`{change}`" for change in changes),
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
        f"| homes | steps | width | input | one cut | {many} | minutes |",
        "|---:|---:|---:|---|---:|---:|---:|",
    ]
    order = sorted(measured, key=lambda pair: pair[0])
    for one, found in order:
        lines.append(
            f"| {one.homes} | {one.steps} | {one.width:g} | {one.input} "
            f"| {found['1'][STUDENT]:.1f} | {found[str(VOTES)][STUDENT]:.1f} "
            f"| {found['seconds'] / 60:.1f} |"
        )
    return "\n".join([*lines, "", *reading(measured)]) + "\n"


def reading(measured: list[tuple[Training, dict]]) -> list[str]:
    """What the curves say, in sentences that follow from the numbers."""
    middle, base = measured[0]
    start = base["1"][STUDENT]
    effects = {"homes": [], "steps": [], "width": [], "input": []}
    for one, found in measured[1:]:
        name = next(field for field in effects if getattr(one, field) != getattr(middle, field))
        effects[name].append((getattr(one, name), found["1"][STUDENT] - start))
    lines = [
        f"From {middle.homes} homes, {middle.steps} steps, width {middle.width:g} and input "
        f"{middle.input} (one cut):",
        "",
    ]
    for name, changes in effects.items():
        said = ", ".join(f"{value:g}" if name != "input" else value for value, _ in changes)
        moved = ", ".join(f"{change:+.1f}" for _, change in changes)
        lines.append(f"- {name} {said}: {moved} points.")
    return lines
