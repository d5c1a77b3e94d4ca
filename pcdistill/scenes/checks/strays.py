"""Outlier removal for clouds and meshes: misses, masses of equal points, strays.

Scanners write a ray that hit nothing as a point at (0, 0, 0) or at their own place, by the
thousand; single readings land thousands of kilometres away. Both would decide the extent of a scan.
What is dropped is counted by reason; a scan of which too much would go is refused instead.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.geometry import place_keys
from pcdistill.scenes.formats.color_depth import real_colors
from pcdistill.scenes.formats.ply import Ply
from pcdistill.scenes.origin import different_places

_LOG = logging.getLogger(__name__)

NOT_FINITE = "not finite numbers"
REPEATED = "in masses at one place"
FAR = "far from all others"

_MAX_ROWS = 200_000  # looked at for what is usual, chosen by chance but always alike
_LARGEST = 1e30  # metres; float32 ends a little later
_MIN_MASS = 50  # equal points that are a mass
_MIN_MISSES = 10  # equal points at the origin of coordinates that are
_TIMES_USUAL = 20  # as many equal points as at nine of ten places, so that coarse grids stay whole
_TIMES_USUAL_MISSES = 5
_REACH = 200.0  # times the distance between the quartiles
_MIN_REACH = 1000.0  # metres
_MAX_SHARE_FAR = 0.1
_EMPTINESS = 100.0  # times the rest of the extent: a gap that parts two places
_MIN_PLACES = 5  # that tell where a scan is


def clean_surface(file: Path, surface: Ply, *, drop_broken: bool = True) -> Ply:
    """Drop strays, see `without_strays`, and colours that are all the same.

    Args:
        file: where the surface comes from, for messages.
        surface: any.
        drop_broken: whether points that are not finite go too, rather than stay to be refused.

    Raises:
        SceneError: as `without_strays`.
    """
    left = without_strays(file, surface, drop_broken=drop_broken)
    return replace(left, colors=real_colors(file, left.colors))


def without_strays(file: Path, surface: Ply, *, drop_broken: bool = True) -> Ply:
    """Drop points that measure nothing, and faces that use one.

    Dropped are points that are not finite; at least 50 equal ones where places hold few (10 at the
    origin of coordinates), unless faces use them; and those farther from the median than 200 times
    the distance between the quartiles and a kilometre. The others keep their order.

    Args:
        file: where the surface comes from, for messages.
        surface: any; its `excluded_classes` then says how many points went, by reason.
        drop_broken: whether points that are not finite go too, rather than stay to be refused.

    Raises:
        SceneError: the points lie in several places far apart, so that none is the scan.
    """
    points = surface.points
    finite = (points.abs() < _LARGEST).all(dim=1)  # false for NaN
    kept = finite.clone()
    counts = {NOT_FINITE: int((~finite).sum()) if drop_broken else 0}
    masses = _masses(points, kept, surface)
    kept &= ~masses
    counts[REPEATED] = int((finite & masses).sum())
    far = _far(file, points, kept)
    kept &= ~far
    counts[FAR] = int(far.sum())
    counts = {reason: count for reason, count in counts.items() if count}
    if not counts:
        return surface
    if not drop_broken:
        kept |= ~finite
    said = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    _LOG.warning("%s: left out of %d points: %s", file, len(points), said)
    return replace(_chosen(surface, kept), left_out=surface.left_out | counts)


def _chosen(surface: Ply, kept: Tensor) -> Ply:
    """The kept points, (N,) bool, what is known of them, and the faces that use no other."""
    faces = surface.faces
    if faces is not None:
        number = kept.cumsum(0) - 1
        faces = number[faces[kept[faces].all(dim=1)]]
    return replace(
        surface,
        points=surface.points[kept],
        colors=None if surface.colors is None else surface.colors[kept],
        normals=None if surface.normals is None else surface.normals[kept],
        faces=faces,
        scalars={name: values[kept] for name, values in surface.scalars.items()},
    )


def _masses(points: Tensor, kept: Tensor, surface: Ply) -> Tensor:
    """(N,) bool: points that share their place with far more others than is usual."""
    free = kept.clone()
    if surface.faces is not None:
        free[surface.faces.flatten()] = False
    mass = torch.zeros_like(kept)
    rows = _some(points, free)
    if len(rows) == 0:
        return mass
    places, counts = torch.unique(_keys(rows), return_counts=True)
    usual = int(counts.kthvalue(1 + int(0.9 * (len(counts) - 1))).values)
    least = max(_MIN_MASS if len(rows) < _MAX_ROWS else 0, _TIMES_USUAL * usual)
    heavy = places[counts >= least]
    for start in range(0, len(points) if len(heavy) else 0, _MAX_ROWS):
        part = slice(start, start + _MAX_ROWS)
        mass[part] = free[part] & torch.isin(_keys(points[part]), heavy)
    origin = free & (points == (-surface.offset).float()).all(dim=1)
    misses = _of_one_color(origin, surface.colors)
    if int(misses.sum()) >= max(_MIN_MISSES, _TIMES_USUAL_MISSES * usual):
        return (mass & ~origin) | misses
    return mass


def _of_one_color(origin: Tensor, colors: Tensor | None) -> Tensor:
    """(N,) bool: `origin` without the few of another colour than all others, which are real."""
    index = origin.nonzero()[:, 0]
    if colors is None or len(index) == 0:
        return origin
    _, shade, counts = torch.unique(colors[index], dim=0, return_inverse=True, return_counts=True)
    others = index[shade != counts.argmax()]
    if len(others) >= _MIN_MISSES:
        return origin
    misses = origin.clone()
    misses[others] = False
    return misses


def _far(file: Path, points: Tensor, kept: Tensor) -> Tensor:
    """(N,) bool: points much farther out than the others are from each other."""
    rows = different_places(_some(points, kept))
    if len(rows) < _MIN_PLACES:
        return torch.zeros_like(kept)
    low, middle, high = (
        rows.kthvalue(1 + int(fraction * (len(rows) - 1)), dim=0).values
        for fraction in (0.25, 0.5, 0.75)
    )
    reach = max(_MIN_REACH, _REACH * float((high - low).max()))
    far: Tensor = kept & ((points - middle).abs() > reach).any(dim=1)
    fraction = int(far.sum()) / max(int(kept.sum()), 1)
    if fraction > _MAX_SHARE_FAR:
        raise SceneError(
            f"{file}: {fraction:.0%} of its points lie more than {reach:.0f} m from the others, "
            "expected one place; give each part its own file, or all of them one coordinate frame"
        )
    _require_one_place(file, rows[((rows - middle).abs() <= reach).all(dim=1)])
    return far


def _require_one_place(file: Path, rows: Tensor) -> None:
    """Refuse different points, (M, 3), with a gap between them that dwarfs both sides."""
    for axis in range(3 if len(rows) >= _MIN_PLACES else 0):
        values = rows[:, axis].sort().values
        gap = float((values[1:] - values[:-1]).max())
        rest = float(values[-1] - values[0]) - gap
        if gap > max(_MIN_REACH, _EMPTINESS * rest):
            raise SceneError(
                f"{file}: its points lie in two places {gap / 1000:.4g} km apart, expected one; "
                "give each part its own file, or both one coordinate frame"
            )


def _some(points: Tensor, allowed: Tensor) -> Tensor:
    """At most `_MAX_ROWS` of the allowed points."""
    index = allowed.nonzero()[:, 0]
    if len(index) > _MAX_ROWS:
        chance = torch.Generator().manual_seed(0)
        index = index[torch.randint(len(index), (_MAX_ROWS,), generator=chance)]
    return points[index]


def _keys(points: Tensor) -> Tensor:
    """(N,) int64, one number for each place."""
    return torch.from_numpy(place_keys(points.numpy()))
