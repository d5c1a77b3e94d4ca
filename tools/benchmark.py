"""Benchmarks of what the documentation claims; each ends with one JSON object on a line.

    python tools/benchmark.py answers runs/demo   # questions without an answer -> docs/questions.md
    python tools/benchmark.py homes --seeds 5     # accuracy on test homes -> docs/results.md
    python tools/benchmark.py learning            # what a student lacks -> docs/learning_curves.md
    python tools/benchmark.py ensemble            # its settings -> docs/temporal_ensemble.md
    python tools/benchmark.py evaluate            # 300 scenes from stored features: time, memory
    python tools/benchmark.py sparse --write      # the network's engines -> docs/performance.md
    python tools/benchmark.py histories           # the temporal ensemble: memory and traffic
    python tools/benchmark.py lift                # features onto points: time, memory, disk
    python tools/benchmark.py loading             # share of a step spent waiting for scenes
    python tools/benchmark.py partition           # superpoints of a mesh
    python tools/benchmark.py query --run runs/demo   # a million points; the command as a whole
    python tools/benchmark.py runner              # 100,000 tiny units: overhead, restart, memory
    python tools/benchmark.py scale RUN --write   # what data sets would cost -> docs/scale.md
    python tools/benchmark.py scans --write       # how real the homes' scans are -> docs/homes.md
    python tools/benchmark.py sens                # every 20th frame of a long .sens file
    python tools/benchmark.py synthesis           # full-size models that make reference images
    python tools/benchmark.py teachers            # full-size teachers: seconds and memory
    python tools/benchmark.py teacher-run SCAN    # a run with two of them: memory
    python tools/benchmark.py viewer              # a million points in the browser

Run it while nothing else uses the machine.
"""

from __future__ import annotations

import argparse
import json

from benchmarks import (
    answers,
    ensemble,
    evaluate,
    histories,
    homes,
    learning,
    lift,
    loading,
    partition,
    query,
    runner,
    scale,
    scans,
    sens,
    sparse,
    synthesis,
    teacher_run,
    teachers,
    viewer,
)

BENCHMARKS = {
    "answers": answers,
    "ensemble": ensemble,
    "evaluate": evaluate,
    "histories": histories,
    "homes": homes,
    "learning": learning,
    "lift": lift,
    "loading": loading,
    "partition": partition,
    "query": query,
    "runner": runner,
    "scale": scale,
    "scans": scans,
    "sens": sens,
    "sparse": sparse,
    "synthesis": synthesis,
    "teacher-run": teacher_run,
    "teachers": teachers,
    "viewer": viewer,
}
"""Name on the command line -> module with `add_arguments(parser)` and `run(arguments) -> dict`."""


def first_line(docstring: str | None) -> str:
    """Summary of a module."""
    return (docstring or "").splitlines()[0]


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(description=first_line(__doc__))
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name, module in BENCHMARKS.items():
        module.add_arguments(kinds.add_parser(name, help=first_line(module.__doc__)))
    arguments = parser.parse_args()
    print(json.dumps({"benchmark": arguments.kind, **BENCHMARKS[arguments.kind].run(arguments)}))


if __name__ == "__main__":
    main()
