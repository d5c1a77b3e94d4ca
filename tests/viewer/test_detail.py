"""Level of detail: every prefix of a block is spread over it, and what is near is densest."""

from __future__ import annotations

import pytest
import torch

from pcdistill.viewer.detail import (
    Block,
    build_blocks,
    choose_counts,
    seen_from_behind,
    thinned_size,
)


def sheet(side: int, spacing: float = 0.1) -> torch.Tensor:
    """(side * side, 3): a square on the floor."""
    steps = torch.arange(side) * spacing
    x, y = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x.flatten(), y.flatten(), torch.zeros(side * side)], dim=1)


def test_every_point_is_in_one_block():
    points = torch.rand(3000, 3, generator=torch.Generator().manual_seed(1)) * 7
    blocks = build_blocks(points, torch.nn.functional.normalize(points - 3, dim=1))
    rows = torch.cat([block.points for block in blocks])
    assert torch.equal(rows.sort().values, torch.arange(3000))
    for block in blocks:
        away = points[block.points] - torch.tensor(block.center)
        assert float(away.norm(dim=1).max()) <= block.radius + 1e-5


def test_the_first_points_of_a_block_are_spread_over_all_of_it():
    """A sixteenth of a square of 16 x 16 points: no cell of 4 x 4 has more than two."""
    points = sheet(16, 0.02)
    (block,) = build_blocks(points)
    cells = (points[block.points[:16], :2] / 0.08).long()
    counts = torch.bincount(cells[:, 0] * 4 + cells[:, 1], minlength=16)
    assert int(counts.max()) <= 2
    assert int((counts > 0).sum()) >= 12


def test_nothing_is_left_out_where_the_budget_suffices():
    points = sheet(30)
    blocks = build_blocks(points)
    assert sum(choose_counts(blocks, (1.0, 1.0, 2.0), len(points))) == len(points)


def test_the_budget_holds_and_the_near_is_denser():
    points = sheet(60)  # 6 m
    blocks = build_blocks(points)
    counts = choose_counts(blocks, (0.0, 0.0, 0.5), 600)
    assert sum(counts) <= 600 + len(blocks)  # every block keeps a point
    shares = {
        block.center: count / len(block.points) for block, count in zip(blocks, counts, strict=True)
    }
    near, far = min(shares), max(shares)
    assert shares[near] > 4 * shares[far]


def test_a_small_move_changes_no_count():
    blocks = build_blocks(sheet(60))
    there = choose_counts(blocks, (2.0, 2.0, 4.0), 1000)
    moved = choose_counts(blocks, (2.0, 2.001, 4.0), 1000)
    assert sum(a != b for a, b in zip(there, moved, strict=True)) <= 2


def test_walls_of_one_direction_are_a_block_that_is_seen_from_behind():
    points = torch.cat([sheet(5), sheet(5)[:, [0, 2, 1]]])  # a floor, and a wall at y = 0
    normals = torch.tensor([[0.0, 0, 1]] * 25 + [[0.0, 1, 0]] * 25)
    floor, wall = sorted(build_blocks(points, normals), key=lambda block: block.outward is not None)
    assert sorted(wall.points.tolist()) == list(range(25, 50))
    assert wall.outward == pytest.approx((0, 1, 0))
    assert seen_from_behind(wall, (0.2, -3.0, 1.0))
    assert not seen_from_behind(wall, (0.2, 3.0, 1.0))
    assert floor.outward is None
    assert not seen_from_behind(floor, (0.0, 0.0, -5.0))


def test_points_grow_so_that_a_thinned_surface_stays_closed():
    assert thinned_size(0.1, 400, 100) == pytest.approx(0.2)
    assert thinned_size(0.1, 400, 400) == pytest.approx(0.1)


def test_a_cloud_without_points_has_no_blocks():
    assert build_blocks(torch.zeros(0, 3)) == []
    assert choose_counts([], (0.0, 0.0, 0.0), 10) == []


def test_a_wall_whose_camera_is_in_its_middle_is_drawn():
    block = Block(torch.arange(1), (0.0, 0.0, 0.0), 0.0, (1.0, 0.0, 0.0))
    assert not seen_from_behind(block, (0.0, 0.0, 0.0))
