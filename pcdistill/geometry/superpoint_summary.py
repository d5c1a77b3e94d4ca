"""Superpoint statistics: sizes, purity and boundary recall.

Borders are compared as in the literature on superpoints: over edges between neighbouring points, an
edge lies on a border where its ends differ, and it counts as found, or as true, where a border of
the other kind is at most `tolerance` edges away. In the sources the edges join each of the points,
thinned to one in 3 cm, with its 5 nearest ones, and the tolerance is 1; here they are those that
the partition was made over.

Sources: Landrieu & Boussaha, Point Cloud Oversegmentation with Graph-Structured Deep Metric
Learning, CVPR 2019, and its released code; Hui et al., Superpoint Network for Point Cloud
Oversegmentation, ICCV 2021 (the same code). The release widens a border only by edges whose second
end touches it, since it takes a mask of bytes for indices at the first; here either end will do.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.geometry.checks import require_shape
from pcdistill.labels import IGNORE_LABEL

BOUNDARY_TOLERANCE = 1
"""Edges by which a border may be missed, as in the sources."""
_NO_INSTANCE = -1
_QUANTILES = (0.1, 0.5, 0.9)


class Fidelity(NamedTuple):
    """How well superpoints keep to what is true; None where the points say nothing of it."""

    purity: float | None
    """Share of known points that have the most frequent truth of their superpoint: the best that
    one answer per superpoint could score, the oracle overall accuracy of the sources."""
    mean_iou: float | None
    """Mean IoU of that best answer, over all values that some point has."""
    boundary_recall: float | None
    """Share of the true borders' edges within reach of a border between superpoints."""
    boundary_precision: float | None
    """Share of the superpoints' border edges within reach of a true border."""


class SuperpointStatistics(NamedTuple):
    """What there is to say of one partition."""

    superpoints: int
    """S."""
    sizes: tuple[int, int, int, int]
    """Points of the superpoint at 10 %, 50 % and 90 % of the superpoints, and of the largest."""
    small: int
    """Superpoints below the minimum size: islands that have no neighbour to join."""
    boundary: float | None
    """Share of edges that join two superpoints; None without edges."""
    labels: Fidelity | None = None
    """Against the labels, where there are any."""
    instances: Fidelity | None = None
    """Against the objects, where there are any."""


def superpoint_statistics(
    superpoint_ids: Tensor,
    edges: Tensor,
    labels: Tensor | None = None,
    instances: Tensor | None = None,
    *,
    min_size: int = 1,
    ignore_label: int = IGNORE_LABEL,
    tolerance: int = BOUNDARY_TOLERANCE,
) -> SuperpointStatistics:
    """Measure a partition of points.

    Args:
        superpoint_ids: (N,) integer from 0 without gaps.
        edges: (E, 2) integer, pairs of points that touch; directed pairs may come twice.
        labels: (N,) integer, true category of each point, or None.
        instances: (N,) integer, object of each point, -1 for none, or None.
        min_size: points; smaller superpoints are counted.
        ignore_label: a label that says nothing.
        tolerance: edges between two borders that count as one.

    Returns:
        A `SuperpointStatistics`; shares are in [0, 1].

    Raises:
        ValueError: wrong shape, or a tolerance below 0.
    """
    require_shape("superpoint_ids", superpoint_ids, None)
    require_shape("edges", edges, None, 2)
    ids, ends = superpoint_ids.long(), edges.long()
    members = torch.bincount(ids)
    ranked = members.sort().values
    last = len(ranked) - 1
    at = [int(ranked[round(fraction * last)]) if last >= 0 else 0 for fraction in _QUANTILES]
    largest = int(ranked[-1]) if last >= 0 else 0
    report = SuperpointStatistics(
        len(members),
        (at[0], at[1], at[2], largest),
        int((members < min_size).sum()),
        _share(ids[ends[:, 0]] != ids[ends[:, 1]]),
    )
    if labels is not None:
        require_shape("labels", labels, len(ids))
        found = _measure_fidelity(ids, ends, labels, ignore_label, tolerance)
        report = report._replace(labels=found)
    if instances is not None:
        require_shape("instances", instances, len(ids))
        found = _measure_fidelity(ids, ends, instances, _NO_INSTANCE, tolerance)
        report = report._replace(instances=found)
    return report


def _measure_fidelity(
    ids: Tensor, edges: Tensor, truth: Tensor, unknown: int, tolerance: int
) -> Fidelity:
    """Compare superpoints (N,) with what is true (N,) of their points, over edges (E, 2).

    Edges at a point of which nothing is known are neither true borders nor borders that might be
    false.
    """
    if tolerance < 0:
        raise ValueError(f"tolerance is {tolerance}, expected 0 edges or more")
    a, b = edges.unbind(1)
    known = truth != unknown
    judged = known[a] & known[b]
    cut = ids[a] != ids[b]
    true = judged & (truth[a] != truth[b])
    purity, mean_iou = _best_answer(ids[known], truth[known])
    return Fidelity(
        purity,
        mean_iou,
        _share(_widened(cut, a, b, len(ids), tolerance)[true]),
        _share(_widened(true, a, b, len(ids), tolerance)[judged & cut]),
    )


def _widened(border: Tensor, a: Tensor, b: Tensor, points: int, tolerance: int) -> Tensor:
    """(E,) bool: edges (a, b) at most `tolerance` edges from those of a border (E,)."""
    for _ in range(tolerance):
        touched = torch.zeros(points, dtype=torch.bool, device=border.device)
        touched[a[border]] = True
        touched[b[border]] = True
        border = touched[a] | touched[b]
    return border


def _share(flags: Tensor) -> float | None:
    return float(flags.double().mean()) if len(flags) else None


def _best_answer(ids: Tensor, truth: Tensor) -> tuple[float | None, float | None]:
    """Accuracy and mean IoU where every superpoint says what most of its points are.

    Of several as frequent truths of a superpoint the lowest counts.
    """
    if len(ids) == 0:
        return None, None
    values, truth = torch.unique(truth, return_inverse=True)
    pairs, count = torch.unique(ids * len(values) + truth, return_counts=True)
    owner, value = pairs // len(values), pairs % len(values)  # sorted by both
    best = torch.zeros(int(ids.max()) + 1, dtype=count.dtype, device=ids.device)
    best.scatter_reduce_(0, owner, count, "amax")
    answer = torch.full_like(best, len(values))
    answer.scatter_reduce_(0, owner, torch.where(count == best[owner], value, len(values)), "amin")
    given = answer[ids]
    right = torch.bincount(truth[given == truth], minlength=len(values)).double()
    union = torch.bincount(truth, minlength=len(values)).double()
    union += torch.bincount(given, minlength=len(values)) - right
    return float(right.sum() / len(ids)), float((right / union).mean())
