"""Scans of homes: frames of a camera path, and the surface fused from their depth."""

from __future__ import annotations

import torch

from pcdistill.homes.camera_path import intrinsics_from_fov, plan_camera_path
from pcdistill.homes.classes import CLASS_INDEX
from pcdistill.homes.home import build_home
from pcdistill.homes.scanner import ScannerSettings, film, scan_surface
from pcdistill.labels import IGNORE_LABEL
from pcdistill.scenes import MemoryFrame, Scene

LABEL_SET = "scannet20"
"""Label set that the labels of a home index."""

GENERATION = 7
"""Raised whenever a seed gives another scan, so that runs make the homes they stored anew."""

_SECOND_PASS = 500_000
"""Added to the seed of the walk for the pass whose depth is fused, but whose images are not kept:
scanners film much more than is used later."""


def home_scene(
    seed: int,
    split: str,
    *,
    frames: int = 28,
    image_size: tuple[int, int] = (240, 320),
    scanner: ScannerSettings | None = None,
) -> Scene:
    """A scan of the home of a seed, as a hand-held depth camera would give it.

    Args:
        seed: of the home, its walk and its noise.
        split: a key of `SPLITS`.
        frames: number of posed images.
        image_size: (H, W) of them.
        scanner: how good the scanner is.

    Returns:
        A scene in memory. Its mesh is fused from the noisy depth of the frames and of as many
        views more, with poses that drift; it has holes where nothing was seen, no borders between
        objects, and normals and colours of its own. Labels index the ScanNet-20 classes, from
        what most views show at a vertex; the ceiling is ignored.

    Raises:
        ConfigError: there is no such split, or the seed is negative.
    """
    home = build_home(seed, split)
    settings = scanner or ScannerSettings()
    intrinsics = intrinsics_from_fov(image_size, 70.0 + seed % 6)
    walk = plan_camera_path(home, frames, seed)
    again = plan_camera_path(home, frames, seed + _SECOND_PASS)
    views = film(home, [*walk, *again], intrinsics, image_size, seed, settings)
    corners = torch.from_numpy(home.surface.corners.reshape(-1, 3)).double()
    scan = scan_surface(views, intrinsics, corners.amin(dim=0), corners.amax(dim=0), settings)
    kinds = torch.tensor([CLASS_INDEX[one.category] for one in home.instances])
    labels = kinds[scan.instances.long().clamp(min=0)]
    unknown = (scan.instances < 0) | (labels == CLASS_INDEX["ceiling"])
    return Scene(
        name=home.name,
        points=scan.points,
        colors=scan.colors,
        normals=scan.normals,
        labels=labels.masked_fill(unknown, IGNORE_LABEL),
        instances=scan.instances,
        faces=scan.faces,
        frames=tuple(
            MemoryFrame(
                f"{index:06d}",
                intrinsics,
                view.camera_to_world,
                view.rendering.image,
                view.rendering.depth,
            )
            for index, view in enumerate(views[:frames])
        ),
        label_set=LABEL_SET,
        provenance={
            "source": "procedural home, scanned",
            "split": split,
            "seed": seed,
            "views_fused": len(views),
            "scanner": vars(settings),
        },
    )
