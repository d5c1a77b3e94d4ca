"""Upright boxes: around everything, as small as any turn allows, and turned as a thing lies."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.geometry import upright_box

ROUNDING = 1e-9  # metres, of float64 arithmetic over some metres


def turned(points: torch.Tensor, degrees: float) -> torch.Tensor:
    angle = math.radians(degrees)
    rotation = torch.eye(3, dtype=torch.float64)
    rotation[:2, :2] = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    return points.double() @ rotation.T


def block(size: tuple[float, float, float], count: int = 200) -> torch.Tensor:
    """Points in a block around 0, its corners among them."""
    generator = torch.Generator().manual_seed(1)
    inside = torch.rand(count, 3, generator=generator, dtype=torch.float64) - 0.5
    corners = torch.cartesian_prod(*3 * [torch.tensor([-0.5, 0.5], dtype=torch.float64)])
    return torch.cat([inside, corners]) * torch.tensor(size, dtype=torch.float64)


@pytest.mark.parametrize("degrees", [0, 17, 45, 90, 133, 179])
def test_a_turned_block_has_its_own_size_and_direction(degrees):
    where = torch.tensor([100.0, -7.0, 3.0], dtype=torch.float64)
    box = upright_box(turned(block((2.0, 0.8, 0.5)), degrees) + where)
    assert box.size == pytest.approx((2.0, 0.8, 0.5))
    assert box.center == pytest.approx(where.tolist(), abs=ROUNDING)
    angle = math.radians(degrees)
    along = torch.tensor([math.cos(angle), math.sin(angle), 0.0], dtype=torch.float64)
    axes = torch.tensor(box.axes, dtype=torch.float64)
    assert abs(float(axes[0] @ along)) == pytest.approx(1.0, abs=ROUNDING)
    assert float(axes[0, 0]) >= -ROUNDING
    torch.testing.assert_close(axes @ axes.T, torch.eye(3, dtype=torch.float64))
    assert float(torch.linalg.det(axes)) == pytest.approx(1.0)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40))
def test_no_turn_gives_less_floor_and_every_point_is_inside(seed, count):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    box = upright_box(points)
    assert bool(box.contains(points, ROUNDING).all())
    assert box.size[0] >= box.size[1] >= 0
    area = box.size[0] * box.size[1]
    for degrees in range(0, 90, 3):  # brute force
        low, high = turned(points, degrees).aminmax(dim=0)
        assert float((high - low)[:2].prod()) >= area - ROUNDING


@pytest.mark.parametrize(
    ("points", "size"),
    [
        ([[1.0, 2.0, 3.0]], [0.0, 0.0, 0.0]),
        ([[1.0, 2.0, 3.0]] * 5, [0.0, 0.0, 0.0]),
        ([[0.0, 0.0, 0.0], [3.0, 4.0, 1.0]], [5.0, 0.0, 1.0]),
        ([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0], [6.0, 8.0, 0.0], [-3.0, -4.0, 2.0]], [15.0, 0.0, 2.0]),
        ([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]], [0.0, 0.0, 2.0]),
    ],
    ids=["one", "one five times", "two", "on a line", "one above the other"],
)
def test_points_without_area_have_a_flat_box(points, size):
    given_points = torch.tensor(points)
    box = upright_box(given_points)
    assert box.size == pytest.approx(size, abs=1e-6)
    assert bool(box.contains(given_points, 1e-6).all())


def test_of_equal_boxes_the_one_along_the_axes_is_taken():
    """Around a disc all turns are alike; an octagon has four, two of them along the axes."""
    angles = torch.arange(8, dtype=torch.float64) * (math.pi / 4) + math.pi / 8
    points = torch.stack([angles.cos(), angles.sin(), torch.zeros(8, dtype=torch.float64)], dim=1)
    assert max(map(abs, upright_box(points).axes[0])) == pytest.approx(1.0)  # along x or y


def test_it_moves_with_its_points():
    """Into a frame with y up, far away: corners of the box are those of the moved points."""
    points = turned(block((1.5, 0.5, 1.0)), 30)
    transform = torch.eye(4, dtype=torch.float64)
    transform[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    transform[:3, 3] = torch.tensor([500.0, 0.0, -20.0])
    box = upright_box(points).moved(transform)
    there = points @ transform[:3, :3].T + transform[:3, 3]
    assert bool(box.contains(there, ROUNDING).all())
    low, high = there.aminmax(dim=0)
    torch.testing.assert_close(box.corners().amin(dim=0), low)
    torch.testing.assert_close(box.corners().amax(dim=0), high)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (torch.zeros(0, 3), "a box needs at least one point"),
        (torch.zeros(4, 2), "points has shape (4, 2), expected (any, 3)"),
        (torch.tensor([[0.0, 0.0, torch.nan]]), "points"),
    ],
    ids=["none", "flat", "no number"],
)
def test_what_has_no_box_is_refused(points, message):
    with pytest.raises(ValueError) as caught:
        upright_box(points)
    assert message in str(caught.value)
