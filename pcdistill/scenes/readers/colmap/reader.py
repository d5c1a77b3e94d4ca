"""Reader of COLMAP reconstructions.

    images/                       the undistorted images
    sparse/0/ (or sparse/)        cameras, images, points3D as .bin or .txt; pinhole cameras only
    stereo/depth_maps/            NAME.geometric.bin of dense stereo, where it was run
    depth/NAME.png|npy            or depth images of your own, in the model's unit
    fused.ply                     the dense cloud, where there is one

There may be several models: sparse/0, sparse/1, ..., and the same below dense/ or dense/0/, whose
images are undistorted. The one with most images is read, undistorted ones first. Without a dense
cloud the depth is fused, without depth the sparse points are the cloud. COLMAP's unit is arbitrary:
sizes in metres (voxels, tolerances) fit only a model that was brought to metres.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import resize_intrinsics
from pcdistill.scenes.checks.camera_checks import check_depth_aspect, require_size, require_upright
from pcdistill.scenes.checks.depth_limits import within_limit
from pcdistill.scenes.checks.strays import clean_surface
from pcdistill.scenes.formats.images import read_image_size
from pcdistill.scenes.formats.ply import Ply
from pcdistill.scenes.frames import StoredFrame
from pcdistill.scenes.origin import near_origin
from pcdistill.scenes.paths import is_existing_file, is_folder, path_inside
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Reader, Scan, refuse_all_but
from pcdistill.scenes.readers.capture.build_scene import build_scene
from pcdistill.scenes.readers.capture.frame_checks import (
    CaptureFrame,
    check_frames,
    check_points_in_view,
)
from pcdistill.scenes.readers.capture.naming import find_scan_folders, unique_frame_names
from pcdistill.scenes.readers.capture.surface import load_or_fuse_surface, surface_file
from pcdistill.scenes.readers.colmap.cameras import ColmapCamera
from pcdistill.scenes.readers.colmap.model import (
    ColmapImage,
    depth_map_size,
    read_cameras,
    read_depth_map,
    read_images,
    read_points,
)
from pcdistill.scenes.readers.colmap.model_choice import ColmapModel, choose_model, find_models
from pcdistill.scenes.scene import Scene
from pcdistill.scenes.units import DEPTH_SCALE

_LOG = logging.getLogger(__name__)


MIN_VIEWS = 3
"""Observations of a sparse point; those of two images are often wrong."""
MAX_ERROR = 2.0
"""Pixels of mean reprojection error of a sparse point."""

_IMAGES = ("images", "input")


@dataclass(frozen=True, eq=False)
class ColmapFrame(CaptureFrame):
    """A frame whose depth may be a depth map of COLMAP's dense stereo."""

    def file_depth(self, path: Path) -> Tensor:
        """(h, w) float32, the model's unit, 0 = unknown.

        Raises:
            SceneError: the file is missing or damaged.
        """
        return read_depth_map(path) if path.suffix == ".bin" else super().file_depth(path)


def find_colmap(folder: Path) -> tuple[Scan, ...]:
    """The folder itself where it holds a COLMAP model, or those of its folders that do."""
    return find_scan_folders(folder, lambda place: bool(find_models(place)))


def open_colmap(scan: Scan, settings: ReaderSettings) -> Scene:
    """Read a COLMAP reconstruction; images stay on disk until they are asked for.

    Raises:
        SceneError: something is missing, damaged, distorted, or does not fit together.
    """
    found = find_models(scan.folder)
    if not found:
        raise SceneError(
            f"{scan.folder}: has no COLMAP model, expected sparse/0 with cameras, images and "
            "points3D; copy all of its files"
        )
    chosen, others = choose_model(scan.folder, found)
    workspace, model, suffix = chosen
    cameras = read_cameras(model, suffix)
    images = read_images(model, suffix)[:: settings.frame_step or 1]
    frames, missing, incomplete = _frames(workspace, model, cameras, images, settings)
    left_out = check_frames(model, frames, missing, incomplete)
    frames = within_limit(workspace, frames)
    surface, name, dropped = _surface(scan, chosen, frames, settings)
    check_points_in_view(model, frames, surface)
    _LOG.warning(
        "%s: the unit of a COLMAP model is arbitrary; unless it was scaled to metres (`colmap "
        "model_aligner`), voxel sizes and distances do not mean metres",
        scan.folder,
    )
    provenance: dict[str, Any] = {
        "reader": "colmap",
        "model": str(model.relative_to(scan.folder)),
        "model_files": suffix,
        "other_models": others,
        "surface": name,
        "unit": "arbitrary",
        "frames_without_depth": sum(frame.depth_path is None for frame in frames),
        "dropped_points": dropped,
        **left_out,
    }
    return build_scene(scan, settings, frames, surface, up=settings.up_axis, provenance=provenance)


def _frames(
    workspace: Path,
    model: Path,
    cameras: dict[int, ColmapCamera],
    images: list[ColmapImage],
    settings: ReaderSettings,
) -> tuple[list[StoredFrame], int, int]:
    """Frames, how many have no pose, and how many have no image."""
    places = [workspace / name for name in _IMAGES if is_folder(workspace / name)]
    frames: list[StoredFrame] = []
    missing = incomplete = 0
    for name, image in zip(unique_frame_names([i.name for i in images]), images, strict=True):
        camera = cameras.get(image.camera_id)
        if camera is None:
            raise SceneError(
                f"{model}: {image.name} has camera {image.camera_id}, which cameras lack; copy all "
                "files of one model"
            )
        path, spelled = _image_file(places, image.name)
        if not torch.isfinite(image.camera_to_world).all():
            missing += 1
            continue
        if path is None:
            incomplete += 1
            continue
        require_size(model, camera.image_size, path)
        require_upright(model, camera.intrinsics, camera.image_size, path)
        depth = _depth_file(workspace, spelled)
        size = None if depth is None else _depth_size(camera, depth)
        frames.append(
            ColmapFrame(
                name=name,
                image_size=camera.image_size,
                intrinsics=camera.intrinsics,
                camera_to_world=image.camera_to_world,
                image_path=path,
                depth_path=depth,
                depth_scale=settings.depth_scale or DEPTH_SCALE,
                depth_intrinsics=None
                if size is None
                else resize_intrinsics(camera.intrinsics, camera.image_size, size),
                depth_size=size,
            )
        )
    return frames, missing, incomplete


def _image_file(places: list[Path], name: str) -> tuple[Path | None, str]:
    """The image of a name, and the name as it is found: models of Windows have backslashes.

    None where there is no such image in these folders; others are not looked at.
    """
    for spelled in (name, name.replace("\\", "/")):
        for place in places:
            path = path_inside(place, spelled)
            if path is not None and is_existing_file(path):
                return path, spelled
    return None, name


def _depth_file(workspace: Path, image: str) -> Path | None:
    stem = image.rsplit(".", 1)[0]
    places = [
        *(workspace / folder / f"{stem}{s}" for folder in ("depth", "depths") for s in _PIXELS),
        workspace / "stereo" / "depth_maps" / f"{image}.geometric.bin",
    ]
    return next((place for place in places if is_existing_file(place)), None)


_PIXELS = (".png", ".npy")


def _depth_size(camera: ColmapCamera, depth: Path) -> tuple[int, int]:
    size = depth_map_size(depth) if depth.suffix == ".bin" else read_image_size(depth)
    check_depth_aspect(depth, size, camera.image_size, "make the depth from the same images")
    return size


def _surface(
    scan: Scan, chosen: ColmapModel, frames: list[StoredFrame], settings: ReaderSettings
) -> tuple[Ply, str, int]:
    """The cloud, its name, and how many sparse points were left out."""
    workspace, model, suffix = chosen
    named = surface_file(scan, settings)
    if named is None and is_existing_file(workspace / "fused.ply"):
        named = workspace / "fused.ply"
    found = load_or_fuse_surface(workspace, named, frames, settings)
    if found is not None:
        return *found, 0
    surface, dropped = sparse_cloud(model, suffix)
    if surface is None:
        raise SceneError(
            f"{model}: has no sparse points and {workspace} neither depth nor fused.ply, expected "
            "a cloud; copy points3D, or run COLMAP's dense stereo"
        )
    return surface, "sparse points", dropped


def sparse_cloud(model: Path, suffix: str = "") -> tuple[Ply | None, int]:
    """Select sparse points that enough images agree on, and count those left out.

    Args:
        model: its folder.
        suffix: ".bin" or ".txt" where both are there.

    Raises:
        SceneError: the file of points is damaged.
    """
    found = read_points(model, suffix)
    if found is None or len(found.points) == 0:
        return None, 0
    sure = (found.views >= MIN_VIEWS) & (found.errors <= MAX_ERROR)
    finite = torch.isfinite(found.points.float()).all(dim=1)
    kept = sure & finite if bool((sure & finite).any()) else finite
    dropped = len(kept) - int(kept.sum())
    if dropped:
        _LOG.info(
            "%s: %d of %d sparse points left out (fewer than %d views or more than %g pixels off)",
            model,
            dropped,
            len(kept),
            MIN_VIEWS,
            MAX_ERROR,
        )
    if not kept.any():
        return None, dropped
    points, offset = near_origin(found.points[kept])
    surface = clean_surface(model, Ply(points, found.colors[kept], offset=offset))
    return surface, dropped + sum(surface.left_out.values())


COLMAP = Reader(
    "sparse/0 with cameras, images and points3D (a COLMAP model)",
    find_colmap,
    open_colmap,
    settings=refuse_all_but(
        "depth_scale", "up_axis", "frame_step", "image_size", "surface_file", "fuse_voxel_size"
    ),
)
