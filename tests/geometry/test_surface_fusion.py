"""Depth images fused into a mesh: where it stands, what is a hole, what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.geometry import fuse_surface

SIZE = (60, 80)
MATRIX = torch.tensor([[70.0, 0, 39.5], [0, 70.0, 29.5], [0, 0, 1]], dtype=torch.float64)
LOW, HIGH = torch.tensor([-1.0, -1.0, 0.0]), torch.tensor([1.0, 1.0, 3.0])
VOXEL = 0.05


def plane_depth(pose: torch.Tensor, normal: torch.Tensor, offset: float) -> torch.Tensor:
    """Depth (H, W) of the plane {x: normal . x = offset}; 0 where a ray misses it."""
    row, column = torch.meshgrid(
        torch.arange(SIZE[0]).double(), torch.arange(SIZE[1]).double(), indexing="ij"
    )
    rays = torch.stack(
        [
            (column - MATRIX[0, 2]) / MATRIX[0, 0],
            (row - MATRIX[1, 2]) / MATRIX[1, 1],
            torch.ones_like(row),
        ],
        dim=2,
    )
    along = (rays @ pose[:3, :3].T) @ normal
    depth = (offset - pose[:3, 3] @ normal) / along
    return torch.where(depth > 0, depth, 0.0).float()


def fuse(frames, **changes):
    settings = {"voxel_size": VOXEL, "truncation": 2 * VOXEL} | changes
    return fuse_surface(frames, LOW, HIGH, **settings)


@given(tilt=st.floats(-0.5, 0.5), turn=st.floats(0, 6.28), away=st.floats(1.2, 2.4))
def test_a_plane_is_found_where_it_is(tilt, turn, away):
    pose = torch.eye(4, dtype=torch.float64)
    axis = [math.sin(tilt) * math.cos(turn), math.sin(tilt) * math.sin(turn), math.cos(tilt)]
    normal = torch.tensor(axis, dtype=torch.float64)
    offset = away * float(normal[2])
    mesh = fuse([(plane_depth(pose, normal, offset), MATRIX, pose)])
    assert len(mesh.faces) > 100
    # along the axis the mean of one reading is exact but for the pixel that it was taken from
    off = (mesh.points @ normal - offset).abs()
    assert float(off.max()) < 0.02 + 0.5 / 70 * away * math.tan(abs(tilt)) * 2
    a, b, c = mesh.points[mesh.faces].unbind(dim=1)
    facing = torch.linalg.cross(b - a, c - a) @ normal
    assert float((facing <= 1e-9).double().mean()) > 0.99  # towards the camera


def test_noise_is_averaged_by_more_frames():
    rng = np.random.default_rng(0)
    pose, normal = torch.eye(4, dtype=torch.float64), torch.tensor([0, 0, 1.0]).double()
    exact = plane_depth(pose, normal, 2.0)

    def error(count: int) -> float:
        frames = [
            (exact + torch.from_numpy(rng.normal(0, 0.01, SIZE)).float(), MATRIX, pose)
            for _ in range(count)
        ]
        mesh = fuse(frames)
        return float((mesh.points[:, 2] - 2).square().mean().sqrt())

    assert error(16) < 0.5 * error(1)


def test_what_no_frame_sees_is_a_hole():
    pose, normal = torch.eye(4, dtype=torch.float64), torch.tensor([0, 0, 1.0]).double()
    depth = plane_depth(pose, normal, 2.0)
    depth[20:40, 30:50] = 0  # no reading
    mesh = fuse([(depth, MATRIX, pose)])
    # pixels 30 to 49 and 20 to 39 of a plane 2 m away, a voxel and a half off their border
    x, y = mesh.points[:, 0], mesh.points[:, 1]
    pixel = 2 / 70
    margin = 1.5 * VOXEL
    inside = (x > (30 - 39.5) * pixel + margin) & (x < (49 - 39.5) * pixel - margin)
    inside &= (y > (20 - 29.5) * pixel + margin) & (y < (39 - 29.5) * pixel - margin)
    assert not inside.any()
    assert float(x.max()) < (79.5 - 39.5) * pixel
    assert len(mesh.points) > 500


def test_faces_have_corners_and_corners_have_faces():
    pose, normal = torch.eye(4, dtype=torch.float64), torch.tensor([0, 0, 1.0]).double()
    mesh = fuse([(plane_depth(pose, normal, 1.5), MATRIX, pose)])
    assert mesh.faces.unique().tolist() == list(range(len(mesh.points)))
    assert mesh.points.dtype == torch.float64
    assert mesh.faces.dtype == torch.int64


@pytest.mark.parametrize("depth", [torch.zeros(SIZE), torch.full(SIZE, 9.0)])
def test_no_reading_within_reach_gives_an_empty_mesh(depth):
    mesh = fuse([(depth, MATRIX, torch.eye(4, dtype=torch.float64))])
    assert tuple(mesh.points.shape) == (0, 3)
    assert tuple(mesh.faces.shape) == (0, 3)
    assert tuple(fuse([]).points.shape) == (0, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"voxel_size": 0.0}, "voxel_size and truncation must be > 0 metres, got 0.0, 0.1"),
        ({"truncation": math.inf}, "voxel_size and truncation must be > 0 metres, got 0.05, inf"),
        ({"voxel_size": 0.001}, "voxels, expected 2 a side to 2\\^28 in all"),
        ({"voxel_size": 9.0}, None),
    ],
)
def test_settings_out_of_range_are_named(changes, message):
    if message is None:
        assert len(fuse([], **changes).points) == 0
        return
    with pytest.raises(ValueError, match=message):
        fuse([], **changes)


def test_a_pose_that_is_not_finite_is_named():
    pose = torch.full((4, 4), math.nan, dtype=torch.float64)
    with pytest.raises(ValueError, match="camera_to_world"):
        fuse([(torch.ones(SIZE), MATRIX, pose)])
