"""Normals of meshes and of bare points."""

import math

import numpy as np
import pytest
import torch

from pcdistill.geometry import estimate_normals, vertex_normals
from tests.fixtures.surfaces import bumpy_sheet, random_rotation
from tests.tolerances import FLOAT64


def sphere(count, seed=0):
    directions = np.random.default_rng(seed).normal(size=(count, 3))
    return torch.from_numpy(directions / np.linalg.norm(directions, axis=1, keepdims=True))


def test_faces_count_by_their_area():
    vertices = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 1], [9, 9, 9]])
    faces = torch.tensor([[0, 1, 2], [0, 1, 3]])  # area 2 facing +z, area 1 facing -y
    normals = vertex_normals(vertices, faces)
    mixed = [0, -1 / math.sqrt(5), 2 / math.sqrt(5)]
    torch.testing.assert_close(normals[0], torch.tensor(mixed))
    torch.testing.assert_close(normals[2:], torch.tensor([[0.0, 0, 1], [0, -1, 0], [0, 0, 0]]))


def test_faces_without_area_do_no_harm():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 1, 3], [3, 3, 3]])
    normals = vertex_normals(vertices, faces)
    torch.testing.assert_close(normals, torch.tensor([[0.0, 0, 1]] * 3 + [[0.0, 0, 0]]))


def test_mesh_normals_turn_with_the_mesh():
    vertices, faces = bumpy_sheet(12, 15, seed=3)
    rotation = torch.from_numpy(random_rotation(np.random.default_rng(1)))
    turned = vertex_normals(vertices.double() @ rotation.T, faces)
    torch.testing.assert_close(turned, vertex_normals(vertices.double(), faces) @ rotation.T)


@pytest.mark.parametrize("viewpoint", [None, torch.zeros(3), torch.zeros(3000, 3)])
def test_normals_of_a_sphere_point_to_the_viewer_within(viewpoint):
    points = sphere(3000)
    normals = estimate_normals(points, 12, viewpoint)
    inwards = -(normals * points).sum(dim=1)
    assert (inwards > 0).all()
    assert inwards.median() > math.cos(math.radians(3))


def test_each_point_may_have_its_own_viewpoint():
    grid = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0), torch.zeros(1))
    above = torch.arange(64) % 2 == 0
    viewpoint = torch.where(above, 1.0, -1.0)[:, None] * torch.tensor([0.0, 0, 5])
    normals = estimate_normals(grid, 9, viewpoint + grid)
    torch.testing.assert_close(normals[:, 2], torch.where(above, 1.0, -1.0))
    assert normals.dtype == torch.float32


def test_signs_agree_around_a_crease_without_a_viewpoint():
    vertices, faces = bumpy_sheet(40, 40, seed=0)
    estimated = estimate_normals(vertices, 16)
    agreement = (estimated * vertex_normals(vertices, faces)).sum(dim=1)
    assert min((agreement > 0).float().mean(), (agreement < 0).float().mean()) == 0


def test_neighborhoods_are_those_of_a_plain_search():
    points = torch.from_numpy(np.random.default_rng(5).normal(size=(40, 3)))
    normals = estimate_normals(points, 7, torch.zeros(3))
    for point, normal in zip(points, normals, strict=True):
        nearest = (points - point).norm(dim=1).argsort()[:7]
        expected = torch.linalg.svd(points[nearest] - points[nearest].mean(0)).Vh[2]
        assert (expected @ normal).abs().item() == pytest.approx(1, abs=FLOAT64)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_points_have_unit_normals(count):
    normals = estimate_normals(torch.rand(count, 3))
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(count))


def test_coincident_points_have_finite_normals():
    assert estimate_normals(torch.ones(30, 3)).isfinite().all()


def test_bad_arguments_are_named():
    vertices = torch.zeros(3, 3)
    with pytest.raises(ValueError, match="faces name vertices 0 to 3, expected 0 to 2"):
        vertex_normals(vertices, torch.tensor([[0, 1, 3]]))
    with pytest.raises(ValueError, match=r"faces have dtype torch\.float32"):
        vertex_normals(vertices, torch.zeros(1, 3))
    with pytest.raises(ValueError, match="neighbors must be at least 3, got 2"):
        estimate_normals(vertices, 2)
    with pytest.raises(ValueError, match="points has 9 non-finite"):
        estimate_normals(vertices * float("nan"))
    with pytest.raises(ValueError, match=r"viewpoint has shape \(2, 3\), expected \(3, 3\)"):
        estimate_normals(vertices, 3, torch.zeros(2, 3))
