"""The rasterizer sees what rays see, pixel by pixel, also where patches reach behind the camera."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.homes.rasterize import rasterize

SIZE = (18, 24)
INTRINSICS = np.array([[20.0, 0, 11.5], [0, 20.0, 8.5], [0, 0, 1]])
FLOAT64 = 1e-9  # relative rounding of a few dozen float64 operations on flat triangles


def by_rays(corners, pose):
    """Depth (H * W,) of the nearest triangle, by solving for every pixel and triangle."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    local = np.stack(
        [
            (columns.ravel() - INTRINSICS[0, 2]) / INTRINSICS[0, 0],
            (rows.ravel() - INTRINSICS[1, 2]) / INTRINSICS[1, 1],
            np.ones(rows.size),
        ],
        axis=1,
    )
    rays = local @ pose[:3, :3].T
    depth = np.full(len(rays), np.inf)
    for quad in corners.astype(np.float64):
        for a, b, c in (quad[[0, 1, 2]], quad[[0, 2, 3]]):
            for pixel, ray in enumerate(rays):
                system = np.stack([ray, a - b, a - c], axis=1)
                if abs(np.linalg.det(system)) < 1e-12:
                    continue
                t, u, v = np.linalg.solve(system, a - pose[:3, 3])
                if t > 0 and u >= 0 and v >= 0 and u + v <= 1:
                    depth[pixel] = min(depth[pixel], t)
    return np.where(np.isfinite(depth), depth, 0)


def looking(angle: float, position=(0.0, 0.0, 0.0)) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 0] = np.cos(angle), np.sin(angle), 0
    pose[:3, 1] = 0, 0, -1
    pose[:3, 2] = -np.sin(angle), np.cos(angle), 0
    pose[:3, 3] = position
    return pose


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), angle=st.floats(-3, 3))
def test_depth_is_that_of_the_nearest_triangle_along_each_ray(seed, angle):
    """Patches all around the camera, so that some stand partly behind it."""
    rng = np.random.default_rng(seed)
    corners = (rng.uniform(-2, 2, (5, 1, 3)) + rng.uniform(-2, 2, (5, 4, 3))).astype(np.float32)
    pose = looking(angle)
    triangles, depth, second, third = rasterize(corners, pose, INTRINSICS, SIZE)
    expected = by_rays(corners, pose)
    np.testing.assert_allclose(depth, expected, rtol=FLOAT64, atol=0)
    assert ((triangles >= 0) == (expected > 0)).all()
    assert (second >= 0).all()
    assert (third >= 0).all()
    assert (second + third <= 1 + FLOAT64).all()


def test_weights_lead_back_to_the_place_that_is_seen():
    rng = np.random.default_rng(3)
    corners = (rng.uniform(-1, 1, (4, 4, 3)) + np.array([0, 3, 0])).astype(np.float32)
    pose = looking(0.0)
    triangles, depth, second, third = rasterize(corners, pose, INTRINSICS, SIZE)
    hit = triangles >= 0
    assert hit.sum() > 50
    half = triangles[hit] % 2
    quad = corners[triangles[hit] // 2].astype(np.float64)
    index = np.arange(len(quad))
    a, b, c = quad[:, 0], quad[index, 1 + half], quad[index, 2 + half]
    u, v = second[hit, None], third[hit, None]
    place = (1 - u - v) * a + u * b + v * c
    np.testing.assert_allclose(place[:, 1], depth[hit], rtol=FLOAT64)  # the camera looks along y


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_neighbors_leave_no_gap(seed):
    """A bent sheet of patches that share edges covers every pixel before it."""
    rng = np.random.default_rng(seed)
    ticks = np.linspace(-4, 4, 9)
    x, z = np.meshgrid(ticks, ticks, indexing="ij")
    grid = np.stack([x, 2 + 0.1 * rng.uniform(-1, 1, x.shape), z], axis=-1)
    grid[..., [0, 2]] += 0.2 * rng.uniform(-1, 1, (9, 9, 2))
    quads = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], axis=2)
    triangles, *_ = rasterize(
        quads.reshape(-1, 4, 3).astype(np.float32), looking(0.0), INTRINSICS, SIZE
    )
    assert (triangles >= 0).all()


def test_of_equal_surfaces_the_earlier_one_is_seen():
    quad = np.array([[-9, 2, -9], [9, 2, -9], [9, 2, 9], [-9, 2, 9]], np.float32)
    triangles, *_ = rasterize(np.stack([quad, quad]), looking(0.0), INTRINSICS, SIZE)
    assert set(triangles // 2) == {0}


@pytest.mark.parametrize("angle", [0.0, np.pi])
def test_what_lies_behind_or_is_flat_is_not_seen(angle):
    wall = np.array([[-9, 2, -9], [9, 2, -9], [9, 2, 9], [-9, 2, 9]], np.float32)
    line = np.repeat(wall[:1], 4, axis=0)
    triangles, depth, *_ = rasterize(np.stack([line, wall]), looking(angle), INTRINSICS, SIZE)
    assert (triangles >= 0).all() == (angle == 0)
    assert set(np.round(depth, 9)) == ({2.0} if angle == 0 else {0.0})
