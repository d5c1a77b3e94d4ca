"""The smallest real run: two rooms of six walls, three words, one teacher, one student."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor

from pcdistill.scenes import MemoryFrame, Scene, load_label_set, write_scene
from tests.fixtures.box_room import (
    IMAGE_SIZE,
    INTRINSICS,
    SIZE,
    depth_of,
    poses,
    wall_points,
)

ROOMS = ("room-a", "room-b")
"""The first is learned from, the second is measured."""
WORDS = ("wall", "floor", "ceiling")


def write_config(folder: Path) -> Path:
    """Write the rooms and the YAML file of a run over them; its workspace is named at each call."""
    for number, room in enumerate(ROOMS):
        write_scene(_room(room, number), folder / "scans" / room)
        (folder / f"{room}.txt").write_text(f"{room}\n")
    (folder / "words.json").write_text(json.dumps(WORDS))
    settings = {
        "run": {
            "title": "Two rooms",
            "vocabulary": str(folder / "words.json"),
            "prompt": "a {}",
            "teachers": ["demo-dense"],
        },
        "ingest": {
            "source": "scan",
            "path": str(folder / "scans"),
            "train_list": str(folder / f"{ROOMS[0]}.txt"),
            "validation_list": str(folder / f"{ROOMS[1]}.txt"),
        },
        "lift": {"depth_tolerance": 0.1, "border": 2},
        "synthesize": {"images": 1},
        "partition": {"min_size": 5},
        "distill": {
            **{"students": ["superpoint"], "architecture": "MinkUNet14A", "width": 0.125},
            **{"voxel_size": 0.4, "epochs": 8, "batch_size": 1, "input": "color"},
        },
        "evaluate": {"votes": 1},
        "report": {"queries": ["floor"], "heat_maps": [], "example_classes": 0},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def _room(name: str, number: int) -> Scene:
    points = torch.from_numpy(wall_points(0.25)).float()
    generator = torch.Generator().manual_seed(number)
    names = load_label_set("scannet20").names
    labels = torch.full((len(points),), names.index("wall"))
    labels[points[:, 2] == 0] = names.index("floor")
    labels[points[:, 2] == SIZE[2]] = names.index("refrigerator")
    colors = torch.randint(256, (len(points), 3), dtype=torch.uint8, generator=generator)
    frames = tuple(
        MemoryFrame(str(view), torch.from_numpy(INTRINSICS), torch.from_numpy(pose), *_seen(pose))
        for view, pose in enumerate(poses(2 + number))
    )
    return Scene(name, points, colors=colors, labels=labels, frames=frames, label_set="scannet20")


def _seen(pose: np.ndarray) -> tuple[Tensor, Tensor]:
    """(H, W, 3) uint8 shades and (H, W) float32 metres of the walls before a camera."""
    depth = torch.from_numpy(depth_of(pose)).float()
    shade = (255 - 30 * depth).clamp(0, 255).to(torch.uint8)
    return shade.reshape(*IMAGE_SIZE, 1).expand(-1, -1, 3).contiguous(), depth
