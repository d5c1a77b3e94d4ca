"""Histories of the temporal ensemble against the released scheme: memory, bytes moved, labels.

The released code keeps a file for each scene with a feature a point in half precision, reads it at
every visit, averages in single precision, and writes it again (run/distill_EMA.py). Each scheme has
a process of its own, which is given the same outputs of a student.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pcdistill.distillation import TemporalEnsemble
from pcdistill.distillation.history_file import HistoryFile

_ALPHA = 0.9999


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes."""
    parser.add_argument("--points", type=int, default=100_000, help="of a scene")
    parser.add_argument("--superpoints", type=int, default=1_000, help="of a scene")
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--channels", type=int, default=512, help="of the student and the text")
    parser.add_argument("--classes", type=int, default=20)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the released scheme, and ours with labels of points and of superpoints.

    Returns:
        of each, `moved_mb`: what is read from and written to histories in one visit of a scene;
        `held_mb`: by how much the memory of the process rises for the update of a scene, maps of
        files included; `disk_mb`: of all files; and what the released scheme's are divided by
        ours, `moved_less` times and so on.
    """
    found: dict[str, dict[str, float]] = {}
    for scheme in (_released, _points, _superpoints):
        context = multiprocessing.get_context("spawn")
        with tempfile.TemporaryDirectory() as folder, context.Pool(1) as pool:
            found[scheme.__name__.strip("_")] = pool.apply(scheme, (folder, vars(arguments)))
    for name in ("points", "superpoints"):
        found[name] |= {
            key.replace("_mb", "_less"): round(value / found[name][key], 1)
            for key, value in found["released"].items()
        }
    sizes = {"sizes": {key: value for key, value in vars(arguments).items() if key != "kind"}}
    return {**sizes, **found}


def _output(epoch: int, scene: int, sizes: dict[str, int]) -> Tensor:
    """(N, D) float32: what a student says."""
    generator = torch.Generator().manual_seed(1000 * epoch + scene)
    return torch.randn(sizes["points"], sizes["channels"], generator=generator)


def _released(folder: str, sizes: dict[str, int]) -> dict[str, float]:
    peak, moved = _Peak(), 0
    for epoch in range(sizes["epochs"]):
        for scene in range(sizes["scenes"]):
            output, path = _output(epoch, scene, sizes), Path(folder) / f"{scene}.pth"
            peak.begin()
            if epoch == 0:
                torch.save(output.half(), path)
                continue
            history = torch.load(path, weights_only=True).float()
            present = _ALPHA * history + (1 - _ALPHA) * output
            moved += path.stat().st_size
            torch.save(present.half(), path)
            moved += path.stat().st_size
            peak.end()
            del history, present
    return _numbers(moved, peak, folder, sizes)


def _points(folder: str, sizes: dict[str, int]) -> dict[str, float]:
    return _ours(folder, sizes, "point")


def _superpoints(folder: str, sizes: dict[str, int]) -> dict[str, float]:
    return _ours(folder, sizes, "superpoint")


def _ours(
    folder: str, sizes: dict[str, int], how: Literal["point", "superpoint"]
) -> dict[str, float]:
    names = [str(scene) for scene in range(sizes["scenes"])]
    counts = [sizes[f"{how}s"]] * len(names)
    file = _CountingFile(Path(folder) / "histories", names, counts, sizes["classes"])
    file.create()
    ids = torch.arange(sizes["points"]) % sizes["superpoints"]
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(sizes["classes"], sizes["channels"], generator=generator)
    ensemble = TemporalEnsemble(text, _ALPHA, point_labels=how, histories=file)
    peak = _Peak()
    for epoch in range(sizes["epochs"]):
        for scene, name in enumerate(names):
            output = _output(epoch, scene, sizes)
            peak.begin()
            ensemble.update(name, output, superpoint_ids=ids, count=sizes["superpoints"])
            if epoch > 0:
                peak.end()
        file.state()
        file.confirm()
        if epoch == 0:
            file.moved = 0
    return _numbers(file.moved, peak, folder, sizes)


class _CountingFile(HistoryFile):
    """Counts the bytes that are read and written."""

    moved = 0

    def get(self, scene: str) -> Tensor | None:
        """Counted."""
        scores = super().get(scene)
        self.moved += 0 if scores is None else scores.nbytes
        return scores

    def put(self, scene: str, scores: Tensor) -> None:
        """Counted."""
        self.moved += scores.nbytes
        super().put(scene, scores)


class _Peak:
    """The most by which the resident memory rises between `begin` and `end`."""

    def __init__(self) -> None:
        self.rise = 0
        self._before = 0

    def begin(self) -> None:
        """Forget the peak so far."""
        Path("/proc/self/clear_refs").write_text("5")
        self._before = _status("VmRSS")

    def end(self) -> None:
        """Take note of the peak since `begin`."""
        self.rise = max(self.rise, _status("VmHWM") - self._before)


def _status(key: str) -> int:
    """Bytes of an entry of this process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


def _numbers(moved: int, peak: _Peak, folder: str, sizes: dict[str, int]) -> dict[str, float]:
    visits = (sizes["epochs"] - 1) * sizes["scenes"]
    disk = sum(path.stat().st_size for path in Path(folder).iterdir())
    return {
        "moved_mb": round(moved / visits / 2**20, 2),
        "held_mb": round(peak.rise / 2**20, 2),
        "disk_mb": round(disk / 2**20, 2),
    }
