"""Camera path planning: poses at human height that together see most of a home."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pcdistill.homes.classes import CLASS_INDEX
from pcdistill.homes.home import Home
from pcdistill.homes.portable_math import cosine, sine, snap, unit
from pcdistill.homes.render import cast_rays

Array = npt.NDArray[Any]

_MARGIN = 0.38  # metres between a camera and walls or tall furniture
_PER_ROOM = 130  # candidate poses a room
_LOOK = (36, 48)  # (H, W) of the glance that says what a candidate sees
_CELL = 0.12  # metres, size of the surface cells whose number is maximised


class _Glance(NamedTuple):
    """A candidate pose and the surface cells it sees."""

    pose: Array
    room: int
    cells: Array


def intrinsics_from_fov(image_size: tuple[int, int], horizontal_degrees: float) -> Tensor:
    """(3, 3) float64 intrinsics with square pixels and a centred principal point."""
    height, width = image_size
    half = math.radians(horizontal_degrees) / 2
    focal = snap(width / 2 * cosine(half) / sine(half))
    return torch.tensor(
        [[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], dtype=torch.float64
    )


def look_at(position: Array, target: Array) -> Array:
    """(4, 4) float64 pose at `position` that looks at `target` with the horizon level."""
    forward = unit(np.asarray(target, float) - position)
    right = unit(np.cross(forward, [0.0, 0.0, 1.0]))
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = position
    return pose


def plan_camera_path(home: Home, count: int, seed: int) -> list[Tensor]:
    """Poses inside the free space of all rooms, room by room, chosen to see much of the home.

    Candidates stand 1.2 to 1.7 m above the floor and look slightly down; one after the other the
    candidate is taken that sees most surface not seen before.

    Args:
        home: where to walk.
        count: number of poses, 1 or more.
        seed: candidates are drawn from it.

    Returns:
        `count` poses camera_to_world, (4, 4) float64, +x right, +y down, +z forward.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count must be >= 1, got {count}")
    rng = np.random.default_rng([seed, 77])
    glances = [
        glance
        for index in range(len(home.spaces))
        for glance in _glances(home, index, rng, max(_PER_ROOM, count))
    ]
    chosen = _cover(glances, count, _worth(home, glances))
    chosen.sort(key=lambda glance: (glance.room, _heading(glance.pose)))
    return [torch.from_numpy(glance.pose) for glance in chosen]


def _heading(pose: Array) -> float:
    """Direction of view on the floor, radians to nine digits."""
    return round(math.atan2(pose[1, 2], pose[0, 2]), 9)


def _glances(home: Home, room: int, rng: np.random.Generator, count: int) -> list[_Glance]:
    """Candidate poses of one room with what they see."""
    cells = home.spaces[room].free_cells(_MARGIN)
    if len(cells) == 0:
        return []
    intrinsics = intrinsics_from_fov(_LOOK, 70.0).numpy()
    glances = []
    for _ in range(count):
        place = snap(np.array([*cells[int(rng.integers(len(cells)))], rng.uniform(1.25, 1.65)]))
        turn, dip = rng.uniform(-math.pi, math.pi), math.radians(rng.uniform(0, 42))
        ahead = [cosine(turn) * cosine(dip), sine(turn) * cosine(dip), -sine(dip)]
        pose = look_at(place, place + ahead)
        glances.append(_Glance(pose, room, _seen_cells(home, pose, intrinsics)))
    return glances


def _seen_cells(home: Home, pose: Array, intrinsics: Array) -> Array:
    """Sorted keys of the surface cells (place and instance) in view, without the ceiling."""
    hits = cast_rays(home.surface, pose, intrinsics, _LOOK)
    found = (hits.quads >= 0) & (hits.distances < 5.0)
    quads = hits.quads[found]
    found_points = pose[:3, 3] + hits.directions[found] * hits.distances[found, None]
    keep = home.surface.classes[quads] != CLASS_INDEX["ceiling"]
    cells = np.floor(found_points[keep] / _CELL).astype(np.int64) + 512
    instance = home.surface.instances[quads][keep].astype(np.int64)
    return np.unique((instance << 30) | (cells[:, 0] << 20) | (cells[:, 1] << 10) | cells[:, 2])


def _worth(home: Home, glances: list[_Glance]) -> Array:
    """(I,) int64: what a surface cell of each instance is worth.

    Furniture is worth more than walls and doors, and small things more than large ones. Whole
    numbers are added to the same sum in any order.
    """
    plain = {"wall": 650, "floor": 800, "door": 650, "window": 800, "ceiling": 0}
    base = np.array([plain.get(instance.category, 1300) for instance in home.instances])
    cells = np.unique(np.concatenate([glance.cells for glance in glances]))
    sizes = np.bincount(cells >> 30, minlength=len(base))
    factor = np.clip(np.sqrt(50 / np.maximum(sizes, 1)), 1.0, 2.0)
    return np.asarray(np.rint(base * factor), dtype=np.int64)


def _cover(glances: list[_Glance], count: int, worth_of_instance: Array) -> list[_Glance]:
    """Greedy choice of the candidates that together see most; repeats none."""
    keys = np.unique(np.concatenate([glance.cells for glance in glances]))
    views = [np.searchsorted(keys, glance.cells) for glance in glances]
    worth = worth_of_instance[keys >> 30]
    open_ = list(range(len(glances)))
    chosen: list[_Glance] = []
    while len(chosen) < count and open_:
        gains = [worth[views[i]].sum() for i in open_]
        best = open_.pop(int(np.argmax(gains)))
        worth[views[best]] //= 20  # a second view of a cell is worth little, a third less
        chosen.append(glances[best])
    return chosen
