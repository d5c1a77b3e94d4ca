"""Surfaces of a home: textured quads with the class and object of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy.typing as npt

from pcdistill.homes.model import Part
from pcdistill.homes.shadow_rays import Hierarchy, build_hierarchy

Array = npt.NDArray[Any]


class LabelledPart(NamedTuple):
    """A part with what the home knows about it."""

    part: Part
    class_index: int
    instance: int
    room: int


@dataclass(eq=False)
class Surface:
    """Q quadrilateral patches with their finish, and the rooms that light them.

    All arrays are numpy: corners and normals (Q, 4, 3) float32 metres; pattern coordinates
    (Q, 4, 2) float32; classes, materials, patterns (Q,) uint8; instances, parts, rooms (Q,)
    int32; colors and seconds (Q, 3) float32 sRGB in [0, 1]; scales (Q,) float32; room_boxes
    (R, 6) float32 (low corner, high corner); lights (R, 2, 6) float32 (position, colour): the
    lamp, which casts shadows, and the daylight, which does not.
    """

    corners: Array
    normals: Array
    uvs: Array
    classes: Array
    instances: Array
    materials: Array
    patterns: Array
    parts: Array
    rooms: Array
    colors: Array
    seconds: Array
    scales: Array
    room_boxes: Array
    lights: Array

    @cached_property
    def hierarchy(self) -> Hierarchy:
        """Boxes around the triangles of the patches, for shadows; built once."""
        return build_hierarchy(self.corners[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 3))
