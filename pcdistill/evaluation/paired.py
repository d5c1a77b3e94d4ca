"""Paired bootstrap of the difference of two methods, over scenes and seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.evaluation.metrics import MeanOver, Unseen

DRAWS = 2000
"""Resamplings of one interval."""
LEVEL = 0.95
"""Share of the resamplings inside of it."""
_SEED = 20
Counts = NDArray[np.float64]
"""Points, as whole numbers or means of these."""

Chosen = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Of B samples, for each place of a seed: the seed (B,) that stands there and the scenes (B, H)
drawn of it, -1 for none."""
Verdict = Literal["ahead", "behind", "no difference"]


@dataclass(frozen=True)
class PairedDifference:
    """How far one method is ahead of another on the same scenes."""

    difference: float
    """mIoU of the first less that of the second, in points of per cent."""
    low: float | None
    """Lower end of the 95 % interval; None where a single scene tells nothing of others."""
    high: float | None
    """Upper end."""
    scenes: int
    """Scenes with a true point, over all seeds."""
    seeds: int

    @property
    def verdict(self) -> Verdict | None:
        """Whether the interval leaves out 0, and on which side; None where there is none."""
        if self.low is None or self.high is None:
            return None
        if self.low > 0:
            return "ahead"
        return "behind" if self.high < 0 else "no difference"

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.difference:+.1f}"
        return f"{self.difference:+.1f} [{self.low:.1f}, {self.high:.1f}]"


def paired_difference(
    first: Tensor,
    second: Tensor,
    *,
    unseen: Unseen = "miss",
    mean_over: MeanOver = "present",
    excluded_classes: tuple[int, ...] = (),
) -> PairedDifference:
    """Compare two methods by the confusion matrices of the same scenes.

    What is compared is the mean over the seeds of the mIoU of all scenes of a seed in one matrix.
    Seeds are drawn with replacement, then within each of them its scenes, the same for both
    methods; with one seed only scenes are drawn. The interval is that between the percentiles of
    the 2000 differences. All sums are made in one order, so that the digits are the same on every
    processor.

    Args:
        first: (S, H, K, K), or (S, H, K + 1, K) where the last row counts points without a
            prediction; points by predicted and true category of H scenes of S seeds. A method that
            was measured several times, whose mIoU is the mean, has these as another axis:
            (S, H, M, K + 1, K).
        second: the same of the other method; M may differ.
        unseen: what points without a prediction count as.
        mean_over: whether classes absent from a sample count as 0 or not at all.
        excluded_classes: categories that take no part in the mean.

    Returns:
        the difference in points of per cent; scenes without a true point are left out.

    Raises:
        ValueError: shapes do not fit together, no scene has a true point, or true points of the
            two methods differ.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, sections 8.3 and 13.3.
    """
    counts = [_with_measurements(name, x) for name, x in (("first", first), ("second", second))]
    _require_same_points(*counts)
    totals = [_class_totals(one, unseen) for one in counts]
    there = (counts[0].sum(axis=(2, 3, 4)) > 0) | (counts[1].sum(axis=(2, 3, 4)) > 0)  # (S, H)
    seeds = [np.flatnonzero(row) for row in there if row.any()]
    known = np.flatnonzero(there.any(axis=1))
    if not seeds:
        raise ValueError("no scene has a true point, expected some to compare on")
    takes_part = np.ones(first.shape[-1], dtype=bool)
    takes_part[list(excluded_classes)] = False

    def difference(
        chosen: Chosen,
    ) -> NDArray[np.float64]:
        """Of each of B samples: per place of a seed, (B,) seeds and (B, H) scenes drawn of them."""
        one, other = (_mean_over_seeds(total, chosen, mean_over, takes_part) for total in totals)
        found: NDArray[np.float64] = 100 * (one - other)
        return found

    whole = [(np.full(1, s), scenes[None]) for s, scenes in zip(known, seeds, strict=True)]
    observed = float(difference(whole)[0])
    scenes = sum(map(len, seeds))
    if scenes == 1:
        return PairedDifference(observed, None, None, 1, 1)
    drawn = np.sort(difference(_samples(known, seeds)))
    tail = round((1 - LEVEL) / 2 * DRAWS)
    return PairedDifference(
        observed, float(drawn[tail]), float(drawn[DRAWS - 1 - tail]), scenes, len(seeds)
    )


def _with_measurements(name: str, counts: Tensor) -> Counts:
    """(S, H, M, R, K) float64 of either shape; whole numbers stay exact."""
    axes = counts.shape
    if len(axes) not in (4, 5) or axes[-2] not in (axes[-1], axes[-1] + 1) or 0 in axes:
        raise ValueError(
            f"{name} has shape {tuple(axes)}, expected (S, H, K, K) or (S, H, K + 1, K), with an "
            "axis of measurements after the scenes where there are several"
        )
    values: Counts = counts.cpu().double().numpy()
    if not bool((values >= 0).all()):
        raise ValueError(f"{name} holds counts that are not 0 or more")
    return values if values.ndim == 5 else values[:, :, None]


def _require_same_points(first: Counts, second: Counts) -> None:
    if first.shape[:2] != second.shape[:2] or first.shape[-1] != second.shape[-1]:
        raise ValueError(
            f"first is of {first.shape[:2]} (seeds, scenes) and {first.shape[-1]} classes but "
            f"second of {second.shape[:2]} and {second.shape[-1]}, expected the same"
        )
    everything = first.shape[-2] == second.shape[-2] == first.shape[-1] + 1
    true = [one.sum(axis=3) for one in (first, second)]  # (S, H, M, K)
    same = all(bool((one == true[0][:, :, :1]).all()) for one in true)
    if everything and not same:
        raise ValueError(
            "first and second were not measured on the same points: the true points of some class "
            "differ; measure both anew"
        )


def _class_totals(counts: Counts, unseen: Unseen) -> Counts:
    """(S, H, M, 3, K): points found, those the IoU divides by, those that make a class present."""
    classes = counts.shape[-1]
    matrix = counts[..., :classes, :]
    true = matrix.sum(axis=-2)
    without = counts[..., classes:, :].sum(axis=-2)
    hit = np.diagonal(matrix, axis1=-2, axis2=-1)
    union = true + matrix.sum(axis=-1) - hit + (without if unseen == "miss" else 0)
    present = true if unseen == "ignore" else true + without
    return np.stack([hit, union, present], axis=-2)


def _samples(known: NDArray[np.int64], seeds: list[NDArray[np.int64]]) -> Chosen:
    """Draw seeds, and of each as many scenes as it has."""
    generator = np.random.default_rng(_SEED)
    limit = max(map(len, seeds))
    table = np.full((len(seeds), limit), -1)
    for row, scenes in zip(table, seeds, strict=True):
        row[: len(scenes)] = scenes
    size = np.array([len(scenes) for scenes in seeds])
    places = []
    for _ in seeds:
        which = generator.integers(0, len(seeds), DRAWS)  # (B,)
        uniform = generator.random((DRAWS, limit))
        picked = np.floor(uniform * size[which, None]).astype(np.int64)
        scenes = table[which[:, None], picked]
        scenes[np.arange(limit) >= size[which, None]] = -1
        places.append((known[which], scenes))
    return places


def _mean_over_seeds(
    totals: Counts,
    chosen: Chosen,
    mean_over: MeanOver,
    takes_part: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """(B,) mean of the mIoU in [0, 1] of B samples of seeds and scenes."""
    total = np.zeros(len(chosen[0][0]))
    for seed, scenes in chosen:
        summed = np.zeros((len(seed), *totals.shape[2:]))  # (B, M, 3, K)
        for place in range(scenes.shape[1]):
            there = scenes[:, place] >= 0
            summed[there] += totals[seed[there], scenes[there, place]]
        total += _mean_iou(summed, mean_over, takes_part)
    return total / len(chosen)


def _mean_iou(
    summed: Counts, mean_over: MeanOver, takes_part: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(B,) mIoU in [0, 1] of summed totals (B, M, 3, K), mean over the measurements."""
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
