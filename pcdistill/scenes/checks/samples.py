"""Samples of a scan that checks work on: its surface, and some of its frames at low resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.errors import SceneError
from pcdistill.geometry import back_project, invert_pose, sample_surface
from pcdistill.scenes.checks.depth_agreement import DepthView
from pcdistill.scenes.frames import Frame
from pcdistill.scenes.origin import scene_to_source
from pcdistill.scenes.scene import Scene

MAX_SIGHTS = 24
"""Frames that are decoded, spread over the scan."""
_WIDTH = 320  # pixels; what is examined need not be larger
_SURFACE_POINTS = 120_000
_SPARE = 5  # every one of these pixels' points
FUSED = "fused depth"
"""Name of a surface that is in no file but made from the depth images."""


class DepthStatistics(NamedTuple):
    """What can be said of one depth image without its pose."""

    known: float
    """Part of the pixels with a reading, 0 to 1."""
    median: float
    """Of the readings, metres."""
    at_largest: float
    """Part of the readings that equal the largest one, 0 to 1."""
    values: Tensor
    """(n,) float32, the different readings."""


@dataclass(frozen=True, eq=False)
class FrameSample:
    """One decoded frame."""

    index: int
    """Place in the scene."""
    frame: Frame
    gray: Tensor
    """(h, w) float32, 0 to 255, about 320 pixels wide."""
    depth: Tensor | None
    """(h, w) float32, metres, 0 = unknown, of the same pixels as `gray`."""
    intrinsics: Tensor
    """(3, 3) float64, for `gray`."""
    camera_to_world: Tensor
    """(4, 4) float64, metres."""
    facts: DepthStatistics | None
    flipped: tuple[int, ...] = ()
    """Sides (0 rows, 1 columns) along which `gray` was turned round since it was decoded."""

    @property
    def name(self) -> str:
        """Of the frame."""
        return self.frame.name

    def turned_round(self, sides: tuple[int, ...], *, depth: bool) -> FrameSample:
        """Flip the picture, and perhaps the depth; the camera stays as given."""
        turned = self.depth.flip(sides) if depth and self.depth is not None else self.depth
        return replace(self, gray=self.gray.flip(sides), depth=turned, flipped=sides)

    def view(self) -> DepthView | None:
        """Depth and camera; None without depth."""
        if self.depth is None:
            return None
        return DepthView(self.depth, self.intrinsics, self.camera_to_world)


@dataclass(frozen=True, eq=False)
class SceneSample:
    """A scan as it was opened, however wrong it may be."""

    frames: tuple[Frame, ...]
    points: Tensor
    """(N, 3) float32, metres: those that are finite."""
    brightness: Tensor | None
    """(N,) float32, of the points' own colours, 0 to 255."""
    surface: Tensor | None
    """(M, 3) float32, metres, spread over the surface; None where it was made from the depth."""
    sights: tuple[FrameSample, ...]
    """In the order of the scan."""
    damaged: tuple[tuple[str, str], ...] = ()
    """Frames that could not be decoded: name, and the sentence that says why."""
    surface_is_part: bool = False
    """The surface is a part of what the frames see, a region of a house; the rest may hide it."""
    to_source: Tensor = field(default_factory=lambda: torch.eye(4, dtype=torch.float64))
    """(4, 4) float64, rigid: to the coordinates of the files, in which faults are to be mended."""

    def with_sights(self, change: Callable[[FrameSample], FrameSample]) -> SceneSample:
        """The same with every sight changed."""
        return replace(self, sights=tuple(change(sight) for sight in self.sights))

    @property
    def poses(self) -> Tensor:
        """(F, 4, 4) float64, of all frames."""
        if not self.frames:
            return torch.empty((0, 4, 4), dtype=torch.float64)
        return torch.stack([frame.camera_to_world for frame in self.frames])

    def with_surface(self, change: Callable[[Tensor], Tensor]) -> SceneSample:
        """The same with the points of the surface's file changed.

        Args:
            change: (N, 3) float64 metres as the file has them, to others.
        """
        turn, offset = self.to_source[:3, :3], self.to_source[:3, 3]

        def changed(points: Tensor) -> Tensor:
            return ((change(points.double() @ turn.T + offset) - offset) @ turn).float()

        surface = None if self.surface is None else changed(self.surface)
        return replace(self, points=changed(self.points), surface=surface)

    def with_poses(self, change: Callable[[Tensor], Tensor]) -> SceneSample:
        """The same with every pose changed.

        Args:
            change: (4, 4) float64 camera_to_world in the coordinates of the files, to another.
        """
        back = invert_pose(self.to_source)
        return self.with_sights(
            lambda sight: replace(
                sight, camera_to_world=back @ change(self.to_source @ sight.camera_to_world)
            )
        )

    def views(self, limit: int | None = None) -> list[DepthView]:
        """Depth and camera of the sights that have depth, at most some of them, spread."""
        found = [view for view in (sight.view() for sight in self.sights) if view is not None]
        return found if limit is None else [found[i] for i in evenly_spaced(len(found), limit)]


def sample_scene(scene: Scene, limit: int = MAX_SIGHTS) -> SceneSample:
    """Decode some frames of a scene.

    Args:
        scene: its provenance says whether the surface is that of the depth images (`surface`), or
            a part of what they see (`surface_is_part`).
        limit: how many frames.
    """
    finite = torch.isfinite(scene.points).all(dim=1)
    points = scene.points[finite]
    brightness = None if scene.colors is None else _gray(scene.colors[finite])
    surface = None
    if scene.provenance.get("surface") != FUSED:
        surface = _spread_surface(scene, points)
    part = bool(scene.provenance.get("surface_is_part"))
    return replace(
        sample_frames(scene.frames, limit),
        points=points,
        brightness=brightness,
        surface=surface,
        surface_is_part=part,
        to_source=scene_to_source(scene.provenance),
    )


def sample_frames(frames: Sequence[Frame], limit: int = MAX_SIGHTS) -> SceneSample:
    """Decode some frames that come without a surface."""
    sights: list[FrameSample] = []
    damaged: list[tuple[str, str]] = []
    for index in evenly_spaced(len(frames), limit):
        try:
            sights.append(sample_frame(frames, index))
        except SceneError as error:
            damaged.append((frames[index].name, str(error)))
    return SceneSample(
        tuple(frames), torch.empty((0, 3)), None, None, tuple(sights), tuple(damaged)
    )


def _spread_surface(scene: Scene, points: Tensor) -> Tensor:
    """Points all over the faces, whose corners may be far apart; else those that there are.

    Where faces use few of the points they are not the surface.
    """
    if scene.faces is not None and 2 * len(torch.unique(scene.faces)) >= len(scene.points):
        sampled = sample_surface(scene.points, scene.faces, _SURFACE_POINTS)
        if len(sampled):
            return sampled.float()
    return points[:: max(1, len(points) // _SURFACE_POINTS)]


def evenly_spaced(count: int, limit: int) -> list[int]:
    """Choose at most `limit` of `count` indices, evenly spaced, first and last included."""
    if count <= limit:
        return list(range(count))
    return [round(i * (count - 1) / (limit - 1)) for i in range(limit)] if limit > 1 else [0]


def to_grayscale(frame: Frame) -> tuple[Tensor, int]:
    """(h, w) float32 brightness of a frame, 0 to 255, and how many pixels became one."""
    image = frame.image()
    step = max(1, round(image.shape[1] / _WIDTH))
    return functional.avg_pool2d(_gray(image)[None, None], step)[0, 0], step


def _gray(colors: Tensor) -> Tensor:
    """Brightness of (..., 3) uint8 colours, float32."""
    return colors.float() @ torch.tensor([0.299, 0.587, 0.114])


def with_depth_as_points(capture: SceneSample) -> SceneSample:
    """Replace the points of a sample by those that its depth makes now.

    One with a surface of its own keeps that.
    """
    seen = [sight for sight in capture.sights if sight.depth is not None]
    if capture.surface is not None or not seen:
        return capture
    clouds, shades = [], []
    for sight in seen:
        assert sight.depth is not None
        points, pixel = back_project(sight.depth, sight.intrinsics, sight.camera_to_world)
        clouds.append(points[::_SPARE])
        shades.append(sight.gray.flatten()[pixel[::_SPARE]])
    return replace(capture, points=torch.cat(clouds).float(), brightness=torch.cat(shades))


def downsample_half(sight: FrameSample) -> FrameSample:
    """Keep every second row and column."""
    intrinsics = sight.intrinsics.clone()
    intrinsics[:2] /= 2
    depth = None if sight.depth is None else sight.depth[::2, ::2]
    return replace(sight, gray=sight.gray[::2, ::2], depth=depth, intrinsics=intrinsics)


def sample_frame(frames: Sequence[Frame], index: int) -> FrameSample:
    """Decode one frame.

    Raises:
        SceneError: a file of it is missing or damaged.
    """
    frame = frames[index]
    gray, step = to_grayscale(frame)
    depth = frame.depth()
    middle = (step - 1) // 2
    small = None
    if depth is not None:
        small = depth[middle::step, middle::step][: gray.shape[0], : gray.shape[1]]
    intrinsics = frame.intrinsics.clone()
    intrinsics[:2, 2] -= middle
    intrinsics[:2] /= step
    facts = None if depth is None else _facts(depth)
    return FrameSample(index, frame, gray, small, intrinsics, frame.camera_to_world, facts)


def _facts(depth: Tensor) -> DepthStatistics:
    readings = depth[depth > 0]
    if len(readings) == 0:
        return DepthStatistics(0.0, 0.0, 0.0, readings)
    return DepthStatistics(
        known=len(readings) / depth.numel(),
        median=float(readings.median()),
        at_largest=float((readings == readings.max()).float().mean()),
        values=torch.unique(readings),
    )
