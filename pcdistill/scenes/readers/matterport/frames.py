"""Choice of the images of a Matterport3D house that may see one of its regions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import invert_pose, project_to_pixels
from pcdistill.scenes.paths import entries_of, is_existing_file, is_folder
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Scan
from pcdistill.scenes.readers.matterport.cameras import HouseCamera, read_conf
from pcdistill.scenes.resampled_frames import (
    ResizedFrame,
    check_matching_sizes,
    resize_intrinsics_by_rule,
)

_LOG = logging.getLogger(__name__)

IMAGE_SIZE = (512, 640)
"""(H, W) pixels of frames unless set, as in OpenScene."""
DEPTH_SCALE = 4000.0
"""Counts per metre of depth images."""

_CAMERAS = "undistorted_camera_parameters"
_COLOR, _DEPTH = "undistorted_color_images", "undistorted_depth_images"
_MAX_OUTSIDE_FRAMES = 100
_MIN_IN_VIEW = 0.01  # of a region's points
_COUNTED_POINTS = 2000


def region_frames(
    scan: Scan, settings: ReaderSettings, points: Tensor
) -> tuple[list[ResizedFrame], dict[str, Any]]:
    """Select the frames that may see a region.

    Args:
        scan: the region.
        settings: `image_size`, `frame_step`, `depth_scale` and `intrinsics`.
        points: (N, 3) float32, metres, of the region.

    Returns:
        Frames in the order of their names, and what the scene's provenance says about them;
        `frames_chosen` is `inside` where the images were taken inside of the points' box.

    Raises:
        SceneError: cameras or images are missing, damaged, or do not fit together.
    """
    conf = _conf(scan.folder)
    for folder in (scan.folder / _COLOR, scan.folder / _DEPTH):
        if not is_folder(folder):
            raise SceneError(
                f"{folder}: no such folder, expected the images that {conf.name} lists; "
                f"download {folder.name} of the house"
            )
    cameras = read_conf(conf)
    finite = torch.isfinite(_poses(cameras)).flatten(1).all(dim=1).tolist()
    posed = [camera for camera, known in zip(cameras, finite, strict=True) if known]
    lost = [camera.name for camera, known in zip(cameras, finite, strict=True) if not known]
    if lost:
        _LOG.warning("%s: %d images left out, their pose is not finite", conf, len(lost))
    chosen, how = _inside(posed, points), "inside"
    if not chosen:
        chosen, how = _with_points_in_view(posed, points), "nearest with points in view"
        _LOG.warning(
            "%s: no image was taken inside of the region, its frames are the nearest %d that have "
            "points of it in view",
            *(scan.name, len(chosen)),
        )
    chosen = chosen[:: settings.frame_step or 1]
    size = settings.image_size or IMAGE_SIZE
    frames, missing = [], []
    for camera in chosen:
        color, depth = scan.folder / _COLOR / camera.color, scan.folder / _DEPTH / camera.depth
        if not (is_existing_file(color) and is_existing_file(depth)):
            missing.append(camera.name)
            continue
        file_size = check_matching_sizes(conf, camera.intrinsics, color, depth)
        frames.append(
            ResizedFrame(
                name=camera.name,
                image_size=size,
                intrinsics=resize_intrinsics_by_rule(
                    camera.intrinsics, file_size, size, settings.intrinsics
                ),
                camera_to_world=camera.camera_to_world,
                image_path=color,
                depth_path=depth,
                file_size=file_size,
                depth_scale=settings.depth_scale or DEPTH_SCALE,
                resampling="nearest",
            )
        )
    if chosen and not frames:
        raise SceneError(
            f"{scan.folder / _COLOR}: has none of the {len(chosen)} images of {scan.name} with its "
            f"depth, such as {chosen[0].color}; download {_COLOR} and {_DEPTH} of the house"
        )
    if missing:
        _LOG.warning("%s: %d frames left out, they lack a file", scan.name, len(missing))
    return frames, {
        "frames_chosen": how,
        "frames_of_house": len(cameras),
        "frame_step": settings.frame_step or 1,
        "depth_scale": settings.depth_scale or DEPTH_SCALE,
        "intrinsics": settings.intrinsics,
        "skipped_frames": len(lost) + len(missing),
        "frames_without_pose": lost,
        "frames_without_file": missing,
    }


def _conf(house: Path) -> Path:
    own = house / _CAMERAS / f"{house.resolve().name}.conf"
    if is_existing_file(own):
        return own
    found = [path for path in entries_of(house / _CAMERAS) if path.suffix == ".conf"]
    if len(found) != 1:
        raise SceneError(
            f"{own}: is missing ({len(found)} other .conf files there), expected the house's "
            f"cameras; download {_CAMERAS} of the house"
        )
    return found[0]


def _poses(cameras: Sequence[HouseCamera]) -> Tensor:
    """(P, 4, 4) float64."""
    if not cameras:
        return torch.empty((0, 4, 4), dtype=torch.float64)
    return torch.stack([camera.camera_to_world for camera in cameras])


def _inside(cameras: Sequence[HouseCamera], points: Tensor) -> list[HouseCamera]:
    """Cameras whose centre lies inside the box of the points."""
    low, high = points.amin(dim=0).double(), points.amax(dim=0).double()
    centers = _poses(cameras)[:, :3, 3]
    inside = ((centers > low) & (centers < high)).all(dim=1).tolist()
    return [camera for camera, is_inside in zip(cameras, inside, strict=True) if is_inside]


def _with_points_in_view(cameras: Sequence[HouseCamera], points: Tensor) -> list[HouseCamera]:
    """The nearest cameras with points in their field of view, walls in between or not."""
    some = points[:: -(-len(points) // _COUNTED_POINTS)].double()
    center = (points.amin(dim=0).double() + points.amax(dim=0).double()) / 2
    distance = (_poses(cameras)[:, :3, 3] - center).norm(dim=1)
    nearest = torch.argsort(distance, stable=True).tolist()
    found: set[str] = set()
    for place in nearest:
        camera = cameras[place]
        pixels, depth = project_to_pixels(
            some, invert_pose(camera.camera_to_world), camera.intrinsics
        )
        # an image is about twice its principal point wide; its file may be missing
        extent = 2 * camera.intrinsics[:2, 2]
        seen = (depth > 0) & ((pixels >= 0) & (pixels < extent)).all(dim=1)
        if float(seen.double().mean()) >= _MIN_IN_VIEW:
            found.add(camera.name)
        if len(found) == _MAX_OUTSIDE_FRAMES:
            break
    return [camera for camera in cameras if camera.name in found]
