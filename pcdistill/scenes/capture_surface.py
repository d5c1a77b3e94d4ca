"""The surface of a capture: a mesh or cloud in a file, or the fused depth of its frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pcdistill.scenes.capture import fuse_frames, read_surface, spread_views
from pcdistill.scenes.fit import FUSED, Assumptions
from pcdistill.scenes.frames import StoredFrame
from pcdistill.scenes.plausibility import require_metres
from pcdistill.scenes.ply import Ply, read_ply
from pcdistill.scenes.reading import ReadSettings, Scan
from pcdistill.scenes.refusals import refuse
from pcdistill.scenes.strays import clean_surface


def read_or_fuse(
    where: Path, named: Path | None, frames: Sequence[StoredFrame], settings: ReadSettings
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


def agreed_surface(
    scan: Scan,
    settings: ReadSettings,
    named: Path | None,
    frames: Sequence[StoredFrame],
    depth_scale: float,
) -> tuple[Ply, str]:
    """The surface of a capture whose depth, poses and units are settings, and its name.

    Args:
        scan: its depth images are in its folder `depth`.
        settings: `poses` and `fuse_voxel_size` are used.
        named: the file that holds the surface; None to fuse the depth.
        frames: all with depth.
        depth_scale: counts per metre the depth is read with.

    Raises:
        SceneError: the unit of the depth cannot be; without a surface, depth and poses surely
            contradict each other; or one of them is damaged or empty.
    """
    surface = None if named is None else read_ply(named)
    if surface is not None and len(surface.points) == 0:
        refuse("no_points", f"{named}: has no points, expected a mesh or cloud; write it again")
        named = surface = None
    elif surface is not None and named is not None:
        surface = clean_surface(named, surface, drop_broken=False)
    require_metres(scan.folder / "depth", spread_views(frames), depth_scale)
    if named is None or surface is None:
        read = Assumptions(settings.poses, depth_scale, frozenset({"poses", "depth_scale"}))
        place = scan.folder / "depth"
        return fuse_frames(place, frames, settings.fuse_voxel_size, read), FUSED
    return surface, named.name
