"""Alternative hypotheses about the surface: its unit, its axes and its origin."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from pcdistill.geometry import back_project
from pcdistill.scenes.checks.hypothesis import SAME_AXES, Hypothesis, rotations
from pcdistill.scenes.checks.samples import SceneSample
from pcdistill.scenes.units import MISTAKEN_UNITS

_PLACES = 95  # cells along the longest side of the grid in which a surface is moved
_COARSE_PLACES = 31  # where many rotations are tried


def surface_unit_readings() -> Iterator[Hypothesis]:
    """Yield hypotheses of the surface in other units."""
    for unit, metres in MISTAKEN_UNITS.items():
        yield Hypothesis(
            "surface_unit",
            f"The surface is in {unit}.",
            f"multiply its points by {metres:g} and write it in metres",
            partial(_with_points, turn=SAME_AXES * metres),
        )


def surface_axes_readings() -> Iterator[Hypothesis]:
    """Yield hypotheses of the surface with its axes exchanged."""
    for turn in rotations():
        yield Hypothesis(
            "surface_elsewhere",
            "The surface has other axes than the poses.",
            f"replace each of its points x, y, z by {_axes(turn)}, or export poses and surface "
            "from one program",
            partial(_with_points, turn=turn),
        )


def surface_origin_readings(capture: SceneSample) -> Iterator[Hypothesis]:
    """Yield the surface moved to where most of it lies on the depth."""
    found = _best_shift(capture, SAME_AXES, _PLACES)
    if found is None:
        return
    shift, _ = found
    yield Hypothesis(
        "surface_elsewhere",
        f"The surface has another origin than the poses, {float(shift.norm()):.2f} m away.",
        f"add about ({_metres(shift)}) m to each of its points, or export poses and surface from "
        "one program",
        lambda capture: capture.with_surface(lambda points: points + shift),
    )


def with_axes_too(reading: Hypothesis, turn: Tensor) -> Hypothesis:
    """Extend a hypothesis by exchanged axes of the surface."""
    return Hypothesis(
        "surface_elsewhere",
        f"{reading.sentence.partition(', they')[0]}, and the surface has other axes than they.",
        f"{reading.fix} and replace each point x, y, z of the surface by {_axes(turn)}, or export "
        "poses and surface from one program",
        lambda capture: _with_points(reading.apply(capture), turn=turn),
    )


def axes_and_origin_readings(capture: SceneSample) -> Iterator[Hypothesis]:
    """Yield hypotheses under which the surface has other axes and another origin than the poses.

    The two rotations whose grids match best, each with its translation.
    """
    found = []
    for turn in rotations():
        match = _best_shift(capture, turn, _COARSE_PLACES)
        if match is not None:
            found.append((match[1], turn))
    found.sort(key=lambda pair: -pair[0])
    for _, turn in found[:2]:
        match = _best_shift(capture, turn, _PLACES)
        if match is not None:
            yield _placed(turn, match[0])


def _placed(turn: Tensor, shift: Tensor) -> Hypothesis:
    return Hypothesis(
        "surface_elsewhere",
        "The surface has other axes and another origin than the poses.",
        f"replace each of its points x, y, z by {_axes(turn)}, then add about ({_metres(shift)}) "
        "m, or export poses and surface from one program",
        lambda capture: capture.with_surface(lambda points: points @ turn.T + shift),
    )


def _metres(shift: Tensor) -> str:
    return ", ".join(f"{value:.2f}" for value in shift.tolist())


def _axes(turn: Tensor) -> str:
    return ", ".join(
        f"{'-' if float(row.sum()) < 0 else ''}{'xyz'[int(row.abs().argmax())]}" for row in turn
    )


def _best_shift(capture: SceneSample, turn: Tensor, places: int) -> tuple[Tensor, float] | None:
    """The translation that lays most of the turned surface onto the back-projected depth.

    Returns:
        It, (3,) float64 metres along the axes of the files, and how many cells of a grid then hold
        both.
    """
    views = capture.views(12)
    if not views or capture.surface is None or len(capture.surface) == 0:
        return None
    clouds = [
        back_project(v.depth[::4, ::4], _every(v.intrinsics, 4), v.camera_to_world) for v in views
    ]
    seen = torch.cat([points for points, _ in clouds])
    if len(seen) == 0:
        return None
    surface = _with_points(capture, turn).surface
    assert surface is not None
    starts, extents = zip(*(_robust_box(cloud) for cloud in (seen, surface)), strict=True)
    cell = float(torch.stack(extents).max()) / places
    if not 0 < cell < 10:
        return None
    size = 2 * places + 2
    grids = []
    for cloud, start in zip((seen, surface), starts, strict=True):
        cells = ((cloud - start) / cell).floor().long()
        cells = cells[((cells >= 0) & (cells <= places)).all(dim=1)]
        grid = torch.zeros(size, size, size)
        grid[cells[:, 0], cells[:, 1], cells[:, 2]] = 1
        grids.append(torch.fft.rfftn(grid))
    match = torch.fft.irfftn(grids[0] * grids[1].conj(), s=(size,) * 3)
    best = int(match.argmax())
    steps = torch.tensor([best // size**2, best // size % size, best % size])
    steps = torch.where(steps > size // 2, steps - size, steps)
    shift = (steps * cell + starts[0] - starts[1]).double()
    return shift @ capture.to_source[:3, :3].T, float(match.max())


def _robust_box(points: Tensor) -> tuple[Tensor, Tensor]:
    thinned = points[:: max(1, len(points) // 8_000)]
    low = torch.quantile(thinned, 0.002, dim=0)
    return low, torch.quantile(thinned, 0.998, dim=0) - low


def _every(intrinsics: Tensor, step: int) -> Tensor:
    scaled = intrinsics.clone()
    scaled[:2] /= step
    return scaled


def _with_points(capture: SceneSample, turn: Tensor) -> SceneSample:
    return capture.with_surface(lambda points: points @ turn.T)
