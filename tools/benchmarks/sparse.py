"""The sparse network on homes of several sizes: time and memory of every engine that is there.

Every engine runs in a process of its own with the same weights, voxels and number of threads; the
engines are asked in turn, so that a change of the machine's speed meets all of them. All times but
the ones called "kept" begin at bare coordinates: hashing or sorting and kernel maps are in them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pcdistill.distillation.student_features import has_fast_bfloat16

from . import DOCS
from .sparse_worker import LOW_PRECISION, TRITON_LOW_PRECISION

SIZES, QUICK_SIZES = (20_000, 50_000, 150_000, 400_000), (20_000, 50_000)
HEADLINE, GROWTH_FROM = 150_000, 50_000
"""Voxels of the scene whose ratios are claimed, and of the one that growth is counted from."""
VOXEL_SIZE = 0.02
HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- sparse: begin -->", "<!-- sparse: end -->"
COLUMNS = ("voxels", "engine", "forward s", "step s", "forward GiB", "step GiB", "forward/GEMM")
RATIOS = (
    *("voxels", "forward x", "step x", "memory", "convolutions/GEMM"),
    *("bfloat16 forward x", "bfloat16 step x", "kept forward s", "kept step s"),
)
"""Heads of the tables of the page."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--quick", action="store_true", help="only 20 k and 50 k voxels, 2 rounds")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of voxels")
    parser.add_argument("--rounds", type=int, help="times that every engine is measured (5)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--seed", type=int, default=0, help="of the home")
    parser.add_argument(
        "--write",
        type=Path,
        nargs="?",
        const=DOCS / "performance.md",
        help="put the tables into this page (docs/performance.md)",
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all sizes; the ratios at the top are those of the scene of `HEADLINE` voxels."""
    sizes = arguments.sizes or (QUICK_SIZES if arguments.quick else SIZES)
    rounds = arguments.rounds or (2 if arguments.quick else 5)
    engines = available_engines(arguments.device)
    scenes = []
    profiled = min(range(len(sizes)), key=lambda i: abs(sizes[i] - HEADLINE))
    with tempfile.TemporaryDirectory() as folder:
        for number, coords in enumerate(home_voxels(sizes, arguments.seed)):
            file = Path(folder) / f"{len(coords)}.npy"
            np.save(file, coords)
            wants_profile = arguments.device == "cpu" and number == profiled
            scenes.append(measure(file, engines, rounds, arguments, wants_profile))
            print(json.dumps(scenes[-1]), flush=True)
    headline = min(scenes, key=lambda scene: abs(scene["voxels"] - HEADLINE))
    result = {
        "voxels": headline["voxels"],
        **{
            name: headline[name]
            for name in (
                "forward_speedup",
                "step_speedup",
                "peak_memory_ratio",
                "gemm_share",
                "bfloat16_forward_speedup",
                "bfloat16_step_speedup",
                "max_relative_difference",
            )
        },
        "rounds": rounds,
        "growth": growth(scenes),
        "gemm_gflop_per_second": headline["gemm_gflop_per_second"],
        "machine": machine(arguments),
        "scenes": scenes,
    }
    tables = page_section(result)
    print(tables)
    if arguments.write:
        write_section(arguments.write, tables)
    return result


def available_engines(device: str) -> dict[str, dict[str, str]]:
    """Engine -> what its process needs in its environment; says aloud who is left out."""
    engines: dict[str, dict[str, str]] = {"torch": {}}
    tool = HERE.parent / "build_minkowski.py"
    found = subprocess.run([sys.executable, tool, "--where"], capture_output=True, text=True)
    site = found.stdout.strip()
    if device != "cpu":
        print("MinkowskiEngine is left out: it is built for the CPU only")
    elif site or importlib.util.find_spec("MinkowskiEngine"):
        engines["minkowski"] = {"PYTHONPATH": site}
    else:
        print("MinkowskiEngine is left out: there is no wheel of it; build one with make minkowski")
    if has_fast_bfloat16(torch.device(device)):
        engines[LOW_PRECISION] = {}
    else:
        print("bfloat16 is left out: this processor has no fast products of it")
    for name, package in (("triton", "triton"), ("spconv", "spconv-cu126")):
        if device == "cpu" or not torch.cuda.is_available():
            print(f"{name} is left out: it is measured on a CUDA device only (--device cuda)")
        elif not importlib.util.find_spec(name):
            print(f"{name} is left out: it is not installed; pip install {package}")
        else:
            engines[name] = {}
    if "triton" in engines and LOW_PRECISION in engines:
        engines[TRITON_LOW_PRECISION] = {}
    return engines


def home_voxels(sizes: tuple[int, ...], seed: int) -> list[np.ndarray]:
    """For each size (V, 4) int32: the voxels of a furnished home nearest to its middle, in plan.

    The density of the surfaces is the same for all sizes; where a home has too few voxels the next
    one stands beside it.
    """
    from pcdistill.geometry import voxelize
    from pcdistill.homes import build_home, scan_mesh

    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < max(sizes):
        home = build_home(seed + len(parts), "validation")
        points = scan_mesh(home.surface, 0.9 * VOXEL_SIZE).points
        cells = voxelize(points, VOXEL_SIZE).coords.numpy()
        if parts:
            cells = cells + np.array([parts[-1][:, 0].max() + 1, 0, 0])
        parts.append(cells)
    cells = np.concatenate(parts)
    middle = (cells.min(axis=0) + cells.max(axis=0)) / 2
    away = np.abs(cells - middle)[:, :2].max(axis=1)
    nearest = cells[np.argsort(away, kind="stable")]
    scenes = []
    for size in sizes:
        inside = nearest[:size] - nearest[:size].min(axis=0)
        batch = np.zeros((len(inside), 1))
        scenes.append(np.concatenate((batch, inside), axis=1).astype(np.int32))
    return scenes


class Engine:
    """The process of one engine; see `sparse_worker`."""

    def __init__(
        self, name: str, environment: dict[str, str], coords: Path, arguments: argparse.Namespace
    ) -> None:
        threads = str(arguments.threads)
        # several thread pools live in one process: torch's, OpenBLAS's, numba's
        pools = ("OMP", "OPENBLAS", "MKL", "NUMBA")
        paths = [environment.get("PYTHONPATH"), os.environ.get("PYTHONPATH"), str(HERE.parents[1])]
        command = [sys.executable, str(HERE / "sparse_worker.py"), name, str(coords)]
        command += ["--threads", threads, "--device", arguments.device]
        self.name = name
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                **{f"{pool}_NUM_THREADS": threads for pool in pools},
                "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            },
        )
        assert self.process.stdin is not None  # pipes, as asked for
        assert self.process.stdout is not None
        self._questions, self._answers = self.process.stdin, self.process.stdout

    def ask(self, command: str) -> dict[str, Any]:
        """Send one command and read its answer."""
        self._questions.write(command + "\n")
        self._questions.flush()
        answer = self._answers.readline()
        if not answer:
            raise SystemExit(f"the process of engine {self.name} ended during '{command}'")
        values: dict[str, Any] = json.loads(answer)
        return values

    def close(self) -> None:
        """End the process."""
        self._questions.close()
        self.process.wait()


def measure(
    coords: Path,
    environments: dict[str, dict[str, Any]],
    rounds: int,
    arguments: argparse.Namespace,
    wants_profile: bool,
) -> dict[str, Any]:
    """Measure all engines on one scene.

    Args:
        coords: .npy file of its voxels, (V, 4) int32.
        environments: engine -> environment variables of its process.
        rounds: times that each engine is measured.
        arguments: of the command line.
        wants_profile: where our seconds go, too.
    """
    engines = [Engine(name, env, coords, arguments) for name, env in environments.items()]
    try:
        found: dict[str, dict[str, Any]] = {engine.name: {} for engine in engines}
        # first of all: a step changes the running statistics
        outputs = {engine.name: np.array(engine.ask("output")["rows"]) for engine in engines}
        rates: list[float] = []
        for command in ("forward", "step"):
            times = in_turn(engines, command, rounds, rates)
            for engine in engines:
                found[engine.name][f"{command}_seconds"] = times[engine.name]
                found[engine.name][f"{command}_peak_bytes"] = engine.ask("memory")["bytes"]
        ours = engines[0]
        kept = [ours.ask("forward_kept") for _ in range(rounds + 1)][1:]
        steps = [ours.ask("step_kept") for _ in range(rounds + 1)][1:]
        work = ours.ask("work")
        profile = ours.ask("profile") if wants_profile else None
    finally:
        for engine in engines:
            engine.close()
    rate = statistics.median(rates)
    convolutions = [pass_["convolutions"] for pass_ in kept]
    known = None not in convolutions
    in_convolutions = statistics.median(convolutions) if known else None
    mine, theirs, low = found["torch"], found.get("minkowski"), found.get(LOW_PRECISION)
    return {
        "voxels": len(np.load(coords, mmap_mode="r")),
        "forward_speedup": ratio(theirs, mine, "forward_seconds"),
        "step_speedup": ratio(theirs, mine, "step_seconds"),
        "bfloat16_forward_speedup": ratio(theirs, low, "forward_seconds"),
        "bfloat16_step_speedup": ratio(theirs, low, "step_seconds"),
        "forward_peak_memory_ratio": ratio(mine, theirs, "forward_peak_bytes"),
        "peak_memory_ratio": ratio(mine, theirs, "step_peak_bytes"),
        "gemm_share": work["flop"] / in_convolutions / rate if known else None,
        "forward_gemm_share": work["flop"] / mine["forward_seconds"] / rate,
        "spconv_step_speedup": ratio(found.get("spconv"), mine, "step_seconds"),
        "triton_forward_speedup": ratio(mine, found.get("triton"), "forward_seconds"),
        "triton_step_speedup": ratio(mine, found.get("triton"), "step_seconds"),
        "max_relative_difference": {
            name: float(np.abs(rows - outputs["torch"]).max() / np.abs(outputs["torch"]).max())
            for name, rows in outputs.items()
            if name != "torch"
        },
        "kept_maps": {
            "forward_seconds": statistics.median(pass_["seconds"] for pass_ in kept),
            "convolution_seconds": in_convolutions,
            "step_seconds": statistics.median(step["seconds"] for step in steps),
        },
        "profile": profile,
        "convolution_gflop": work["flop"] / 1e9,
        "neighbours": work["neighbours"],
        "gemm_gflop_per_second": rate / 1e9,
        "engines": found,
    }


def in_turn(
    engines: list[Engine], command: str, rounds: int, rates: list[float]
) -> dict[str, float]:
    """Measure the median seconds of each engine; every round asks all of them.

    Args:
        engines: ours first.
        command: of `sparse_worker`.
        rounds: that count, after one that warms up.
        rates: floating-point operations a second, to which those of each round are added.
    """
    seconds: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for number in range(rounds + 1):
        rates.append(engines[0].ask("rate")["flop_per_second"])
        for engine in engines if number % 2 else reversed(engines):
            seconds[engine.name].append(engine.ask(command)["seconds"])
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def ratio(above: dict[str, Any] | None, below: dict[str, Any] | None, name: str) -> float | None:
    """Divide a number of two engines; None where an engine is absent.

    Args:
        above: numbers of an engine.
        below: numbers of another.
        name: of the number.
    """
    return above[name] / below[name] if above and below else None


def growth(scenes: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds per voxel of the largest scene over those of the scene of `GROWTH_FROM` voxels."""
    first = min(scenes, key=lambda scene: abs(scene["voxels"] - GROWTH_FROM))
    last = max(scenes, key=lambda scene: scene["voxels"])
    result: dict[str, Any] = {"from_voxels": first["voxels"], "to_voxels": last["voxels"]}
    for name in ("forward", "step"):
        per_voxel = [
            scene["engines"]["torch"][f"{name}_seconds"] / scene["voxels"]
            for scene in (first, last)
        ]
        result[name] = per_voxel[1] / per_voxel[0]
    return result


def machine(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the numbers were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    if arguments.device != "cpu":
        model = torch.cuda.get_device_name(arguments.device)
    return {
        "processor": model,
        "threads": arguments.threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def page_section(result: dict[str, Any]) -> str:
    """The tables, in Markdown."""
    about, count = result["machine"], result["rounds"]
    rounds = f"{count} round" + "s" * (count > 1)
    lines = [
        f"Measured {about['date']} with {rounds} after one that warms up, on "
        f"{about['processor']}, {about['threads']} threads, Python {about['python']}, torch "
        f"{about['torch']}; the matrix product of this machine makes "
        f"{result['gemm_gflop_per_second']:.0f} GFLOP/s.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---:|---|" + "---:|" * (len(COLUMNS) - 2),
    ]
    for scene in result["scenes"]:
        for name, found in scene["engines"].items():
            rate = scene["convolution_gflop"] / found["forward_seconds"]
            cells = [
                f"{scene['voxels']:,}",
                name,
                f"{found['forward_seconds']:.2f}",
                f"{found['step_seconds']:.2f}",
                f"{found['forward_peak_bytes'] / 2**30:.2f}",
                f"{found['step_peak_bytes'] / 2**30:.2f}",
                f"{rate / scene['gemm_gflop_per_second']:.0%}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| " + " | ".join(RATIOS) + " |", "|" + "---:|" * len(RATIOS)]
    for scene in result["scenes"]:
        kept = scene["kept_maps"]
        cells = [
            f"{scene['voxels']:,}",
            *(
                "-" if scene[name] is None else f"{scene[name]:.2f}"
                for name in ("forward_speedup", "step_speedup", "peak_memory_ratio")
            ),
            "-" if scene["gemm_share"] is None else f"{scene['gemm_share']:.0%}",
            *(
                "-" if scene[name] is None else f"{scene[name]:.2f}"
                for name in ("bfloat16_forward_speedup", "bfloat16_step_speedup")
            ),
            f"{kept['forward_seconds']:.2f}",
            f"{kept['step_seconds']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    grown = result["growth"]
    lines += [
        "",
        f"From {grown['from_voxels']:,} to {grown['to_voxels']:,} voxels our seconds per voxel "
        f"change by a factor of {grown['forward']:.2f} (forward) and {grown['step']:.2f} (step).",
    ]
    for name, difference in result["max_relative_difference"].items():
        lines.append(f"Largest difference from {name}'s output: {difference:.1e} of its maximum.")
    headline = next(s for s in result["scenes"] if s["voxels"] == result["voxels"])
    if headline["profile"]:
        lines += ["", *profile_table(headline)]
    return "\n".join(lines)


def profile_table(scene: dict[str, Any]) -> list[str]:
    """Where our seconds go, in Markdown."""
    forward, step = scene["profile"]["forward"], scene["profile"]["step"]
    return [
        f"Where the seconds of one thread go at {scene['voxels']:,} voxels:",
        "",
        "| part | forward | step |",
        "|---|---:|---:|",
        *(
            f"| {part} | {forward[part]:.0%} | {step[part]:.0%} |"
            for part in sorted(forward, key=forward.__getitem__, reverse=True)
        ),
    ]


def write_section(page: Path, section: str) -> None:
    """Put the section between its two marks in the page."""
    text = page.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{page}: the lines '{BEGIN}' and '{END}' are missing; put them in")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    page.write_text(f"{before}{BEGIN}\n\n{section}\n\n{END}{after}")
