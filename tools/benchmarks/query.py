"""Questions: on a million points once they are loaded, and by the command from start to end.

A run of one generated hall is written, as for the benchmark of the viewer. `load_s` is opening its
scene and reading what a method says of it; `first_s` the first question after that, which looks up
neighbours; `scores_s` how well every point fits each further question, `places_s` the answer with
its places and boxes, both also for a question that was asked before. `command_s` is `pcdistill
query RUN TEXT` in a process of its own, with the picture that it draws; `bare_s` the same without
one, and `torch_s` a process that only imports torch. All but the first two are medians.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pcdistill.inference import open_run

from .viewer import QUESTIONS, SCENE, write_run

SMALL = 75_000
"""Points of the scene that the command is asked about where no run is given: a home's."""
METHOD = "fused"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--run", type=Path, help="a finished run, such as runs/demo, to ask")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Ask the large scene in this process, and a run by the command."""
    if arguments.points < 1000:
        raise SystemExit(f"--points is {arguments.points}, expected at least 1000")
    with tempfile.TemporaryDirectory() as name:
        large = write_run(Path(name) / "large", arguments.points)
        found = {"points": arguments.points, **measure_questions(large, arguments.rounds)}
        asked, options = arguments.run, []
        if asked is None:
            asked, options = write_run(Path(name) / "small", SMALL), ["--method", METHOD]
        found |= measure_command(asked, options, arguments.rounds)
        return {**found, "run": str(arguments.run or f"one scene of {SMALL} points")}


def measure_questions(folder: Path, rounds: int) -> dict[str, float]:
    """Seconds of questions to the one scene of a run, by name."""
    querier = open_run(folder).querier
    begin = time.perf_counter()
    querier.scene_relevancy(QUESTIONS[0], SCENE, METHOD)
    loaded = time.perf_counter()
    querier.query_scene(QUESTIONS[0], SCENE, method=METHOD)
    first = time.perf_counter()
    ask: dict[str, Callable[[str], object]] = {
        "scores_s": lambda text: querier.scene_relevancy(text, SCENE, METHOD),
        "places_s": lambda text: querier.query_scene(text, SCENE, method=METHOD),
    }
    for text in QUESTIONS:
        querier.query_scene(text, SCENE, method=METHOD)  # neighbours are looked up once
    return {
        "load_s": round(loaded - begin, 2),
        "first_s": round(first - loaded, 2),
        **{
            name: round(
                statistics.median(
                    seconds(partial(call, text)) for _ in range(rounds) for text in QUESTIONS
                ),
                3,
            )
            for name, call in ask.items()
        },
    }


def measure_command(folder: Path, options: list[str], rounds: int) -> dict[str, float]:
    """Seconds of processes from their start to their end, by name."""
    query = [sys.executable, "-m", "pcdistill.cli", "query", str(folder), QUESTIONS[0], *options]
    commands = {
        "command_s": query,
        "bare_s": [*query, "--draw", "none"],
        "torch_s": [sys.executable, "-c", "import torch"],
    }
    for command in commands.values():  # once aside: files are read into memory
        subprocess.run(command, check=True, capture_output=True)
    return {
        name: round(
            statistics.median(
                seconds(partial(subprocess.run, command, capture_output=True))
                for _ in range(rounds)
            ),
            2,
        )
        for name, command in commands.items()
    }


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
