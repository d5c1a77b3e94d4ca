"""Alternative hypotheses about depth images: their unit, and distances along rays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from pcdistill.scenes.checks.hypothesis import Assumptions, Hypothesis
from pcdistill.scenes.checks.samples import FrameSample, SceneSample
from pcdistill.scenes.units import DEPTH_SCALES, MISTAKEN_UNITS


def scaled_depth(capture: SceneSample, factor: float) -> SceneSample:
    """Multiply all depth readings of a sample."""
    return capture.with_sights(
        lambda sight: sight if sight.depth is None else replace(sight, depth=sight.depth * factor)
    )


def ray_readings() -> Iterator[Hypothesis]:
    """Yield the hypothesis that depth images hold distances along each ray."""

    def shortened(sight: FrameSample) -> FrameSample:
        if sight.depth is None:
            return sight
        depth = sight.depth / _ray_lengths(sight.intrinsics, sight.depth)
        return replace(sight, depth=depth.float())

    yield Hypothesis(
        "depth_along_rays",
        "The depth images hold the distance from the camera along each ray, not along the "
        "optical axis.",
        "divide each reading by the length of its ray, sqrt(1 + x^2 + y^2)",
        partial(SceneSample.with_sights, change=shortened),
    )


def _ray_lengths(intrinsics: Tensor, depth: Tensor) -> Tensor:
    rows = torch.arange(depth.shape[0], dtype=torch.float64)[:, None]
    columns = torch.arange(depth.shape[1], dtype=torch.float64)[None]
    x = (columns - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (rows - intrinsics[1, 2]) / intrinsics[1, 1]
    return torch.sqrt(1 + x * x + y * y)


def scale_readings(capture: SceneSample, read: Assumptions) -> Iterator[Hypothesis]:
    """Yield a hypothesis for each other usual depth scale."""
    for scale in DEPTH_SCALES:
        factor = read.depth_scale / scale
        if abs(factor - 1) < 0.02:
            continue
        yield depth_reading(capture, read, factor)


def depth_reading(capture: SceneSample, read: Assumptions, factor: float) -> Hypothesis:
    """Build the hypothesis that depth is a multiple of what it was taken for.

    Args:
        capture: as it was opened.
        read: how.
        factor: of the depth as it was read.
    """
    medians = torch.tensor([s.facts.median for s in capture.sights if s.facts and s.facts.known])
    median = float(medians.median()) if len(medians) else 0.0
    if not 0.02 <= factor <= 50 and 0.2 <= median <= 20:
        units = [(name, 1 / m) for name, m in MISTAKEN_UNITS.items() if abs(m * factor - 1) < 0.1]
        unit, factor = units[0] if units else ("", factor)
        return Hypothesis(
            "scale",
            f"Poses and surface are {factor:.3g} times as large as the depth says"
            + (f": they are in {unit}." if unit else "."),
            f"multiply the translations of the poses and the surface by {1 / factor:.3g}",
            partial(scaled_depth, factor=factor),
        )
    usual = _usual_scale(read.depth_scale / factor)
    fix = (
        f"set `depth_scale: {usual:g}`"
        if usual is not None and "depth_scale" in read.settable
        else "write the depth in the unit of this layout"
        if "depth_scale" not in read.settable
        else "find the counts per metre in the camera's own files and set `depth_scale`; none of "
        f"the usual scales ({', '.join(f'{scale:g}' for scale in DEPTH_SCALES)}) fits"
    )
    return Hypothesis(
        "depth_unit",
        f"The depth is in another unit: it is {factor:.3g} times what `depth_scale: "
        f"{read.depth_scale:g}` makes of it.",
        fix,
        partial(scaled_depth, factor=factor),
    )


def _usual_scale(scale: float) -> float | None:
    """The scale that depth images are stored with next to one that was measured."""
    return next((usual for usual in DEPTH_SCALES if abs(usual / scale - 1) < 0.04), None)
