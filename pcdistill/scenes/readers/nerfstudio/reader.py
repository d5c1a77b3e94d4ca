"""Reader of nerfstudio (or Instant NGP) captures.

    transforms.json     fl_x fl_y cx cy w h, for all frames or each; or camera_angle_x
                        frames: file_path, transform_matrix, depth_file_path
                        ply_file_path, applied_transform, applied_scale,
                        depth_unit_scale_factor (or Instant NGP's integer_depth_scale, depth_path)
    images/ depths/     what the frames name; depth in 16-bit millimetres, or .npy
    colmap/sparse/0     its points are the cloud where there is neither `ply_file_path` nor depth

`transform_matrix` is camera-to-world with the camera looking along -z, y up. Both it and the cloud
of `ply_file_path` have `applied_transform` applied already, the points of the COLMAP model do not.
`applied_scale` was applied to the poses only, and is taken off them. Paths may be of another system
or machine. Of several files transforms*.json the one with most images is read.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import pinhole_intrinsics, resize_intrinsics
from pcdistill.scenes.checks.camera_checks import (
    check_depth_aspect,
    check_principal_point,
    require_size,
)
from pcdistill.scenes.checks.depth_checks import check_depth_unit
from pcdistill.scenes.checks.depth_limits import within_limit
from pcdistill.scenes.checks.pose_conventions import POSE_CONVENTIONS
from pcdistill.scenes.formats.images import COLOR_SUFFIXES, DEPTH_SUFFIXES, read_image_size
from pcdistill.scenes.formats.ply import Ply
from pcdistill.scenes.frames import StoredFrame, check_camera
from pcdistill.scenes.origin import near_origin
from pcdistill.scenes.paths import is_existing_file
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Reader, Scan, refuse_all_but
from pcdistill.scenes.readers.capture.build_scene import build_scene
from pcdistill.scenes.readers.capture.camera_files import validate_camera_matrix
from pcdistill.scenes.readers.capture.frame_checks import (
    CaptureFrame,
    check_frames,
    check_points_in_view,
    sample_depth_views,
)
from pcdistill.scenes.readers.capture.naming import find_scan_folders, unique_frame_names
from pcdistill.scenes.readers.capture.surface import load_or_fuse_surface, surface_file
from pcdistill.scenes.readers.colmap.model_choice import choose_model, find_models
from pcdistill.scenes.readers.colmap.reader import sparse_cloud
from pcdistill.scenes.readers.nerfstudio.files import (
    MARKS,
    matrix_in,
    named_file,
    number_in,
    positive_in,
    read_transforms,
)
from pcdistill.scenes.scene import Scene
from pcdistill.scenes.units import DEPTH_SCALE

_LOG = logging.getLogger(__name__)


_PINHOLES = (
    "PINHOLE",
    "SIMPLE_PINHOLE",
    "OPENCV",
    "FULL_OPENCV",
    "SIMPLE_RADIAL",
    "RADIAL",
    "PERSPECTIVE",
)
_DISTORTIONS = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "p3", "p4")
_DEPTHS = ("depth_file_path", "depth_path")  # the second is Instant NGP's
_UNDISTORT = (
    "undistort the images (`colmap image_undistorter --image_path images --input_path "
    "colmap/sparse/0 --output_path dense`) and give the folder dense"
)


@dataclass(frozen=True, eq=False)
class NerfstudioFrame(CaptureFrame):
    """A frame whose floating-point depth may be in another unit than metres."""

    float_scale: float = 1.0
    """Floating-point depth units per metre."""

    def file_depth(self, path: Path) -> Tensor:
        """(h, w) float32, metres, 0 = unknown."""
        depth = super().file_depth(path)
        return depth / self.float_scale if path.suffix.lower() == ".npy" else depth


def find_nerfstudio(folder: Path) -> tuple[Scan, ...]:
    """The folder itself where it has a transforms.json, or those of its folders that have."""
    return find_scan_folders(
        folder, lambda place: any(is_existing_file(place / mark) for mark in MARKS)
    )


def open_nerfstudio(scan: Scan, settings: ReaderSettings) -> Scene:
    """Read a nerfstudio capture; images stay on disk until they are asked for.

    The scale of a capture whose poses come from COLMAP is arbitrary; nothing in the file tells.

    Raises:
        SceneError: something is missing, damaged, distorted, or does not fit together.
    """
    folder = scan.folder
    file, content, entries, others = read_transforms(folder)
    entries = entries[:: settings.frame_step or 1]
    applied_scale = 1.0
    if "applied_scale" in content:
        what = "the factor by which the poses were scaled"
        applied_scale = positive_in(file, content, "applied_scale", what)
    frames: list[StoredFrame] = []
    images: list[tuple[str, Path]] = []
    missing = incomplete = 0
    paths = [entry["file_path"] for entry in entries]
    for name, entry in zip(unique_frame_names(paths), entries, strict=True):
        pose = matrix_in(file, name, entry.get("transform_matrix"))
        pose[:3, 3] /= applied_scale  # depth and clouds were not scaled with the poses
        image = named_file(folder, entry["file_path"], COLOR_SUFFIXES)
        if not torch.isfinite(pose).all():
            missing += 1
        elif image is None:
            incomplete += 1
        else:
            images.append((entry["file_path"], image))
            frames.append(_frame(file, {**content, **entry}, name, pose, image, settings))
    left_out = check_frames(file, frames, missing, incomplete)
    frames = within_limit(folder, frames)
    _require_different(file, images)
    masked = sum("mask_path" in entry for entry in entries)
    if masked:
        _LOG.warning("%s: the masks of %d frames are not used", file, masked)
    scale = _depth_scale(file, {**content, **entries[0]}, settings)[0]
    surface, surface_name, dropped = _surface(scan, file, content, frames, settings, scale)
    check_points_in_view(file, frames, surface)
    applied = content.get("applied_transform")
    if applied is not None or find_models(folder / "colmap"):
        _LOG.warning(
            "%s: the poses seem to come from COLMAP, whose unit is arbitrary; unless they were "
            "scaled to metres, voxel sizes and distances do not mean metres",
            folder,
        )
    provenance: dict[str, Any] = {
        "reader": "nerfstudio",
        "surface": surface_name,
        "unit": "as in the file; arbitrary where the poses come from COLMAP",
        "depth_scale": scale,
        "other_transforms": others,
        "applied_scale": applied_scale,
        "orientation_override": content.get("orientation_override"),
        "masks_ignored": masked,
        "frames_without_depth": sum(frame.depth_path is None for frame in frames),
        "dropped_points": dropped,
        **left_out,
    }
    return build_scene(scan, settings, frames, surface, up=settings.up_axis, provenance=provenance)


def _require_different(file: Path, images: list[tuple[str, Path]]) -> None:
    """Refuse paths of another machine of which two were taken for the same file."""
    seen: dict[Path, str] = {}
    for path, image in images:
        if seen.setdefault(image, path) != path:
            raise SceneError(
                f"{file}: '{seen[image][-80:]}' and '{path[-80:]}' were both taken for {image}, "
                "expected an image each; write paths relative to the file"
            )


def _frame(
    file: Path,
    camera: dict[str, Any],
    name: str,
    pose: Tensor,
    image: Path,
    settings: ReaderSettings,
) -> StoredFrame:
    """A frame, from what the file says of all frames and of this one."""
    image_size = read_image_size(image)
    _refuse_distortion(file, camera)
    if "w" in camera and "h" in camera:
        declared = int(number_in(file, camera, "h")), int(number_in(file, camera, "w"))
        if declared != image_size:
            require_size(file, declared, image)
    intrinsics = validate_camera_matrix(file, _intrinsics(file, camera, image_size))
    check_principal_point(file, intrinsics, image)
    check_camera(f"{file}: frame {name}", intrinsics, pose)
    depth = next((camera[key] for key in _DEPTHS if isinstance(camera.get(key), str)), None)
    depth_path = None
    depth_intrinsics = depth_size = None
    if depth is not None:
        depth_path = named_file(file.parent, depth, DEPTH_SUFFIXES)
        if depth_path is None:
            raise SceneError(
                f"{file.parent / depth}: is the depth of {image.name} and no "
                f"{' or '.join(DEPTH_SUFFIXES)} file that is there, expected one; restore it or "
                "remove 'depth_file_path'"
            )
        depth_size = read_image_size(depth_path)
        check_depth_aspect(depth_path, depth_size, image_size, "register the depth to the image")
        depth_intrinsics = resize_intrinsics(intrinsics, image_size, depth_size)
    scale = _depth_scale(file, camera, settings)
    return NerfstudioFrame(
        name=name,
        image_size=image_size,
        intrinsics=intrinsics,
        camera_to_world=POSE_CONVENTIONS["camera_to_world_opengl"].read(pose),
        image_path=image,
        depth_path=depth_path,
        depth_scale=scale[0],
        depth_intrinsics=depth_intrinsics,
        depth_size=depth_size,
        float_scale=scale[1],
    )


def _refuse_distortion(file: Path, camera: dict[str, Any]) -> None:
    model = camera.get("camera_model", "OPENCV")
    bent = [key for key in _DISTORTIONS if key in camera and number_in(file, camera, key) != 0]
    listed = camera.get("distortion_params")
    if listed is not None and (not isinstance(listed, list) or any(value != 0 for value in listed)):
        bent.append("distortion_params")
    if str(model).upper() not in _PINHOLES or bent or camera.get("is_fisheye") is True:
        found = f"a {str(model)[:40]} camera" + (f" with {', '.join(bent)}" if bent else "")
        raise SceneError(
            f"{file}: has {found}, expected a pinhole without lens distortion; {_UNDISTORT}"
        )


def _intrinsics(file: Path, camera: dict[str, Any], image_size: tuple[int, int]) -> Tensor:
    """Camera matrix; the file counts pixels from their corner, we from their centre."""
    height, width = image_size
    if "fl_x" in camera:
        fx = number_in(file, camera, "fl_x")
    elif "camera_angle_x" in camera:
        fx = _focal_length(file, camera, "camera_angle_x", width)
    else:
        raise SceneError(
            f"{file}: has neither 'fl_x' nor 'camera_angle_x', expected a focal length in pixels; "
            "process the capture again"
        )
    fy = fx
    if "fl_y" in camera:
        fy = number_in(file, camera, "fl_y")
    elif "fl_x" not in camera and "camera_angle_y" in camera:
        fy = _focal_length(file, camera, "camera_angle_y", height)
    cx = number_in(file, camera, "cx") if "cx" in camera else width / 2
    cy = number_in(file, camera, "cy") if "cy" in camera else height / 2
    return pinhole_intrinsics(fx, fy, cx - 0.5, cy - 0.5)


def _focal_length(file: Path, camera: dict[str, Any], key: str, side: int) -> float:
    """Pixels, from the angle of view over a side of the image."""
    angle = number_in(file, camera, key)
    if not 0 < angle < math.pi:
        raise SceneError(
            f"{file}: '{key}' is {angle:g}, expected radians between 0 and 3.14; process the "
            "capture again"
        )
    return 0.5 * side / math.tan(0.5 * angle)


def _depth_scale(
    file: Path, content: dict[str, Any], settings: ReaderSettings
) -> tuple[float, float]:
    """Units per metre of 16-bit depth, and of floating-point depth."""
    if settings.depth_scale is not None:
        return settings.depth_scale, settings.depth_scale
    if "depth_unit_scale_factor" in content:
        what = "metres per unit such as 0.001"
        factor = positive_in(file, content, "depth_unit_scale_factor", what)
        return 1 / factor, 1 / factor
    if "integer_depth_scale" in content:  # Instant NGP's, of integers only
        what = "metres per count such as 0.001"
        return 1 / positive_in(file, content, "integer_depth_scale", what), 1.0
    return DEPTH_SCALE, 1.0


def _surface(
    scan: Scan,
    file: Path,
    content: dict[str, Any],
    frames: list[StoredFrame],
    settings: ReaderSettings,
    depth_scale: float,
) -> tuple[Ply, str, int]:
    """The cloud, its name, and how many sparse points were left out."""
    folder = scan.folder
    named = surface_file(scan, settings)
    declared = content.get("ply_file_path")
    if named is None and isinstance(declared, str):
        named = named_file(folder, declared, (".ply",))
        if named is None:
            raise SceneError(
                f"{folder / declared}: no such file, expected the cloud that {file.name} names; "
                "restore it or remove 'ply_file_path'"
            )
    views = sample_depth_views(frames)
    if views:
        check_depth_unit(folder, views, depth_scale)
    found = load_or_fuse_surface(folder, named, frames, settings)
    if found is not None:
        return *found, 0
    sparse, dropped = None, 0
    if models := find_models(folder / "colmap"):
        chosen, _ = choose_model(folder, models)
        sparse, dropped = sparse_cloud(chosen.folder, chosen.suffix)
    if sparse is None:
        raise SceneError(
            f"{folder}: has neither depth nor a cloud, expected 'depth_file_path' of each frame, "
            "'ply_file_path' or colmap/sparse/0; add one, or name a cloud with `surface_file`"
        )
    return _applied(file, content, sparse), "sparse points", dropped


def _applied(file: Path, content: dict[str, Any], sparse: Ply) -> Ply:
    applied = content.get("applied_transform")
    if applied is None:
        return sparse
    matrix = matrix_in(file, "applied_transform", applied)
    moved = (sparse.points.double() + sparse.offset) @ matrix[:3, :3].T + matrix[:3, 3]
    points, offset = near_origin(moved)
    return Ply(points, sparse.colors, offset=offset)


NERFSTUDIO = Reader(
    "transforms.json (a nerfstudio or Instant NGP capture)",
    find_nerfstudio,
    open_nerfstudio,
    settings=refuse_all_but(
        "depth_scale", "up_axis", "frame_step", "image_size", "surface_file", "fuse_voxel_size"
    ),
)
