"""Shading of surfaces: pattern color, room light, daylight, gloss and darker corners."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pcdistill.homes.classes import MATERIALS
from pcdistill.homes.portable_math import decay
from pcdistill.homes.textures import EMISSIVE, paint
from pcdistill.jit import njit

if TYPE_CHECKING:
    from pcdistill.homes.surface import Surface

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


@njit(error_model="numpy", inline="always")
def _near_edge(position: float, normal: float, low: float, high: float) -> float:
    """Factor in (0, 1]: less light near the walls, floor and ceiling that meet this surface."""
    near = min(abs(position - low), abs(high - position))
    return 1 - 0.32 * (1 - abs(normal)) * decay(near / 0.18)


@njit(error_model="numpy", inline="always")
def _fortieth(x: float) -> float:
    """x to the power of 40, by products in one order."""
    eighth = x * x
    eighth *= eighth
    eighth *= eighth
    return eighth * eighth * eighth * eighth * eighth


@njit(error_model="numpy")
def _lit(
    out: Array,
    i: int,
    albedo: tuple[float, float, float],
    gloss: float,
    points: Array,
    normals: Array,
    views: Array,
    boxes: Array,
    lights: Array,
    room: int,
    lamp_seen: float,
) -> None:
    """Write into row i the linear light that leaves point i toward the viewer."""
    x, y, z = points[i, 0], points[i, 1], points[i, 2]
    a, b, c = normals[i, 0], normals[i, 1], normals[i, 2]
    around = 0.42 * (0.86 + 0.14 * c)
    around *= _near_edge(x, a, boxes[room, 0], boxes[room, 3])
    around *= _near_edge(y, b, boxes[room, 1], boxes[room, 4])
    around *= _near_edge(z, c, boxes[room, 2], boxes[room, 5])
    red, green, blue, shine = around, around, around * 1.02, 0.0
    for index in range(lights.shape[1]):
        u, v, w = lights[room, index, 0] - x, lights[room, index, 1] - y, lights[room, index, 2] - z
        square = u * u + v * v + w * w + 1e-9
        inverse = 1 / math.sqrt(square)
        seen = lamp_seen if index == 0 else 1.0
        facing = (a * u + b * v + c * w) * inverse
        if facing <= 0 or seen <= 0:
            continue
        strength = seen * facing / (0.55 + 0.3 * square)
        red += strength * lights[room, index, 3]
        green += strength * lights[room, index, 4]
        blue += strength * lights[room, index, 5]
        if gloss > 0:
            u, v, w = (
                u * inverse - views[i, 0],
                v * inverse - views[i, 1],
                w * inverse - views[i, 2],
            )
            cosine = (a * u + b * v + c * w) / (math.sqrt(u * u + v * v + w * w) + 1e-9)
            if cosine > 0.8:
                shine += seen * lights[room, index, 3] * gloss * _fortieth(cosine)
    out[i, 0] = albedo[0] * albedo[0] * red + shine
    out[i, 1] = albedo[1] * albedo[1] * green + shine
    out[i, 2] = albedo[2] * albedo[2] * blue + shine


@njit(error_model="numpy")
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
    gloss: Array,
    emissive: Array,
    rooms: Array,
    boxes: Array,
    lights: Array,
) -> Array:
    """(R, 3) float32 linear light of surface points that lie on the patches `quads`.

    `gloss` and `emissive` have one entry a patch.

    Args:
        points: (R, 3) float, metres.
        normals: (R, 3) unit normals.
        views: (R, 3) unit directions toward the viewer.
        uvs: (R, 2) pattern coordinates.
        quads: (R,) patch of each point, -1 for none.
        footprints: (R,) width of a pixel on the surface, metres.
        lamp_seen: (R,) fraction of the lamp that each point sees.
        patterns: (Q,) of each patch.
        colors: (Q, 3) sRGB in [0, 1].
        seconds: (Q, 3) second color of the pattern.
        scales: (Q,) size of the pattern.
        gloss: (Q,) strength of the gloss.
        emissive: (Q,) bool, whether a patch glows.
        rooms: (Q,) room of each patch.
        boxes: low and high corner (6) of each room, metres.
        lights: position and color (2, 6) of lamp and daylight of each room.
    """
    out = np.zeros((len(points), 3), dtype=np.float32)
    for i in range(len(points)):
        quad = quads[i]
        if quad < 0:
            continue
        albedo = paint(
            patterns[quad], colors, seconds, quad, scales[quad], uvs[i, 0], uvs[i, 1], footprints[i]
        )
        if emissive[quad]:
            for channel in range(3):
                out[i, channel] = albedo[channel] * albedo[channel] * 1.15
            continue
        room = rooms[quad]
        _lit(out, i, albedo, gloss[quad], points, normals, views, boxes, lights, room, lamp_seen[i])
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
    """`shade` with the arrays of a surface; all inputs have one row a point.

    Args:
        surface: Q patches.
        points: (R, 3) float, metres.
        normals: (R, 3) unit normals.
        views: (R, 3) unit directions toward the viewer.
        uvs: (R, 2) pattern coordinates.
        quads: (R,) patch of each point, -1 for none.
        footprints: (R,) width of a pixel on the surface, metres.
        lamp_seen: (R,) fraction of the lamp that each point sees.
    """
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
            _GLOSS[surface.materials],
            np.isin(surface.patterns, EMISSIVE),
            surface.rooms,
            surface.room_boxes,
            surface.lights,
        )
    )


def shade_points(
    surface: Surface, points: Array, normals: Array, uvs: Array, quads: Array
) -> Array:
    """(N, 3) uint8 colours of mesh vertices, lit but without shadows or gloss.

    Args:
        surface: Q patches.
        points: (N, 3) float, metres.
        normals: (N, 3) unit normals.
        uvs: (N, 2) pattern coordinates.
        quads: (N,) patch of each point.
    """
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
    """Linear light to uint8 sRGB, with gamma 2 and a soft shoulder at the bright end."""
    return np.asarray(_roll_off(np.ascontiguousarray(light).reshape(-1)).reshape(light.shape))


@njit(error_model="numpy")
def _roll_off(light: Array) -> Array:
    """(n,) uint8 of (n,) linear light."""
    result = np.empty(len(light), dtype=np.uint8)
    for i in range(len(light)):
        value = max(float(light[i]), 0.0)
        if value >= 0.7:
            value = 1 - 0.3 * decay((value - 0.7) / 0.3)
        result[i] = int(math.sqrt(value) * 255 + 0.5)
    return result
