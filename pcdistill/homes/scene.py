"""A home as a scan: frames of a camera walk and the mesh vertices that they see."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pcdistill.homes.classes import CLASS_INDEX
from pcdistill.homes.home import build_home
from pcdistill.homes.mesh import ScanMesh, scan_mesh
from pcdistill.homes.portable_math import transform
from pcdistill.homes.render import Rendering, render
from pcdistill.homes.sensor import add_sensor_noise
from pcdistill.homes.walk import camera_walk, pinhole
from pcdistill.labels import IGNORE_LABEL
from pcdistill.scenes import MemoryFrame, Scene

LABEL_SET = "scannet20"
"""Label set that the labels of a home index."""

_POINT_SIGMA = 0.004  # metres, noise of scanned vertices
_NEAR_SIGHT = 0.2  # metres; closer vertices do not count as seen


def home_scene(
    seed: int,
    split: str,
    *,
    frames: int = 28,
    image_size: tuple[int, int] = (240, 320),
    spacing: float = 0.06,
) -> Scene:
    """A rendered scan of the home of a seed, with exact labels.

    Args:
        seed: of the home, its walk and its noise.
        split: "train", "validation" or "teacher".
        frames: number of posed images.
        image_size: (H, W) of them.
        spacing: largest distance of neighbouring scan vertices, metres.

    Returns:
        A scene in memory. Its points are the mesh vertices, with at least one face between them,
        that a frame sees within 3 cm + 1 % of the exact depth, with about 4 mm of noise; its
        labels index the ScanNet-20 classes, the ceiling is ignored.

    Raises:
        ConfigError: there is no such split, or the seed is negative.
    """
    home = build_home(seed, split)
    intrinsics = pinhole(image_size, 70.0 + seed % 6)
    mesh = scan_mesh(home.surface, spacing)
    seen = torch.zeros(len(mesh.points), dtype=torch.bool)
    taken = []
    for index, pose in enumerate(camera_walk(home, frames, seed)):
        view = render(home.surface, pose, intrinsics, image_size, seed=seed * 1000 + index)
        seen |= visible_vertices(mesh.points, pose, intrinsics, view)
        noisy = add_sensor_noise(view, seed * 1000 + index, float(intrinsics[0, 0]))
        taken.append(MemoryFrame(f"{index:06d}", intrinsics, pose, noisy.image, noisy.depth))
    scan = keep_vertices(mesh, with_faces(mesh.faces, seen))
    draws = np.random.default_rng([seed, 6])
    noise = torch.from_numpy(draws.standard_normal(tuple(scan.points.shape), dtype=np.float32))
    labels = scan.classes.clone()
    labels[labels == CLASS_INDEX["ceiling"]] = IGNORE_LABEL
    return Scene(
        name=home.name,
        points=scan.points + _POINT_SIGMA * noise.clamp(-2.5, 2.5),
        colors=scan.colors,
        normals=scan.normals,
        labels=labels,
        instances=scan.instances,
        faces=scan.faces,
        frames=tuple(taken),
        label_set=LABEL_SET,
        provenance={
            "source": "procedural home",
            "split": split,
            "seed": seed,
            "seen_vertices": int(seen.sum()),
            "all_vertices": len(seen),
        },
    )


def visible_vertices(
    points: Tensor, camera_to_world: Tensor, intrinsics: Tensor, view: Rendering
) -> Tensor:
    """(N,) bool: inside the picture and no farther than 3 cm + 1 % from the exact depth."""
    away = points.double().numpy() - camera_to_world[:3, 3].numpy()
    local = torch.from_numpy(transform(away, camera_to_world[:3, :3].T.numpy()))
    depth = local[:, 2]
    ahead = depth > _NEAR_SIGHT
    safe = torch.where(ahead, depth, torch.ones_like(depth))
    columns = (local[:, 0] / safe * intrinsics[0, 0] + intrinsics[0, 2]).round().long()
    rows = (local[:, 1] / safe * intrinsics[1, 1] + intrinsics[1, 2]).round().long()
    height, width = view.depth.shape
    ahead &= (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    found = view.depth[rows.clamp(0, height - 1), columns.clamp(0, width - 1)].double()
    seen: Tensor = ahead & ((found - depth).abs() <= 0.03 + 0.01 * depth)
    return seen


def with_faces(faces: Tensor, keep: Tensor) -> Tensor:
    """(N,) bool: kept vertices that still have a face, as a scanner's mesh has no lone vertices."""
    surviving = torch.zeros_like(keep)
    surviving[faces[keep[faces].all(dim=1)]] = True
    return surviving


def keep_vertices(mesh: ScanMesh, keep: Tensor) -> ScanMesh:
    """The part of a mesh whose vertices are kept; faces need all three."""
    number = torch.cumsum(keep, dim=0) - 1
    faces = mesh.faces[keep[mesh.faces].all(dim=1)]
    return ScanMesh(
        mesh.points[keep],
        number[faces],
        mesh.normals[keep],
        mesh.colors[keep],
        mesh.classes[keep],
        mesh.instances[keep],
    )
