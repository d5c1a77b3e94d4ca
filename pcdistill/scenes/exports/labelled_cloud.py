"""Record that every export format writes: a scene with a label, confidence and instance a point."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from pcdistill.geometry import require_shape
from pcdistill.scenes.label_sets import LabelSet
from pcdistill.scenes.origin import scene_to_source
from pcdistill.scenes.scene import Scene
from pcdistill.scenes.source_frame import source_coordinates, source_normals

NO_INSTANCE = -1
"""Instance of a point that belongs to none."""
NO_ANSWER = "no answer"
"""Name of the number that points without an answer have."""


@dataclass(frozen=True, eq=False)
class LabelledCloud:
    """Points of a scene with what a method says of each.

    Raises:
        ValueError: a tensor has another shape than its field says.
    """

    scene: Scene
    label_set: LabelSet
    answers: Tensor
    """(N,) int64 class of each point; negative where there is no answer."""
    confidence: Tensor
    """(N,) float32 in [0, 1]; 0 where there is no answer."""
    instances: Tensor
    """(N,) int32, connected place of one class that a point belongs to; `NO_INSTANCE` for none."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """What the labels come from; JSON values only."""

    def __post_init__(self) -> None:
        for name in ("answers", "confidence", "instances"):
            require_shape(name, getattr(self, name), len(self.scene.points))

    @cached_property
    def labels(self) -> Tensor:
        """(N,) int64 as files have them: the label set's own number where there is no answer."""
        return self.label_set.labels_for_files(self.answers)

    @cached_property
    def class_colors(self) -> Tensor:
        """(N, 3) uint8: the colour of each point's class, black where there is no answer."""
        return self.label_set.colors_of(self.labels)

    @cached_property
    def shown_colors(self) -> Tensor:
        """(N, 3) uint8: the scan's own colours, those of the classes where it has none."""
        return self.class_colors if self.scene.colors is None else self.scene.colors

    @cached_property
    def coordinates(self) -> Tensor:
        """(N, 3) float64 where the scan's own files have the points, in their unit."""
        return source_coordinates(self.scene)

    @property
    def normals(self) -> Tensor | None:
        """(N, 3) float32 as `coordinates` have the points; None where the scene has none."""
        return source_normals(self.scene)

    @property
    def names(self) -> dict[int, str]:
        """Name of each number that `labels` may have, that of no answer included."""
        return {**dict(enumerate(self.label_set.names)), self.label_set.ignore_label: NO_ANSWER}

    def facts(self) -> dict[str, Any]:
        """All that is told of the whole file, as JSON values: names, frame and provenance."""
        return {
            **self.provenance,
            "scene": self.scene.name,
            "label_set": self.label_set.name,
            "no_answer": self.label_set.ignore_label,
            "scene_to_source": scene_to_source(self.scene.provenance).tolist(),
            "metres_per_unit": self.scene.provenance.get("metres_per_unit", [1.0, 1.0, 1.0]),
        }


def ascii_json(value: object) -> str:
    """One line of ASCII for any JSON value, odd characters as escapes."""
    return json.dumps(value, ensure_ascii=True, sort_keys=True)


def as_shorts(colors: Tensor) -> Tensor:
    """(N, 3) int32 in [0, 65535] of (N, 3) uint8: white stays white."""
    return colors.int() * 257
