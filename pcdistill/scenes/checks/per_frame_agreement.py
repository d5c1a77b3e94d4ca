"""Depth scale and offset per frame, for depth images that were normalized one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.scenes.checks.depth_agreement import DepthView, measure_agreement, tiles
from pcdistill.scenes.checks.fit_thresholds import (
    MIN_TILES_OF_FRAME,
    STRAIGHTENED,
    STRAIGHTENED_GAIN,
)
from pcdistill.scenes.checks.samples import SceneSample

_MIN_FRAMES = 3
_ROUNDS = 8


class Stretched(NamedTuple):
    """What lines of their own explain, as shares of the compared depth."""

    before: float
    after: float


def stretched_frames(capture: SceneSample, tolerance: float) -> Stretched | None:
    """Find depth that was stretched image by image, between its nearest and its farthest.

    Args:
        capture: with a surface to compare with, which its poses fit.
        tolerance: relative to the measured depth.

    Returns:
        None where that is not what is wrong.
    """
    if capture.surface is None:
        return None
    views = [view for view in capture.views() if (view.depth > 0).any()]
    surface = capture.surface.double()
    straightened = [line for line in (_straightened(v, surface) for v in views) if line is not None]
    if len(straightened) < max(_MIN_FRAMES, len(views) / 2):
        return None
    ratio = measure_agreement(views, surface).ratio
    scaled = [replace(view, depth=view.depth * ratio) for view in views]
    before = measure_agreement(scaled, surface, tolerance=tolerance).fraction
    after = measure_agreement(straightened, surface, tolerance=tolerance).fraction
    return (
        Stretched(before, after) if after >= max(STRAIGHTENED, before + STRAIGHTENED_GAIN) else None
    )


def _straightened(view: DepthView, surface: Tensor) -> DepthView | None:
    """The frame with its depth replaced by the straight line of it that fits the surface best."""
    nearest, low, high = tiles(view, surface)
    both = nearest.isfinite() & low.isfinite()
    if int(both.sum()) < MIN_TILES_OF_FRAME:
        return None
    distance, counts = nearest[both], (low + high)[both] / 2
    weight = 1 / distance
    terms = torch.stack([counts, torch.ones_like(counts)], dim=1)
    for _ in range(_ROUNDS):  # tiles at edges and behind holes count ever less
        line = torch.linalg.lstsq(terms * weight[:, None], distance * weight).solution
        gap = (terms @ line - distance).abs() / distance
        weight = 1 / (distance * (0.02 + gap))
    depth = (view.depth.double() * line[0] + line[1]).float()
    known = (view.depth > 0) & (depth > 0)
    return replace(view, depth=torch.where(known, depth, 0.0)) if float(line[0]) > 0 else None
