"""Whose furniture, textures and lights: what teachers learn from is made by others than the homes.

A collection draws sizes from its own half of what is usual and finishes from its own half of each
list. The kinds of furniture are known to all: there are office chairs in both, but other ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np

Collection = Literal["homes", "teacher"]
"""`homes` furnishes all homes that are scanned and the pictures on which capability is measured;
`teacher` furnishes what the embedded teachers are trained on, and nothing else."""

Option = TypeVar("Option")


class Draws(np.random.Generator):
    """Random numbers of one collection; a plain generator draws from both."""

    def __init__(self, stream: np.random.SeedSequence, collection: Collection) -> None:
        super().__init__(np.random.PCG64(stream))
        self.collection: Collection = collection


def draws_like(rng: np.random.Generator, seed: int) -> np.random.Generator:
    """A new generator of the same collection."""
    if isinstance(rng, Draws):
        return Draws(np.random.SeedSequence(seed), rng.collection)
    return np.random.default_rng(seed)


def measure(rng: np.random.Generator, low: float, high: float) -> float:
    """A size between two usual ones: homes take the lower half, what teachers learn the upper.

    Args:
        rng: random numbers of the home.
        low: the smallest, in any unit.
        high: the largest, in the same unit.
    """
    middle = (low + high) / 2
    if isinstance(rng, Draws):
        low, high = (low, middle) if rng.collection == "homes" else (middle, high)
    return float(rng.uniform(low, high))


def choose(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    """A finish out of a list, in which the usual ones stand several times.

    Homes take the different ones in turn, the first, the third and so on; what teachers learn has
    the others. A list of one is for both.
    """
    if isinstance(rng, Draws):
        places = {option: place for place, option in enumerate(dict.fromkeys(options))}
        turn = 0 if rng.collection == "homes" else 1
        options = [one for one in options if places[one] % 2 == turn] or options
    return options[int(rng.integers(len(options)))]


def any_kind(rng: np.random.Generator, kinds: Sequence[Option]) -> Option:
    """One of the kinds of a thing, all known to every collection and equally likely."""
    return kinds[int(rng.integers(len(kinds)))]
