"""Capability scores of a teacher: IoU of its masks with pseudo masks, per class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pcdistill.capability.masks import intersection_and_union
from pcdistill.capability.overlaps import ImageOverlaps

Masks = Tensor | Sequence[Tensor] | Sequence[Sequence[Tensor]]
"""(K, m, H, W) bool, or for each class a stack (m, H, W) or a sequence of masks (H, W)."""


class CapabilityMeter:
    """Intersections and unions of one teacher, two numbers for each image.

    Images may come in any order and size; no mask is kept.

    Source: SAS, Eq. 3-4.
    """

    def __init__(self, classes: int) -> None:
        """Start with no image of any of `classes` classes (K).

        Raises:
            ValueError: fewer than one class.
        """
        if classes < 1:
            raise ValueError(f"classes is {classes}, expected at least 1")
        self.classes = classes
        self._overlaps = [ImageOverlaps((), ()) for _ in range(classes)]

    @property
    def overlaps(self) -> tuple[ImageOverlaps, ...]:
        """Of each class, what its images gave so far."""
        return tuple(self._overlaps)

    @property
    def images(self) -> Tensor:
        """(K,) int64, how many images of each class have been compared."""
        return torch.tensor([len(found.unions) for found in self._overlaps])

    def update(self, category: int, predicted: Tensor, pseudo: Tensor) -> None:
        """Compare one image, or several of equal size, of one class.

        Args:
            category: index of the class that the image was made for, in [0, K).
            predicted: (..., H, W) bool, where the teacher sees that class.
            pseudo: (..., H, W) bool, where it is.

        Raises:
            ValueError: an unknown class, or masks of other dtypes or different shapes.
        """
        if not 0 <= category < self.classes:
            raise ValueError(f"category is {category}, expected 0 to {self.classes - 1}")
        intersection, union = intersection_and_union(predicted, pseudo)
        before = self._overlaps[category]
        self._overlaps[category] = ImageOverlaps(
            (*before.intersections, *intersection.flatten().tolist()),
            (*before.unions, *union.flatten().tolist()),
        )

    def scores(self, *, pooled: bool = False) -> Tensor:
        """Capability (K,) float64 in [0, 1]; 0 for a class of which no image was compared.

        Args:
            pooled: as in `ImageOverlaps.score`.
        """
        found = [overlaps.score(pooled=pooled) for overlaps in self._overlaps]
        return torch.tensor(found, dtype=torch.float64)


def score_teacher(
    predicted_masks: Masks,
    pseudo_masks: Masks,
    *,
    pooled: bool = False,
    ignored_class: int | None = None,
) -> Tensor:
    """Capability of one teacher from its masks and the pseudo masks.

    The score of a class is the mean over its images of the IoU of the two masks of that class;
    two empty masks have IoU 0. To score without holding all masks use `CapabilityMeter`. (The
    release also passed the teacher's masks through JPEG, which costs it about 4 % of the pixels;
    that is not repeated here.)

    Args:
        predicted_masks: (K, m, H, W) bool, or K sequences of masks (H, W), where the teacher sees
            the class; image sizes and numbers of images may then differ.
        pseudo_masks: the same for where the class is.
        pooled: as in `ImageOverlaps.score`.
        ignored_class: a class whose score is set to 0, such as "other", or None.

    Returns:
        (K,) float64 in [0, 1].

    Raises:
        ValueError: no class, different numbers of classes or images, other dtypes, different
            shapes, or an `ignored_class` outside [0, K).

    Source: SAS, Eq. 3-4.
    """
    classes = len(predicted_masks)
    if len(pseudo_masks) != classes:
        raise ValueError(
            f"predicted_masks has {classes} classes but pseudo_masks {len(pseudo_masks)}, "
            "expected the same"
        )
    if ignored_class is not None and not 0 <= ignored_class < classes:
        raise ValueError(f"ignored_class is {ignored_class}, expected 0 to {classes - 1}")
    meter = CapabilityMeter(classes)
    for category in range(classes):
        predicted, pseudo = predicted_masks[category], pseudo_masks[category]
        if len(predicted) != len(pseudo):
            raise ValueError(
                f"class {category} has {len(predicted)} predicted masks but {len(pseudo)} pseudo "
                "masks, expected one each per image"
            )
        for image in range(len(predicted)):
            meter.update(category, predicted[image], pseudo[image])
    scores = meter.scores(pooled=pooled)
    if ignored_class is not None:
        scores[ignored_class] = 0
    return scores
