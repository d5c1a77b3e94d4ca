"""Depth where no sensor measured it: against loops, known surfaces, and what must hold."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.geometry import (
    MeshDepthRenderer,
    estimate_normals,
    point_spacing,
    project_points,
    splat_depth,
    zbuffer_depth,
)
from tests.fixtures.surfaces import pinhole, random_pose
from tests.tolerances import FLOAT32_SUMS

SIZE = (18, 25)
CAMERA = pinhole(20.0, SIZE)


def wall(z: float, half: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A square wall across the optical axis of a camera at the origin."""
    corners = [[-half, -half, z], [half, -half, z], [half, half, z], [-half, half, z]]
    return torch.tensor(corners), torch.tensor([[0, 1, 2], [0, 2, 3]])


def grid(z: float, step: float, half: float) -> torch.Tensor:
    """Points of such a wall, `step` metres apart."""
    line = torch.arange(-half, half + step / 2, step)
    x, y = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.flatten(), y.flatten(), torch.full((x.numel(),), z)], dim=1)


def loop_splat(points, normals, spacing, pose, intrinsics, size):
    """Every pixel asks every point whether its ray meets the disc, in plain Python."""
    inverse, to_ray = np.linalg.inv(pose.numpy()), np.linalg.inv(intrinsics.numpy())
    depth = np.full(size, np.inf)
    for point, normal, apart in zip(
        points.double().numpy(), normals.double().numpy(), spacing.double().numpy(), strict=True
    ):
        center = inverse[:3, :3] @ point + inverse[:3, 3]
        if center[2] <= 1e-3:
            continue
        across = inverse[:3, :3] @ normal
        own = intrinsics.numpy() @ center / center[2]
        for v, u in np.ndindex(*size):
            if (u, v) == (round(own[0]), round(own[1])):
                depth[v, u] = min(depth[v, u], center[2])
            ray = to_ray @ np.array([u, v, 1.0])
            if across @ ray == 0:
                continue
            z = across @ center / (across @ ray)
            if z > 0 and np.linalg.norm(z * ray - center) <= 0.8 * apart:
                depth[v, u] = min(depth[v, u], z)
    return np.where(np.isfinite(depth), depth, 0)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(0, 20), seed=st.integers(0, 2**32 - 1))
def test_splats_equal_a_loop_over_pixels_and_points(count, seed):
    generator = np.random.default_rng(seed)
    points = torch.from_numpy(generator.normal(scale=2, size=(count, 3)).astype(np.float32))
    normals = torch.from_numpy(generator.normal(size=(count, 3)).astype(np.float32))
    normals[::5] = 0  # unknown
    spacing = torch.from_numpy(generator.random(count).astype(np.float32))
    pose = random_pose(generator)
    found = splat_depth(points, normals, spacing, pose, CAMERA, SIZE)
    expected = loop_splat(points, normals, spacing, pose, CAMERA, SIZE)
    np.testing.assert_allclose(found.numpy(), expected, rtol=FLOAT32_SUMS)


def test_a_sampled_wall_has_no_holes_and_hides_what_is_behind_it():
    front, back = grid(2.0, 0.2, 2.0), grid(4.0, 0.4, 4.0)
    points = torch.cat([front, back])
    pose = torch.eye(4, dtype=torch.float64)
    normals = estimate_normals(points)
    depth = splat_depth(points, normals, point_spacing(points), pose, CAMERA, SIZE)
    torch.testing.assert_close(depth, torch.full(SIZE, 2.0))
    seen = project_points(points, pose, CAMERA, SIZE, depth, depth_tolerance=0.25, border=0).visible
    assert not bool(seen[len(front) :].any())
    without = project_points(points, pose, CAMERA, SIZE, border=0).visible
    torch.testing.assert_close(seen[: len(front)], without[: len(front)])


def test_a_floor_seen_at_a_flat_angle_does_not_hide_itself():
    floor = grid(0.0, 0.2, 8.0)[:, [0, 2, 1]]  # y = 0
    floor[:, 1] = 0.8  # metres below the camera
    size, pose = (90, 125), torch.eye(4, dtype=torch.float64)
    camera = pinhole(100.0, size)
    normals = torch.tensor([[0.0, -1.0, 0.0]]).expand(len(floor), 3)
    depth = splat_depth(floor, normals, point_spacing(floor), pose, camera, size)
    seen = project_points(floor, pose, camera, size, depth, depth_tolerance=0.1, border=0).visible
    near = project_points(floor, pose, camera, size, border=0).visible & (floor[:, 2] < 6)
    assert int(near.sum()) > 100
    assert float(seen[near].float().mean()) > 0.95


def test_the_nearest_of_the_points_in_a_pixel_counts():
    pixels = torch.tensor([[3, 1], [3, 1], [24, 17]])
    nearest = zbuffer_depth(pixels, torch.tensor([4.0, 2.0, 5.0]), SIZE)
    assert nearest.nonzero().tolist() == [[1, 3], [17, 24]]
    assert (float(nearest[1, 3]), float(nearest[17, 24])) == (2.0, 5.0)


def test_spacing_of_a_grid_is_its_step_and_lone_points_do_not_count_for_more_than_four():
    points = torch.cat([grid(0.0, 0.5, 2.0), torch.tensor([[90.0, 0.0, 0.0]])])
    spacing = point_spacing(points)
    assert float(spacing.median()) == pytest.approx(0.5)
    assert float(spacing[-1]) == pytest.approx(2.0)
    torch.testing.assert_close(point_spacing(points[:1]), torch.zeros(1))


def test_a_wall_is_cast_at_its_distance_and_the_nearer_one_wins():
    near, far = wall(2.0, half=0.3), wall(5.0, half=9.0)
    points = torch.cat([near[0], far[0]])
    mesh = MeshDepthRenderer(points, torch.cat([near[1], far[1] + 4]))
    depth = mesh.render(torch.eye(4, dtype=torch.float64), CAMERA, SIZE)
    row, column = torch.meshgrid(torch.arange(18), torch.arange(25), indexing="ij")
    x = (column - CAMERA[0, 2]) / CAMERA[0, 0] * 2
    y = (row - CAMERA[1, 2]) / CAMERA[1, 1] * 2
    covered = (x.abs() <= 0.3) & (y.abs() <= 0.3)
    torch.testing.assert_close(depth, torch.where(covered, 2.0, 5.0).float())


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_ray_through_a_pixel_meets_a_tilted_plane_where_algebra_says(seed):
    generator = np.random.default_rng(seed)
    pose = random_pose(generator)
    corners = torch.tensor([[-9.0, -8, 3], [9.0, -8, 4], [9.0, 8, 7], [-9.0, 8, 6]])
    normal = torch.linalg.cross(corners[1] - corners[0], corners[3] - corners[0]).double()
    world = (corners.double() @ pose[:3, :3].T + pose[:3, 3]).float()
    depth = MeshDepthRenderer(world, torch.tensor([[0, 1, 2], [0, 2, 3]])).render(
        pose, CAMERA, SIZE
    )
    for v, u in ((0, 0), (9, 12), (17, 24), (3, 20)):
        ray = torch.linalg.inv(CAMERA) @ torch.tensor([u, v, 1.0], dtype=torch.float64)
        expected = float(normal @ corners[0].double() / (normal @ ray))
        # float32 rays, at a slant
        assert float(depth[v, u]) == pytest.approx(expected, rel=1e-4)


def test_only_the_wanted_pixels_are_cast():
    mesh = MeshDepthRenderer(*wall(2.0))
    wanted = torch.tensor([[3, 1], [3, 1], [24, 17]])
    depth = mesh.render(torch.eye(4, dtype=torch.float64), CAMERA, SIZE, wanted)
    assert depth.nonzero().tolist() == [[1, 3], [17, 24]]
    nothing = mesh.render(torch.eye(4, dtype=torch.float64), CAMERA, SIZE, wanted[:0])
    assert float(nothing.abs().sum()) == 0


def test_nothing_is_hit_by_rays_that_leave_the_scene():
    behind = MeshDepthRenderer(*wall(-2.0))
    assert float(behind.render(torch.eye(4, dtype=torch.float64), CAMERA, SIZE).abs().max()) == 0


def test_wrong_shapes_are_named():
    points = torch.zeros(5, 3)
    with pytest.raises(ValueError, match="spacing"):
        splat_depth(points, points, torch.zeros(4), torch.eye(4), CAMERA, SIZE)
    with pytest.raises(ValueError, match="normals"):
        splat_depth(points, points[:4], torch.zeros(5), torch.eye(4), CAMERA, SIZE)
    with pytest.raises(ValueError, match="faces"):
        MeshDepthRenderer(points, torch.zeros(2, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least 1"):
        point_spacing(points, 0)
