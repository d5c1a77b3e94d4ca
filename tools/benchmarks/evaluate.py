"""Evaluation of many scenes from stored features: points a second, and memory from 10 to 300.

Every scene has as many points, most of them with a feature of one teacher, and true labels. Stage
evaluate labels and counts them in one process, as `pcdistill evaluate RUN` does, and writes labels,
pieces and counts. All scenes have the same arrays, which lie on the disk once, so that 300 take
little room and are read from the cache of the file system.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

METHOD = "teacher:demo-dense"
SEEN = 0.9
"""Share of the points that have a feature."""
PIECE = 150
"""Points of a superpoint."""
MIB = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--points", type=int, default=150_000, help="of a scene")
    parser.add_argument("--scenes", type=int, nargs=2, default=(10, 300), help="few and many")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Evaluate few and many scenes, each in a process of its own."""
    few, many = arguments.scenes
    if not 1 <= few < many:
        raise SystemExit(f"--scenes is {few} {many}, expected few and more of them")
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder), many, arguments.points)
        measured = []
        for scenes in (few, many):
            context = multiprocessing.get_context("spawn")
            with context.Pool(1) as pool:  # a process of its own, whose peak is of this alone
                measured.append(pool.apply(evaluate, (Path(folder), many, scenes)))
    one, all_of_them = measured
    result = {
        "points": arguments.points,
        "scenes": [few, many],
        "peak_mib": [round(found["peak"] / MIB, 1) for found in measured],
        "peak_ratio": round(all_of_them["peak"] / one["peak"], 3),
        "processor_seconds_a_scene": round(all_of_them["processor"] / many, 3),
        "points_a_processor_second": round(many * arguments.points / all_of_them["processor"]),
        "wall_seconds": round(all_of_them["wall"], 1),
        "miou": [found["miou"] for found in measured],
    }
    print(json.dumps(result, indent=1))
    return result


def write_run(folder: Path, scenes: int, points: int) -> None:
    """Write what the stages before evaluate leave: scenes, superpoints and features.

    Args:
        folder: the workspace.
        scenes: how many.
        points: of each.
    """
    from pcdistill.pipeline import write_tensors
    from pcdistill.scenes import Scene, write_scene

    run = context(folder, scenes)
    generator = torch.Generator().manual_seed(0)
    words = run.words.label_embeddings  # (K, D)
    labels = torch.randint(0, len(words), (points,), generator=generator)
    noise = torch.randn(points, words.shape[1], generator=generator)
    features = words[labels] + 0.3 * noise  # some are most similar to another class
    seen = torch.arange(int(SEEN * points))
    cloud = 5 * torch.rand(points, 3, generator=generator)
    first: dict[str, Path] = {}
    for number in range(scenes):
        name = f"home-validation-{number}"
        place = run.workspace.scene(name)
        write_scene(Scene(name, cloud, labels=labels), place)
        share(place / "points.safetensors", first)
        lifted = run.workspace.point_features("demo-dense", name)
        pieces = run.workspace.superpoints(name)
        if number == 0:
            tensors = {"features": features[seen].half(), "seen": seen}
            write_tensors(lifted, tensors, {})
            ids = (torch.arange(points) // PIECE).int()
            write_tensors(pieces, {"superpoint_ids": ids}, {"superpoints": int(ids.max()) + 1})
        share(lifted, first)
        share(pieces, first)


def share(path: Path, first: dict[str, Path]) -> None:
    """Let a file be that of the first scene, which is kept by its folder or its own name."""
    kind = path.name if path.name == "points.safetensors" else path.parent.name
    if kind in first:
        path.unlink(missing_ok=True)
        os.link(first[kind], path)
    first.setdefault(kind, path)


def context(folder: Path, scenes: int) -> Any:
    """The context of the run."""
    from pcdistill.pipeline import RunContext
    from pcdistill.pipeline.config_loading import config_from_dict

    return RunContext(
        config_from_dict(
            {
                "run": {"workspace": str(folder), "teachers": ["demo-dense"]},
                "ingest": {"train": 1, "validation": scenes},
                "evaluate": {"protocol": "standard"},
            },
            "benchmark",
        )
    )


def evaluate(folder: Path, there: int, scenes: int) -> dict[str, float]:
    """Measure some of the scenes.

    Args:
        folder: the workspace.
        there: scenes of the run.
        scenes: how many of them are measured.

    Returns:
        peak memory of the process in bytes, its seconds, those that passed, and the mIoU.
    """
    from pcdistill.artifacts import load_result
    from pcdistill.pipeline import Dependency, Task
    from pcdistill.stages import EvaluateStage

    run = context(folder, there)
    names = [f"home-validation-{number}" for number in range(scenes)]
    inputs = [Dependency(stage, unit) for n in names for stage, unit in needed(n)]
    begin, processor = time.perf_counter(), time.process_time()
    task = Task(METHOD, tuple(inputs), f"benchmark of {scenes}")
    EvaluateStage(run).work(task, lambda done, total, words: None)
    return {
        "wall": time.perf_counter() - begin,
        "processor": time.process_time() - processor,
        "peak": peak_bytes(),
        "miou": load_result(run.workspace, METHOD)["miou"],
    }


def needed(scene: str) -> list[tuple[str, str]]:
    """Stage and unit of what a method needs of a scene."""
    return [("lift", f"demo-dense/{scene}"), ("partition", scene)]


def peak_bytes() -> int:
    """Most memory that this process had at once."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise SystemExit("/proc/self/status: has no VmHWM, which this benchmark needs; use Linux")
    return 1024 * int(found.group(1))
