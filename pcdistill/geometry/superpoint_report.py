"""How large superpoints are, and how well their borders follow those of things."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.geometry.checks import require_shape
from pcdistill.labels import IGNORE_LABEL

_QUANTILES = (0.1, 0.5, 0.9)


class SuperpointReport(NamedTuple):
    """What there is to say of one partition."""

    superpoints: int
    """S."""
    sizes: tuple[int, int, int, int]
    """Points of the superpoint at 10 %, 50 % and 90 % of the superpoints, and of the largest."""
    small: int
    """Superpoints below the minimum size: islands that have no neighbour to join."""
    boundary: float | None
    """Share of edges that join two superpoints; None without edges."""
    purity: float | None = None
    """Share of labelled points that have the most frequent label of their superpoint: the best
    that one label per superpoint could score. None without labels."""
    boundary_recall: float | None = None
    """Share of edges between points of different labels that join two superpoints."""


def describe_superpoints(
    superpoint_ids: Tensor,
    edges: Tensor,
    labels: Tensor | None = None,
    *,
    min_size: int = 1,
    ignore_label: int = IGNORE_LABEL,
) -> SuperpointReport:
    """Measure a partition of points.

    Args:
        superpoint_ids: (N,) integer from 0 without gaps.
        edges: (E, 2) integer, pairs of points that touch; directed pairs may come twice.
        labels: (N,) integer, true category of each point, or None.
        min_size: points; smaller superpoints are counted.
        ignore_label: a label that says nothing.

    Returns:
        A `SuperpointReport`; shares are in [0, 1].

    Raises:
        ValueError: wrong shape.
    """
    require_shape("superpoint_ids", superpoint_ids, None)
    require_shape("edges", edges, None, 2)
    ids, (a, b) = superpoint_ids.long(), edges.long().unbind(1)
    members = torch.bincount(ids)
    ranked = members.sort().values
    last = len(ranked) - 1
    at = [int(ranked[round(share * last)]) if last >= 0 else 0 for share in _QUANTILES]
    largest = int(ranked[-1]) if last >= 0 else 0
    crosses = ids[a] != ids[b]
    report = SuperpointReport(
        len(members),
        (at[0], at[1], at[2], largest),
        int((members < min_size).sum()),
        _share(crosses),
    )
    if labels is None:
        return report
    require_shape("labels", labels, len(ids))
    known = labels != ignore_label
    borders = known[a] & known[b] & (labels[a] != labels[b])
    return report._replace(
        purity=_purity(ids[known], labels[known].long()),
        boundary_recall=_share(crosses[borders]),
    )


def _share(flags: Tensor) -> float | None:
    return float(flags.double().mean()) if len(flags) else None


def _purity(ids: Tensor, labels: Tensor) -> float | None:
    if len(ids) == 0:
        return None
    pairs, count = torch.unique(torch.stack([ids, labels], dim=1), dim=0, return_counts=True)
    best = torch.zeros(int(ids.max()) + 1, dtype=count.dtype, device=ids.device)
    best.scatter_reduce_(0, pairs[:, 0], count, "amax")
    return float(best.sum() / len(ids))
