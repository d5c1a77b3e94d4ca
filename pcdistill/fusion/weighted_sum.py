"""Weighted sum of the teachers' features, and the checks of its inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pcdistill.fusion.classify import rows_per_chunk
from pcdistill.geometry import require_shape

TeacherFeatures = Tensor | Sequence[Tensor]
"""(T, N, D), or T tensors (N, D), which saves the copy that stacking them would be."""


def check_features(features: TeacherFeatures) -> tuple[int, int, int]:
    """T, N, D of the teachers' features.

    Raises:
        ValueError: no teacher, not floating point, or teachers of different shapes.
    """
    if isinstance(features, Tensor):
        require_shape("features", features, None, None, None)
    if len(features) == 0:
        raise ValueError("features holds no teacher, expected at least one")
    first = features[0]
    require_shape("features[0]", first, None, None)
    for index in range(len(features)):
        if tuple(features[index].shape) != tuple(first.shape):
            raise ValueError(
                f"features[{index}] has shape {tuple(features[index].shape)} but features[0] has "
                f"{tuple(first.shape)}, expected the same points and channels for every teacher"
            )
        if not features[index].is_floating_point():
            raise ValueError(
                f"features[{index}] is {features[index].dtype}, expected floating point"
            )
    return len(features), first.shape[0], first.shape[1]


def check_seen(seen: Tensor | None, teachers: int, points: int) -> None:
    """Check the mask of which teacher has seen which point.

    Args:
        seen: (T, N) bool; None where every teacher has seen every point.
        teachers: T.
        points: N.

    Raises:
        ValueError: not boolean or not (T, N).
    """
    if seen is None:
        return
    require_shape("seen", seen, teachers, points)
    if seen.dtype != torch.bool:
        raise ValueError(f"seen is {seen.dtype}, expected bool")


def weighted_sum(features: TeacherFeatures, weights: Tensor) -> Tensor:
    """Sum the teachers' features with a weight per teacher and point.

    A row of weight 0 is not read, so that whatever stands there (not-a-number included) cannot
    leak into the answer. The sum is formed in float32, or float64 for float64 features, and
    rounded once.

    Args:
        features: (T, N, D) floating.
        weights: (T, N) floating.

    Returns:
        (N, D), dtype and device of the features.

    Raises:
        ValueError: a feature with a weight is not finite.
    """
    teachers, points, dimensions = check_features(features)
    first = features[0]
    wide = torch.float64 if first.dtype == torch.float64 else torch.float32
    weights = weights.to(first.device, wide)
    used = weights != 0
    everywhere = used.all(dim=1).tolist()
    total = torch.empty((points, dimensions), dtype=first.dtype, device=first.device)
    step = rows_per_chunk(dimensions)
    for start in range(0, points, step):
        rows = slice(start, start + step)
        chunk = torch.zeros(first[rows].shape, dtype=wide, device=first.device)
        for teacher in range(teachers):
            values = features[teacher][rows].to(first.device, wide)
            if not everywhere[teacher]:
                values = values.masked_fill(~used[teacher, rows, None], 0)
            chunk.addcmul_(values, weights[teacher, rows, None])
        if not torch.isfinite(chunk.sum()):
            _refuse_not_finite(features, weights, rows)
        total[rows] = chunk
    return total


def _refuse_not_finite(features: TeacherFeatures, weights: Tensor, rows: slice) -> None:
    """Raise for the teacher that brought a NaN or infinity into these rows, if one did."""
    for teacher in range(len(features)):
        bad = ~features[teacher][rows].isfinite().all(dim=1).to(weights.device)
        bad &= weights[teacher, rows] != 0
        if bad.any():
            point = rows.start + int(bad.nonzero()[0])
            raise ValueError(
                f"features[{teacher}] is not finite at point {point}, expected finite features "
                "wherever the teacher counts (rule out unseen points with `seen`)"
            )
