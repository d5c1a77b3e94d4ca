"""What the images of one class say of one teacher: its score, and how sure that is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEVEL = 0.95
"""Share of the resamplings inside of an interval."""
_DRAWS = 2000
_SEED = 17


class ImageOverlaps(NamedTuple):
    """Pixels in which a teacher's masks meet the pseudo masks of one class, for m images."""

    intersections: tuple[int, ...]
    """Pixels in both masks of an image."""
    unions: tuple[int, ...]
    """Pixels in either."""

    def score(self, *, pooled: bool = False) -> float:
        """Capability in [0, 1]; 0 without images. Two empty masks of an image have IoU 0.

        Args:
            pooled: divide the sum of all intersections by the sum of all unions, as the release
                does, which lets images with a large object count more. By default every image
                counts the same (Eq. 3-4).
        """
        if not self.unions:
            return 0.0
        if pooled:
            return sum(self.intersections) / max(sum(self.unions), 1)
        return sum(self.ious()) / len(self.unions)

    def ious(self) -> tuple[float, ...]:
        """IoU of each image."""
        pairs = zip(self.intersections, self.unions, strict=True)
        return tuple(inside / max(union, 1) for inside, union in pairs)

    def interval(self, *, pooled: bool = False) -> tuple[float, float] | None:
        """Bootstrap interval of the score over images, 95 %; None for fewer than two images.

        Images are drawn with replacement, as many as there are, and scored again; the interval
        leaves out 2.5 % of the scores on either side. The same images give the same interval.

        Args:
            pooled: as in `score`.
        """
        images = len(self.unions)
        if images < 2:
            return None
        drawn = np.random.default_rng(_SEED).integers(images, size=(_DRAWS, images))
        if pooled:
            inside = np.asarray(self.intersections, dtype=np.float64)[drawn].sum(axis=1)
            either = np.asarray(self.unions, dtype=np.float64)[drawn].sum(axis=1)
            scores = inside / np.maximum(either, 1)
        else:
            scores = np.asarray(self.ious())[drawn].mean(axis=1)
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(scores, [tail, 1 - tail])
        return float(low), float(high)
