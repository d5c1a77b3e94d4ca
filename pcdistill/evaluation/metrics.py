"""Confusion matrix of semantic segmentation, with IoU and accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pcdistill.geometry import require_shape
from pcdistill.labels import (
    IGNORE_LABEL,
    IGNORE_LABEL_OF_FILES,
    NO_FEATURE_LABEL,
    NO_FEATURE_LABEL_OF_FILES,
    is_marked,
)

Unseen = Literal["miss", "ignore", "openscene"]
"""What a point without prediction counts as.

"miss": a miss, in IoU and accuracy alike.
"ignore": nothing, as if the point were not there.
"openscene": a miss in the accuracy, nothing in the IoU (what OpenScene's code computes).
"""

MeanOver = Literal["all", "present"]
"""Which classes a mean divides by.

"all": every class of the label set; one without a true point adds 0 (OpenScene).
"present": the classes that have a true point.
"""


class ConfusionMatrix:
    """Points counted by predicted and true category, added up over scenes.

    All ratios are fractions in [0, 1], float64, NaN for a class without a true point. Counts stay
    on the device of the first update.

    Source: OpenScene's evaluation; the counts and ratios agree with it exactly.
    """

    def __init__(
        self,
        classes: int,
        *,
        ignore_label: int = IGNORE_LABEL,
        no_feature_label: int = NO_FEATURE_LABEL,
    ) -> None:
        """Begin with nothing counted.

        Args:
            classes: K, number of categories.
            ignore_label: true label of points that take no part. The 255 of OpenScene's files is
                understood as well where it is no category (K <= 255).
            no_feature_label: predicted label of points without any prediction. OpenScene's 256 is
                understood as well where it is no category (K <= 256).

        Raises:
            ValueError: there is no class, or one has the number that stands for none.
        """
        if classes < 1:
            raise ValueError(f"classes is {classes}, expected at least 1")
        for name, value, none in (
            ("ignore_label", ignore_label, IGNORE_LABEL),
            ("no_feature_label", no_feature_label, NO_FEATURE_LABEL),
        ):
            if 0 <= value < classes:
                raise ValueError(
                    f"{name} is {value}, which is one of the {classes} classes, expected a number "
                    f"that is none, such as {none}"
                )
        self.classes = classes
        self.ignore_label = ignore_label
        self.no_feature_label = no_feature_label
        self.counts = torch.zeros(classes + 1, classes, dtype=torch.int64)
        """(K + 1, K) int64: predicted category (last row: none) by true category; additive."""

    @classmethod
    def from_counts(cls, counts: Tensor) -> ConfusionMatrix:
        """Make one of `counts` (K + 1, K) int64 of before.

        Raises:
            ValueError: the counts have another shape.
        """
        require_shape("counts", counts, None, None)
        require_shape("counts", counts, counts.shape[1] + 1, counts.shape[1])
        made = cls(counts.shape[1])
        made.counts = counts
        return made

    def add(self, other: ConfusionMatrix) -> None:
        """Add the points of another matrix of the same classes.

        Raises:
            ValueError: it has other classes.
        """
        require_shape("counts", other.counts, *self.counts.shape)
        self.counts = self.counts.to(other.counts.device) + other.counts

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Count the points of one scene.

        Args:
            predicted: (N,) integer in [0, K), or `no_feature_label`. Not read where ignored.
            labels: (N,) integer in [0, K), or `ignore_label`.

        Raises:
            ValueError: lengths differ, or a label is outside the label set.
        """
        require_shape("labels", labels, None)
        require_shape("predicted", predicted, labels.shape[0])
        scored = ~is_marked(labels, self.ignore_label, IGNORE_LABEL_OF_FILES, self.classes)
        true = labels[scored].long()
        guess = predicted.to(labels.device)[scored].long()
        none = is_marked(guess, self.no_feature_label, NO_FEATURE_LABEL_OF_FILES, self.classes)
        self._require_range("labels", true, f"{self.ignore_label} (ignored)")
        self._require_range("predicted", guess[~none], f"{self.no_feature_label} (none)")
        guess = torch.where(none, self.classes, guess)  # the last row of the counts
        cells = torch.bincount(guess * self.classes + true, minlength=self.counts.numel())
        if not self.counts.any():
            self.counts = self.counts.to(cells.device)
        self.counts += cells.view_as(self.counts).to(self.counts.device)

    @property
    def matrix(self) -> Tensor:
        """(K, K) int64: predicted category by true category, points without prediction not in."""
        return self.counts[:-1]

    @property
    def without_feature(self) -> Tensor:
        """(K,) int64: points of each true category that have no prediction."""
        return self.counts[-1]

    @property
    def points(self) -> int:
        """Points with a true category, predicted or not."""
        return int(self.counts.sum())

    def intersection(self) -> Tensor:
        """(K,) int64: points of each category that were predicted as it."""
        return self.matrix.diagonal()

    def target(self, unseen: Unseen = "openscene") -> Tensor:
        """(K,) int64: points of each true category that the accuracy divides by."""
        seen = self.matrix.sum(0)
        return seen if unseen == "ignore" else seen + self.without_feature

    def union(self, unseen: Unseen = "openscene") -> Tensor:
        """(K,) int64: points of a category or predicted as it, which the IoU divides by."""
        true = self.matrix.sum(0)
        if unseen == "miss":
            true = true + self.without_feature
        return true + self.matrix.sum(1) - self.intersection()

    def iou(self, unseen: Unseen = "openscene") -> Tensor:
        """Intersection over union of each category, (K,) float64; 0 where a present one has none.

        Args:
            unseen: what points without prediction count as.
        """
        return self._ratio(self.union(unseen), unseen)

    def accuracy(self, unseen: Unseen = "openscene") -> Tensor:
        """Share of each true category that was found (recall), (K,) float64."""
        return self._ratio(self.target(unseen), unseen)

    def overall_accuracy(self, unseen: Unseen = "openscene") -> float:
        """Share of all points that were found; NaN without any point."""
        total = int(self.target(unseen).sum())
        return int(self.intersection().sum()) / total if total else float("nan")

    def mean_iou(
        self,
        unseen: Unseen = "openscene",
        mean_over: MeanOver = "all",
        excluded_classes: Sequence[int] = (),
    ) -> float:
        """Mean of `iou` over the categories; NaN where there is none to average.

        Args:
            unseen: what points without prediction count as.
            mean_over: whether absent categories count as 0 or not at all.
            excluded_classes: categories that take no part in the mean (they still can be wrong
                guesses).
        """
        return mean_over_classes(self.iou(unseen), mean_over, excluded_classes)

    def _ratio(self, denominator: Tensor, unseen: Unseen) -> Tensor:
        ratio = self.intersection().double() / denominator.clamp(min=1).double()
        present = self.target(unseen) > 0
        return torch.where(present, ratio, torch.full_like(ratio, torch.nan))

    def _require_range(self, name: str, values: Tensor, other: str) -> None:
        outside = (values < 0) | (values >= self.classes)
        if bool(outside.any()):
            wrong = int(values[outside][0])
            raise ValueError(
                f"{name} holds {wrong} ({int(outside.sum())} such points), expected 0 to "
                f"{self.classes - 1} or {other}"
            )


def mean_over_classes(
    per_class: Tensor, mean_over: MeanOver, excluded_classes: Sequence[int] = ()
) -> float:
    """Average (K,) values where NaN marks a class without a true point.

    Args:
        per_class: (K,) float, NaN where a class has no true point.
        mean_over: whether absent classes count as 0 or not at all.
        excluded_classes: indices of classes that take no part.

    Returns:
        the mean; NaN where no class takes part.
    """
    taking_part = torch.ones(len(per_class), dtype=torch.bool, device=per_class.device)
    taking_part[list(excluded_classes)] = False
    values = per_class[taking_part]
    if mean_over == "present":
        values = values[~values.isnan()]
    return float(values.nan_to_num(0.0).mean()) if len(values) else float("nan")
