"""Check of the registration of colour and depth, by the correlation of their edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from pcdistill.scenes.checks.findings import Finding
from pcdistill.scenes.checks.hypothesis import OTHER_WAYS_ROUND
from pcdistill.scenes.checks.samples import FrameSample, SceneSample

_SEARCHED = 0.12  # of the image's width, on each side
_NOTICED = 0.02  # of the image's width; a few pixels are lost at the shadows of depth cameras
_JUMP = 0.08  # of the depth, between neighbouring pixels
_MIN_FRAMES = 3
_BETTER = 1.15  # times the agreement of the edges as they are
_ABOVE_CHANCE = 1.5  # times that of edges in mirrored pictures, somewhere
_FLIPPED = 0.04  # correlation; captures that are right have 0.06 to 0.15


class RegistrationOffset(NamedTuple):
    """Where the edges of colour lie, seen from those of depth."""

    right: float
    """Part of the image's width."""
    down: float
    """Part of the image's width."""
    here: float
    """Correlation of the edges as they are."""
    there: float
    """Correlation of the edges if colour were moved back."""


def check_registration(capture: SceneSample) -> list[Finding]:
    """Check that colour is neither displaced from depth nor flipped."""
    sights = [s for s in capture.sights if s.facts is not None and s.facts.known > 0.2]
    if len(sights) < _MIN_FRAMES:
        return []
    edges = _edges(sights)
    if len(edges) < _MIN_FRAMES:
        return []
    found = _measure_offset(edges)
    other_way = {sides: _measure_offset(edges, sides) for sides in OTHER_WAYS_ROUND}
    chance = max(offset.there for offset in other_way.values())
    for sides, offset in other_way.items():
        rest = [found.there, *(o.there for key, o in other_way.items() if key != sides)]
        if offset.here >= max(_FLIPPED, 2 * max(rest)):
            return [_flipped(*OTHER_WAYS_ROUND[sides], found, offset)]
    size = max(abs(found.right), abs(found.down))
    if size < _NOTICED or found.there < max(_BETTER * found.here, _ABOVE_CHANCE * chance, 0.02):
        return []
    halves = [_measure_offset(edges[i::2]) for i in (0, 1)]
    same = all(
        max(abs(half.right - found.right), abs(half.down - found.down)) < 0.012 for half in halves
    )
    if not same:
        return []
    width = sights[0].frame.image_size[1]
    return [
        Finding(
            "colour_displaced",
            f"Colour and depth are not registered: the picture lies about "
            f"{found.right * width:+.0f} pixels to the right and {found.down * width:+.0f} down of "
            "its depth.",
            "sure" if found.there > 1.6 * max(found.here, 1e-9) else "likely",
            f"their edges correlate by {found.here:.3f} as they are, by {found.there:.3f} if the "
            "picture is moved back",
            "register depth to colour with the calibration of the two cameras, or give the depth "
            "camera's own matrix",
            lifting_works=size < 0.04,
        )
    ]


def _flipped(words: str, fix: str, found: RegistrationOffset, other: RegistrationOffset) -> Finding:
    return Finding(
        "pictures_flipped",
        f"The pictures are {words}, the depth images are not.",
        "sure",
        f"their edges correlate by {found.here:.3f} as they are, by {other.here:.3f} if the "
        "pictures lay the other way",
        fix,
        lifting_works=False,
    )


class _Edges(NamedTuple):
    """Of one frame, both (h, w) float32 without their mean."""

    color: Tensor
    depth: Tensor


def _edges(sights: Sequence[FrameSample]) -> list[_Edges]:
    """Of the sights that have the size of the first."""
    size = sights[0].gray.shape
    return [
        _Edges(_edges_of_color(sight.gray), _edges_of_depth(sight.depth))
        for sight in sights
        if sight.depth is not None and sight.gray.shape == size
    ]


def _measure_offset(edges: Sequence[_Edges], sides: tuple[int, ...] = ()) -> RegistrationOffset:
    """The displacement under which edges of colour and depth correlate best, over all frames.

    Args:
        edges: of frames of one size.
        sides: along which the pictures are turned round first.
    """
    height, width = edges[0].color.shape
    total = torch.zeros(2 * height, 2 * width)
    for color, depth in edges:
        spectrum = torch.fft.rfft2(color.flip(sides), s=total.shape)
        spectrum *= torch.fft.rfft2(depth, s=total.shape).conj()
        norm = float(color.norm() * depth.norm())
        if norm > 0:
            total += torch.fft.irfft2(spectrum, s=total.shape) / (norm * len(edges))
    reach = max(2, round(_SEARCHED * width))
    near = torch.roll(total, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    near = functional.avg_pool2d(near[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    best = int(near.argmax())
    down, right = best // near.shape[1] - reach, best % near.shape[1] - reach
    return RegistrationOffset(
        right / width, down / width, float(near[reach, reach]), float(near.max())
    )


def _edges_of_color(gray: Tensor) -> Tensor:
    right, down = _differences(gray)
    strength = (right * right + down * down).sqrt()
    strength = strength.clamp(max=float(4 * strength.mean()) + 1e-6)
    return _centered(strength)


def _edges_of_depth(depth: Tensor) -> Tensor:
    """Where depth jumps; holes take the reading next to them, so that they make no edges."""
    unknown = (depth <= 0).numpy()
    if unknown.all():
        return torch.zeros_like(depth)
    rows, columns = distance_transform_edt(unknown, return_distances=False, return_indices=True)
    filled = torch.from_numpy(np.ascontiguousarray(depth.numpy()[rows, columns]))
    far = functional.max_pool2d(filled[None, None], 3, 1, 1)[0, 0]
    near = -functional.max_pool2d(-filled[None, None], 3, 1, 1)[0, 0]
    return _centered(((far - near) > _JUMP * near).float())


def _differences(image: Tensor) -> tuple[Tensor, Tensor]:
    padded = functional.pad(image[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    return (
        padded[1:-1, 2:] - padded[1:-1, :-2],
        padded[2:, 1:-1] - padded[:-2, 1:-1],
    )


def _centered(edges: Tensor) -> Tensor:
    return edges - edges.mean()
