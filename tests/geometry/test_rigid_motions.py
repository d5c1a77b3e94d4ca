"""Rotations from quaternions, and what tells a rigid motion from others."""

import pytest
import torch
from scipy.spatial.transform import Rotation

from pcdistill.geometry import (
    RIGID_TOLERANCE,
    is_rigid,
    pose_from_quaternion,
    rotation_error,
    rotation_from_quaternion,
)


@pytest.mark.parametrize("seed", range(4))
def test_the_rotation_is_that_of_scipy(seed):
    turn = Rotation.random(random_state=seed)
    found = rotation_from_quaternion(*turn.as_quat().tolist())
    torch.testing.assert_close(found, torch.from_numpy(turn.as_matrix()), rtol=0, atol=1e-14)
    assert float(rotation_error(found)) < 1e-14
    assert is_rigid(pose_from_quaternion(turn.as_quat().tolist(), [1, 2, 3]), 1e-12)


def test_how_far_matrices_are_from_rotations():
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    stretched = torch.diag(torch.tensor([1.0, 1.1, 1.0], dtype=torch.float64))
    errors = rotation_error(torch.stack([mirror, stretched]))
    torch.testing.assert_close(errors, torch.tensor([0.0, 0.21], dtype=torch.float64))


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        (0, 0, -1.0),  # mirrors
        (1, 1, 1.0 + RIGID_TOLERANCE),  # stretches
        (0, 1, 2 * RIGID_TOLERANCE),  # shears
        (3, 0, 2 * RIGID_TOLERANCE),  # is no motion
        (0, 3, torch.nan),
    ],
)
def test_what_is_not_rigid(row, column, value):
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, 3] = torch.tensor([5.0, -7.0, 1e6])
    assert is_rigid(motion)
    motion[row, column] = value
    assert not is_rigid(motion)


def test_text_files_may_be_rounded():
    motion = torch.eye(4, dtype=torch.float64)
    motion[1, 1] += RIGID_TOLERANCE / 3
    assert is_rigid(motion)
    assert not is_rigid(motion, 1e-3)
