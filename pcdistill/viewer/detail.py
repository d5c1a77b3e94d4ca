"""Level of detail: blocks of points, and how many of each are drawn from where one stands."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.geometry import require_shape

BLOCKS_ALONG = 5
"""Blocks along the longest side of a scene."""
MIN_BLOCK = 0.5
"""Metres: no block is shorter."""
SECTORS = 8
"""Directions that upright surfaces are sorted by, so that a wall can be hidden as a whole."""
UPRIGHT = 0.5
"""Largest vertical part of the normal of an upright surface."""
SHARES = tuple(2.0 ** (-step / 2) for step in range(17))
"""Shares of its points that a block is drawn with; steps, so that a small move changes nothing."""

_CODE_BITS = 10  # of a place in a block, along each axis


@dataclass(frozen=True, eq=False)
class Block:
    """Points that are drawn, thinned and hidden together."""

    points: Tensor
    """(n,) int64, rows of the scene; the first k of them are spread over all, for every k."""
    center: tuple[float, float, float]
    """Middle of its bounding box, metres."""
    radius: float
    """Half the diagonal of its bounding box, metres."""
    outward: tuple[float, float, float] | None
    """Mean unit normal of an upright surface; None of anything else."""


def build_blocks(points: Tensor, normals: Tensor | None = None) -> list[Block]:
    """Cut a scene into cubes, and these by the direction that upright surfaces look to.

    Args:
        points: (N, 3) float, metres, finite.
        normals: (N, 3) float, unit length, zero where unknown; None of a scene without.
    """
    require_shape("points", points, None, 3)
    if len(points) == 0:
        return []
    low, high = points.amin(dim=0), points.amax(dim=0)
    edge = max(float((high - low).max()) / BLOCKS_ALONG, MIN_BLOCK)
    cells = ((points - low) / edge).long().clamp(max=BLOCKS_ALONG - 1)  # (N, 3)
    keys = (cells[:, 0] * BLOCKS_ALONG + cells[:, 1]) * BLOCKS_ALONG + cells[:, 2]
    keys = keys * (SECTORS + 1) + _sectors(normals, len(points))
    order = torch.argsort(keys * (1 << 3 * _CODE_BITS) + _codes((points - low) / edge - cells))
    counts = torch.unique_consecutive(keys[order], return_counts=True)[1].tolist()
    return [_block(points, normals, own) for own in torch.split(order, counts)]


def choose_counts(
    blocks: list[Block], position: tuple[float, float, float], budget: int
) -> list[int]:
    """How many points of each block are drawn, so that what is near is densest.

    Every block gets points in proportion to the solid angle that its surface covers, and at most
    all it has; within the budget, up to the steps of `SHARES`.

    Args:
        blocks: of a scene.
        position: of the camera, metres.
        budget: points in all.
    """
    if not blocks:
        return []
    sizes = np.array([len(block.points) for block in blocks], dtype=np.float64)
    centers = np.array([block.center for block in blocks])
    radii = np.array([block.radius for block in blocks])
    away = np.linalg.norm(centers - np.asarray(position), axis=1)
    nearest = np.maximum(away - radii, 0.3 * radii + 0.1)  # metres; from inside not endless
    wanted = 1 / nearest**2
    scale = _scale(sizes, wanted, min(budget, int(sizes.sum())))
    shares = np.minimum(1, scale * wanted)
    steps = np.minimum(np.ceil(-2 * np.log2(np.maximum(shares, 1e-9)) - 1e-9), len(SHARES) - 1)
    kept = np.array(SHARES)[steps.astype(np.int64)]
    return [max(1, round(count)) for count in (kept * sizes).tolist()]


def thinned_size(size: float, count: int, drawn: int) -> float:
    """Diameter, metres, of points that close a surface of which only some are drawn.

    Args:
        size: diameter that closes it when all are drawn, metres.
        count: all points.
        drawn: those that are drawn.
    """
    return size * math.sqrt(count / max(drawn, 1))


def seen_from_behind(block: Block, position: tuple[float, float, float]) -> bool:
    """Whether a block is a wall whose back is turned to the camera."""
    if block.outward is None:
        return False
    towards = np.asarray(position) - np.asarray(block.center)
    length = float(np.linalg.norm(towards))
    return length > 0 and float(towards @ np.asarray(block.outward)) / length < -0.05


def _scale(sizes: NDArray[np.float64], wanted: NDArray[np.float64], budget: int) -> float:
    """Largest factor with which the shares, at most 1 each, stay within the budget."""
    low, high = 0.0, float(1 / wanted.min())
    for _ in range(50):
        middle = (low + high) / 2
        inside = (sizes * np.minimum(1, middle * wanted)).sum() <= budget
        low, high = (middle, high) if inside else (low, middle)
    return high if budget >= sizes.sum() else low


def _sectors(normals: Tensor | None, count: int) -> Tensor:
    """(N,) int64: direction of upright surfaces, 1 to `SECTORS`; 0 of anything else."""
    if normals is None:
        return torch.zeros(count, dtype=torch.int64)
    require_shape("normals", normals, count, 3)
    upright = (normals[:, 2].abs() < UPRIGHT) & normals.any(dim=1)
    turns = torch.atan2(normals[:, 1], normals[:, 0]) / (2 * math.pi) * SECTORS
    return torch.where(upright, turns.round().long() % SECTORS + 1, 0)


def _codes(places: Tensor) -> Tensor:
    """(N,) int64: Morton codes of places (N, 3) in their blocks, 0 to 1."""
    scaled = (places * (1 << _CODE_BITS)).long().clamp(max=(1 << _CODE_BITS) - 1)
    code = torch.zeros(len(places), dtype=torch.int64)
    for bit in range(_CODE_BITS):
        for axis in range(3):
            code |= ((scaled[:, axis] >> bit) & 1) << (3 * bit + axis)
    return code


def _block(points: Tensor, normals: Tensor | None, own: Tensor) -> Block:
    """A block of the points `own`, (n,) int64 in the order of their codes."""
    bits = max(1, (len(own) - 1).bit_length())
    rank, spread = torch.arange(len(own)), torch.zeros(len(own), dtype=torch.int64)
    for bit in range(bits):
        spread |= ((rank >> bit) & 1) << (bits - 1 - bit)
    inside = points[own]
    low, high = inside.amin(dim=0).double(), inside.amax(dim=0).double()
    x, y, z = ((low + high) / 2).tolist()
    outward = None
    if normals is not None:
        mean = torch.nn.functional.normalize(normals[own].double().mean(dim=0), dim=0)
        if bool((normals[own, 2].abs() < UPRIGHT).all()) and bool(mean.any()):
            a, b, c = mean.tolist()
            outward = (a, b, c)
    return Block(own[torch.argsort(spread)], (x, y, z), float((high - low).norm()) / 2, outward)
