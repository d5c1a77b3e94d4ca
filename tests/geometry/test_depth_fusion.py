"""Depth fusion on rooms whose every surface is known."""

import math

import numpy as np
import pytest
import torch

from pcdistill.geometry import back_project, depth_normals, fuse_depth
from tests.fixtures.surfaces import pinhole

SIZE = (60, 80)
INTRINSICS = pinhole(60.0, SIZE)


def looking(yaw, pitch=0.0, position=(0.0, 0.0, 0.0)):
    """(4, 4) camera_to_world in a z-up world; yaw 0 looks along +x, positive pitch down."""
    forward = np.array(
        [math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), -math.sin(pitch)]
    )
    right = np.array([math.sin(yaw), -math.cos(yaw), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = position
    return torch.from_numpy(pose)


HALF = 2.013  # metres; walls inside a cell, not on its face


def room_depth(pose, half=HALF):
    """Depth inside the cube [-half, half]^3."""
    rays, _ = back_project(torch.ones(SIZE, dtype=torch.float64), INTRINSICS, pose)
    rays = rays - pose[:3, 3]
    distance = torch.where(rays > 0, half - pose[:3, 3], -half - pose[:3, 3]) / rays
    return distance.amin(dim=1).reshape(SIZE).float()


def room_frames(count=6):
    for turn in range(count):
        pose = looking(2 * math.pi * turn / count, 0.2, (0.1, -0.2, 0.05 * turn))
        image = torch.full((*SIZE, 3), 100 + turn, dtype=torch.uint8)
        yield room_depth(pose), image, INTRINSICS, pose


def wall(distance, color=200, size=SIZE):
    """A camera that faces a wall."""
    depth = torch.full(size, float(distance))
    return depth, torch.full((*size, 3), color, dtype=torch.uint8), INTRINSICS, looking(0.0)


def test_a_room_becomes_its_walls():
    points, colors, normals = fuse_depth(room_frames(), voxel_size=0.05)
    nearest_wall = (points.abs() - HALF).abs()
    # cells at an edge of the room average both walls: up to a cell away from either
    assert nearest_wall.amin(dim=1).max() < 0.05
    assert nearest_wall.amin(dim=1).median() < 1e-5
    axis = nearest_wall.argmin(dim=1, keepdim=True)
    inwards = -points.sign().gather(1, axis) * normals.gather(1, axis)
    assert inwards.median() > 0.9999
    assert (inwards > 0.5).float().mean() > 0.99
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(len(normals)))
    assert colors.dtype == torch.uint8
    assert colors.min() >= 100
    assert colors.max() <= 105
    assert len(torch.unique((points / 0.05).floor(), dim=0)) == len(points)


def test_the_order_of_frames_does_not_matter():
    frames = list(room_frames())
    forwards, backwards = fuse_depth(frames), fuse_depth(iter(frames[::-1]))
    torch.testing.assert_close(forwards.points, backwards.points)
    torch.testing.assert_close(forwards.normals, backwards.normals)


def test_frames_are_read_one_at_a_time():
    alive = []

    def stream():
        for frame in room_frames():
            alive.append(1)
            yield frame

    iterator = stream()
    first = next(iterator)
    assert len(fuse_depth([first], min_observations=1).points) > 0
    assert len(alive) == 1
    fuse_depth(iterator)
    assert len(alive) == 6


def test_colors_and_positions_are_means_over_pixels():
    near, far = wall(2.0, 100), wall(2.01, 200)
    cloud = fuse_depth([near, far, far], voxel_size=0.5, layer_distance=0)
    inner = cloud.points[:, 1:].abs().amax(dim=1) < 0.5
    torch.testing.assert_close(cloud.points[inner, 0], torch.full((int(inner.sum()),), 2.00667))
    assert (cloud.colors[inner].float() - 166.67).abs().max() < 2
    torch.testing.assert_close(cloud.normals[:, 0], torch.full((len(cloud.points),), -1.0))


def test_flying_pixels_are_dropped():
    depth, image, intrinsics, pose = wall(3.0)
    depth[:, :40] = 1.5
    depth[:, 40:42] = 2.2  # neither surface
    depth[:, 60] = 3.4  # nor this, on its own
    cloud = fuse_depth([(depth, image, intrinsics, pose)], min_observations=1)
    x = cloud.points[:, 0]
    assert ((x - 1.5).abs() < 1e-3).sum() > 500
    assert ((x - 3.0).abs() < 1e-3).sum() > 500
    assert (torch.minimum((x - 1.5).abs(), (x - 3.0).abs()) < 1e-3).all()


def test_lonely_pixels_are_dropped():
    depth, image, intrinsics, pose = wall(0.0)
    depth[30, 20] = 2.0
    depth[10, :] = 2.0  # a line spans no plane
    assert len(fuse_depth([(depth, image, intrinsics, pose)], min_observations=1).points) == 0


def test_voxels_need_observations():
    frame = wall(2.0)
    once = fuse_depth([frame], min_observations=1)
    assert len(fuse_depth([frame], min_observations=2).points) < len(once.points)
    assert len(fuse_depth([frame] * 2, min_observations=2).points) == len(once.points)


def test_stacked_layers_of_one_surface_become_the_best_observed_one():
    frames = [wall(0.51)] * 3 + [wall(0.55)]
    points = fuse_depth(frames).points
    middle = points[:, 1:].abs().amax(dim=1) < 0.2  # the rim is seen by the fourth only
    assert middle.sum() > 300
    assert ((points[middle, 0] - 0.51).abs() < 1e-3).all()
    layered = fuse_depth(frames, layer_distance=0).points[:, 0]
    assert ((layered - 0.55).abs() < 1e-3).float().mean() > 0.4


def test_both_faces_of_a_thin_board_stay():
    depth, image, intrinsics, _ = wall(0.51)
    behind = looking(math.pi, 0.0, (1.06, 0.0, 0.0))
    frames = [wall(0.51)] * 2 + [(depth, image, intrinsics, behind)]  # faces at 0.51 and 0.55
    cloud = fuse_depth(frames)
    front = (cloud.points[:, 0] - 0.51).abs() < 1e-3
    back = (cloud.points[:, 0] - 0.55).abs() < 1e-3
    assert front.float().mean() > 0.4
    assert back.float().mean() > 0.4
    assert (cloud.normals[front, 0] < -0.99).all()
    assert (cloud.normals[back, 0] > 0.99).all()


def test_normals_of_a_tilted_plane_are_exact():
    plane = torch.tensor([0.3, -0.5, -0.8], dtype=torch.float64)
    plane /= plane.norm()
    rays, _ = back_project(torch.ones(SIZE, dtype=torch.float64), INTRINSICS, torch.eye(4))
    depth = (-2.0 / (rays @ plane)).reshape(SIZE)
    reliable, normals = depth_normals(depth, INTRINSICS)
    assert reliable[depth > 0].float().mean() > 0.9
    expected = plane.float().expand_as(normals[reliable])
    # normals of float32 depth over neighbouring pixels
    torch.testing.assert_close(normals[reliable], expected, rtol=0, atol=2e-3)
    assert normals[~reliable].abs().sum() == 0


def test_normals_do_not_mix_surfaces_across_a_depth_edge():
    depth = torch.full(SIZE, 3.0)
    depth[:, :40] = 1.5
    reliable, normals = depth_normals(depth, INTRINSICS)
    assert reliable[:, :39].all()
    assert reliable[:, 41:].all()
    assert not reliable[:, 39:41].any()
    facing = torch.tensor([0.0, 0, -1]).expand_as(normals[reliable])
    torch.testing.assert_close(normals[reliable], facing)


def test_grazing_surfaces_are_left_out():
    pose = looking(0.0, 0.0, (0.0, 0.0, 0.1 - HALF))  # just above the floor
    steep, _ = depth_normals(room_depth(pose), INTRINSICS, min_cosine=math.cos(math.radians(60)))
    every, _ = depth_normals(room_depth(pose), INTRINSICS)
    assert every[-3:].any()
    assert not steep[-3:].any()  # floor
    assert steep[20:30, 30:50].all()  # opposite wall


def test_far_and_unknown_readings_are_ignored():
    depth, image, intrinsics, pose = wall(65.535)
    assert len(fuse_depth([(depth, image, intrinsics, pose)]).points) == 0
    depth[:] = float("nan")
    assert len(fuse_depth([(depth, image, intrinsics, pose)]).points) == 0
    empty = fuse_depth([])
    assert [tuple(part.shape) for part in empty] == [(0, 3)] * 3
    assert empty.points.dtype == torch.float32


def test_bad_arguments_are_named():
    depth, image, intrinsics, pose = wall(2.0)
    missing = torch.full((4, 4), float("-inf"), dtype=torch.float64)
    with pytest.raises(ValueError, match="^frame 1: camera_to_world has 16 non-finite"):
        fuse_depth([wall(2.0), (depth, image, intrinsics, missing)])
    with pytest.raises(ValueError, match=r"^frame 0: image has shape \(30, 80, 3\), expected \(60"):
        fuse_depth([(depth, image[:30], intrinsics, pose)])
    with pytest.raises(ValueError, match=r"^frame 0: points lie up to .* check the unit of poses"):
        fuse_depth([(depth * 100_000, image, intrinsics, pose)], max_depth=math.inf)
    with pytest.raises(ValueError, match="voxel_size must be a positive length"):
        fuse_depth([], voxel_size=-1)
    with pytest.raises(ValueError, match=r"max_incidence must be in \(0, 90\] degrees, got 120"):
        fuse_depth([], max_incidence=120)
    with pytest.raises(ValueError, match="layer_distance must be a length"):
        fuse_depth([], layer_distance=-0.1)
    with pytest.raises(ValueError, match="depth_jump and max_depth must be > 0, got 0"):
        fuse_depth([], depth_jump=0)
