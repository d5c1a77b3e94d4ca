"""A nerfstudio (or Instant NGP) capture as a scene.

    transforms.json     fl_x fl_y cx cy w h, for all frames or each; or camera_angle_x
                        frames: file_path, transform_matrix, depth_file_path
                        ply_file_path, applied_transform, depth_unit_scale_factor
    images/ depths/     what the frames name; depth in 16-bit millimetres, or .npy
    colmap/sparse/0     its points are the cloud where there is neither `ply_file_path` nor depth

`transform_matrix` is camera-to-world with the camera looking along -z, y up. Both it and the cloud
of `ply_file_path` have `applied_transform` applied already, the points of the COLMAP model do not.
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
from pcdistill.geometry import scale_intrinsics
from pcdistill.scenes.camera_files import (
    checked_camera_matrix,
    pinhole,
    require_center,
    require_one_shape,
    require_size,
)
from pcdistill.scenes.capture import (
    CaptureFrame,
    build_scene,
    frame_names,
    named_surface,
    require_fit,
    require_frames,
    require_points_in_view,
    require_unset,
    spread_views,
)
from pcdistill.scenes.capture_surface import read_or_fuse
from pcdistill.scenes.colmap import sparse_cloud
from pcdistill.scenes.colmap_model import is_colmap_model
from pcdistill.scenes.consistency import POSE_CONVENTIONS
from pcdistill.scenes.frames import StoredFrame, check_camera
from pcdistill.scenes.images import COLOR_SUFFIXES, DEPTH_SUFFIXES, image_size_of
from pcdistill.scenes.origin import near_origin
from pcdistill.scenes.paths import is_there, scans_below
from pcdistill.scenes.plausibility import require_metres
from pcdistill.scenes.ply import Ply
from pcdistill.scenes.reading import Reader, ReadSettings, Scan
from pcdistill.scenes.scene import Scene
from pcdistill.scenes.text_files import read_json

_LOG = logging.getLogger(__name__)

DEPTH_SCALE = 1000.0
"""Counts per metre of depth PNGs where neither file nor settings say otherwise."""

_PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
_DISTORTIONS = ("k1", "k2", "k3", "k4", "p1", "p2")
_SETTINGS = ("depth_scale", "up", "frame_step", "image_size", "geometry", "fuse_voxel_size")
_UNDISTORT = (
    "undistort the images (`colmap image_undistorter --image_path images --input_path "
    "colmap/sparse/0 --output_path dense`) and give the folder dense"
)


@dataclass(frozen=True, eq=False)
class NerfstudioFrame(CaptureFrame):
    """A frame whose floating-point depth may be in another unit than metres."""

    float_scale: float = 1.0
    """Floating-point depth units per metre."""

    def depth(self) -> Tensor | None:
        """(H, W) float32, metres, 0 = unknown; None without depth."""
        depth = super().depth()
        if depth is None or self.depth_path is None or self.depth_path.suffix != ".npy":
            return depth
        return depth / self.float_scale


def find_nerfstudio(folder: Path) -> tuple[Scan, ...]:
    """The folder itself where it has a transforms.json, or those of its folders that have."""
    return scans_below(folder, lambda place: is_there(place / "transforms.json"))


def open_nerfstudio(scan: Scan, settings: ReadSettings) -> Scene:
    """Read a nerfstudio capture; images stay on disk until they are asked for.

    The scale of a capture whose poses come from COLMAP is arbitrary; nothing in the file tells.

    Raises:
        SceneError: something is missing, damaged, distorted, or does not fit together.
        ConfigError: a setting has no meaning here.
    """
    require_unset(scan, settings, *_SETTINGS)
    folder = scan.folder
    file = folder / "transforms.json"
    content = read_json(file, "cameras and frames of a nerfstudio capture")
    entries = _entries(file, content)
    entries = entries[:: settings.frame_step or 1]
    scale = _depth_scale(file, content, settings)
    frames: list[StoredFrame] = []
    lost = incomplete = 0
    paths = [entry["file_path"] for entry in entries]
    for name, entry in zip(frame_names(paths), entries, strict=True):
        pose = _matrix(file, name, entry.get("transform_matrix"), (4,))
        image = _image_file(folder, entry["file_path"])
        if not torch.isfinite(pose).all():
            lost += 1
        elif image is None:
            incomplete += 1
        else:
            frames.append(_frame(file, content, entry, name, pose, image, scale))
    left_out = require_frames(file, frames, lost, incomplete)
    surface, surface_name, dropped = _surface(scan, content, frames, settings, scale[0])
    require_points_in_view(file, frames, surface)
    applied = content.get("applied_transform")
    if applied is not None or is_colmap_model(folder / "colmap/sparse/0"):
        _LOG.warning(
            "%s: the poses seem to come from COLMAP, whose unit is arbitrary; unless they were "
            "scaled to metres, voxel sizes and distances do not mean metres",
            folder,
        )
    provenance: dict[str, Any] = {
        "reader": "nerfstudio",
        "surface": surface_name,
        "unit": "as in the file; arbitrary where the poses come from COLMAP",
        "depth_scale": scale[0],
        "frames_without_depth": sum(frame.depth_path is None for frame in frames),
        "dropped_points": dropped,
        **left_out,
    }
    return build_scene(scan, settings, frames, surface, up=settings.up, provenance=provenance)


def _entries(file: Path, content: dict[str, Any]) -> list[dict[str, Any]]:
    entries = content.get("frames")
    if not isinstance(entries, list) or not entries:
        raise SceneError(
            f"{file}: has no list 'frames', expected file_path and transform_matrix of each; "
            "process the capture again"
        )
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
            raise SceneError(
                f"{file}: frame {place} has no 'file_path', expected the path of its image; "
                "process the capture again"
            )
    return sorted(entries, key=lambda entry: str(entry["file_path"]))


def _frame(
    file: Path,
    content: dict[str, Any],
    entry: dict[str, Any],
    name: str,
    pose: Tensor,
    image: Path,
    scale: tuple[float, float],
) -> StoredFrame:
    camera = {**content, **entry}
    image_size = image_size_of(image)
    _refuse_distortion(file, camera)
    if "w" in camera and "h" in camera:
        declared = int(_number(file, camera, "h")), int(_number(file, camera, "w"))
        if declared != image_size:
            require_size(file, declared, image)
    intrinsics = checked_camera_matrix(file, _intrinsics(file, camera, image_size))
    require_center(file, intrinsics, image)
    check_camera(f"{file}: frame {name}", intrinsics, pose)
    depth = entry.get("depth_file_path")
    depth_path = None
    depth_intrinsics = depth_size = None
    if isinstance(depth, str):
        depth_path = file.parent / depth
        if not is_there(depth_path) or depth_path.suffix.lower() not in DEPTH_SUFFIXES:
            raise SceneError(
                f"{depth_path}: is the depth of {image.name} and no {' or '.join(DEPTH_SUFFIXES)} "
                "file that is there, expected one; restore it or remove 'depth_file_path'"
            )
        depth_size = image_size_of(depth_path)
        require_one_shape(depth_path, depth_size, image_size, "register the depth to the image")
        depth_intrinsics = scale_intrinsics(intrinsics, image_size, depth_size)
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


def _image_file(folder: Path, path: str) -> Path | None:
    places = [folder / path, *(folder / f"{path}{suffix}" for suffix in COLOR_SUFFIXES)]
    known = (place for place in places if place.suffix.lower() in COLOR_SUFFIXES)
    return next((place for place in known if is_there(place)), None)


def _number(file: Path, camera: dict[str, Any], key: str) -> float:
    value = camera.get(key)
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise SceneError(
            f"{file}: '{key}' is {str(value)[:40]}, expected a number; process the capture again"
        )
    return number


def _refuse_distortion(file: Path, camera: dict[str, Any]) -> None:
    model = camera.get("camera_model", "OPENCV")
    bent = [key for key in _DISTORTIONS if key in camera and _number(file, camera, key) != 0]
    if model not in _PINHOLES or bent or camera.get("is_fisheye") is True:
        found = f"a {str(model)[:40]} camera" + (f" with {', '.join(bent)}" if bent else "")
        raise SceneError(
            f"{file}: has {found}, expected a pinhole without lens distortion; {_UNDISTORT}"
        )


def _intrinsics(file: Path, camera: dict[str, Any], image_size: tuple[int, int]) -> Tensor:
    """Camera matrix; the file counts pixels from their corner, we from their centre."""
    height, width = image_size
    if "fl_x" in camera:
        fx = _number(file, camera, "fl_x")
    elif "camera_angle_x" in camera:
        angle = _number(file, camera, "camera_angle_x")
        if not 0 < angle < math.pi:
            raise SceneError(
                f"{file}: 'camera_angle_x' is {angle:g}, expected radians between 0 and 3.14; "
                "process the capture again"
            )
        fx = 0.5 * width / math.tan(0.5 * angle)
    else:
        raise SceneError(
            f"{file}: has neither 'fl_x' nor 'camera_angle_x', expected a focal length in pixels; "
            "process the capture again"
        )
    fy = _number(file, camera, "fl_y") if "fl_y" in camera else fx
    cx = _number(file, camera, "cx") if "cx" in camera else width / 2
    cy = _number(file, camera, "cy") if "cy" in camera else height / 2
    return pinhole(fx, fy, cx - 0.5, cy - 0.5)


def _matrix(file: Path, name: str, rows: Any, heights: tuple[int, ...]) -> Tensor:
    """(rows, 4) float64; numbers may be NaN or infinite."""
    try:
        matrix = torch.tensor(rows, dtype=torch.float64)
        if matrix.ndim != 2 or matrix.shape[0] not in heights or matrix.shape[1] != 4:
            raise ValueError(f"is {tuple(matrix.shape)}")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise SceneError(
            f"{file}: the matrix of {name} {str(error)[:60]}, expected {heights[0]} rows of 4 "
            "numbers; process the capture again"
        ) from error
    return matrix


def _depth_scale(
    file: Path, content: dict[str, Any], settings: ReadSettings
) -> tuple[float, float]:
    """Units per metre of 16-bit depth, and of floating-point depth."""
    if settings.depth_scale is not None:
        return settings.depth_scale, settings.depth_scale
    if "depth_unit_scale_factor" in content:
        factor = _number(file, content, "depth_unit_scale_factor")
        if not 1e-6 < factor < 1e6:
            raise SceneError(
                f"{file}: 'depth_unit_scale_factor' is {factor:g}, expected metres per unit such "
                "as 0.001; process the capture again"
            )
        return 1 / factor, 1 / factor
    return DEPTH_SCALE, 1.0


def _surface(
    scan: Scan,
    content: dict[str, Any],
    frames: list[StoredFrame],
    settings: ReadSettings,
    depth_scale: float,
) -> tuple[Ply, str, int]:
    """The cloud, its name, and how many sparse points were left out."""
    folder = scan.folder
    named = named_surface(scan, settings)
    declared = content.get("ply_file_path")
    if named is None and isinstance(declared, str):
        named = folder / declared
        if not is_there(named):
            raise SceneError(
                f"{named}: no such file, expected the cloud that transforms.json names; restore it "
                "or remove 'ply_file_path'"
            )
    views = spread_views(frames)
    if views:
        require_metres(folder, views, depth_scale)
    found = read_or_fuse(folder, named, frames, settings)
    if found is not None:
        if named is not None:
            require_fit(folder, views, *found, poses="camera_to_world_opengl")
        return *found, 0
    model = folder / "colmap/sparse/0"
    sparse, dropped = sparse_cloud(model) if is_colmap_model(model) else (None, 0)
    if sparse is None:
        raise SceneError(
            f"{folder}: has neither depth nor a cloud, expected 'depth_file_path' of each frame, "
            "'ply_file_path' or colmap/sparse/0; add one, or name a cloud with `geometry`"
        )
    return _applied(folder, content, sparse), "sparse points", dropped


def _applied(folder: Path, content: dict[str, Any], sparse: Ply) -> Ply:
    applied = content.get("applied_transform")
    if applied is None:
        return sparse
    matrix = _matrix(folder / "transforms.json", "applied_transform", applied, (3, 4))
    moved = (sparse.points.double() + sparse.offset) @ matrix[:3, :3].T + matrix[:3, 3]
    points, offset = near_origin(moved)
    return Ply(points, sparse.colors, offset=offset)


NERFSTUDIO = Reader(
    "transforms.json (a nerfstudio or Instant NGP capture)", find_nerfstudio, open_nerfstudio
)
