"""Sparse confusion matrices, as lists of cells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pcdistill.geometry import require_shape


def confusion_cells(counts: Tensor) -> list[list[int]]:
    """Give the cells with a point in them as [predicted, true, points], in order.

    Args:
        counts: (K + 1, K) integer, points by predicted and true category, the last row those
            without a prediction (`ConfusionMatrix.counts`).
    """
    require_shape("counts", counts, None, None)
    require_shape("counts", counts, counts.shape[1] + 1, counts.shape[1])
    places = counts.nonzero()
    points = counts[places[:, 0], places[:, 1]]
    cells: list[list[int]] = torch.cat([places, points[:, None]], dim=1).tolist()
    return cells


def confusion_counts(cells: Sequence[Sequence[int]], classes: int) -> Tensor:
    """(K + 1, K) int64 of the cells of `confusion_cells`, for K classes."""
    counts = torch.zeros(classes + 1, classes, dtype=torch.int64)
    for predicted, true, points in cells:
        counts[predicted, true] = points
    return counts
