"""Check that pictures and points have the same colours where the pictures show the points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.scenes.checks.camera_hypotheses import camera_readings
from pcdistill.scenes.checks.depth_agreement import points_in_view
from pcdistill.scenes.checks.findings import Finding
from pcdistill.scenes.checks.hypothesis import OTHER_WAYS_ROUND, Assumptions, Hypothesis
from pcdistill.scenes.checks.samples import FrameSample, SceneSample

_AGREES = 0.5  # correlation; captures that are right have 0.89 to 0.97
_UNRELATED = 0.35  # the pictures of the neighbouring frames have as much
_MENDED = 0.75
_GAIN = 0.3
_MIN_SIGHTINGS = 300
_MIN_CONTRAST = 6.0  # of 255, standard deviation of the points' brightness
_MAX_POINTS = 60_000
_POINTS_PER_TILE = 8
_NEAR = 0.05  # of the depth


class Likeness(NamedTuple):
    """How alike the brightness of points and of the pixels that show them is."""

    correlation: float
    """Over all sightings, each picture's mean taken off; -1 to 1."""
    sightings: int


def check_colors(capture: SceneSample, read: Assumptions) -> list[Finding]:
    """Check that pictures show what their camera sees.

    Args:
        capture: with its geometry mended.
        read: how; where frames have no depth, other readings of poses and cameras are tried.
    """
    found = likeness(capture)
    if found is None or found.correlation >= _AGREES:
        return []
    best: tuple[Hypothesis, Likeness] | None = None
    for reading in _readings(capture, read):
        other = likeness(reading.apply(capture))
        if other is not None and (best is None or other.correlation > best[1].correlation):
            best = reading, other
    numbers = (
        f"the brightness of the points and of the pixels that show them correlates by "
        f"{found.correlation:.2f}"
    )
    if best is not None and _mends(best[1], found):
        reading, other = best
        return [
            Finding(
                reading.code,
                reading.sentence,
                "sure",
                f"{numbers} as it is, by {other.correlation:.2f} if it were not so",
                reading.fix,
                lifting_works=False,
            )
        ]
    if found.correlation >= _UNRELATED:
        return []
    return [
        Finding(
            "colours_disagree",
            "The pictures do not show the colours that the points have.",
            "likely",
            f"{numbers}, 0.8 and more is usual",
            "look at the overlays: pictures may belong to other poses, or the points may have been "
            "coloured otherwise",
            lifting_works=True,
        )
    ]


def _mends(other: Likeness, found: Likeness) -> bool:
    return (
        other.correlation >= max(_MENDED, found.correlation + _GAIN)
        and other.sightings >= found.sightings / 2
    )


def likeness(capture: SceneSample) -> Likeness | None:
    """Compare points with the pixels that show them; None where there is too little to compare."""
    if capture.brightness is None or len(capture.points) == 0:
        return None
    step = max(1, len(capture.points) // _MAX_POINTS)
    points, brightness = capture.points[::step].double(), capture.brightness[::step]
    if float(brightness.std()) < _MIN_CONTRAST:
        return None
    pairs = [_sightings(points, brightness, sight) for sight in capture.sights]
    of_points = torch.cat([pair[0] for pair in pairs]) if pairs else torch.empty(0)
    if len(of_points) < _MIN_SIGHTINGS:
        return None
    of_pixels = torch.cat([pair[1] for pair in pairs])
    size = float(of_points.norm() * of_pixels.norm())
    if size == 0:
        return None
    return Likeness(float(of_points @ of_pixels) / size, len(of_points))


def _sightings(points: Tensor, brightness: Tensor, sight: FrameSample) -> tuple[Tensor, Tensor]:
    """(n,) float32 each: brightness of the points in view and of their pixels, less its mean."""
    height, width = sight.gray.shape
    inside, pixels, z = points_in_view(
        points, sight.camera_to_world, sight.intrinsics, (height, width)
    )
    columns, rows = pixels.unbind(dim=1)
    if sight.depth is not None:
        measured = sight.depth[rows, columns].double()
        seen = (measured > 0) & ((z - measured).abs() < _NEAR * measured)
    else:
        side = max(2, round((_POINTS_PER_TILE * height * width / max(len(z), 1)) ** 0.5))
        across = -(-width // side)
        tile = (rows // side) * across + columns // side
        nearest = torch.full((across * -(-height // side),), torch.inf, dtype=z.dtype)
        nearest.scatter_reduce_(0, tile, z, "amin")
        seen = z <= (1 + _NEAR) * nearest[tile]
    of_points, of_pixels = brightness[inside][seen], sight.gray[rows[seen], columns[seen]]
    if len(of_points) == 0:
        return of_points, of_pixels
    return of_points - of_points.mean(), of_pixels - of_pixels.mean()


def _readings(capture: SceneSample, read: Assumptions) -> Iterator[Hypothesis]:
    yield from _pictures()
    if all(sight.depth is None for sight in capture.sights):
        yield from camera_readings(capture, read)


def _showing(sight: FrameSample, grays: Mapping[int, Tensor], index: int) -> FrameSample:
    gray = grays.get(index, sight.gray)
    return replace(sight, gray=gray) if gray.shape == sight.gray.shape else sight


def _pictures() -> Iterator[Hypothesis]:
    for sides, (words, fix) in OTHER_WAYS_ROUND.items():
        yield Hypothesis(
            "pictures_flipped",
            f"The pictures are {words}.",
            fix,
            partial(
                SceneSample.with_sights,
                change=partial(FrameSample.turned_round, sides=sides, depth=False),
            ),
        )
    for shift in (-2, -1, 1, 2):

        def moved(capture: SceneSample, shift: int = shift) -> SceneSample:
            grays = {sight.index: sight.gray for sight in capture.sights}
            return capture.with_sights(lambda sight: _showing(sight, grays, sight.index + shift))

        yield Hypothesis(
            "poses_shifted",
            f"Pictures and poses are out of step: frame i has the pose of frame i{-shift:+d}.",
            f"pair every pose with the picture {abs(shift)} "
            f"{'later' if shift > 0 else 'earlier'}, by time stamp",
            moved,
        )
