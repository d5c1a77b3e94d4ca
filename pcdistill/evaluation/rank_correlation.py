"""Spearman's rank correlation of measured and true capability tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.evaluation.scene_bootstrap import LEVEL
from pcdistill.geometry import require_shape

_DRAWS = 1000
_SEED = 23
_FEWEST = 4
"""Pairs below which an interval says nothing."""


class Agreement(NamedTuple):
    """How far two tables put teachers and classes into the same order."""

    spearman: float | None
    """In [-1, 1]; None where there is no order to compare."""
    classes: int
    """Pairs of a teacher and a class that were compared."""
    interval: tuple[float, float] | None = None
    """95 % bootstrap interval over these pairs; None where there is no correlation, or of few."""

    def sentence(self, guessed: Sequence[str] = ()) -> str:
        """Describe the agreement in words.

        Args:
            guessed: teachers that do not say what they were taught, of which the classes count
                that they find at all.
        """
        of = f"{self.classes} taught classes of all teachers together"
        if guessed:
            do = "does" if len(guessed) == 1 else "do"
            of += f" (of {' and '.join(guessed)}, which {do} not say, those it finds at all)"
        if self.spearman is None:
            return f"no rank correlation of measured capability with true IoU: {of} tell nothing"
        return (
            "the rank correlation (Spearman) of measured capability with true IoU is "
            f"{self.spearman:.2f}{interval_in_words(self.interval)} over {of}"
        )


def rank_agreement(measured: Tensor, true: Tensor, taught: Tensor) -> Agreement:
    """Compare the order of a measured table with that of a true one.

    Args:
        measured: (T, K) float.
        true: (T, K) float, NaN where nothing is known.
        taught: (T, K) bool, what is compared; never what `true` does not know.

    Raises:
        ValueError: shapes differ.
    """
    require_shape("measured", measured, None, None)
    require_shape("true", true, *measured.shape)
    require_shape("taught", taught, *measured.shape)
    compared = taught.bool() & ~torch.isnan(true)
    first, second = measured[compared].double().numpy(), true[compared].double().numpy()
    return Agreement(spearman(first, second), len(first), _interval(first, second))


def interval_in_words(interval: tuple[float, float] | None) -> str:
    """Say an interval behind a number; nothing where there is none."""
    return "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"


def _interval(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Resample the pairs, as many as there are; resamples without an order are drawn anew."""
    if len(first) < _FEWEST or spearman(first, second) is None:
        return None
    rng = np.random.default_rng(_SEED)
    found: list[float] = []
    for _ in range(2 * _DRAWS):
        some = rng.integers(len(first), size=len(first))
        rank = spearman(first[some], second[some])
        if rank is not None:
            found.append(rank)
        if len(found) == _DRAWS:
            break
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Rank correlation of two lists of n numbers; equal ones share the mean of their ranks.

    Everything but the last division is counted in whole numbers, so that the digits are the same
    everywhere.

    Returns:
        in [-1, 1]; None for fewer than two pairs, or where all numbers of a list are equal.

    Source: Spearman 1904; ties as in Kendall, Rank Correlation Methods, chapter 3.
    """
    if len(first) != len(second):
        raise ValueError(f"second has {len(second)} numbers, expected {len(first)} as the first")
    one, other = _centered_ranks(first), _centered_ranks(second)
    spread = sum(a * a for a in one) * sum(b * b for b in other)
    if spread == 0:
        return None
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.sqrt(spread)


def _centered_ranks(values: NDArray[np.float64]) -> list[int]:
    """Twice the rank of each value, from its middle."""
    _, place, members = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(members)
    twice = 2 * last - members + 1  # first rank + last rank of each group, ranks from 1
    return [int(rank) - (len(values) + 1) for rank in twice[place]]
