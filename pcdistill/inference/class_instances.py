"""Instances of classes: connected places of one class, numbered over a scene."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pcdistill.geometry import require_shape
from pcdistill.inference.places import MIN_POINTS
from pcdistill.inference.touching import TouchingPieces


def class_instances(points: Tensor, superpoint_ids: Tensor, labels: Tensor) -> Tensor:
    """Number the connected places of each class.

    Two points of a class belong together if they lie in one superpoint, or in superpoints whose
    points of that class come within 2.5 times the usual distance of neighbours, as in
    `connected_places`. Things of one class that touch are therefore one instance.

    Args:
        points: (N, 3) float, metres.
        superpoint_ids: (N,) integer in [0, S).
        labels: (N,) integer, class of each point; negative for none.

    Returns:
        (N,) int32: instances from 0, by class and then by size, the largest first; -1 where there
        is no class, and in places of fewer than `MIN_POINTS` points.

    Raises:
        ValueError: shapes do not fit.
    """
    require_shape("points", points, None, 3)
    require_shape("superpoint_ids", superpoint_ids, len(points))
    require_shape("labels", labels, len(points))
    ids = superpoint_ids.cpu().long()
    count = int(ids.max()) + 1 if len(ids) else 0
    instances = torch.full((len(points),), -1, dtype=torch.int32)
    found = 0
    for label in torch.unique(labels[labels >= 0]).tolist():
        rows = (labels == label).nonzero()[:, 0]
        touching = TouchingPieces(points[rows].double().numpy(), ids[rows].numpy(), count)
        group = touching.components(np.ones(count, dtype=np.bool_))
        of_row = group[ids[rows].numpy()]  # (n,)
        numbers, first, sizes = np.unique(of_row, return_index=True, return_counts=True)
        for place in np.lexsort((first, -sizes)):
            if sizes[place] >= MIN_POINTS:
                instances[rows[torch.from_numpy(of_row == numbers[place])]] = found
                found += 1
    return instances
