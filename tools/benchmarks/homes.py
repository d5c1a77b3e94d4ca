"""The demo with several seeds and longer training: accuracy on homes, for docs/results.md."""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from pcdistill.stages.command import LONGER_TRAINING
from pcdistill.stages.conclusions import measured_rows
from pcdistill.stages.config import load_config
from pcdistill.stages.files import read_json
from pcdistill.stages.run import Run

from . import DOCS
from .homes_numbers import Numbers, Seed
from .homes_page import earlier_numbers, results_page

SETTINGS = dict(setting.split("=") for setting in LONGER_TRAINING.split())
"""Where the benchmark departs from the demo, which has to end in minutes and so stops its
students while they still learn."""
VOTES = 5
"""Cuts into voxels of the last columns, as in OpenScene's evaluation."""
TUNED_ON = 7
"""Seed of the homes on which the students' settings were chosen."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the run, as for `pcdistill demo`; these are set unless you do: "
        + " ".join(f"{key}={value}" for key, value in SETTINGS.items()),
    )
    parser.add_argument("--workspace", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--write", type=Path, default=DOCS / "results.md")
    parser.add_argument("--fresh", action="store_true", help="delete earlier runs first")


def run(arguments: argparse.Namespace) -> dict:
    """Mean and standard deviation over seeds of every row of the demo's table, and differences."""
    kept = earlier_numbers(arguments.write)
    single, voted, seconds = [], [], []
    settings = SETTINGS | dict(text.split("=", 1) for text in arguments.set)
    changes = [f"{key}={value}" for key, value in settings.items()]
    for seed in range(arguments.seeds):
        workspace = arguments.workspace / f"seed{seed}"
        if arguments.fresh:
            shutil.rmtree(workspace, ignore_errors=True)
        begin = time.perf_counter()
        # the same students answer for several cuts, then for one; only evaluation is made anew
        voted.append(measure(workspace, seed, [*changes, f"evaluate.votes={VOTES}"]))
        single.append(measure(workspace, seed, [*changes, "evaluate.votes=1"]))
        seconds.append(time.perf_counter() - begin)
    last = opened(workspace)
    numbers = Numbers(single, voted, VOTES, last.label_set.names, last.protocol, last.vocabulary)
    # the largest of all child processes, in KiB on Linux
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    about = [
        f"What `python tools/benchmark.py homes --seeds {len(single)}` wrote: the run of "
        "`pcdistill demo` with longer training of the students. Each seed furnishes other training "
        "and validation homes. The students' settings were chosen on homes of seed "
        f"{TUNED_ON}, which is not among those reported.",
    ]
    page = results_page(numbers, about, changes)
    arguments.write.write_text(page + kept)
    return {
        "seeds": arguments.seeds,
        "settings": settings,
        **numbers.summary(),
        "seconds": [round(value) for value in seconds],
        "largest_process_gib": round(peak, 2),
    }


def measure(workspace: Path, seed: int, changes: list[str]) -> Seed:
    """Bring the demo of a seed up to date with some settings; returns what was measured."""
    command = [sys.executable, "-m", "pcdistill.cli", "demo"]
    command += ["--workspace", str(workspace), "--seed", str(seed), "--set", *changes]
    subprocess.run(command, check=True)
    found = opened(workspace)
    rows = {row["name"]: row for row in measured_rows(found)}
    return Seed(rows, read_json(found.workspace.true_capability))


def opened(workspace: Path) -> Run:
    """The run of a workspace."""
    return Run(load_config(workspace / "config.yaml", [f"run.workspace={workspace}"]))
