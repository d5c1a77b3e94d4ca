"""Renderer of a surface: color, depth, and the class and object of every pixel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from pcdistill.geometry import require_shape
from pcdistill.homes.classes import NO_CLASS
from pcdistill.homes.portable_math import unit
from pcdistill.homes.rasterize import rasterize
from pcdistill.homes.shading import shade_surface, to_srgb
from pcdistill.homes.shadow_rays import blocked
from pcdistill.homes.surface import Surface
from pcdistill.jit import njit

Array = npt.NDArray[Any]

_LAMP_SIZE = 0.16  # metres, width of the lamp that softens shadows
_LAMP_REACH = 0.97  # of the way to the lamp; its own shade stands beyond


class Rendering(NamedTuple):
    """One rendered view; every tensor has the image's height and width."""

    image: Tensor
    """(H, W, 3) uint8 sRGB."""
    depth: Tensor
    """(H, W) float32, metres along the optical axis, 0 where nothing is hit."""
    classes: Tensor
    """(H, W) int64, index into `CLASSES`, `NO_CLASS` where nothing is hit."""
    instances: Tensor
    """(H, W) int32, -1 where nothing is hit."""
    materials: Tensor
    """(H, W) int64, index into `MATERIALS`, `NO_CLASS` where nothing is hit."""
    normals: Tensor
    """(H, W, 3) float32, world frame, toward the camera; 0 where nothing is hit."""


class Hits(NamedTuple):
    """First hits of one ray a pixel, row-major; `quads` is -1 where a ray leaves the scene."""

    quads: Array
    distances: Array
    weights_u: Array
    weights_v: Array
    directions: Array


def world_ray_directions(
    camera_to_world: Array, intrinsics: Array, image_size: tuple[int, int]
) -> Array:
    """(H * W, 3) float32 world directions through the pixel centres, of depth one.

    Args:
        camera_to_world: (4, 4) float, metres.
        intrinsics: (3, 3) float, pixels.
        image_size: (H, W) pixels.
    """
    height, width = image_size
    column = (np.arange(width) - intrinsics[0, 2]) / intrinsics[0, 0]
    row = (np.arange(height) - intrinsics[1, 2]) / intrinsics[1, 1]
    rotation = camera_to_world[:3, :3]
    rays = (
        column[None, :, None] * rotation[:, 0]
        + row[:, None, None] * rotation[:, 1]
        + rotation[:, 2]
    )
    return np.ascontiguousarray(rays.reshape(-1, 3), dtype=np.float32)


def cast_rays(
    surface: Surface, camera_to_world: Array, intrinsics: Array, image_size: tuple[int, int]
) -> Hits:
    """First surface along every pixel's ray; distances are depths, because rays have depth one.

    Args:
        surface: what is seen.
        camera_to_world: (4, 4) float, metres.
        intrinsics: (3, 3) float, pixels.
        image_size: (H, W) pixels.
    """
    directions = world_ray_directions(camera_to_world, intrinsics, image_size)
    triangles, depth, second, third = rasterize(
        surface.corners, camera_to_world, intrinsics, image_size
    )
    return Hits(
        np.where(triangles >= 0, triangles // 2, -1),
        depth.astype(np.float32),
        *_patch_weights(triangles, second, third),
        directions,
    )


def render(
    surface: Surface,
    camera_to_world: Tensor,
    intrinsics: Tensor,
    image_size: tuple[int, int],
    *,
    seed: int | None = None,
    shadows: bool = True,
) -> Rendering:
    """Render one view of a surface.

    Args:
        surface: what to look at, for instance `Home.surface`.
        camera_to_world: (4, 4) float, metres; +x right, +y down, +z forward.
        intrinsics: (3, 3) float, pixels; integer coordinates are pixel centres.
        image_size: (H, W) pixels.
        seed: exposure, white balance, vignette and image noise of this picture; None for none.
        shadows: whether the room lamp casts them (about a third of the time).

    Returns:
        The view with exact depth and labels (see `add_sensor_noise` for what a sensor gives).

    Raises:
        ValueError: a matrix has another shape or the image has no pixels.
    """
    require_shape("camera_to_world", camera_to_world, 4, 4)
    require_shape("intrinsics", intrinsics, 3, 3)
    if min(image_size) < 1:
        raise ValueError(f"image_size must be (height, width) >= 1, got {image_size}")
    pose = camera_to_world.detach().cpu().double().numpy()
    matrix = intrinsics.detach().cpu().double().numpy()
    hits = cast_rays(surface, pose, matrix, image_size)
    uvs, normals = _at_hits(
        hits.quads, hits.weights_u, hits.weights_v, hits.directions, surface.uvs, surface.normals
    )
    distances = np.where(hits.quads >= 0, hits.distances, 0).astype(np.float32)
    points = pose[:3, 3].astype(np.float32) + hits.directions * distances[:, None]
    lamp_seen = np.ones(len(points), np.float32)
    if shadows:
        lamp_seen = _lamp_visibility(surface, points, normals, hits.quads, image_size)
    light = shade_surface(
        surface,
        points,
        normals,
        unit(hits.directions),
        uvs,
        hits.quads,
        distances / np.float32(matrix[0, 0]),
        lamp_seen,
    )
    shape = image_size
    light = _contact_shade(light.reshape(*shape, 3), distances.reshape(shape))
    picture = to_srgb(light if seed is None else _expose(light, np.random.default_rng(seed)))
    if seed is not None:
        picture = _grainy(picture, np.random.default_rng([seed, 1]))
    return Rendering(
        torch.from_numpy(picture),
        torch.from_numpy(distances.reshape(shape)),
        torch.from_numpy(_per_pixel(surface.classes, hits.quads, NO_CLASS, shape, np.int64)),
        torch.from_numpy(_per_pixel(surface.instances, hits.quads, -1, shape, np.int32)),
        torch.from_numpy(_per_pixel(surface.materials, hits.quads, NO_CLASS, shape, np.int64)),
        torch.from_numpy(normals.reshape(*shape, 3)),
    )


def _per_pixel(
    values: Array, quads: Array, missing: int, shape: tuple[int, int], kind: Any
) -> Array:
    return np.where(quads >= 0, values[quads], missing).astype(kind).reshape(shape)


def _patch_weights(triangles: Array, u: Array, v: Array) -> tuple[Array, Array]:
    """Signed barycentrics: for the second triangle of a patch the first weight is shifted by 2."""
    second = (triangles >= 0) & (triangles % 2 == 1)
    return np.where(second, u + 2, u), v


@njit(error_model="numpy")
def _at_hits(
    quads: Array, us: Array, vs: Array, directions: Array, corner_uvs: Array, corner_normals: Array
) -> tuple[Array, Array]:
    """Pattern coordinates (R, 2) and unit normals toward the viewer (R, 3) where rays hit."""
    count = len(quads)
    uvs = np.zeros((count, 2), np.float32)
    normals = np.zeros((count, 3), np.float32)
    for i in range(count):
        quad = quads[i]
        if quad < 0:
            continue
        second = us[i] >= 1.5
        u = us[i] - 2 if second else us[i]
        v = vs[i]
        b, c = (2, 3) if second else (1, 2)
        first = 1 - u - v
        for axis in range(2):
            uvs[i, axis] = (
                first * corner_uvs[quad, 0, axis]
                + u * corner_uvs[quad, b, axis]
                + v * corner_uvs[quad, c, axis]
            )
        length, along = 0.0, 0.0
        for axis in range(3):
            value = (
                first * corner_normals[quad, 0, axis]
                + u * corner_normals[quad, b, axis]
                + v * corner_normals[quad, c, axis]
            )
            normals[i, axis] = value
            length += value * value
            along += value * directions[i, axis]
        scale = 1 / np.sqrt(length + 1e-12)
        if along > 0:
            scale = -scale
        for axis in range(3):
            normals[i, axis] *= scale
    return uvs, normals


def _lamp_visibility(
    surface: Surface, points: Array, normals: Array, quads: Array, image_size: tuple[int, int]
) -> Array:
    """(R,) share of the room's lamp that each point sees, from every second pixel, blurred."""
    height, width = image_size
    rows, columns = np.meshgrid(np.arange(0, height, 2), np.arange(0, width, 2), indexing="ij")
    chosen = (rows * width + columns).ravel()
    lamps = surface.lights[surface.rooms[quads[chosen]], 0, :3]
    wobble = np.random.default_rng(0).random((len(chosen), 3), dtype=np.float32) - np.float32(0.5)
    origins = points[chosen] + normals[chosen] * np.float32(0.01)
    toward = (lamps + wobble * np.float32(_LAMP_SIZE)) - origins
    hidden = blocked(surface.hierarchy, origins, toward, _LAMP_REACH)
    # lamps light the ceiling from near by; where nothing is hit, nothing is lit
    hidden &= (normals[chosen, 2] >= -0.5) & (quads[chosen] >= 0)
    coarse = uniform_filter(1 - hidden.reshape(rows.shape).astype(np.float32), 3)
    seen = np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)[:height, :width]
    return np.asarray(uniform_filter(seen, 3)).reshape(-1)


def _contact_shade(light: Array, depth: Array) -> Array:
    """Darken pixels that lie behind their surroundings, as where furniture meets the floor."""
    size = max(3, depth.shape[1] // 20) | 1
    behind = depth - uniform_filter(depth, size)
    factor = 1 - 0.35 * np.clip(behind / 0.25, 0, 1) * (behind < 0.9)
    return np.asarray(light * factor[..., None], dtype=np.float32)


def _expose(light: Array, rng: np.random.Generator) -> Array:
    """Exposure, white balance and vignette of a small camera."""
    height, width = light.shape[:2]
    mean = round(float(light.mean(dtype=np.float64)), 6)  # a sum's last bits hang on its order
    gain = np.clip(0.36 / max(mean, 1e-3), 0.6, 1.8) * rng.uniform(0.8, 1.2)
    warmth = rng.normal(0, 0.05)
    balance = np.array([1 + warmth, 1.0, 1 - warmth])
    row, column = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    vignette = 1 - rng.uniform(0.05, 0.3) * (row**2 + column**2) / 2
    return np.asarray(light * (gain * balance) * vignette[..., None], dtype=np.float32)


def _grainy(picture: Array, rng: np.random.Generator) -> Array:
    """Sensor noise of the picture."""
    sigma = rng.uniform(1.5, 4.5)
    grain = rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(sigma)
    return np.asarray(np.clip(picture + grain, 0, 255), dtype=np.uint8)
