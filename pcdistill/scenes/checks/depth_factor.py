"""Depth scale correction: the factor under which the frames of a scan agree best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from pcdistill.geometry import back_project
from pcdistill.scenes.checks.depth_agreement import DepthView, points_in_view

_FACTORS = (0.8, 0.84, 0.88, 0.91, 0.94, 0.97, 1.0, 1.03, 1.06, 1.1, 1.14, 1.19, 1.25)
_NEXT_TO_1 = (0.94, 1.0, 1.06)
_CLOSE = 0.02  # relative to the depth
_SAME_SURFACE = 0.15  # farther off, one hides the other
_STEP = 6  # pixels between those that are compared
_MIN_PAIRS = 3000  # of pixels that show the same surface
_MIN_GAIN = 0.05  # in the share of them that is close


def depth_factor(views: Sequence[DepthView]) -> float | None:
    """Find the factor for all depth under which the frames agree best with each other.

    A camera that moves sees through a wrong scale: what it measured from one place is not where it
    measures it from the next. One that only turns does not.

    Args:
        views: frames of one scan, with poses that are right.

    Returns:
        0.8 to 1.25; None where the frames overlap too little, or no factor is clearly better
        than 1.
    """
    shares: dict[float, float] = {}
    for factors in (_NEXT_TO_1, _FACTORS):  # there is one peak: most captures are done at once
        for factor in factors:
            close, pairs = _closeness([replace(view, depth=view.depth * factor) for view in views])
            if pairs < _MIN_PAIRS:
                return None
            shares[factor] = close / pairs
        best = max(shares, key=lambda factor: shares[factor])
        if best == 1:
            return None
    return best if shares[best] - shares[1.0] >= _MIN_GAIN else None


def _closeness(views: Sequence[DepthView]) -> tuple[int, int]:
    """Pixels that lie within 2 % of what another frame measures there, of those that show it."""
    close = pairs = 0
    for one in views:
        camera = one.intrinsics.clone()
        camera[:2] /= _STEP
        points, _ = back_project(one.depth[::_STEP, ::_STEP], camera, one.camera_to_world)
        for other in views:
            if other is not one:
                gap = _gaps(points.double(), other)
                close += int((gap < _CLOSE).sum())
                pairs += int((gap < _SAME_SURFACE).sum())
    return close, pairs


def _gaps(points: Tensor, view: DepthView) -> Tensor:
    """(n,) float64: how far from the measured depth each point in view is, relative to it."""
    height, width = view.depth.shape
    seen = points_in_view(points, view.camera_to_world, view.intrinsics, (height, width))
    columns, rows = seen.pixels.unbind(dim=1)
    measured = view.depth[rows, columns].double()
    gaps: Tensor = (seen.depth / measured - 1).abs()[measured > 0]
    return gaps
