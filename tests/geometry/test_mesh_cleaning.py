"""Vertices merged, pieces dropped, faces that are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.geometry import drop_small_pieces, merge_close_vertices, proper_faces


def grid(count: int, spacing: float, height: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A square sheet of count x count vertices."""
    side = torch.arange(count).double() * spacing
    x, y = torch.meshgrid(side, side, indexing="ij")
    points = torch.stack([x.ravel(), y.ravel(), torch.full((count * count,), height)], dim=1)
    first = (torch.arange(count - 1)[:, None] * count + torch.arange(count - 1)).ravel()
    lower = torch.stack([first, first + count, first + 1], dim=1)
    upper = torch.stack([first + 1, first + count, first + count + 1], dim=1)
    return points, torch.cat([lower, upper])


def up(points: torch.Tensor, sign: float = 1.0) -> torch.Tensor:
    return torch.tensor([0.0, 0.0, sign]).expand(len(points), 3)


def test_close_vertices_become_one_at_their_mean():
    points, faces = grid(20, 0.01)
    mesh = merge_close_vertices(points, faces, up(points), 0.0499)
    assert len(mesh.points) == 16
    want = [0.02, 0.07, 0.12, 0.17]  # mean of 0 to 4, of 5 to 9, ... times 1 cm
    assert mesh.points[:, 0].numpy().round(9).tolist() == pytest.approx(sorted(want * 4))
    assert len(mesh.faces) == 18  # two for each of the 3 x 3 squares


def test_both_sides_of_a_board_stay_apart():
    top, faces = grid(10, 0.01, 0.004)
    below, _ = grid(10, 0.01, 0.0)
    points = torch.cat([top, below])
    both = torch.cat([faces, faces.flip(1) + len(top)])
    normals = torch.cat([up(top), up(below, -1.0)])
    mesh = merge_close_vertices(points, both, normals, 0.05)
    assert set(mesh.points[:, 2].numpy().round(9)) == {0.0, 0.004}


@given(count=st.integers(2, 12), spacing=st.floats(0.005, 0.2), cell=st.floats(0.01, 0.3))
def test_every_vertex_that_stays_has_a_face(count, spacing, cell):
    points, faces = grid(count, spacing)
    mesh = merge_close_vertices(points, faces, up(points), cell)
    assert mesh.faces.unique().tolist() == list(range(len(mesh.points)))
    low, high = points.amin(dim=0), points.amax(dim=0)
    assert bool(((mesh.points >= low - 1e-12) & (mesh.points <= high + 1e-12)).all())


def test_small_pieces_are_left_out():
    large, faces = grid(6, 1.0)
    small, few = grid(2, 1.0, 5.0)
    points, both = torch.cat([small, large]), torch.cat([few, faces + len(small)])
    mesh = drop_small_pieces(points, both, 5)
    assert torch.equal(mesh.points, large)
    assert torch.equal(mesh.faces, faces)
    assert len(drop_small_pieces(points, both, 4).points) == len(points)
    assert len(drop_small_pieces(points, both, 99).points) == 0


def test_faces_with_an_edge_of_length_zero_or_said_twice_go():
    faces = np.array([[0, 1, 2], [2, 0, 1], [1, 1, 2], [3, 1, 0], [2, 1, 0]])
    assert proper_faces(faces).tolist() == [[0, 1, 2], [3, 1, 0]]


def test_what_cannot_be_merged_is_named():
    points, faces = grid(3, 1.0)
    with pytest.raises(ValueError, match="spacing must be > 0 metres, got 0"):
        merge_close_vertices(points, faces, up(points), 0)
    with pytest.raises(ValueError, match="expected at most 2\\^19"):
        merge_close_vertices(points * 1e6, faces, up(points), 0.001)
    empty = merge_close_vertices(torch.zeros(0, 3), faces[:0], torch.zeros(0, 3), 1.0)
    assert len(empty.points) == 0
