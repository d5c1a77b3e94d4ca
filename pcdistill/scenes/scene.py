"""Scene: the points of a scan, what is known about each, and the frames that saw them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.labels import IGNORE_LABEL
from pcdistill.scenes.frames import Frame
from pcdistill.scenes.issues import report_issue


@dataclass(frozen=True, eq=False)
class Scene:
    """One scan in a world frame with z up, in metres.

    Raises:
        ValueError: a tensor has another shape or dtype than its field says, or frames share a name.
        SceneError: there are no points, or their values make no sense.
    """

    name: str
    points: Tensor
    """(N, 3) float32, metres, world frame, z up."""
    colors: Tensor | None = None
    """(N, 3) uint8, red green blue."""
    normals: Tensor | None = None
    """(N, 3) float32, unit length; zero where unknown."""
    labels: Tensor | None = None
    """(N,) int64, category of `label_set`, or `IGNORE_LABEL`."""
    instances: Tensor | None = None
    """(N,) int32, object of each point, -1 = none."""
    faces: Tensor | None = None
    """(F, 3) int64, triangles over `points`."""
    frames: tuple[Frame, ...] = ()
    label_set: str | None = None
    """Name of the label set that `labels` index."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where the scene comes from and what was left out; JSON values only."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a scene needs a name")
        count = self.points.shape[0] if self.points.ndim else 0
        self._require("points", self.points, (count, 3), torch.float32)
        if count == 0:
            raise SceneError(
                f"scene {self.name}: has no points, expected at least one; check that its mesh or "
                "depth images are not empty"
            )
        self._require("colors", self.colors, (count, 3), torch.uint8)
        self._require("normals", self.normals, (count, 3), torch.float32)
        self._require("labels", self.labels, (count,), torch.int64)
        self._require("instances", self.instances, (count,), torch.int32)
        if self.faces is not None:
            rows = self.faces.shape[0] if self.faces.ndim else 0
            self._require("faces", self.faces, (rows, 3), torch.int64)
        self._require_sense(count)
        self._require_frames()

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest corner of the points, (3,) float32 metres each."""
        return self.points.amin(dim=0), self.points.amax(dim=0)

    def _require(
        self, name: str, tensor: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        if tensor is None:
            return
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            found = f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
            wanted = f"{shape} {str(dtype).removeprefix('torch.')}"
            raise ValueError(f"scene {self.name}: {name} are {found}, expected {wanted}")

    def _require_sense(self, count: int) -> None:
        broken = count - int(torch.isfinite(self.points).all(dim=1).sum())
        if broken:
            report_issue(
                "points_not_finite",
                f"scene {self.name}: {broken} of {count} points are not finite numbers, expected "
                "metres; remove them from the mesh or cloud",
            )
        if self.faces is not None and self.faces.numel():
            low, high = int(self.faces.min()), int(self.faces.max())
            if low < 0 or high >= count:
                raise SceneError(
                    f"scene {self.name}: faces use points {low} to {high}, the scene has points "
                    f"0 to {count - 1}; write the mesh again"
                )
        if self.labels is not None and int(self.labels.min()) < IGNORE_LABEL:
            raise SceneError(
                f"scene {self.name}: a label is {int(self.labels.min())}, expected a category from "
                f"0 or {IGNORE_LABEL} for none; map unlabelled points to {IGNORE_LABEL}"
            )

    def _require_frames(self) -> None:
        if not isinstance(self.frames, tuple):
            raise ValueError(f"scene {self.name}: frames are a {type(self.frames)}, not a tuple")
        for name, times in Counter(frame.name for frame in self.frames).items():
            if times > 1:
                raise SceneError(
                    f"scene {self.name}: {times} frames are named {name}, expected a name of its "
                    "own for each; list every frame once"
                )
