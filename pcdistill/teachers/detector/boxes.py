"""Boxes of a detector: distances to boxes, choice of the best, suppression of doubles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.geometry import require_shape
from pcdistill.teachers.detector.network import BINS, INPUT_SIZE, Level

MAX_CANDIDATES = 1000
"""Of one image that are compared with each other, best first."""


class Boxes(NamedTuple):
    """What a detector found in one image, the surest first."""

    corners: Tensor
    """(n, 4) float32, (x0, y0, x1, y1), pixels."""
    scores: Tensor
    """(n,) float32 in [0, 1]."""
    classes: Tensor
    """(n,) int64."""

    def scaled_to(self, image_size: tuple[int, int]) -> Boxes:
        """The same boxes, cut at its rim, in an image of (H, W) pixels instead of the input."""
        height, width = image_size
        scale = torch.tensor([width, height, width, height]) / INPUT_SIZE
        limits = torch.tensor([width, height, width, height], dtype=torch.float32)
        return self._replace(corners=(self.corners * scale).clamp(min=0).minimum(limits))


def decode_level(level: Level) -> tuple[Tensor, Tensor]:
    """Boxes and scores of every cell of one level.

    A side's distance is the mean of its distribution over 0 to 10 strides.

    Returns:
        corners: (B, cells, 4) float32, (x0, y0, x1, y1), pixels of the input; may reach beyond it.
        scores: (B, cells, K) float32 in [0, 1].

    Source: Li et al., Generalized Focal Loss, NeurIPS 2020, Eq. 4 (the integral of a general
    distribution); Tian et al., FCOS, ICCV 2019, for distances from a cell's centre.
    """
    batch, cells = level.scores.shape[:2]
    side = INPUT_SIZE // level.stride
    require_shape("distances", level.distances, batch, side * side, 4 * BINS)
    bins = torch.arange(BINS, dtype=torch.float32, device=level.distances.device)
    likely = level.distances.reshape(batch, cells, 4, BINS).softmax(dim=3)
    left, top, right, bottom = (level.stride * (likely @ bins)).unbind(dim=2)  # (B, cells)
    centers = (bins.new_tensor(range(side)) + 0.5) * level.stride
    y, x = (grid.flatten() for grid in torch.meshgrid(centers, centers, indexing="ij"))
    corners = torch.stack([x - left, y - top, x + right, y + bottom], dim=2)
    return corners, level.scores


def choose_boxes(levels: Sequence[Level], threshold: float, max_overlap: float) -> list[Boxes]:
    """Surest boxes of each image, doubles within a class suppressed; a cell speaks for one class.

    Args:
        levels: of B images.
        threshold: score that a box must exceed.
        max_overlap: IoU with a surer box of its class above which a box is left out.

    Returns:
        one for each image, corners in pixels of the network's input.
    """
    decoded = [decode_level(level) for level in levels]
    corners = torch.cat([box for box, _ in decoded], dim=1)  # (B, cells, 4)
    scores = torch.cat([score for _, score in decoded], dim=1)  # (B, cells, K)
    found = []
    for box, score in zip(corners, scores, strict=True):
        sure, category = score.max(dim=1)
        cells = (sure > threshold).nonzero()[:, 0]
        order = sure[cells].sort(descending=True, stable=True).indices
        best = cells[order[:MAX_CANDIDATES]]
        some = Boxes(box[best], sure[best], category[best])
        kept = suppress_doubles(some, max_overlap)
        found.append(Boxes(*(part[kept] for part in some)))
    return found


def suppress_doubles(boxes: Boxes, max_overlap: float) -> Tensor:
    """Rows (m,) int64 of the boxes that stay when each suppresses less sure ones of its class.

    Args:
        boxes: sorted, the surest first.
        max_overlap: IoU above which the less sure of two is left out.
    """
    overlap = box_iou(boxes.corners, boxes.corners)
    rival = (overlap > max_overlap) & (boxes.classes[:, None] == boxes.classes)
    stays = torch.ones(len(boxes.scores), dtype=torch.bool)
    for row in range(len(stays)):
        if bool(stays[row]):
            stays[row + 1 :] &= ~rival[row, row + 1 :]
    return stays.nonzero()[:, 0]


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union (n, m) of boxes (n, 4) and (m, 4), (x0, y0, x1, y1)."""
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1) for boxes in (first, second)]
    return shared / (areas[0][:, None] + areas[1] - shared).clamp(min=1e-9)
