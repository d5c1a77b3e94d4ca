"""Labels of no category: two negative numbers, which no category can have."""

from __future__ import annotations

from torch import Tensor

IGNORE_LABEL = -1
"""True label of a point that takes no part in any score."""

NO_FEATURE_LABEL = -2
"""Predicted label of a point without any feature, for example because no frame saw it."""

IGNORE_LABEL_OF_FILES = 255
"""What the files of ScanNet, Matterport3D and nuScenes, as OpenScene writes them, ignore."""

NO_FEATURE_LABEL_OF_FILES = 256
"""What OpenScene predicts for a point without feature."""


def is_marked(labels: Tensor, mark: int, mark_of_files: int, categories: int) -> Tensor:
    """Find the points that have no category.

    Args:
        labels: any shape, integer.
        mark: the number that stands for none, `IGNORE_LABEL` or `NO_FEATURE_LABEL`.
        mark_of_files: the number that stands for it in files; understood as well where no category
            can have it, which holds for sets of up to that many categories.
        categories: K.

    Returns:
        The same shape, bool.
    """
    marked = labels == mark
    return marked | (labels == mark_of_files) if mark_of_files >= categories else marked
