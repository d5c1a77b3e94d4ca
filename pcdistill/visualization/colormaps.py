"""Colormaps for categories, scores and superpoints."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pcdistill.geometry import require_shape

UNLABELLED = (196, 200, 206)
"""Light grey of points without category."""

UNSEEN = (120, 124, 131)
"""Darker grey of points that no frame sees."""

HEAT_STOPS = ((214, 223, 236), (165, 190, 222), (248, 221, 132), (240, 140, 54), (190, 18, 44))
"""Pale blue, blue, yellow, orange, red: low scores recede, high ones stand out on white."""


def colorize_scores(
    scores: Tensor, *, low: float | None = None, high: float | None = None
) -> Tensor:
    """Colour scores from pale blue over yellow to red.

    Equal steps of the score are about equal steps to the eye (interpolated in OKLab).

    Args:
        scores: (N,) number; NaN, where there is no score, becomes the grey of `UNLABELLED`.
        low: score of the first colour; by default the 5th percentile.
        high: score of the last colour; by default the 99.5th percentile.

    Returns:
        (N, 3) uint8, red green blue.
    """
    require_shape("scores", scores, None)
    values = scores.double()
    finite = values[values.isfinite()]
    bottom, top = score_range(finite, low=low, high=high)
    fraction = ((values - bottom) / max(top - bottom, 1e-12)).clamp(0, 1)
    known = fraction.isfinite()
    table = heat_colormap(256).to(scores.device)
    colors = table[(torch.where(known, fraction, 0.0) * 255).round().long()]
    gray = torch.tensor(UNLABELLED, dtype=torch.uint8, device=scores.device)
    return torch.where(known[:, None], colors, gray)


def score_range(
    scores: Tensor, *, low: float | None = None, high: float | None = None
) -> tuple[float, float]:
    """Give the scores of the first and last colour of `colorize_scores`, for a legend.

    Args:
        scores: (N,) float; what is not finite does not count.
        low: score of the first colour; by default the 5th percentile.
        high: score of the last colour; by default the 99.5th percentile.
    """
    finite = scores[scores.isfinite()].double()
    if len(finite) == 0:
        return (0.0 if low is None else low), (1.0 if high is None else high)
    bottom = _percentile(finite, 5.0) if low is None else low
    top = _percentile(finite, 99.5) if high is None else high
    return bottom, top


def heat_colormap(steps: int) -> Tensor:
    """Give the colours from the lowest to the highest score, (steps, 3) uint8."""
    stops = _oklab(torch.tensor(HEAT_STOPS, dtype=torch.float64) / 255)
    position = torch.linspace(0, len(stops) - 1, steps, dtype=torch.float64)
    lower = position.long().clamp(max=len(stops) - 2)
    fraction = (position - lower)[:, None]
    return _srgb(stops[lower] * (1 - fraction) + stops[lower + 1] * fraction)


def colorize_labels(labels: Tensor, palette: Tensor) -> Tensor:
    """Colour labels by a palette, light grey where they are outside it (ignored, not seen).

    Args:
        labels: (N,) integer.
        palette: (K, 3) uint8.

    Returns:
        (N, 3) uint8.
    """
    require_shape("labels", labels, None)
    require_shape("palette", palette, None, 3)
    known = (labels >= 0) & (labels < len(palette))
    colors = palette.to(labels.device)[torch.where(known, labels, 0).long()]
    gray = torch.tensor(UNLABELLED, dtype=torch.uint8, device=labels.device)
    return torch.where(known[:, None], colors, gray)


def colorize_superpoints(superpoint_ids: Tensor) -> Tensor:
    """Colour superpoints so that neighbours in number, and mostly in space, differ.

    Args:
        superpoint_ids: (N,) integer; negative ids, which belong to none, are light grey.

    Returns:
        (N, 3) uint8; the same id always has the same colour.
    """
    require_shape("superpoint_ids", superpoint_ids, None)
    ids = superpoint_ids.double()
    hue = 2 * math.pi * torch.frac(ids * 0.6180339887498949)  # golden ratio: far from the last one
    lightness = 0.62 + 0.22 * torch.frac(ids * 0.7548776662466927)
    chroma = 0.09 + 0.05 * torch.frac(ids * 0.5698402909980532)
    lab = torch.stack([lightness, chroma * hue.cos(), chroma * hue.sin()], dim=1)
    gray = torch.tensor(UNLABELLED, dtype=torch.uint8, device=ids.device)
    return torch.where((ids >= 0)[:, None], _srgb(lab), gray)


def _percentile(values: Tensor, percent: float) -> float:
    """Percentile by the k-th value; `torch.quantile` refuses more than 2**24 values."""
    rank = 1 + round(percent / 100 * (len(values) - 1))
    return float(values.kthvalue(rank).values)


# OKLab: Ottosson, "A perceptual color space for image processing" (2020).
_TO_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def _oklab(srgb: Tensor) -> Tensor:
    """(n, 3) sRGB in [0, 1] to OKLab."""
    linear = torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    lms = linear @ srgb.new_tensor(_TO_LMS).T
    return lms.clamp(min=0) ** (1 / 3) @ srgb.new_tensor(_TO_LAB).T


def _srgb(lab: Tensor) -> Tensor:
    """(n, 3) OKLab to uint8 sRGB, clipped to what a screen can show."""
    lms = (lab @ torch.linalg.inv(lab.new_tensor(_TO_LAB)).T) ** 3
    linear = (lms @ torch.linalg.inv(lab.new_tensor(_TO_LMS)).T).clamp(0, 1)
    srgb = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (srgb * 255).round().to(torch.uint8)
