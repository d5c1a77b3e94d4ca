"""Share of the time of a training that passes until batches are there, by number of threads."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from pcdistill.distillation import SceneSource, Trainer, TrainerSettings, TrainingScene
from pcdistill.networks import build_student

_CHANNELS = 64
_SUPERPOINTS = 200
_VOXEL = 0.05
"""Metres."""
_ROOM = torch.tensor([6.0, 5.0, 2.5])
"""Metres."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes."""
    parser.add_argument("--points", type=int, default=60_000, help="of a scene")
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2, help="measured, after one more")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cpu")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train a small student on the walls of random rooms, read from files at every step.

    Returns:
        for each number of threads `waiting`, the share of the seconds of all steps.
    """
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.scenes):
            _write_room(Path(folder) / f"{number}.safetensors", number, arguments.points)
        shares = {
            str(workers): _waiting_share(Path(folder), workers, arguments)
            for workers in arguments.workers
        }
    return {**vars(arguments), "threads": torch.get_num_threads(), "waiting": shares}


def _write_room(path: Path, seed: int, points: int) -> None:
    """Random points on the six sides of a room, and random targets."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand(points, 3, generator=generator)
    side = torch.randint(0, 6, (points,), generator=generator)
    place[torch.arange(points), side % 3] = (side // 3).float()
    ids = torch.randint(0, _SUPERPOINTS, (points,), generator=generator)
    means = torch.randn(_SUPERPOINTS, _CHANNELS, generator=generator).half()
    save_file({"points": place * _ROOM, "ids": ids.int(), "means": means}, path)


def _waiting_share(folder: Path, workers: int, arguments: argparse.Namespace) -> float:
    def load(number: int) -> TrainingScene:
        parts = load_file(folder / f"{number}.safetensors")
        seen = torch.ones(arguments.points, dtype=torch.bool)
        return TrainingScene(
            str(number), parts["points"], parts["ids"].long(), parts["means"], seen
        )

    names = [str(number) for number in range(arguments.scenes)]
    scenes = SceneSource(
        names, [arguments.points] * len(names), [_SUPERPOINTS] * len(names), load, kept_bytes=0
    )
    settings = TrainerSettings(
        voxel_size=_VOXEL,
        epochs=arguments.epochs + 1,
        batch_size=arguments.batch_size,
        augment="reference",
        workers=workers,
    )
    network = build_student("MinkUNet14A", 3, _CHANNELS, width=0.375)
    text, device = torch.randn(2, _CHANNELS), torch.device(arguments.device)
    trainer = Trainer(network, scenes, text, settings, device)
    trainer.train_epoch()
    waiting, seconds = 0.0, 0.0
    while not trainer.finished:
        result = trainer.train_epoch()
        if result is not None:
            waiting, seconds = waiting + result.waiting, seconds + result.seconds
    return round(waiting / seconds, 4)
