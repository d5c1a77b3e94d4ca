"""Reader of ScanNet++ scans as they are downloaded and prepared by its toolkit.

    data/SCENE/
      scans/mesh_aligned_0.05.ply                the mesh, metres, z up
      scans/segments.json                        segment of each vertex
      scans/segments_anno.json                   objects: name and segments
      dslr/resized_undistorted_images/           pinhole images that the toolkit writes
      dslr/nerfstudio/transforms_undistorted.json    their camera, and which are blurred (is_bad)
      dslr/colmap/images.txt                     their poses in the coordinates of the mesh
      iphone/rgb/frame_000000.jpg                images of the video, extracted by the toolkit
      iphone/depth/frame_000000.png              16-bit millimetres, 256 x 192; where extracted
      iphone/pose_intrinsic_imu.json             intrinsic and aligned_pose (camera-to-world, in the
                                                 coordinates of the mesh) of each frame

Frames are the undistorted DSLR images where there are some, else those of the iPhone; SCENE/dslr or
SCENE/iphone as the path takes that one. The poses of the DSLR come from COLMAP and not from
transforms_undistorted.json, whose world is turned. DSLR images have no depth: the mesh hides.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import pinhole_intrinsics, resize_intrinsics
from pcdistill.scenes.checks.camera_checks import check_principal_point, require_size
from pcdistill.scenes.checks.depth_checks import check_depth_unit
from pcdistill.scenes.checks.depth_limits import within_limit
from pcdistill.scenes.formats.images import COLOR_SUFFIXES, read_image_size
from pcdistill.scenes.formats.text import read_json
from pcdistill.scenes.frames import StoredFrame
from pcdistill.scenes.paths import entries_of, is_existing_file, is_folder
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Reader, Scan, refuse_all_but
from pcdistill.scenes.readers.capture.build_scene import build_scene
from pcdistill.scenes.readers.capture.camera_files import validate_camera_matrix
from pcdistill.scenes.readers.capture.frame_checks import (
    CaptureFrame,
    check_frames,
    check_points_in_view,
    sample_depth_views,
    video_frame_step,
)
from pcdistill.scenes.readers.capture.naming import find_scan_folders, natural_sort_key
from pcdistill.scenes.readers.capture.surface import read_whole_surface, surface_file
from pcdistill.scenes.readers.colmap.model import read_images
from pcdistill.scenes.readers.scannet.annotations import object_instances, read_objects
from pcdistill.scenes.scene import Scene
from pcdistill.scenes.units import DEPTH_SCALE

_LOG = logging.getLogger(__name__)

MAX_SIDE = 960
"""Pixels; where `image_size` is not set, images are shrunk by a whole factor to at most this."""

Camera = Literal["dslr", "iphone"]

_MESH = "scans/mesh_aligned_0.05.ply"
_SEGMENTS = "scans/segments.json"
_OBJECTS = "scans/segments_anno.json"
_DSLR_IMAGES = "dslr/resized_undistorted_images"
_DSLR_CAMERA = "dslr/nerfstudio/transforms_undistorted.json"
_IPHONE_POSES = "iphone/pose_intrinsic_imu.json"
_MARKS = (_MESH, _OBJECTS, _IPHONE_POSES, "dslr/train_test_lists.json")
_MAX_POSES = 128 << 20  # bytes; a frame takes about 1.5 kB
_DISTORTIONS = ("k1", "k2", "k3", "k4", "p1", "p2")
_UNDISTORT = "write them with `python -m dslr.undistort` of the ScanNet++ toolkit"
_EXTRACT = "extract them with `python -m iphone.prepare_iphone_data` of the ScanNet++ toolkit"
_AGAIN = "download the file again"


class _Frames(NamedTuple):
    """Frames of one camera, and what was left out."""

    frames: list[StoredFrame]
    missing: int
    incomplete: int
    bad: int


def find_scannetpp(folder: Path) -> tuple[Scan, ...]:
    """The folder itself where it is a scan or a scan's camera, or the scans in it or its data/."""
    own = folder.resolve()
    if own.name in ("dslr", "iphone") and _is_scan(own.parent):
        return (Scan(own.parent.name, own.parent, own.name),)
    found = find_scan_folders(folder, _is_scan)
    return found or find_scan_folders(folder / "data", _is_scan)


def _is_scan(folder: Path) -> bool:
    return any(is_existing_file(folder / mark) for mark in _MARKS)


def open_scannetpp(scan: Scan, settings: ReaderSettings) -> Scene:
    """Read one scan of ScanNet++; images stay on disk until they are asked for.

    Objects become instances; their names (over a thousand) are not mapped to a label set. Frames
    without an image or pose, and those marked as blurred, are left out and counted.

    Raises:
        SceneError: something is missing, damaged, or does not fit together.
    """
    folder = scan.folder
    camera = _camera_of(scan)
    found = _dslr(folder, settings) if camera == "dslr" else _iphone(scan, settings)
    where = folder / (_DSLR_CAMERA if camera == "dslr" else _IPHONE_POSES)
    check_frames(where, found.frames, found.missing, found.incomplete)
    found = found._replace(frames=within_limit(folder, found.frames))
    named = surface_file(scan, settings)
    mesh_file = folder / _MESH if named is None else named
    mesh = read_whole_surface(mesh_file)
    views = sample_depth_views(found.frames)
    if views:
        check_depth_unit(folder / "iphone/depth", views, settings.depth_scale or DEPTH_SCALE)
    check_points_in_view(where, found.frames, mesh)
    instances, notes = None, dict[str, Any]()
    if named is None:
        instances, notes = _instances(folder, len(mesh.points))
    provenance: dict[str, Any] = {
        "reader": "scannetpp",
        "surface": mesh_file.name,
        "images": camera,
        "skipped_frames": found.missing + found.incomplete + found.bad,
        "frames_without_pose": found.missing,
        "frames_without_file": found.incomplete,
        "frames_marked_bad": found.bad,
        "frames_without_depth": sum(frame.depth_path is None for frame in found.frames),
        **notes,
    }
    size = settings.image_size or _shrunk(found.frames[0].image_size)
    settings = replace(settings, image_size=size)
    scene = build_scene(scan, settings, found.frames, mesh, up="z", provenance=provenance)
    return replace(scene, instances=instances)


def _camera_of(scan: Scan) -> Camera:
    if scan.part == "dslr" or (not scan.part and is_folder(scan.folder / _DSLR_IMAGES)):
        return "dslr"
    if scan.part == "iphone" or is_folder(scan.folder / "iphone/rgb"):
        return "iphone"
    raise SceneError(
        f"{scan.folder}: has neither {_DSLR_IMAGES} nor iphone/rgb, expected pinhole images or "
        f"those of the video; {_UNDISTORT}"
    )


def _shrunk(image_size: tuple[int, int]) -> tuple[int, int]:
    factor = -(-max(image_size) // MAX_SIDE)
    return max(image_size[0] // factor, 1), max(image_size[1] // factor, 1)


def _dslr(folder: Path, settings: ReaderSettings) -> _Frames:
    file = folder / _DSLR_CAMERA
    place = folder / _DSLR_IMAGES
    if not is_folder(place):
        raise SceneError(f"{place}: is missing, expected undistorted images; {_UNDISTORT}")
    content = read_json(file, "the camera of undistorted images; " + _UNDISTORT)
    image_size, intrinsics = _dslr_camera(file, content)
    bad = _bad_images(file, content)
    frames: list[StoredFrame] = []
    missing = incomplete = left_out = 0
    for image in read_images(folder / "dslr/colmap")[:: settings.frame_step or 1]:
        name = image.name.replace("\\", "/").rpartition("/")[2]
        path = place / name
        if name in bad:
            left_out += 1
        elif not torch.isfinite(image.camera_to_world).all():
            missing += 1
        elif path.suffix.lower() not in COLOR_SUFFIXES or not is_existing_file(path):
            incomplete += 1
        else:
            require_size(file, image_size, path)
            frames.append(
                CaptureFrame(path.stem, image_size, intrinsics, image.camera_to_world, path)
            )
    if frames:
        check_principal_point(file, intrinsics, frames[0].image_path)
    return _Frames(frames, missing, incomplete, left_out)


def _dslr_camera(file: Path, content: Mapping[str, Any]) -> tuple[tuple[int, int], Tensor]:
    """(H, W) and the camera matrix; the file counts pixels from their corner."""
    values = [_number(file, content, key) for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")]
    model = content.get("camera_model", "PINHOLE")
    bent = [key for key in _DISTORTIONS if key in content and _number(file, content, key) != 0]
    if model not in ("PINHOLE", "OPENCV") or bent:
        raise SceneError(
            f"{file}: has a {str(model)[:40]} camera with {', '.join(bent) or 'a bent lens'}, "
            f"expected a pinhole for undistorted images; {_UNDISTORT}"
        )
    fx, fy, cx, cy, width, height = values
    if not (1 <= width <= 1e5 and 1 <= height <= 1e5) or width % 1 or height % 1:
        raise SceneError(
            f"{file}: has images of {width:g} x {height:g} pixels, expected their size; {_AGAIN}"
        )
    matrix = validate_camera_matrix(file, pinhole_intrinsics(fx, fy, cx - 0.5, cy - 0.5))
    return (int(height), int(width)), matrix


def _bad_images(file: Path, content: Mapping[str, Any]) -> set[str]:
    """Names of the images that are marked as blurred."""
    bad = set()
    for key in ("frames", "test_frames"):
        entries = content.get(key, [])
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise SceneError(f"{file}: '{key}' is no list of frames, expected one; {_AGAIN}")
        bad |= {str(entry.get("file_path")) for entry in entries if entry.get("is_bad") is True}
    return bad


def _iphone(scan: Scan, settings: ReaderSettings) -> _Frames:
    file = scan.folder / _IPHONE_POSES
    place = scan.folder / "iphone/rgb"
    if not is_folder(place):
        raise SceneError(f"{place}: is missing, expected the images of the video; {_EXTRACT}")
    images: dict[str, Path] = {}
    for path in entries_of(place):
        if path.suffix.lower() in COLOR_SUFFIXES and not path.name.startswith("."):
            images.setdefault(path.stem, path)
    if not images:
        raise SceneError(f"{place}: has no image, expected those of the video; {_EXTRACT}")
    what = "intrinsic and aligned_pose of each frame"
    content = read_json(file, what, largest=_MAX_POSES)
    names = sorted(images, key=natural_sort_key)
    frames: list[StoredFrame] = []
    missing = incomplete = 0
    for name in names[:: video_frame_step(scan, settings, len(names))]:
        entry = content.get(name)
        if entry is None:
            missing += 1
            continue
        if not isinstance(entry, dict):
            raise SceneError(f"{file}: {name[:40]} is no object, expected {what}; {_AGAIN}")
        pose = _matrix(file, name, entry, "aligned_pose", 4)
        if not torch.isfinite(pose).all():
            missing += 1
            continue
        intrinsics = validate_camera_matrix(file, _matrix(file, name, entry, "intrinsic", 3))
        frames.append(_iphone_frame(file, images[name], intrinsics, pose, settings))
    return _Frames(frames, missing, incomplete, 0)


def _iphone_frame(
    file: Path, image: Path, intrinsics: Tensor, pose: Tensor, settings: ReaderSettings
) -> StoredFrame:
    image_size = check_principal_point(file, intrinsics, image)
    depth = image.parents[1] / "depth" / f"{image.stem}.png"
    depth_path = depth_size = None
    if is_existing_file(depth):
        depth_path, depth_size = depth, read_image_size(depth)
        if abs(depth_size[0] * image_size[1] / (depth_size[1] * image_size[0]) - 1) > 0.05:
            raise SceneError(
                f"{depth}: is {depth_size[1]} x {depth_size[0]} pixels, its image {image_size[1]} "
                f"x {image_size[0]}, expected one shape; {_EXTRACT}"
            )
    return CaptureFrame(
        name=image.stem,
        image_size=image_size,
        intrinsics=intrinsics,
        camera_to_world=pose,
        image_path=image,
        depth_path=depth_path,
        depth_scale=settings.depth_scale or DEPTH_SCALE,
        depth_intrinsics=None
        if depth_size is None
        else resize_intrinsics(intrinsics, image_size, depth_size),
        depth_size=depth_size,
    )


def _instances(folder: Path, count: int) -> tuple[Tensor | None, dict[str, Any]]:
    """(N,) int32 objects and notes for the provenance; none of a scan of the test split."""
    objects, segments = folder / _OBJECTS, folder / _SEGMENTS
    if not is_existing_file(objects):
        _LOG.info("%s: has no annotated objects", folder)
        return None, {}
    found = read_objects(objects, segments, count)
    return object_instances(found), {
        "objects": len(found.ids),
        "absent_segments": found.absent_segments,
    }


def _number(file: Path, content: Mapping[str, Any], key: str) -> float:
    value = content.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9:
        return float(value)
    raise SceneError(f"{file}: '{key}' is {str(value)[:40]}, expected a number; {_AGAIN}")


def _matrix(file: Path, name: str, entry: Mapping[str, Any], key: str, side: int) -> Tensor:
    """(side, side) float64; numbers may be NaN or infinite."""
    try:
        return torch.tensor(entry.get(key), dtype=torch.float64).reshape(side, side)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise SceneError(
            f"{file}: '{key}' of {name[:40]} is {str(entry.get(key))[:40]}, expected {side} rows "
            f"of {side} numbers; {_AGAIN}"
        ) from error


SCANNETPP = Reader(
    "scans/mesh_aligned_0.05.ply with dslr/ or iphone/ (a scan of ScanNet++)",
    find_scannetpp,
    open_scannetpp,
    settings=refuse_all_but("depth_scale", "frame_step", "image_size", "surface_file"),
)
