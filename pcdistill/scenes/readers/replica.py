"""Reader of Replica scenes in the layout that NICE-SLAM distributes.

    <root>/cam_params.json                     {"camera": {w, h, fx, fy, cx, cy, scale}}
    <root>/<scene>_mesh.ply                    triangles or quads
    <root>/<scene>/traj.txt                    line i: camera-to-world of image i, 16 numbers,
                                               metres; +x right, +y down, +z forward
    <root>/<scene>/results/frame<i>.jpg        1200 x 680
    <root>/<scene>/results/depth<i>.png        uint16, `scale` counts per metre (6553.5)

Images are renderings of the mesh; every 10th is used. They are stretched to 640 x 360 with linear
interpolation, the depth too, as OpenScene does: along edges a depth then lies between the two
surfaces, and the occlusion test drops such pixels. The camera matrix is stretched alike;
`intrinsics: openscene` gives that of OpenScene's files, whose focal length across is 0.8 % too
short because it accounts for a crop that is not done. The layout has no labels.
"""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.scenes.checks.mesh_checks import check_mesh_extent, normalize_normals
from pcdistill.scenes.formats.ply import read_ply
from pcdistill.scenes.formats.text import parse_numbers, read_json, read_rows
from pcdistill.scenes.frames import check_camera, name_backwards
from pcdistill.scenes.origin import describe_way_back, moved_pose
from pcdistill.scenes.paths import entries_of, is_existing_file, is_folder
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Reader, Refusal, Scan
from pcdistill.scenes.resampled_frames import (
    ResizedFrame,
    check_matching_sizes,
    resize_intrinsics_by_rule,
)
from pcdistill.scenes.scene import Scene

_LOG = logging.getLogger(__name__)

IMAGE_SIZE = (360, 640)
"""(H, W) pixels of frames unless set, as in OpenScene."""
FRAME_STEP = 10
"""Every 10th image unless set, as in OpenScene."""

_CAMERA = "cam_params.json"
_POSES = "traj.txt"
_IMAGES = "results"
_MESH = "_mesh.ply"
_REFUSED = dict.fromkeys(
    ("up_axis", "pose_convention", "fuse_voxel_size", "align_axes", "sweeps"),
    Refusal("`{name}` is {value!r}, Replica says this itself; leave the setting out"),
)


class _Camera(NamedTuple):
    """What `cam_params.json` says."""

    intrinsics: Tensor
    """(3, 3) float64, pixels."""
    image_size: tuple[int, int]
    """(H, W), pixels."""
    scale: float
    """Counts per metre of depth images."""


def find_replica(folder: Path) -> tuple[Scan, ...]:
    """The scene in a folder, or those of a data set: its root, or the folder that has `Replica/`.

    Args:
        folder: any folder.

    Returns:
        Scans in the order of names; nothing where the folder is of another layout.
    """
    for scenes in ([folder], _children(folder), _children(folder / "Replica")):
        found = tuple(Scan(path.resolve().name, path) for path in scenes if _is_scene(path))
        if found:
            return found
    return ()


def open_replica(scan: Scan, settings: ReaderSettings) -> Scene:
    """Read one scene; images stay on disk until they are asked for.

    Args:
        scan: of `find_replica`.
        settings: `image_size` (360, 640), `frame_step` 10, `depth_scale` of cam_params.json and
            `surface_file` the scene's mesh unless set; what has no meaning here must stay at its
            default.

    Raises:
        SceneError: something is missing, damaged, or does not fit together.
    """
    camera_file = _beside(scan.folder, _CAMERA)
    camera = _read_camera(camera_file)
    depth_scale = settings.depth_scale or camera.scale
    poses = _read_poses(scan.folder / _POSES)
    mesh = _mesh(scan, settings)
    surface = read_ply(mesh)
    check_mesh_extent(mesh, surface.points)
    step = settings.frame_step or FRAME_STEP
    images = _images(scan.folder / _IMAGES, len(poses))
    size = settings.image_size or IMAGE_SIZE
    frames: list[ResizedFrame] = []
    lost: list[str] = []
    missing: list[str] = []
    for number, color in images[::step]:
        depth = color.with_name(color.name.replace("frame", "depth")).with_suffix(".png")
        if not is_existing_file(depth):
            missing.append(color.stem)
            continue
        if not bool(torch.isfinite(poses[number]).all()):
            lost.append(color.stem)
            continue
        check_camera(f"{scan.folder / _POSES}: line {number + 1}", camera.intrinsics, poses[number])
        file_size = check_matching_sizes(camera_file, camera.intrinsics, color, depth)
        if file_size != camera.image_size:
            raise SceneError(
                f"{color}: is {file_size[1]} x {file_size[0]} pixels, {camera_file.name} is for "
                f"{camera.image_size[1]} x {camera.image_size[0]}; restore the original images"
            )
        frames.append(
            ResizedFrame(
                name=color.stem,
                image_size=size,
                intrinsics=resize_intrinsics_by_rule(
                    camera.intrinsics, file_size, size, settings.intrinsics
                ),
                camera_to_world=moved_pose(poses[number], surface.offset),
                image_path=color,
                depth_path=depth,
                file_size=file_size,
                depth_scale=depth_scale,
                resampling="linear",
            )
        )
    if not frames:
        raise SceneError(
            f"{scan.folder}: none of {len(lost) + len(missing)} images has both a depth image and "
            "a finite pose, expected at least one; restore the scene"
        )
    if lost or missing:
        _LOG.warning(
            "%s: left out %d frames without a finite pose and %d without a depth image",
            *(scan.name, len(lost), len(missing)),
        )
    return Scene(
        name=scan.name,
        points=surface.points,
        colors=surface.colors,
        normals=normalize_normals(surface.normals),
        faces=surface.faces if surface.faces is not None and len(surface.faces) else None,
        frames=tuple(frames),
        provenance={
            "reader": "replica",
            "source": str(scan.folder),
            "surface": mesh.name,
            "up": "z",
            **describe_way_back(surface.offset),
            "depth_scale": depth_scale,
            "frame_step": step,
            "intrinsics": settings.intrinsics,
            "skipped_frames": len(lost) + len(missing),
            "frames_without_pose": lost,
            "frames_without_file": missing,
        },
    )


REPLICA = Reader(
    f"{_IMAGES}/ and {_POSES} (Replica as NICE-SLAM renders it)",
    find_replica,
    open_replica,
    settings=_REFUSED,
)


def _children(folder: Path) -> list[Path]:
    return [child for child in entries_of(folder) if is_folder(child)]


def _is_scene(folder: Path) -> bool:
    """Also where one of its parts is missing."""
    parts = (
        is_existing_file(folder / _POSES),
        is_folder(folder / _IMAGES),
        is_existing_file(folder.resolve().parent / f"{folder.resolve().name}{_MESH}"),
        any(is_existing_file(parent / _CAMERA) for parent in (folder, folder.resolve().parent)),
    )
    return any(parts[:3]) and sum(parts) >= 2


def _beside(folder: Path, name: str) -> Path:
    """A file in the scene's folder or, as distributed, in the one above."""
    own = folder / name
    return own if is_existing_file(own) else folder.resolve().parent / name


def _mesh(scan: Scan, settings: ReaderSettings) -> Path:
    if settings.surface_file is not None:
        path = scan.folder / settings.surface_file
        if not is_existing_file(path):
            raise SceneError(f"{path}: no such file; correct or remove the setting `surface_file`")
        return path
    path = _beside(scan.folder, f"{scan.folder.resolve().name}{_MESH}")
    if not is_existing_file(path):
        raise SceneError(
            f"{path}: is missing, expected the scene's mesh beside its folder; restore the file or "
            "set `surface_file`"
        )
    return path


def _read_camera(path: Path) -> _Camera:
    content = read_json(path, "'camera' with w, h, fx, fy, cx, cy and scale", largest=1 << 20)
    camera = content.get("camera")
    numbers: dict[str, float] = {}
    for key in ("w", "h", "fx", "fy", "cx", "cy", "scale"):
        value = camera.get(key) if isinstance(camera, dict) else None
        number = _number(value)
        if not number > 0:
            fix = "restore the original file"
            if key in ("fx", "fy") and number < 0:
                fix = name_backwards(*((number, 1) if key == "fx" else (1, number)))
            raise SceneError(
                f"{path}: camera.{key} is {str(value)[:40]}, expected a number above 0; {fix}"
            )
        numbers[key] = number
    width, height = numbers["w"], numbers["h"]
    if width % 1 or height % 1 or max(width, height) > 1 << 20:
        raise SceneError(
            f"{path}: the images are {width:g} x {height:g} pixels, expected whole pixels; "
            "restore the original file"
        )
    intrinsics = torch.tensor(
        [
            [numbers["fx"], 0, numbers["cx"]],
            [0, numbers["fy"], numbers["cy"]],
            [0, 0, 1],
        ],
        dtype=torch.float64,
    )
    return _Camera(intrinsics, (int(height), int(width)), numbers["scale"])


def _number(value: object) -> float:
    """A JSON number of a size that cameras have; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if abs(value) < 1e9 else math.nan


def _read_poses(path: Path) -> Tensor:
    """Camera-to-world of every image, (P, 4, 4) float64; lost ones are not finite."""
    lines = read_rows(path, "a pose of 16 numbers a line")
    rows = [parse_numbers(f"{path}: line {number}", words, 16) for number, words in lines]
    if not rows:
        raise SceneError(f"{path}: has no poses, expected one a line; restore the original file")
    return torch.tensor(rows, dtype=torch.float64).view(-1, 4, 4)


def _images(folder: Path, poses: int) -> list[tuple[int, Path]]:
    """Number and colour file of every image, in order."""
    if not is_folder(folder):
        raise SceneError(
            f"{folder}: no such folder, expected frame<i>.jpg and depth<i>.png; restore the scene"
        )
    found = []
    for path in entries_of(folder):
        match = re.fullmatch(r"frame(\d{1,9})\.(jpg|png)", path.name)
        if match:
            found.append((int(match[1]), path))
    if not found:
        raise SceneError(f"{folder}: has no frame<i>.jpg; restore the images of the scene")
    found.sort()
    if len({number for number, _ in found}) < len(found):
        raise SceneError(
            f"{folder}: two files are the same image, expected frame<i>.jpg; remove one of each"
        )
    if found[-1][0] >= poses:
        raise SceneError(
            f"{folder.parent / _POSES}: has {poses} poses, {found[-1][1].name} needs "
            f"{found[-1][0] + 1}, expected one a line for each image; the file is truncated, "
            "restore it"
        )
    return found


def replica_files(scan: Scan) -> list[Path]:
    """The mesh and the camera lie beside or above the folder."""
    folder = scan.folder.resolve()
    above = [
        place / name
        for place in folder.parents[:3]
        for name in (f"{folder.name}_mesh.ply", "cam_params.json")
    ]
    return [scan.folder, *(path for path in above if is_existing_file(path))]
