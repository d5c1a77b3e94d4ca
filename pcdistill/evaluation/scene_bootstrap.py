"""Bootstrap interval of one method's mIoU over scenes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.evaluation.metrics import MeanOver, Unseen
from pcdistill.evaluation.protocols import Average

DRAWS = 2000
"""Resamplings of one interval."""
LEVEL = 0.95
"""Share of the resamplings inside of it."""
SEED = 20
_AT_ONCE = 2**22
"""Numbers that the sums of some resamplings may take."""


def class_totals(counts: Tensor, unseen: Unseen) -> Tensor:
    """Sum up what the ratios of each class are made of.

    Args:
        counts: (..., K, K) or (..., K + 1, K) integer, points by predicted and true category, the
            last of K + 1 rows those without a prediction.
        unseen: what points without a prediction count as.

    Returns:
        (..., 3, K) of the dtype of the counts: points found, those that the IoU divides by, those
        that the accuracy divides by, which make a class present.
    """
    classes = counts.shape[-1]
    matrix, without = counts[..., :classes, :], counts[..., classes:, :].sum(dim=-2)
    true = matrix.sum(dim=-2)
    hit = matrix.diagonal(dim1=-2, dim2=-1)
    union = true + matrix.sum(dim=-1) - hit
    if unseen == "miss":
        union = union + without
    present = true if unseen == "ignore" else true + without
    return torch.stack([hit, union, present], dim=-2)


def scene_interval(
    totals: Sequence[Tensor],
    *,
    mean_over: MeanOver = "present",
    average: Average = "global",
    excluded_classes: Sequence[int] = (),
) -> tuple[float, float] | None:
    """95 % bootstrap interval of the mIoU over scenes, per cent.

    Scenes are drawn with replacement; the interval is that between the percentiles of the mIoU of
    2000 drawings. Sums are of whole numbers, and means are made in one order, so that the digits
    are the same on every processor.

    Args:
        totals: `class_totals` (M, 3, K) of each scene, of M measurements whose mIoU is the mean.
        mean_over: whether classes absent from a drawing count as 0 or not at all.
        average: one matrix of the drawn scenes, or the mean of each scene's own mIoU.
        excluded_classes: categories that take no part in the mean.

    Returns:
        the two ends; None with fewer than two scenes that have a true point.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    known = [one for one in totals if bool((one[..., 2, :] > 0).any())]
    if len(known) < 2:
        return None
    stacked = torch.stack(known).double().numpy()  # (H, M, 3, K)
    takes_part = np.ones(stacked.shape[-1], dtype=bool)
    takes_part[list(excluded_classes)] = False
    scenes = len(stacked)
    generator = np.random.default_rng(SEED)
    picked = generator.integers(0, scenes, (DRAWS, scenes))
    weights = np.stack([np.bincount(row, minlength=scenes) for row in picked]).astype(np.float64)
    found = resampled_miou(stacked, weights, mean_over, average, takes_part)
    drawn = np.sort(100 * found)
    tail = round((1 - LEVEL) / 2 * DRAWS)
    return float(drawn[tail]), float(drawn[DRAWS - 1 - tail])


def resampled_miou(
    totals: NDArray[np.float64],
    weights: NDArray[np.float64],
    mean_over: MeanOver,
    average: Average,
    takes_part: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """(B,) mIoU in [0, 1] of scenes that are drawn several times.

    Args:
        totals: (H, M, 3, K) whole numbers, of scenes with a true point.
        weights: (B, H) how often each scene is in a drawing; whole numbers.
        mean_over: as in `scene_interval`.
        average: as in `scene_interval`.
        takes_part: (K,) bool, classes of the mean.
    """
    if average == "per scene":
        own = mean_iou(totals, mean_over, takes_part)  # (H,)
        total, below = np.zeros(len(weights)), weights.sum(axis=1)
        for scene, value in enumerate(own):  # in this order, whatever the processor
            total += weights[:, scene] * value
        return np.asarray(total / below)
    flat = totals.reshape(len(totals), -1)
    step = max(1, _AT_ONCE // flat.shape[1])
    parts = [
        mean_iou(
            (weights[start : start + step] @ flat).reshape(-1, *totals.shape[1:]),
            mean_over,
            takes_part,
        )
        for start in range(0, len(weights), step)
    ]
    return np.concatenate(parts)


def mean_iou(
    summed: NDArray[np.float64], mean_over: MeanOver, takes_part: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(B,) mIoU in [0, 1] of summed totals (B, M, 3, K), mean over the M measurements."""
    hit, union, present = (summed[:, :, part] for part in range(3))
    iou = np.where(present > 0, hit / np.where(union > 0, union, 1), 0.0)  # (B, M, K)
    counted = (present > 0) | (mean_over == "all")
    counted = counted & takes_part
    top, below = np.zeros(summed.shape[:2]), counted.sum(axis=2)
    for category in range(iou.shape[2]):  # in this order, whatever the processor
        top += np.where(counted[:, :, category], iou[:, :, category], 0.0)
    means = top / np.maximum(below, 1)
    total = np.zeros(len(summed))
    for measurement in range(means.shape[1]):
        total += means[:, measurement]
    mean: NDArray[np.float64] = total / means.shape[1]
    return mean
