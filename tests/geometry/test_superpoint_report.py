"""The report on superpoints against counting by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.geometry import describe_superpoints, mesh_edges, neighbour_edges
from tests.geometry.scenes import bumpy_sheet


def test_a_row_of_points():
    ids = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    edges = torch.stack([torch.arange(8), torch.arange(1, 9)], dim=1)
    labels = torch.tensor([4, 4, 7, 7, 7, 7, -1, 4, 4])
    report = describe_superpoints(ids, edges, labels, min_size=3)
    assert report.superpoints == 3
    assert report.sizes == (2, 3, 4, 4)
    assert report.small == 1
    assert report.boundary == pytest.approx(2 / 8)
    assert report.purity == pytest.approx((2 + 2 + 2) / 8)
    assert report.boundary_recall == 0  # the border 4|7 at points 1|2 is inside superpoint 0
    moved = describe_superpoints(torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2]), edges, labels)
    assert moved.boundary_recall == 1


def test_what_is_not_known_is_none():
    ids = torch.tensor([0, 1])
    none = torch.zeros(0, 2, dtype=torch.int64)
    assert describe_superpoints(ids, none).boundary is None
    assert describe_superpoints(ids, none).purity is None
    silent = describe_superpoints(ids, torch.tensor([[0, 1]]), torch.tensor([-1, -1]))
    assert (silent.boundary, silent.purity, silent.boundary_recall) == (1, None, None)
    empty = describe_superpoints(torch.zeros(0, dtype=torch.int32), none)
    assert (empty.superpoints, empty.sizes) == (0, (0, 0, 0, 0))


@given(seed=st.integers(0, 2**32 - 1), points=st.integers(1, 40))
def test_shares_equal_counting(seed, points):
    generator = np.random.default_rng(seed)
    _, ids = np.unique(generator.integers(0, 5, points), return_inverse=True)
    labels = generator.choice([-1, 0, 1, 2], points)
    edges = generator.integers(0, points, (60, 2))
    report = describe_superpoints(*map(torch.from_numpy, (ids, edges, labels)))
    assert report.boundary == pytest.approx(np.mean([ids[a] != ids[b] for a, b in edges]))
    known = labels != -1
    best = sum(
        max(np.sum(labels[(ids == i) & known] == k) for k in range(3)) for i in range(ids.max() + 1)
    )
    assert report.purity == (pytest.approx(best / known.sum()) if known.any() else None)
    borders = [(a, b) for a, b in edges if known[a] and known[b] and labels[a] != labels[b]]
    found = [ids[a] != ids[b] for a, b in borders]
    assert report.boundary_recall == (pytest.approx(np.mean(found)) if found else None)


def test_edges_of_meshes_and_clouds():
    _, faces = bumpy_sheet(4, 5, seed=0)
    edges = mesh_edges(torch.cat([faces, torch.tensor([[3, 3, 3]])]))
    corners = faces.tolist()
    expected = {tuple(sorted(p)) for f in corners for p in zip(f, f[1:] + f[:1], strict=True)}
    assert sorted(map(tuple, edges.tolist())) == sorted(expected)
    line = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]])
    assert neighbour_edges(line, 1).tolist() == [[0, 1], [1, 0], [2, 1]]
    with pytest.raises(ValueError, match="neighbours must be at least 1, got 0"):
        neighbour_edges(line, 0)
    with pytest.raises(ValueError, match=r"edges has shape \(3,\), expected \(any, 2\)"):
        describe_superpoints(torch.zeros(3), torch.zeros(3))
