"""Cameras of a Matterport3D house, from its `undistorted_camera_parameters/*.conf`.

    dataset matterport
    n_images 36
    intrinsics_matrix 1248 0 640  0 1248 512  0 0 1
    scan <depth file> <colour file> <16 numbers, row by row>
    ...                                  six of a panorama's camera, then the next intrinsics_matrix

The 16 numbers are a camera-to-world matrix in metres of a camera that looks along -z with +y up;
`read_conf` is the one place that turns it into ours (+x right, +y down, +z forward), by negating
the second and the third column. The principal point is taken from the top left corner, as OpenScene
does; the published description counts its rows from the bottom.
"""

from __future__ import annotations

import logging
from pathlib import Path, PurePath
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.scenes.checks.pose_conventions import POSE_CONVENTIONS
from pcdistill.scenes.formats.text import parse_numbers, read_rows
from pcdistill.scenes.frames import check_camera

_LOG = logging.getLogger(__name__)

_FILE_CONVENTION = POSE_CONVENTIONS["camera_to_world_opengl"]
_MAX_IMAGES = 1_000_000


class HouseCamera(NamedTuple):
    """One image of a house."""

    name: str
    """Name of the colour file without suffix."""
    color: str
    """File name in `undistorted_color_images`."""
    depth: str
    """File name in `undistorted_depth_images`."""
    intrinsics: Tensor
    """(3, 3) float64, pixels, for the image as stored."""
    camera_to_world: Tensor
    """(4, 4) float64, metres; +x right, +y down, +z forward. May hold numbers that are not
    finite, where tracking was lost."""


class _Entry(NamedTuple):
    """A `scan` line."""

    where: str
    color: str
    depth: str
    intrinsics: Tensor
    numbers: list[float]


def read_conf(path: Path) -> tuple[HouseCamera, ...]:
    """All cameras of a house, in the order of their names.

    Args:
        path: the `.conf` file.

    Raises:
        SceneError: the file is missing, damaged or truncated, or a camera is none.
    """
    entries: dict[str, _Entry] = {}
    matrices: dict[tuple[str, ...], Tensor] = {}  # panoramas share few
    intrinsics: Tensor | None = None
    declared: int | None = None
    for number, words in read_rows(path, "the cameras of a house"):
        where = f"{path}: line {number}"
        if words[0] == "n_images":
            declared = _count(where, words)
        elif words[0] == "intrinsics_matrix":
            key = tuple(words[1:])
            if key not in matrices:
                matrices[key] = _intrinsics(where, words[1:])
            intrinsics = matrices[key]
        elif words[0] == "scan":
            if intrinsics is None:
                raise SceneError(
                    f"{where}: a 'scan' stands before the first 'intrinsics_matrix', expected its "
                    "camera first; restore the original file"
                )
            entry = _entry(where, words[1:], intrinsics)
            name = PurePath(entry.color).stem
            if name in entries:
                raise SceneError(
                    f"{where}: lists {entry.color} a second time; restore the original file"
                )
            entries[name] = entry
        elif words[0] not in ("dataset", "depth_directory", "color_directory"):
            raise SceneError(
                f"{where}: begins with '{words[0][:40]}', expected 'intrinsics_matrix' or 'scan'; "
                "the file is damaged, restore it"
            )
    if not entries or (declared is not None and len(entries) < declared):
        raise SceneError(
            f"{path}: lists {len(entries)} images, expected "
            f"{'at least one' if declared is None else f'the {declared} it declares'}; "
            "the file is truncated, restore it"
        )
    if declared is not None and len(entries) > declared:
        _LOG.warning("%s: declares %d images, lists %d", path, declared, len(entries))
    poses = _poses(list(entries.values()))
    cameras = [
        HouseCamera(name, entry.color, entry.depth, entry.intrinsics, pose)
        for (name, entry), pose in zip(entries.items(), poses, strict=True)
    ]
    return tuple(sorted(cameras, key=lambda camera: camera.name))


def _count(where: str, words: list[str]) -> int:
    if len(words) != 2 or not words[1].isascii() or not words[1].isdecimal():
        raise SceneError(f"{where}: is not 'n_images NUMBER'; the file is damaged, restore it")
    return min(int(words[1][:20]), _MAX_IMAGES)


def _intrinsics(where: str, words: list[str]) -> Tensor:
    matrix = torch.tensor(parse_numbers(where, words, 9), dtype=torch.float64).view(3, 3)
    check_camera(where, matrix, torch.eye(4, dtype=torch.float64))
    bottom = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    if float(matrix[1, 0]) != 0 or not torch.equal(matrix[2], bottom):
        raise SceneError(
            f"{where}: is no camera matrix, expected fx 0 cx  0 fy cy  0 0 1 in pixels; "
            "restore the original file"
        )
    return matrix


def _entry(where: str, words: list[str], intrinsics: Tensor) -> _Entry:
    if len(words) < 2:
        raise SceneError(
            f"{where}: names no depth and colour file, expected them after 'scan'; "
            "the file is truncated, restore it"
        )
    depth, color = words[:2]
    for name, suffix in ((depth, ".png"), (color, ".jpg")):
        if PurePath(name).name != name or PurePath(name).suffix != suffix or "\\" in name:
            raise SceneError(
                f"{where}: '{name[:80]}' is no {suffix} file name, expected the depth file and "
                "then the colour file; the file is damaged, restore it"
            )
    return _Entry(where, color, depth, intrinsics, parse_numbers(where, words[2:], 16))


def _poses(entries: list[_Entry]) -> Tensor:
    """Camera-to-world matrices, (P, 4, 4) float64, +x right, +y down, +z forward."""
    poses = torch.tensor([entry.numbers for entry in entries], dtype=torch.float64).view(-1, 4, 4)
    rotations = poses[:, :3, :3]
    identity = torch.eye(3, dtype=torch.float64)
    error = (rotations @ rotations.transpose(1, 2) - identity).abs().amax(dim=(1, 2))
    # far stricter than `check_camera`, which has the last word and the sentence
    good = (error < 1e-3) & (torch.linalg.det(rotations.nan_to_num(0, 0, 0)) > 0)
    good &= (poses[:, 3] == identity.new_tensor([0, 0, 0, 1])).all(dim=1)
    finite = torch.isfinite(poses).all(dim=2).all(dim=1)
    for place in torch.nonzero(finite & ~good).flatten().tolist():
        check_camera(entries[place].where, entries[place].intrinsics, poses[place])
    # a product with infinity would be one with NaN, either way it is not finite
    return _FILE_CONVENTION.read(poses)
