"""The runner with 100,000 tiny units: overhead of one, a restart with nothing to do, memory.

Two stages have half of the units each; a unit of the second needs one of the first. A unit writes a
file of some bytes. Every run is a process of its own; memory is its peak, everything included. What
is measured is what a run costs beside the work of its units: looking, claiming, writing down.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pcdistill.pipeline import Dependency, RunContext, Stage, Task

TOOLS = Path(__file__).resolve().parents[1]
SMALL = 1000
"""Units of the run that has to have nothing to do within five seconds, its start included."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=1, help="processes that share the first run")
    parser.add_argument("--folder", type=Path, help="where the workspaces are made; default: /tmp")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make all units, and run again with nothing to do; the same with fewer units."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        made = measure(Path(name) / "all", arguments.units, arguments.runs)
        again = measure(Path(name) / "all", arguments.units)
        measure(Path(name) / "few", SMALL)
        few = measure(Path(name) / "few", SMALL)
    counts = [made["done"], again["skipped"], few["skipped"]]
    if counts != [arguments.units, arguments.units, SMALL]:
        raise SystemExit(f"made, then found {counts} units, expected {arguments.units} and {SMALL}")
    return {
        "units": arguments.units,
        "runs": arguments.runs,
        "overhead_ms_per_unit": round(1000 * made["seconds"] / arguments.units, 3),
        "overhead_cpu_ms_per_unit": round(1000 * made["cpu_seconds"] / arguments.units, 3),
        "made_peak_mib": made["peak_mib"],
        "restart_seconds": again["seconds"],
        "restart_cpu_seconds": again["cpu_seconds"],
        "restart_peak_mib": again["peak_mib"],
        f"restart_seconds_of_{SMALL}": few["seconds"],
    }


def measure(workspace: Path, units: int, runs: int = 1) -> dict[str, float]:
    """Run in processes of their own, side by side.

    Args:
        workspace: of the run.
        units: how many it has.
        runs: processes.

    Returns:
        done and skipped: units of all processes; seconds: from start to end; cpu_seconds: of all;
        peak_mib: of the largest.
    """
    begin = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.runner", str(workspace), str(units)]
    environment = {**os.environ, "PYTHONPATH": f"{TOOLS.parent}{os.pathsep}{TOOLS}"}
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(runs)
    ]
    told = [json.loads(process.communicate()[0]) for process in processes]
    found = {key: sum(one[key] for one in told) for key in ("done", "skipped", "cpu_seconds")}
    peak = max(one["peak_mib"] for one in told)
    return {**found, "peak_mib": peak, "seconds": round(time.perf_counter() - begin, 2)}


class Tiny(Stage):
    """A unit writes its name to a file."""

    version = 1
    count = 0

    def __init__(self, run: RunContext) -> None:
        self._folder = run.workspace.root / self.name

    def units(self) -> tuple[str, ...]:
        """Numbers."""
        return tuple(f"unit-{number:06d}" for number in range(self.count))

    def settings(self, unit: str) -> Mapping[str, Any]:
        """The name."""
        return {"unit": unit}

    def outputs(self, unit: str) -> tuple[Path, ...]:
        """One file, in one of many folders."""
        return (self._folder / unit[-2:] / unit,)

    def work(self, task: Task, report: object) -> str:
        """Write the file."""
        (path,) = self.outputs(task.unit)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(task.unit)
        return "written"


class First(Tiny):
    """Units that need nothing."""

    name = "first"


class Second(Tiny):
    """Each needs the unit of the first stage that has its name."""

    name = "second"

    def inputs(self, unit: str) -> tuple[Dependency, ...]:
        """That unit."""
        return (Dependency("first", unit),)


def work_on(workspace: Path, units: int) -> dict[str, float]:
    """Run in this process; see `measure`."""
    from pcdistill.pipeline import run_stages
    from pcdistill.pipeline.config_loading import config_from_dict

    Tiny.count = units // 2
    config = config_from_dict({"run": {"workspace": str(workspace)}}, "benchmark")
    summary = run_stages(config, (First, Second))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "done": summary.done,
        "skipped": summary.skipped + summary.by_others,
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_mib": round(used.ru_maxrss / 1024, 1),
    }


if __name__ == "__main__":
    print(json.dumps(work_on(Path(sys.argv[1]), int(sys.argv[2]))))
