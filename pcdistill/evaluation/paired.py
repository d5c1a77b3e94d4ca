"""Paired bootstrap of the difference of two methods, over scenes and seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.evaluation.metrics import MeanOver, Unseen
from pcdistill.evaluation.protocols import Average
from pcdistill.evaluation.scene_bootstrap import (
    DRAWS,
    LEVEL,
    SEED,
    class_totals,
    mean_iou,
    resampled_miou,
)

SWAPS = 4096
"""Exchanges of the two methods by which a p-value is counted, at most."""
_ROUNDING = 1e-9
"""Points of per cent by which an equal difference may be smaller."""
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
    p_value: float | None = None
    """How often a difference as large comes about when the two methods are exchanged in scenes at
    random; None with a single scene, several seeds or several measurements of a method."""

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
    average: Average = "global",
    excluded_classes: tuple[int, ...] = (),
) -> PairedDifference:
    """Compare two methods by the confusion matrices of the same scenes.

    What is compared is the mean over the seeds of the mIoU of all scenes of a seed, in one matrix
    or each by itself. Seeds are drawn with replacement, then within each of them its scenes, the
    same for both methods; with one seed only scenes are drawn. The interval is that between the
    percentiles of the 2000 differences. The p-value is that of a permutation test: of all ways to
    exchange the two methods in some scenes, or 4096 of them, the share with a difference as large.
    All sums are made in one order, so that the digits are the same on every processor.

    Args:
        first: (S, H, K, K), or (S, H, K + 1, K) where the last row counts points without a
            prediction; points by predicted and true category of H scenes of S seeds. A method that
            was measured several times, whose mIoU is the mean, has these as another axis:
            (S, H, M, K + 1, K).
        second: the same of the other method; M may differ.
        unseen: what points without a prediction count as.
        mean_over: whether classes absent from a sample count as 0 or not at all.
        average: one matrix of all scenes of a seed, or the mean of each scene's own mIoU.
        excluded_classes: categories that take no part in the mean.

    Returns:
        the difference in points of per cent; scenes without a true point are left out.

    Raises:
        ValueError: shapes do not fit together, no scene has a true point, or true points of the
            two methods differ.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, sections 8.3, 13.3 and 15.2.
    """
    counts = [_with_measurements(name, x) for name, x in (("first", first), ("second", second))]
    _require_same_points(*counts)
    totals = [class_totals(torch.from_numpy(one), unseen).numpy() for one in counts]
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
        one, other = (
            _mean_over_seeds(total, chosen, mean_over, average, takes_part) for total in totals
        )
        found: NDArray[np.float64] = 100 * (one - other)
        return found

    whole = [(np.full(1, s), scenes[None]) for s, scenes in zip(known, seeds, strict=True)]
    observed = float(difference(whole)[0])
    scenes = sum(map(len, seeds))
    if scenes == 1:
        return PairedDifference(observed, None, None, 1, 1)
    drawn = np.sort(difference(_samples(known, seeds)))
    tail = round((1 - LEVEL) / 2 * DRAWS)
    one, other = totals
    return PairedDifference(
        observed,
        float(drawn[tail]),
        float(drawn[DRAWS - 1 - tail]),
        scenes,
        len(seeds),
        _p_value(one[known[0], seeds[0]], other[known[0], seeds[0]], mean_over, average, takes_part)
        if len(seeds) == 1 and all(total.shape[2] == 1 for total in totals)
        else None,
    )


def _p_value(
    first: Counts,
    second: Counts,
    mean_over: MeanOver,
    average: Average,
    takes_part: NDArray[np.bool_],
) -> float:
    """Share of exchanges of two methods in some scenes, (H, 1, 3, K) totals, that differ as much.

    Args:
        first: totals of the scenes, at least two.
        second: of the other method.
        mean_over: as in `paired_difference`.
        average: as in `paired_difference`.
        takes_part: (K,) bool, classes of the mean.
    """
    scenes = len(first)
    whole = 2**scenes <= SWAPS
    if whole:
        swapped = np.arange(2**scenes)[:, None] >> np.arange(scenes) & 1  # (B, H) 0 or 1
    else:
        swapped = np.random.default_rng(SEED).integers(0, 2, (SWAPS - 1, scenes))
        swapped = np.concatenate([np.zeros((1, scenes), dtype=np.int64), swapped])
    both = np.concatenate([first, second])  # (2H, 1, 3, K)
    keep, take = (1 - swapped).astype(np.float64), swapped.astype(np.float64)
    one = resampled_miou(both, np.hstack([keep, take]), mean_over, average, takes_part)
    other = resampled_miou(both, np.hstack([take, keep]), mean_over, average, takes_part)
    apart = np.abs(100 * (one - other))  # the first is what was found
    return float((apart >= apart[0] - _ROUNDING).mean())


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


def _samples(known: NDArray[np.int64], seeds: list[NDArray[np.int64]]) -> Chosen:
    """Draw seeds, and of each as many scenes as it has."""
    generator = np.random.default_rng(SEED)
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
    average: Average,
    takes_part: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """(B,) mean of the mIoU in [0, 1] of B samples of seeds and scenes."""
    total = np.zeros(len(chosen[0][0]))
    if average == "per scene":
        own = mean_iou(totals.reshape(-1, *totals.shape[2:]), mean_over, takes_part)
        own = own.reshape(totals.shape[:2])  # (S, H)
        for seed, scenes in chosen:
            added, drawn = np.zeros(len(seed)), (scenes >= 0).sum(axis=1)
            for place in range(scenes.shape[1]):
                there = scenes[:, place] >= 0
                added[there] += own[seed[there], scenes[there, place]]
            total += added / drawn
        return total / len(chosen)
    for seed, scenes in chosen:
        summed = np.zeros((len(seed), *totals.shape[2:]))  # (B, M, 3, K)
        for place in range(scenes.shape[1]):
            there = scenes[:, place] >= 0
            summed[there] += totals[seed[there], scenes[there, place]]
        total += mean_iou(summed, mean_over, takes_part)
    return total / len(chosen)
