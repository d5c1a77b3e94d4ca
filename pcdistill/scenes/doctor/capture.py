"""What the doctor looks at: a scene, and some of its frames decoded and made small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.scenes.consistency import View
from pcdistill.scenes.frames import Frame
from pcdistill.scenes.scene import Scene

MOST_SIGHTS = 24
"""Frames that are decoded, spread over the scan."""
_WIDTH = 320  # pixels; what is examined need not be larger


class DepthFacts(NamedTuple):
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
class Sight:
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
    facts: DepthFacts | None

    @property
    def name(self) -> str:
        """Of the frame."""
        return self.frame.name

    def view(self) -> View | None:
        """Depth and camera; None without depth."""
        if self.depth is None:
            return None
        return View(self.depth, self.intrinsics, self.camera_to_world)


@dataclass(frozen=True, eq=False)
class Capture:
    """A scene as it was opened, however wrong it may be."""

    scene: Scene
    points: Tensor
    """(N, 3) float32, metres: those that are finite."""
    surface_is_independent: bool
    """False where the points were made from the depth images themselves."""
    sights: tuple[Sight, ...]
    """In the order of the scan."""
    damaged: tuple[tuple[str, str], ...]
    """Frames that could not be decoded: name, and the sentence that says why."""

    def with_sights(self, change: Callable[[Sight], Sight]) -> Capture:
        """The same with every sight changed."""
        return replace(self, sights=tuple(change(sight) for sight in self.sights))

    @property
    def poses(self) -> Tensor:
        """(F, 4, 4) float64, of all frames."""
        if not self.scene.frames:
            return torch.empty((0, 4, 4), dtype=torch.float64)
        return torch.stack([frame.camera_to_world for frame in self.scene.frames])

    def views(self, most: int | None = None) -> list[View]:
        """Depth and camera of the sights that have depth, at most some of them, spread."""
        found = [view for view in (sight.view() for sight in self.sights) if view is not None]
        return found if most is None else [found[i] for i in spread(len(found), most)]


def look_at(scene: Scene) -> Capture:
    """Decode some frames of a scene."""
    sights: list[Sight] = []
    damaged: list[tuple[str, str]] = []
    for index in spread(len(scene.frames), MOST_SIGHTS):
        try:
            sights.append(look_at_frame(scene, index))
        except SceneError as error:
            damaged.append((scene.frames[index].name, str(error)))
    return Capture(
        scene=scene,
        points=scene.points[torch.isfinite(scene.points).all(dim=1)],
        surface_is_independent=scene.provenance.get("surface") != "fused depth",
        sights=tuple(sights),
        damaged=tuple(damaged),
    )


def spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` places, first and last included, at equal distances."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)] if most > 1 else [0]


def gray_of(frame: Frame) -> tuple[Tensor, int]:
    """(h, w) float32 brightness of a frame, 0 to 255, and how many pixels became one."""
    image = frame.image().float()
    step = max(1, round(image.shape[1] / _WIDTH))
    weights = torch.tensor([0.299, 0.587, 0.114])
    return F.avg_pool2d((image @ weights)[None, None], step)[0, 0], step


def halved(sight: Sight) -> Sight:
    """Every second row and column."""
    intrinsics = sight.intrinsics.clone()
    intrinsics[:2] /= 2
    depth = None if sight.depth is None else sight.depth[::2, ::2]
    return replace(sight, gray=sight.gray[::2, ::2], depth=depth, intrinsics=intrinsics)


def look_at_frame(scene: Scene, index: int) -> Sight:
    """Decode one frame.

    Raises:
        SceneError: a file of it is missing or damaged.
    """
    frame = scene.frames[index]
    gray, step = gray_of(frame)
    depth = frame.depth()
    middle = (step - 1) // 2
    small = None
    if depth is not None:
        small = depth[middle::step, middle::step][: gray.shape[0], : gray.shape[1]]
    intrinsics = frame.intrinsics.clone()
    intrinsics[:2, 2] -= middle
    intrinsics[:2] /= step
    facts = None if depth is None else _facts(depth)
    return Sight(index, frame, gray, small, intrinsics, frame.camera_to_world, facts)


def _facts(depth: Tensor) -> DepthFacts:
    readings = depth[depth > 0]
    if len(readings) == 0:
        return DepthFacts(0.0, 0.0, 0.0, readings)
    return DepthFacts(
        known=len(readings) / depth.numel(),
        median=float(readings.median()),
        at_largest=float((readings == readings.max()).float().mean()),
        values=torch.unique(readings),
    )
