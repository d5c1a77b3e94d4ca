"""Reader of folders of posed RGB-D frames.

    color/NAME.jpg|png      colour
    depth/NAME.png|npy      16-bit counts, `depth_scale` per metre; or metres as floating point
    pose/NAME.txt           4 x 4 camera-to-world, metres, +x right, +y down, +z forward
    intrinsics.txt          3 x 3 or 4 x 4, pixels, for colour and depth
    intrinsics_depth.txt    only where depth has another camera at the same place, or another size
    mesh.ply or cloud.ply   the surface; without one the depth images are fused into a cloud

Files belong together by their name without suffix and are taken in the order of the numbers in it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.scenes.checks.camera_checks import (
    MIDDLE,
    check_principal_point,
    principal_point_place,
    require_upright,
)
from pcdistill.scenes.checks.depth_limits import within_limit
from pcdistill.scenes.checks.pose_conventions import POSE_CONVENTIONS
from pcdistill.scenes.formats.images import COLOR_SUFFIXES, DEPTH_SUFFIXES, read_image_size
from pcdistill.scenes.frames import StoredFrame, check_camera
from pcdistill.scenes.issues import report_issue
from pcdistill.scenes.paths import entries_of, is_existing_file, is_folder
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Reader, Scan, refuse_all_but
from pcdistill.scenes.readers.capture.build_scene import build_scene
from pcdistill.scenes.readers.capture.camera_files import read_camera_matrix, read_matrix
from pcdistill.scenes.readers.capture.naming import find_scan_folders, natural_sort_key
from pcdistill.scenes.readers.capture.surface import load_checked_surface, surface_file
from pcdistill.scenes.scene import Scene
from pcdistill.scenes.units import DEPTH_SCALE

_LOG = logging.getLogger(__name__)


_FOLDERS = {"color": COLOR_SUFFIXES, "depth": DEPTH_SUFFIXES, "pose": (".txt",)}
_SURFACES = ("mesh.ply", "cloud.ply")


def is_rgbd_folder(folder: Path) -> bool:
    """Whether `folder` looks like posed RGB-D frames, perhaps with parts missing."""
    return is_folder(folder / "color") or is_folder(folder / "pose")


def find_rgbd(folder: Path) -> tuple[Scan, ...]:
    """The folder itself where it holds posed RGB-D frames, or those of its folders that do."""
    return find_scan_folders(folder, is_rgbd_folder)


def open_rgbd(scan: Scan, settings: ReaderSettings) -> Scene:
    """Read a folder of posed RGB-D frames; images stay on disk until they are asked for.

    Frames whose pose is not finite (lost tracking), or that lack a file, are left out, counted in
    the scene's provenance and logged.

    Raises:
        SceneError: something is missing, damaged, or does not fit together.
    """
    folder = scan.folder
    depth_scale = settings.depth_scale or DEPTH_SCALE
    files, incomplete = _match_files(folder)
    names = sorted(files["color"], key=natural_sort_key)[:: settings.frame_step or 1]
    intrinsics, depth_intrinsics = _read_cameras(folder)
    frames: list[StoredFrame] = []
    missing: list[str] = []
    for name in names:
        pose = read_matrix(files["pose"][name], (16,))
        if not torch.isfinite(pose).all():
            missing.append(name)
            continue
        check_camera(str(files["pose"][name]), intrinsics, pose)
        frames.append(
            StoredFrame(
                name=name,
                image_size=read_image_size(files["color"][name]),
                intrinsics=intrinsics,
                camera_to_world=POSE_CONVENTIONS[settings.pose_convention].read(pose),
                image_path=files["color"][name],
                depth_path=files["depth"][name],
                depth_scale=depth_scale,
                depth_intrinsics=depth_intrinsics,
            )
        )
    if not frames:
        raise SceneError(
            f"{folder / 'pose'}: none of the {len(names)} poses is finite, expected at least one "
            "rigid camera-to-world matrix; run the tracking again"
        )
    _require_one_size(folder, frames)
    frames = within_limit(folder, frames)
    if missing:
        _LOG.warning(
            "%s: %d of %d frames left out, their pose is not finite",
            folder,
            len(missing),
            len(names),
        )
    if incomplete:
        _LOG.warning("%s: %d frames left out, they lack a file", folder, len(incomplete))
    return _with_surface(scan, settings, frames, missing, incomplete)


def _with_surface(
    scan: Scan,
    settings: ReaderSettings,
    frames: list[StoredFrame],
    missing: list[str],
    incomplete: list[str],
) -> Scene:
    depth_scale = settings.depth_scale or DEPTH_SCALE
    named = _find_surface(scan, settings)
    surface, surface_name = load_checked_surface(scan, settings, named, frames, depth_scale)
    provenance: dict[str, Any] = {
        "reader": "rgbd",
        "surface": surface_name,
        "depth_scale": depth_scale,
        "frame_step": settings.frame_step or 1,
        "poses": settings.pose_convention,
        "skipped_frames": len(missing) + len(incomplete),
        "frames_without_pose": missing,
        "frames_without_file": incomplete,
    }
    return build_scene(scan, settings, frames, surface, up=settings.up_axis, provenance=provenance)


def _match_files(folder: Path) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """For color, depth and pose the file of each complete frame; and the incomplete frames."""
    files: dict[str, dict[str, Path]] = {}
    for kind, suffixes in _FOLDERS.items():
        place = folder / kind
        if not is_folder(place):
            raise SceneError(
                f"{place}: no such folder, expected one file per frame in each of color/, depth/ "
                "and pose/; add it"
            )
        files[kind] = {}
        for file in entries_of(place):
            if file.suffix.lower() not in suffixes or file.name.startswith("."):
                continue
            if file.stem in files[kind]:
                raise SceneError(
                    f"{place}: has both {files[kind][file.stem].name} and {file.name}, expected "
                    "one file per frame; remove one"
                )
            files[kind][file.stem] = file
        if not files[kind]:
            raise SceneError(
                f"{place}: has no {' or '.join(suffixes)} file, expected one per frame; add them"
            )
    every = set().union(*files.values())
    complete = set(files["color"]) & set(files["depth"]) & set(files["pose"])
    if not complete:
        examples = ", ".join(f"{kind}/{min(files[kind])}" for kind in files)
        raise SceneError(
            f"{folder}: no frame has colour, depth and pose under one name (there are {examples}), "
            "expected the same names in all three; rename the files"
        )
    matched = {kind: {name: files[kind][name] for name in complete} for kind in files}
    return matched, sorted(every - complete, key=natural_sort_key)


def _read_cameras(folder: Path) -> tuple[Tensor, Tensor | None]:
    file = folder / "intrinsics.txt"
    if not is_existing_file(file):
        raise SceneError(
            f"{file}: is missing, expected the 3 x 3 camera matrix in pixels; write it there"
        )
    intrinsics = read_camera_matrix(file)
    own = folder / "intrinsics_depth.txt"
    return intrinsics, read_camera_matrix(own) if is_existing_file(own) else None


def _require_one_size(folder: Path, frames: Sequence[StoredFrame]) -> None:
    first = frames[0]
    for frame in frames:
        if frame.image_size != first.image_size:
            raise SceneError(
                f"{frame.image_path}: is {_size(frame.image_size)} pixels, "
                f"{first.image_path.name} is {_size(first.image_size)}, expected one size for one "
                "camera matrix; give images of one size"
            )
        if frame.depth_path is None:
            continue
        if frame.depth_intrinsics is not None:
            own = folder / "intrinsics_depth.txt"
            check_principal_point(own, frame.depth_intrinsics, frame.depth_path)
            continue
        depth_size = read_image_size(frame.depth_path)
        if depth_size != frame.image_size:
            raise SceneError(
                f"{frame.depth_path}: is {_size(depth_size)} pixels but its image "
                f"{_size(frame.image_size)}, expected one size; add the depth camera's matrix as "
                "intrinsics_depth.txt or resize one of them"
            )
    center = principal_point_place(first.intrinsics, first.image_size)
    if max(center) < MIDDLE[0] or min(center) > MIDDLE[1]:
        guess = f"{2 * first.intrinsics[0, 2]:.0f} x {2 * first.intrinsics[1, 2]:.0f}"
        report_issue(
            "intrinsics",
            f"{folder / 'intrinsics.txt'}: its principal point is that of images of about {guess} "
            f"pixels, the images are {_size(first.image_size)}; scale the camera matrix to them",
        )
    require_upright(
        *(folder / "intrinsics.txt", first.intrinsics, first.image_size, first.image_path)
    )


def _size(image_size: tuple[int, int]) -> str:
    return f"{image_size[1]} x {image_size[0]}"


def _find_surface(scan: Scan, settings: ReaderSettings) -> Path | None:
    named = surface_file(scan, settings)
    if named is not None:
        return named
    found = [scan.folder / name for name in _SURFACES if is_existing_file(scan.folder / name)]
    if len(found) > 1:
        _LOG.warning(
            "%s: has %s, taking %s (`surface_file` names another)",
            *(scan.folder, " and ".join(path.name for path in found), found[0].name),
        )
    return next(iter(found), None)


RGBD = Reader(
    "color/ depth/ pose/ and intrinsics.txt (posed RGB-D frames)",
    find_rgbd,
    open_rgbd,
    settings=refuse_all_but(
        "depth_scale",
        "up_axis",
        "frame_step",
        "image_size",
        "pose_convention",
        "surface_file",
        "fuse_voxel_size",
    ),
)
