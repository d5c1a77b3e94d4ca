"""Sensor model of a depth camera: noise, steps and holes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import maximum_filter, minimum_filter, zoom

from pcdistill.homes.classes import MATERIAL_INDEX
from pcdistill.homes.render import Rendering

Array = npt.NDArray[Any]

_NEAR, _FAR = 0.35, 5.0  # metres; outside there is no reading
_NOISE = 0.0019  # sigma = _NOISE * depth^2, metres (structured light)
_LOST = 0.02  # share of pixels that are lost anywhere
_STEP = 0.0012  # quantisation = _STEP * depth^2, metres
_SHINY = tuple(MATERIAL_INDEX[name] for name in ("glass", "mirror"))


def add_sensor_noise(rendering: Rendering, seed: int, focal: float | None = None) -> Rendering:
    """The same view as a structured-light camera would deliver it; labels stay exact.

    Depth noise and quantisation grow with the square of depth. Depth is 0 outside 0.35 to 5 m,
    at depth edges, at grazing angles, on most of glass and mirrors, and in patches of dark
    surfaces.

    Args:
        rendering: from `render`.
        seed: of the noise.
        focal: focal length in pixels for the grazing angle; by default that of a 70 degree lens.

    Returns:
        A new rendering; `image` gets faint colour noise, `depth` the above.
    """
    rng = np.random.default_rng([seed, 5])
    depth = rendering.depth.numpy()
    noisy = _noisy_depth(depth, rng)
    noisy[_holes(rendering, rng, focal)] = 0
    picture = rendering.image.numpy()
    grain = rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(1.5)
    colored = np.clip(picture + grain, 0, 255).astype(np.uint8)
    return rendering._replace(image=torch.from_numpy(colored), depth=torch.from_numpy(noisy))


def _noisy_depth(depth: Array, rng: np.random.Generator) -> Array:
    """Noise that is correlated over a few pixels, then steps of the disparity."""
    height, width = depth.shape
    coarse = rng.standard_normal((height // 3 + 2, width // 3 + 2), dtype=np.float32)
    smooth = zoom(coarse, 3, order=1)[:height, :width]
    fine = rng.standard_normal(depth.shape, dtype=np.float32)
    square = depth * depth
    noisy = depth + square * np.float32(_NOISE) * (
        smooth * np.float32(0.9) + fine * np.float32(0.5)
    )
    step = np.maximum(square * np.float32(_STEP), np.float32(1e-4))
    stepped = np.rint(noisy / step) * step
    return np.where(depth > 0, stepped, 0).astype(np.float32)


def _holes(rendering: Rendering, rng: np.random.Generator, focal: float | None) -> Array:
    """(H, W) bool, true where the sensor gives nothing."""
    depth = rendering.depth.numpy()
    near, far = minimum_filter(depth, 3), maximum_filter(depth, 3)
    holes = (depth < _NEAR) | (depth > _FAR)
    edge = (far - near) > 0.06 * depth
    holes |= edge & (rng.random(depth.shape, dtype=np.float32) < 0.7)
    holes |= _facing(rendering, focal) < 0.14
    blotch = _blotches(depth.shape, rng)
    materials = rendering.materials.numpy()
    holes |= np.isin(materials, _SHINY) & (blotch < 0.75)
    dark = rendering.image.numpy().max(axis=2) < 42
    holes |= dark & (blotch < 0.35)
    return np.asarray(holes | (rng.random(depth.shape, dtype=np.float32) < _LOST))


def _facing(rendering: Rendering, focal: float | None) -> Array:
    """(H, W) cosine between the surface and the viewing ray, from the depth's own slope."""
    depth = rendering.depth.numpy()
    length = focal or depth.shape[1] / 1.4
    slope_v, slope_u = np.gradient(depth)
    scale = length / np.maximum(depth, 1e-3)
    return np.asarray(1 / np.sqrt(1 + (slope_u * scale) ** 2 + (slope_v * scale) ** 2))


def _blotches(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """(H, W) uniform-looking noise in blotches of about ten pixels."""
    coarse = rng.random((shape[0] // 10 + 2, shape[1] // 10 + 2), dtype=np.float32)
    return np.asarray(zoom(coarse, 10, order=1)[: shape[0], : shape[1]])
