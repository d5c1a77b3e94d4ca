"""Which test follows which setting to where it acts, and what such a test has to show.

A test of this kind gives, for two or more values of one setting, what the stage made and what is
right for that value by hand or by brute force. What is right has to differ between the values, so
that a stage that ignores the setting cannot pass.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from itertools import combinations
from typing import Any

import torch

from tests.tolerances import FLOAT32_SUMS

Outcomes = Iterable[tuple[Any, Any]]
"""Found and right, for each value of a setting."""
FOLLOWED: dict[str, str] = {}
"""Setting -> the test that follows it."""


def follows(setting: str) -> Callable[[Callable[..., Outcomes]], Callable[..., None]]:
    """Make a test of a function that yields what was found and what is right for some values."""

    def mark(outcomes: Callable[..., Outcomes]) -> Callable[..., None]:
        @functools.wraps(outcomes)
        def test(*arguments: Any, **named: Any) -> None:
            right = []
            for number, (found, expected) in enumerate(outcomes(*arguments, **named)):
                assert alike(found, expected), (
                    f"{setting}, value {number}: {found}, expected {expected}"
                )
                right.append(expected)
            assert len(right) >= 2, f"{setting} is followed with one value"
            for one, other in combinations(right, 2):
                assert not alike(one, other), f"{setting} may be ignored: {one} for two values"

        assert setting not in FOLLOWED, f"{setting} is followed by {FOLLOWED[setting]}"
        FOLLOWED[setting] = f"{outcomes.__module__}.{outcomes.__name__}"
        return test

    return mark


def alike(one: Any, other: Any) -> bool:
    """Whether two outcomes are equal, numbers to rounding."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and torch.allclose(
            one.double(), other.double(), rtol=FLOAT32_SUMS, atol=FLOAT32_SUMS
        )
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= FLOAT32_SUMS * max(1.0, abs(other))
    return bool(one == other)
