"""What readers of people's own captures share: from frames and a surface to a scene with z up."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pcdistill.errors import ConfigError, SceneError
from pcdistill.geometry import fuse_depth, invert_pose, project_to_pixels, scale_intrinsics
from pcdistill.scenes.consistency import (
    View,
)
from pcdistill.scenes.fit import Assumptions, require_fitting_frames
from pcdistill.scenes.frames import Frame, StoredFrame, register_depth
from pcdistill.scenes.origin import describe_way_back, find_camera_offset, move_frames, moved_pose
from pcdistill.scenes.paths import is_there
from pcdistill.scenes.ply import Ply, read_ply
from pcdistill.scenes.reading import ReadSettings, Scan, UpAxis
from pcdistill.scenes.refusals import refuse
from pcdistill.scenes.scene import Scene
from pcdistill.scenes.strays import clean_surface

_LOG = logging.getLogger(__name__)

MOST_VIDEO_FRAMES = 300
"""Frames of a video that are used where `frame_step` is left open; neighbours show the same."""

_CHECKED_FRAMES = 12
_MOST_PROJECTED = 200_000

_TO_Z_UP: dict[str, list[list[float]]] = {
    "z": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "y": [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
    "-y": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
}


@dataclass(frozen=True, eq=False)
class ScaledFrame:
    """A frame shown at another size; its pixels are resized when they are asked for."""

    frame: Frame
    image_size: tuple[int, int]
    """(H, W), pixels, wanted."""

    @property
    def name(self) -> str:
        """That of the frame."""
        return self.frame.name

    @property
    def intrinsics(self) -> Tensor:
        """(3, 3) float64, pixels of the wanted size."""
        return scale_intrinsics(self.frame.intrinsics, self.frame.image_size, self.image_size)

    @property
    def camera_to_world(self) -> Tensor:
        """(4, 4) float64, metres, rigid."""
        return self.frame.camera_to_world

    def image(self) -> Tensor:
        """(H, W, 3) uint8; each pixel the mean of those it covers."""
        pixels = self.frame.image()
        resized = torch.empty((*self.image_size, 3), dtype=torch.uint8)
        for channel in range(3):  # one at a time: as floats they take four times the memory
            plane = pixels[None, None, :, :, channel].float()
            plane = F.interpolate(plane, size=self.image_size, mode="bilinear", antialias=True)
            resized[..., channel] = plane[0, 0].round().clamp(0, 255).to(torch.uint8)
        return resized

    def depth(self) -> Tensor | None:
        """(H, W) float32, metres; the nearest reading on each pixel's ray."""
        depth = self.frame.depth()
        if depth is None:
            return None
        return register_depth(depth, self.frame.intrinsics, self.intrinsics, self.image_size)


@dataclass(frozen=True, eq=False)
class CaptureFrame(StoredFrame):
    """A frame that knows the size of its depth file, which often has fewer pixels."""

    depth_size: tuple[int, int] | None = None
    """(h, w), pixels, of `depth_path`; of the image's shape."""


def frame_names(paths: Sequence[str]) -> list[str]:
    """A name for each image path of a scan: a valid file name, and no two alike.

    The file's own name without suffix where those differ, else with its folders.
    """
    whole = [_file_name(path.strip("./\\")) for path in paths]
    files = [_file_name(re.split(r"[/\\]", path)[-1]) for path in paths]
    for names in ([_without_suffix(name) for name in files], [_without_suffix(n) for n in whole]):
        if len(set(names)) == len(names):
            return names
    return [f"{place}_{name}" for place, name in enumerate(whole)]


def _file_name(path: str) -> str:
    return re.sub(r"[/\\]|[\x00-\x1f]", "_", path)[-120:].lstrip(".") or "frame"


def _without_suffix(name: str) -> str:
    return name.rsplit(".", 1)[0] or name


def video_step(scan: Scan, settings: ReadSettings, frames: int) -> int:
    """`frame_step`, or the smallest that leaves at most `MOST_VIDEO_FRAMES` frames."""
    if settings.frame_step is not None:
        return settings.frame_step
    step = max(-(-frames // MOST_VIDEO_FRAMES), 1)
    if step > 1:
        _LOG.info("%s: taking every %d-th of %d frames (`frame_step`)", scan.name, step, frames)
    return step


def require_unset(scan: Scan, settings: ReadSettings, *taken: str) -> None:
    """Refuse settings that the layout does not know, rather than ignore them.

    Args:
        scan: for the message.
        settings: as given.
        taken: names of those the layout knows; `label_set` comes with every run and may be set.

    Raises:
        ConfigError: another setting differs from its default.
    """
    for field in fields(settings):
        if field.name in (*taken, "label_set"):
            continue
        if getattr(settings, field.name) != field.default:
            raise ConfigError(
                f"{scan.folder}: `{field.name}` has no meaning for a scan of this layout, expected "
                f"only {', '.join(taken)}; leave it out"
            )


def require_frames(
    where: Path, frames: Sequence[Frame], lost: int, incomplete: int
) -> dict[str, Any]:
    """Refuse a capture without a frame; log those that were left out.

    Returns:
        Their numbers, for the scene's provenance.

    Raises:
        SceneError: no frame is left.
    """
    total = len(frames) + lost + incomplete
    if not frames:
        raise SceneError(
            f"{where}: none of the {total} frames has both its image and a pose of finite numbers "
            f"({incomplete} lack a file or partner, {lost} a pose), expected at least one; "
            "export the capture again"
        )
    if lost:
        _LOG.warning("%s: %d of %d frames left out, they have no finite pose", where, lost, total)
    if incomplete:
        _LOG.warning("%s: %d of %d frames left out, they lack a file", where, incomplete, total)
    return {
        "skipped_frames": lost + incomplete,
        "frames_without_pose": lost,
        "frames_without_file": incomplete,
    }


def named_surface(scan: Scan, settings: ReadSettings) -> Path | None:
    """The file of the setting `geometry`.

    Raises:
        SceneError: there is no such file.
    """
    if settings.geometry is None:
        return None
    path = scan.folder / settings.geometry
    if not is_there(path):
        raise SceneError(f"{path}: no such file; correct or remove the setting `geometry`")
    return path


def read_surface(path: Path) -> Ply:
    """A mesh or cloud that has points, without strays, misses and colours that say nothing.

    Points that are not finite stay, and are refused with the scene.

    Raises:
        SceneError: it has none, or the file is damaged.
    """
    return clean_surface(path, read_whole_surface(path), drop_broken=False)


def read_whole_surface(path: Path) -> Ply:
    """A mesh or cloud that has points, all of them, which other files are numbered by.

    Raises:
        SceneError: it has none, or the file is damaged.
    """
    surface = read_ply(path)
    if len(surface.points) == 0:
        raise SceneError(f"{path}: has no points, expected a mesh or cloud; write it again")
    return surface


def spread_views(frames: Sequence[Frame]) -> list[View]:
    """Some frames, spread over the scan, with their depth at its own size."""
    count = min(len(frames), _CHECKED_FRAMES)
    spread = [round(i * (len(frames) - 1) / max(count - 1, 1)) for i in range(count)]
    chosen = [_at_depth_size(frames[place]) for place in spread]
    return [
        View(depth, frame.intrinsics, frame.camera_to_world)
        for frame in chosen
        if (depth := frame.depth()) is not None
    ]


def _at_depth_size(frame: Frame) -> Frame:
    """The frame with as many pixels as its depth file has, where they are known."""
    size = frame.depth_size if isinstance(frame, CaptureFrame) else None
    return frame if size is None or size == frame.image_size else ScaledFrame(frame, size)


def require_points_in_view(where: Path, frames: Sequence[Frame], surface: Ply) -> None:
    """Refuse poses under which no frame has a point of the surface before it.

    Args:
        where: the scan, for the message.
        frames: as the files have them.
        surface: of the same coordinate frame; its offset is taken off the cameras here.

    Raises:
        SceneError: none of the frames looked at sees a point.
    """
    points = surface.points
    if not frames or not torch.isfinite(points).all():
        return
    thinned = points[:: max(1, len(points) // _MOST_PROJECTED)].double()
    for frame in frames[:: max(1, len(frames) // _CHECKED_FRAMES)]:
        pixels, depth = project_to_pixels(
            *(thinned, invert_pose(moved_pose(frame.camera_to_world, surface.offset))),
            frame.intrinsics,
        )
        height, width = frame.image_size
        limits = torch.tensor([width, height], dtype=torch.float64) - 0.5
        if bool(((depth > 0) & ((pixels > -0.5) & (pixels < limits)).all(dim=1)).any()):
            return
    refuse(
        "geometry_disagrees",
        f"{where}: no frame looked at has a single point of the cloud in view, expected the frames "
        "to look at it; check that cameras and cloud are in one coordinate frame",
    )


def fuse_frames(
    where: Path, frames: Sequence[StoredFrame], voxel_size: float, read: Assumptions | None = None
) -> Ply:
    """The depth images as one cloud, with the offset that the cameras need.

    Depth with fewer pixels than its image is fused at its own size: stretched to the image's, its
    steps would pass for edges of the surface.

    Args:
        where: the depth, for messages.
        frames: with depth.
        voxel_size: metres between the points.
        read: how poses and depth were read, where that is for the user to say.

    Raises:
        SceneError: depth and poses surely contradict each other, the frames cannot be fused, or
            they hold no surface.
    """
    offset = find_camera_offset(frames)
    require_fitting_frames(where, move_frames(frames, offset), read or Assumptions())

    def observations() -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        for frame in move_frames(frames, offset):
            seen = _at_depth_size(frame)
            depth = seen.depth()
            if depth is not None:
                yield depth, seen.image(), seen.intrinsics, seen.camera_to_world

    try:
        cloud = fuse_depth(observations(), voxel_size=voxel_size)
    except ValueError as error:  # a place too far out for the grid
        raise SceneError(
            f"{where}: the depth images cannot be fused ({error}); check that poses and depth are "
            "in metres, or give a mesh.ply"
        ) from error
    if len(cloud.points) == 0:
        raise SceneError(
            f"{where}: the depth images hold no surface seen often enough, expected overlapping "
            "frames with depth up to 10 m; give a mesh.ply or more frames"
        )
    _LOG.info("%s: fused %d frames into %d points", where, len(frames), len(cloud.points))
    return Ply(cloud.points, cloud.colors, cloud.normals, offset=offset)


def build_scene(
    scan: Scan,
    settings: ReadSettings,
    frames: Sequence[StoredFrame],
    surface: Ply,
    *,
    up: UpAxis,
    provenance: dict[str, Any],
) -> Scene:
    """The scene of a surface and the frames that saw it, near the origin, turned so that z is up.

    Args:
        scan: its name and folder.
        settings: `image_size` resizes the frames.
        frames: in the coordinate frame of the surface's file: its offset is taken off them here.
        surface: its normals are dropped where they are all zero.
        up: the axis that points up so far.
        provenance: added to that of every capture.
    """
    rotation = torch.tensor(_TO_Z_UP[up], dtype=torch.float64)
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = rotation
    turned: list[Frame] = [
        replace(frame, camera_to_world=turn @ frame.camera_to_world)
        for frame in move_frames(frames, surface.offset)
    ]
    if settings.image_size is not None:
        turned = [ScaledFrame(frame, settings.image_size) for frame in turned]
    normals = None
    if surface.normals is not None and bool((surface.normals != 0).any()):
        lengths = surface.normals.double().norm(dim=1, keepdim=True)
        unit = torch.where(lengths > 0, surface.normals.double() / lengths, 0.0)
        normals = (torch.nan_to_num(unit) @ rotation.T).float()
    return Scene(
        name=scan.name,
        points=(surface.points.double() @ rotation.T).float(),
        colors=surface.colors,
        normals=normals,
        faces=surface.faces if surface.faces is not None and len(surface.faces) else None,
        frames=tuple(turned),
        provenance={
            "source": str(scan.folder),
            "up": up,
            **describe_way_back(surface.offset, rotation, surface.metres_per_unit),
            **({"points_left_out": surface.left_out} if surface.left_out else {}),
            **provenance,
        },
    )
