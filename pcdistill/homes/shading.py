"""Light on surfaces: pattern colour, room light, daylight, gloss and darker corners."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numba import njit

from pcdistill.homes.classes import MATERIALS
from pcdistill.homes.textures import EMISSIVE, paint

if TYPE_CHECKING:
    from pcdistill.homes.mesh import Surface

Array = npt.NDArray[Any]

_GLOSS = np.array(
    [
        {
            "metal": 0.5,
            "leather": 0.18,
            "ceramic": 0.4,
            "glass": 0.5,
            "plastic": 0.2,
            "paint": 0.05,
            "wood": 0.07,
            "tile": 0.25,
            "stone": 0.2,
            "mirror": 0.5,
        }.get(name, 0.0)
        for name in MATERIALS
    ],
    dtype=np.float32,
)
_EMISSIVE = np.array(EMISSIVE, dtype=np.int64)


@njit(cache=True)
def _corner_darkening(point: Array, normal: Array, box: Array) -> float:
    """Factor in (0, 1]: less light near the edges where walls, floor and ceiling meet."""
    factor = 1.0
    for axis in range(3):
        near = min(abs(point[axis] - box[axis]), abs(box[axis + 3] - point[axis]))
        factor *= 1 - 0.32 * (1 - abs(normal[axis])) * math.exp(-near / 0.18)
    return factor


@njit(cache=True)
def _lit(
    albedo: tuple[float, float, float],
    gloss: float,
    point: Array,
    normal: Array,
    view: Array,
    box: Array,
    lights: Array,
    lamp_seen: float,
    out: Array,
) -> None:
    """Write the linear light (3,) that leaves a point toward the viewer."""
    around = 0.42 * _corner_darkening(point, normal, box) * (0.86 + 0.14 * normal[2])
    red, green, blue, shine = around, around, around * 1.02, 0.0
    for index in range(lights.shape[0]):
        to_light = lights[index, :3] - point
        distance = math.sqrt((to_light * to_light).sum()) + 1e-6
        to_light /= distance
        facing = (normal * to_light).sum()
        seen = lamp_seen if index == 0 else 1.0
        if facing <= 0 or seen <= 0:
            continue
        strength = seen * facing / (0.55 + 0.3 * distance * distance)
        red += strength * lights[index, 3]
        green += strength * lights[index, 4]
        blue += strength * lights[index, 5]
        if gloss > 0:
            half = to_light - view
            half /= math.sqrt((half * half).sum()) + 1e-6
            shine += seen * lights[index, 3] * gloss * max((half * normal).sum(), 0.0) ** 40
    out[0] = albedo[0] ** 2.2 * red + shine
    out[1] = albedo[1] ** 2.2 * green + shine
    out[2] = albedo[2] ** 2.2 * blue + shine


@njit(cache=True)
def shade(
    points: Array,
    normals: Array,
    views: Array,
    uvs: Array,
    quads: Array,
    footprints: Array,
    lamp_seen: Array,
    patterns: Array,
    colors: Array,
    seconds: Array,
    scales: Array,
    materials: Array,
    rooms: Array,
    boxes: Array,
    lights: Array,
    gloss: Array,
    emissive: Array,
) -> Array:
    """(R, 3) float32 linear light of surface points that lie on the patches `quads`."""
    out = np.zeros((len(points), 3), dtype=np.float32)
    for i in range(len(points)):
        quad = quads[i]
        if quad < 0:
            continue
        albedo = paint(
            patterns[quad],
            colors[quad],
            seconds[quad],
            scales[quad],
            uvs[i, 0],
            uvs[i, 1],
            footprints[i],
        )
        shines = False
        for index in range(len(emissive)):
            shines = shines or patterns[quad] == emissive[index]
        if shines:
            for channel in range(3):
                out[i, channel] = albedo[channel] ** 2.2 * 1.15
            continue
        room = rooms[quad]
        _lit(
            albedo,
            gloss[materials[quad]],
            points[i],
            normals[i],
            views[i],
            boxes[room],
            lights[room],
            lamp_seen[i],
            out[i],
        )
    return out


def shade_surface(
    surface: Surface,
    points: Array,
    normals: Array,
    views: Array,
    uvs: Array,
    quads: Array,
    footprints: Array,
    lamp_seen: Array,
) -> Array:
    """`shade` with the arrays of a surface; all inputs have one row a point."""
    return np.asarray(
        shade(
            np.asarray(points, np.float32),
            np.asarray(normals, np.float32),
            np.asarray(views, np.float32),
            np.asarray(uvs, np.float32),
            np.asarray(quads, np.int64),
            np.asarray(footprints, np.float32),
            np.asarray(lamp_seen, np.float32),
            surface.patterns,
            surface.colors,
            surface.seconds,
            surface.scales,
            surface.materials,
            surface.rooms,
            surface.room_boxes,
            surface.lights,
            _GLOSS,
            _EMISSIVE,
        )
    )


def shade_points(
    surface: Surface, points: Array, normals: Array, uvs: Array, quads: Array
) -> Array:
    """(N, 3) uint8 colours of mesh vertices, lit but without shadows or gloss."""
    count = len(points)
    light = shade_surface(
        surface,
        points,
        normals,
        -normals,
        uvs,
        quads,
        np.full(count, 0.02),
        np.full(count, 0.85),
    )
    return to_srgb(light)


def to_srgb(light: Array) -> Array:
    """Linear light to uint8 sRGB with a soft shoulder at the bright end."""
    light = np.maximum(light, 0)
    rolled = np.where(light < 0.7, light, 1 - 0.3 * np.exp(-(light - 0.7) / 0.3))
    return np.asarray(np.rint(rolled ** np.float32(1 / 2.2) * 255), dtype=np.uint8)
