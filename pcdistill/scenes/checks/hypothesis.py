"""Data types of hypotheses: one changed assumption about a scan, and how the scan was read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcdistill.scenes.checks.samples import SceneSample
from pcdistill.scenes.units import DEPTH_SCALE

SAME_AXES = torch.eye(3, dtype=torch.float64)
OTHER_WAYS_ROUND: Mapping[tuple[int, ...], tuple[str, str]] = {
    (0,): ("upside down: their rows run from bottom to top", "write the bottom row last"),
    (1,): ("mirrored: their columns run from right to left", "write the left column first"),
    (0, 1): ("turned by 180 degrees", "turn them back"),
}
"""How images may lie by mistake: the sides along which they run the other way (0 rows, 1 columns),
what is said of them, and what mends it."""


class Hypothesis(NamedTuple):
    """One assumption changed."""

    code: str
    sentence: str
    """What is wrong if this is the right reading."""
    fix: str
    apply: Callable[[SceneSample], SceneSample]


class Assumptions(NamedTuple):
    """How a scan was read."""

    poses: str = "camera_to_world"
    """The convention of its poses, one of `POSE_CONVENTIONS`."""
    depth_scale: float = DEPTH_SCALE
    """Counts per metre of its depth."""
    settable: frozenset[str] = frozenset()
    """Which of the two are settings of its layout."""


def assumptions_of(provenance: Mapping[str, Any]) -> Assumptions:
    """How a scene was read, by what its reader noted."""
    return Assumptions(
        str(provenance.get("poses") or "camera_to_world"),
        float(provenance.get("depth_scale") or DEPTH_SCALE),
        frozenset({"poses", "depth_scale"} & provenance.keys()),
    )


def rotations() -> Iterator[Tensor]:
    """The 23 ways to exchange and negate axes that are rotations, (3, 3) float64."""
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            turn = torch.zeros(3, 3, dtype=torch.float64)
            for row, (column, sign) in enumerate(zip(order, signs, strict=True)):
                turn[row, column] = sign
            if float(torch.linalg.det(turn)) > 0 and not torch.equal(turn, SAME_AXES):
                yield turn
