"""A box-shaped room scanned without noise: what every reader must get right, made by formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pcdistill.scenes import write_ply

SIZE = np.array([5.0, 4.0, 2.5])  # metres; one corner is the origin, z is up
IMAGE_SIZE = (60, 80)
INTRINSICS = np.array([[60.0, 0, 39.5], [0, 60.0, 29.5], [0, 0, 1]])


def look(place: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """Camera-to-world (x right, y down, z forward) of a camera held upright."""
    forward = (towards - place) / np.linalg.norm(towards - place)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = place
    return pose


def poses(count: int) -> list[np.ndarray]:
    """A walk through the room, turning all around."""
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    places = np.stack([2.3 + 0.8 * np.cos(turn), 2.1 + 0.8 * np.sin(turn), 1.4 + 0 * turn], axis=1)
    aims = places + np.stack([np.cos(2 * turn), np.sin(2 * turn), 0 * turn - 0.3], axis=1)
    return [look(place, aim) for place, aim in zip(places, aims, strict=True)]


def depth_of(pose: np.ndarray, intrinsics=INTRINSICS, image_size=IMAGE_SIZE) -> np.ndarray:
    """(H, W) float64 metres along the optical axis to the first wall."""
    v, u = np.mgrid[: image_size[0], : image_size[1]]
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(intrinsics).T
    rays = rays @ pose[:3, :3].T  # world; unit depth
    with np.errstate(divide="ignore"):
        away = np.where(rays > 0, SIZE - pose[:3, 3], -pose[:3, 3]) / rays
    return away.min(axis=-1)


def wall_points(spacing: float = 0.1) -> np.ndarray:
    """(N, 3) points on all six sides."""
    sides = []
    for axis in range(3):
        others = [i for i in range(3) if i != axis]
        grid = np.stack(np.meshgrid(*(np.arange(0, SIZE[i], spacing) for i in others)), axis=-1)
        for end in (0.0, SIZE[axis]):
            side = np.empty((grid.shape[0] * grid.shape[1], 3))
            side[:, others] = grid.reshape(-1, 2)
            side[:, axis] = end
            sides.append(side)
    return np.concatenate(sides)


def write_scan(
    folder: Path,
    count: int = 10,
    *,
    surface: bool = True,
    depth_scale: float = 1000.0,
    world: np.ndarray | None = None,
) -> Path:
    """A folder of posed RGB-D frames; `world` (3, 3) turns its world away from z up."""
    turn = np.eye(4)
    turn[:3, :3] = np.eye(3) if world is None else world
    for kind in ("color", "depth", "pose"):
        (folder / kind).mkdir(parents=True)
    for i, pose in enumerate(poses(count)):
        name = str(7 * i)  # not padded: "14" sorts before "7" as text
        depth = depth_of(pose)
        shade = np.clip(255 - 30 * depth, 0, 255).astype(np.uint8)
        Image.fromarray(np.stack([shade, shade, shade], axis=-1)).save(folder / f"color/{name}.jpg")
        counts = np.rint(depth * depth_scale).astype(np.uint16)
        Image.fromarray(counts).save(folder / f"depth/{name}.png")
        np.savetxt(folder / f"pose/{name}.txt", turn @ pose)
    np.savetxt(folder / "intrinsics.txt", INTRINSICS)
    if surface:
        points = wall_points() @ turn[:3, :3].T
        write_ply(folder / "cloud.ply", torch.from_numpy(points))
    return folder
