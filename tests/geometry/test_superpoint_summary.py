"""The report on superpoints against counting by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.geometry import mesh_edges, neighbor_edges, superpoint_statistics
from pcdistill.geometry.superpoint_summary import Fidelity
from tests.fixtures.surfaces import bumpy_sheet


def test_a_row_of_points():
    ids = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    edges = torch.stack([torch.arange(8), torch.arange(1, 9)], dim=1)
    labels = torch.tensor([4, 4, 7, 7, 7, 7, -1, 4, 4])
    report = superpoint_statistics(ids, edges, labels, min_size=3, tolerance=0)
    assert report.superpoints == 3
    assert report.sizes == (2, 3, 4, 4)
    assert report.small == 1
    assert report.boundary == pytest.approx(2 / 8)
    assert report.labels.purity == pytest.approx((2 + 2 + 2) / 8)
    # said: 4 4 4 7 7 4 . 4 4, so that 4 has 4 of 6 and 7 has 2 of 4
    assert report.labels.mean_iou == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert report.labels.boundary_recall == 0  # the border 4|7 at points 1|2 is in superpoint 0
    assert report.labels.boundary_precision == 0
    near = superpoint_statistics(ids, edges, labels).labels
    assert (near.boundary_recall, near.boundary_precision) == (1, 1 / 2)  # cut at 2|3 and at 4|5
    moved = superpoint_statistics(
        torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2]), edges, labels, tolerance=0
    )
    assert (moved.labels.boundary_recall, moved.labels.boundary_precision) == (1, 1 / 2)


def test_objects_are_compared_like_labels():
    ids = torch.tensor([0, 0, 1, 1, 2, 2])
    edges = torch.stack([torch.arange(5), torch.arange(1, 6)], dim=1)
    objects = torch.tensor([8, 8, 8, 5, -1, -1], dtype=torch.int32)
    report = superpoint_statistics(ids, edges, instances=objects, tolerance=0)
    assert report.labels is None
    assert report.instances.purity == pytest.approx(3 / 4)
    # 3|4 is cut, but nothing is known of point 4; 1|2 is cut within object 8
    assert (report.instances.boundary_recall, report.instances.boundary_precision) == (0, 0)


def test_what_is_not_known_is_none():
    ids = torch.tensor([0, 1])
    none = torch.zeros(0, 2, dtype=torch.int64)
    assert superpoint_statistics(ids, none).boundary is None
    assert superpoint_statistics(ids, none).labels is None
    silent = superpoint_statistics(ids, torch.tensor([[0, 1]]), torch.tensor([-1, -1]))
    assert (silent.boundary, silent.labels) == (1, Fidelity(None, None, None, None))
    alike = superpoint_statistics(ids, torch.tensor([[0, 1]]), torch.tensor([3, 3]))
    assert alike.labels == Fidelity(1, 1, None, 0)
    whole = superpoint_statistics(
        torch.zeros(2, dtype=torch.int64), torch.tensor([[0, 1]]), torch.tensor([3, 4])
    )
    assert whole.labels == Fidelity(1 / 2, 1 / 4, 0, None)
    empty = superpoint_statistics(torch.zeros(0, dtype=torch.int32), none)
    assert (empty.superpoints, empty.sizes) == (0, (0, 0, 0, 0))


def edges_apart(edges, first):
    """Of each edge, how many steps over shared points lie between it and the first ones."""
    distance = [0 if index in first else np.inf for index in range(len(edges))]
    for _ in edges:
        for i, one in enumerate(edges):
            for j, other in enumerate(edges):
                if set(one) & set(other):
                    distance[i] = min(distance[i], distance[j] + 1)
    return distance


@given(
    seed=st.integers(0, 2**32 - 1),
    points=st.integers(1, 25),
    joined=st.integers(0, 14),
    tolerance=st.integers(0, 3),
)
def test_shares_equal_counting(seed, points, joined, tolerance):
    generator = np.random.default_rng(seed)
    _, ids = np.unique(generator.integers(0, 5, points), return_inverse=True)
    truth = generator.choice([-1, 0, 1, 7], points)
    edges = generator.integers(0, points, (joined, 2))
    report = superpoint_statistics(*map(torch.from_numpy, (ids, edges, truth)), tolerance=tolerance)
    pairs, known = edges.tolist(), truth != -1

    def fraction(flags):
        return pytest.approx(np.mean(flags)) if flags else None

    cut = {i for i, (a, b) in enumerate(pairs) if ids[a] != ids[b]}
    judged = {i for i, (a, b) in enumerate(pairs) if known[a] and known[b]}
    true = {i for i in judged if truth[pairs[i][0]] != truth[pairs[i][1]]}
    assert report.boundary == fraction([i in cut for i in range(joined)])
    to_cut, to_true = edges_apart(pairs, cut), edges_apart(pairs, true)
    assert report.labels.boundary_recall == fraction([to_cut[i] <= tolerance for i in true])
    assert report.labels.boundary_precision == fraction(
        [to_true[i] <= tolerance for i in cut & judged]
    )

    said = np.full(points, -1)
    for superpoint in np.unique(ids[known]):
        inside = truth[known & (ids == superpoint)].tolist()
        said[ids == superpoint] = max(sorted(set(inside)), key=inside.count)
    assert report.labels.purity == fraction((said == truth)[known].tolist())
    overlap = [
        np.sum(known & (said == k) & (truth == k)) / np.sum(known & ((said == k) | (truth == k)))
        for k in np.unique(truth[known])
    ]
    assert report.labels.mean_iou == fraction(overlap)


def test_a_tolerance_below_zero_is_refused():
    ids, none = torch.tensor([0, 1]), torch.zeros(0, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="tolerance is -1, expected 0 edges or more"):
        superpoint_statistics(ids, none, ids, tolerance=-1)


def test_edges_of_meshes_and_clouds():
    _, faces = bumpy_sheet(4, 5, seed=0)
    edges = mesh_edges(torch.cat([faces, torch.tensor([[3, 3, 3]])]))
    corners = faces.tolist()
    expected = {tuple(sorted(p)) for f in corners for p in zip(f, f[1:] + f[:1], strict=True)}
    assert sorted(map(tuple, edges.tolist())) == sorted(expected)
    line = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]])
    assert neighbor_edges(line, 1).tolist() == [[0, 1], [1, 0], [2, 1]]
    with pytest.raises(ValueError, match="neighbors must be at least 1, got 0"):
        neighbor_edges(line, 0)
    with pytest.raises(ValueError, match=r"edges has shape \(3,\), expected \(any, 2\)"):
        superpoint_statistics(torch.zeros(3), torch.zeros(3))
