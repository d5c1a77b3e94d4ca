"""The sentences for a scan whose depth, poses and surface cannot all be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from pcdistill.scenes.consistency import (
    POSE_CONVENTIONS,
    Agreement,
    View,
    measure_agreement,
    reread,
)
from pcdistill.scenes.refusals import refuse

_NEAREST, _FARTHEST = 0.05, 100.0  # metres; a median depth outside is a wrong unit
_LEAST_AGREEMENT = 0.5
_LEAST_AGREEMENT_OF_FRAMES = 0.95  # frames of one room agree by chance in half of the tiles
_LEAST_TILES = 50
_UNITS = {"millimetres": 0.001, "centimetres": 0.01, "feet": 0.3048}
_USUAL_SCALES = (1.0, 10.0, 100.0, 256.0, 1000.0, 2000.0, 4000.0, 5000.0, 6553.5, 10000.0)


def require_metres(where: Path, views: Sequence[View], depth_scale: float) -> None:
    """Refuse depth whose unit cannot be what `depth_scale` says.

    Args:
        where: the folder of the depth images, for the message.
        views: some frames of the scan.
        depth_scale: counts per metre the depth was read with.

    Raises:
        SceneError: no reading at all, or a median no camera would have.
    """
    known = _readings(views)
    if len(known) == 0:
        return refuse(
            "depth_empty",
            f"{where}: none of the {len(views)} depth images looked at has a reading, expected "
            "counts above 0; export the depth again",
        )
    median = float(known.median())
    if _NEAREST <= median <= _FARTHEST:
        return
    counts = median * depth_scale
    likely = [scale for scale in (1000.0, 1.0) if 0.2 <= counts / scale <= 50]
    mend = f"`depth_scale: {likely[0]:g}`" if likely else "`depth_scale` to the counts per metre"
    refuse(
        "depth_unit",
        f"{where}: the median depth is {median:.3g} m with `depth_scale: {depth_scale:g}`, "
        f"expected {_NEAREST:g} to {_FARTHEST:g} m; set {mend} (floating-point .npy files must "
        "hold metres)",
    )


def require_agreement(
    folder: Path,
    views: Sequence[View],
    surface: str,
    points: Tensor | None,
    *,
    depth_scale: float,
    poses: str,
) -> None:
    """Refuse poses, scale or surface that contradict the depth images; say which setting mends.

    Args:
        folder: the scan, for the message.
        views: some frames of the scan.
        surface: what the frames are compared with, for the message.
        points: (N, 3) float, metres; None compares the frames with each other.
        depth_scale: counts per metre the depth was read with.
        poses: the convention the poses were read with.

    Raises:
        SceneError: most of the surface in view is not at the measured depth, or (between frames)
            another reading of poses or scale leaves at most a third of the disagreement.
    """
    if points is not None and not torch.isfinite(points).all():
        return  # the scene itself says so
    found = measure_agreement(views, points)
    if points is not None:
        if found.share >= _LEAST_AGREEMENT:
            return
    elif found.compared < _LEAST_TILES or found.share >= _LEAST_AGREEMENT_OF_FRAMES:
        return
    mend = _other_poses(views, points, found, poses)
    mend = mend or _other_unit(views, points, found, surface)
    mend = mend or _other_scale(views, points, found, depth_scale)
    if mend is None:
        if points is None and found.share >= _LEAST_AGREEMENT:
            return  # much moves, perhaps; no other reading of the files explains it better
        mend = (
            "check that poses are camera-to-world in metres (setting `poses`), the depth unit "
            "(`depth_scale`), and that surface and frames are of one scan (`geometry`)"
        )
    agree = (
        f"only {found.share:.0%} of the compared depth agrees with {surface} within 25 %"
        if found.compared
        else f"none of the depth looked at agrees with {surface}, which is out of view"
    )
    refuse("geometry_disagrees", f"{folder}: {agree}, expected most of it; {mend}")


def _is_better(other: Agreement, found: Agreement) -> bool:
    """Whether another reading of the files leaves far less unexplained, and not by looking away."""
    return (
        other.compared >= max(_LEAST_TILES, found.compared / 2)
        and 1 - other.share <= (1 - found.share) / 3
    )


def _other_poses(
    views: Sequence[View], points: Tensor | None, found: Agreement, poses: str
) -> str | None:
    """The other reading of the pose files under which all fits, as advice."""
    for name in POSE_CONVENTIONS:
        other = measure_agreement(reread(views, poses, name), points)
        if name != poses and _is_better(other, found):
            return f"{other.share:.0%} would with `poses: {name}`, set that"
    return None


def _other_unit(
    views: Sequence[View], points: Tensor | None, found: Agreement, surface: str
) -> str | None:
    """That the surface alone is in another unit, as advice."""
    if points is None:
        return None
    for unit, metres in _UNITS.items():
        other = measure_agreement(views, points * metres)
        if _is_better(other, found):
            return f"{other.share:.0%} would if it were in {unit}, write {surface} in metres"
    return None


def _other_scale(
    views: Sequence[View], points: Tensor | None, found: Agreement, depth_scale: float
) -> str | None:
    """The depth scale under which all fits, as advice."""
    scales: tuple[float, ...] = _USUAL_SCALES
    if points is not None:
        if found.ratio == 0:
            return None
        scale = depth_scale / found.ratio
        near = [usual for usual in _USUAL_SCALES if abs(usual / scale - 1) < 0.1]
        scales = (near[0] if near else float(f"{scale:.3g}"),)
    best = None
    for scale in scales:
        scaled = [replace(view, depth=view.depth * (depth_scale / scale)) for view in views]
        other = measure_agreement(scaled, points)
        if _is_better(other, found) and (best is None or other.share > best[1].share):
            best = scale, other
    if best is None:
        return None
    times = depth_scale / best[0]
    if points is not None and not 0.02 <= times <= 50 and 0.2 <= _median(views) <= 20:
        return f"distances in it are {times:.3g} times the depth, write surface and poses in metres"
    return (
        f"{best[1].share:.0%} would with `depth_scale: {best[0]:g}`, set that, or write the poses "
        "(and the surface) in metres"
    )


def _median(views: Sequence[View]) -> float:
    return float(_readings(views).median())


def _readings(views: Sequence[View]) -> Tensor:
    return torch.cat([view.depth[view.depth > 0] for view in views])
