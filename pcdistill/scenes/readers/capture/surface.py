"""The surface of a capture: a mesh or cloud in a file, or the fused depth of its frames."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import fuse_depth
from pcdistill.scenes.checks.depth_checks import check_depth_unit
from pcdistill.scenes.checks.fit_requirement import require_fitting_frames
from pcdistill.scenes.checks.hypothesis import Assumptions
from pcdistill.scenes.checks.samples import FUSED
from pcdistill.scenes.checks.strays import clean_surface
from pcdistill.scenes.formats.ply import Ply, read_ply
from pcdistill.scenes.frames import StoredFrame
from pcdistill.scenes.issues import report_issue
from pcdistill.scenes.origin import find_camera_offset, move_frames
from pcdistill.scenes.paths import is_existing_file
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Scan
from pcdistill.scenes.readers.capture.frame_checks import at_depth_size, sample_depth_views

_LOG = logging.getLogger(__name__)


def load_or_fuse_surface(
    where: Path, named: Path | None, frames: Sequence[StoredFrame], settings: ReaderSettings
) -> tuple[Ply, str] | None:
    """The surface of a capture whose frames may lack depth, and its name.

    Args:
        where: the depth, for messages.
        named: the file that holds the surface, if one does.
        frames: those of the capture.
        settings: `fuse_voxel_size` is used.

    Returns:
        None where there is neither a file nor depth.

    Raises:
        SceneError: the file is damaged or has no points, or the depth cannot be fused.
    """
    if named is not None:
        return read_surface(named), named.name
    if any(frame.depth_path is not None for frame in frames):
        return fuse_frames(where, frames, settings.fuse_voxel_size), FUSED
    return None


def load_checked_surface(
    scan: Scan,
    settings: ReaderSettings,
    named: Path | None,
    frames: Sequence[StoredFrame],
    depth_scale: float,
) -> tuple[Ply, str]:
    """The surface of a capture whose depth, poses and units are settings, and its name.

    Args:
        scan: its depth images are in its folder `depth`.
        settings: `pose_convention` and `fuse_voxel_size` are used.
        named: the file that holds the surface; None to fuse the depth.
        frames: all with depth.
        depth_scale: counts per metre the depth is read with.

    Raises:
        SceneError: the unit of the depth cannot be; without a surface, depth and poses surely
            contradict each other; or one of them is damaged or empty.
    """
    surface = None if named is None else read_ply(named)
    if surface is not None and len(surface.points) == 0:
        report_issue(
            "no_points", f"{named}: has no points, expected a mesh or cloud; write it again"
        )
        named = surface = None
    elif surface is not None and named is not None:
        surface = clean_surface(named, surface, drop_broken=False)
    check_depth_unit(scan.folder / "depth", sample_depth_views(frames), depth_scale)
    if named is None or surface is None:
        read = Assumptions(
            settings.pose_convention, depth_scale, frozenset({"poses", "depth_scale"})
        )
        place = scan.folder / "depth"
        return fuse_frames(place, frames, settings.fuse_voxel_size, read), FUSED
    return surface, named.name


def surface_file(scan: Scan, settings: ReaderSettings) -> Path | None:
    """The file of the setting `surface_file`.

    Raises:
        SceneError: there is no such file.
    """
    if settings.surface_file is None:
        return None
    path = scan.folder / settings.surface_file
    if not is_existing_file(path):
        raise SceneError(f"{path}: no such file; correct or remove the setting `surface_file`")
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
            seen = at_depth_size(frame)
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
