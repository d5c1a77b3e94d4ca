"""Random changes of a scene: their ranges are the reference's, and the distortion is smooth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import interpolate, ndimage
from torch.nn import functional

from pcdistill.distillation import elastic
from pcdistill.distillation.augmentation import draw_change, draw_reference
from pcdistill.distillation.batches import MAX_STRIDE, StudentInput
from pcdistill.distillation.elastic import DisplacementField, distort, draw_field

ROUNDING = 1e-6
"""Relative, of lengths in float32."""
DRAWS = 400


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def changes():
    """Changes of the reference, and the angles about x, y and z of each in their order."""
    source = generator(3)
    return [draw_reference(source) for _ in range(DRAWS)]


def test_scales_are_from_0_9_to_1_1(changes):
    scales = np.array([change.scale for change in changes])
    assert 0.9 <= scales.min() < 0.91
    assert 1.09 < scales.max() <= 1.1
    assert abs(scales.mean() - 1) < 0.01


def test_rotations_are_by_anything_about_z_and_by_a_64th_of_pi_about_x_and_y(changes):
    """Both tilts add up where a quarter turn comes between them; alone each ends at a 64th."""
    tilts, headings = [], []
    for change in changes:
        turn = change.rotation.numpy()
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(turn) == pytest.approx(1)
        tilts.append(math.acos(turn[2, 2]))
        headings.append(math.atan2(turn[1, 0], turn[0, 0]))
    assert max(tilts) <= 2 * math.pi / 64
    assert max(tilts) > 1.2 * math.pi / 64
    counts = np.histogram(headings, bins=8, range=(-math.pi, math.pi))[0] / DRAWS
    assert counts.min() > 0.07
    assert counts.max() < 0.19


def test_x_and_y_run_backwards_in_nearly_half_of_the_draws_and_z_never(changes):
    for axis in (0, 1):
        share = np.mean([change.mirrored[axis] for change in changes])
        assert abs(share - 0.475) < 0.08
    both = np.mean([all(change.mirrored) for change in changes])
    assert 0.15 < both < 0.33  # one draw of 19 in 20 for both, then each for itself
    points = torch.tensor([[1.0, 2, 3]])
    change = draw_change("none", generator(), tinted=False)._replace(mirrored=(True, False))
    moved = change(StudentInput(points, points))
    assert moved.points.tolist() == [[-1, 2, 3]]
    assert moved.normals.tolist() == [[-1, 2, 3]]


def test_shifts_are_of_any_part_of_a_coarsest_voxel(changes):
    shifts = torch.stack([change.shift for change in changes])
    assert float(shifts.min()) >= 0
    assert float(shifts.max()) < MAX_STRIDE
    for stride in (1, 2, 4, 8, 16):
        parts = np.histogram((shifts % stride).flatten(), bins=4, range=(0, stride))[0]
        assert parts.min() > 0.2 * parts.sum()


def test_nineteen_scenes_in_twenty_are_distorted_each_in_its_own_way(changes):
    seeds = [change.elastic_seed for change in changes if change.elastic_seed is not None]
    assert abs(len(seeds) / DRAWS - 0.95) < 0.04
    assert len(set(seeds)) == len(seeds)


def test_a_change_is_made_in_the_order_of_the_reference():
    """Distorted in the scene's own frame, then turned and scaled, then mirrored."""
    points = torch.rand(200, 3, generator=generator()) * 3
    normals = functional.normalize(torch.randn(200, 3, generator=generator(1)), dim=1)
    change = draw_reference(generator(8))._replace(mirrored=(False, True), elastic_seed=5)
    found = change(StudentInput(points, normals))
    bent, turned = distort(points, normals, generator(5))
    expected = change.scale * bent @ change.rotation.T
    expected[:, 1] *= -1
    torch.testing.assert_close(found.points, expected)
    turned = turned.double() @ change.rotation.T
    turned[:, 1] *= -1
    torch.testing.assert_close(found.normals.double(), turned, rtol=ROUNDING, atol=ROUNDING)
    assert torch.equal(found.grid_shift, change.shift)
    assert float((bent - points.double()).norm(dim=1).mean()) > 0.05  # for real


def test_what_is_drawn_does_not_depend_on_the_cloud():
    for name in ("none", "grid", "full", "reference"):
        one, other = generator(4), generator(4)
        draw_change(name, one, tinted=True)(StudentInput(torch.rand(50, 3) * 9))
        draw_change(name, other, tinted=True)(StudentInput(torch.zeros(0, 3)))
        assert torch.equal(one.get_state(), other.get_state()), name


def scipy_displacement(points: np.ndarray, spacing: float, noise: np.ndarray) -> np.ndarray:
    """The same by scipy: boxes of three nodes, twice along each axis, then trilinear."""
    for _ in range(2):
        for axis in range(3):
            noise = ndimage.uniform_filter1d(noise, 3, axis, mode="constant")
    first = points.min(axis=0) - spacing
    axes = [first[i] + spacing * np.arange(noise.shape[i]) for i in range(3)]
    return interpolate.RegularGridInterpolator(axes, noise)(points)


@pytest.mark.parametrize(("spacing", "size"), elastic.SCALES)
def test_the_distortion_is_smoothed_noise_between_nodes(spacing, size):
    points = (torch.rand(300, 3, generator=generator()) * torch.tensor([4.0, 3, 2]) - 1).double()
    field = draw_field(points, spacing, size, generator(6))
    extent = points.amax(dim=0) - points.amin(dim=0)
    counts = [int(length // spacing) + 3 for length in extent.tolist()]
    noise = torch.randn(*counts, 3, generator=generator(6)) * size
    expected = scipy_displacement(points.numpy(), spacing, noise.double().numpy())
    np.testing.assert_allclose(field.at(points)[0].numpy(), expected, atol=1e-5 * size)


def test_displacements_are_as_large_as_smoothing_leaves_them():
    """A box of three twice along an axis leaves 19/81 of the variance; that of cells a little less
    between nodes."""
    points = torch.rand(4000, 3, generator=generator()).double() * 10 + 0.5
    for spacing, size in elastic.SCALES:
        moved, _ = draw_field(points, spacing, size, generator(2)).at(points)
        inside = (points > 2.5).all(dim=1) & (points < 8).all(dim=1)
        expected = size * (19 / 81) ** 1.5
        assert 0.75 * expected < float(moved[inside].std()) < 1.05 * expected


def test_a_cloud_with_more_nodes_than_the_bound_sees_the_noise_again(monkeypatch):
    monkeypatch.setattr(elastic, "MAX_NODES", 8)
    points = torch.zeros(100, 3).double()
    points[:, 0] = torch.linspace(0, 20, 100)
    field = draw_field(points, 0.5, 1.0, generator(1))
    assert field.nodes.shape == (8, 3, 3, 3)
    again = points.clone()
    again[:, 0] = points[:, 0] + 8 * 0.5
    torch.testing.assert_close(field.at(points)[0], field.at(again)[0])
    steps = field.at(points)[0].diff(dim=0).norm(dim=1)
    assert float(steps.max()) < 2  # no jump where it begins again


def test_the_slope_of_a_field_is_its_derivative():
    nodes = torch.randn(5, 6, 7, 3, generator=generator(2))
    field = DisplacementField(nodes, torch.tensor([-1.0, 0, 2]).double(), 0.3)
    points = torch.rand(50, 3, generator=generator(3)).double() * 0.9 + field.first
    step = 1e-6
    for axis in range(3):
        ahead, behind = points.clone(), points.clone()
        ahead[:, axis] += step
        behind[:, axis] -= step
        slope = (field.at(ahead)[0] - field.at(behind)[0]) / (2 * step)
        torch.testing.assert_close(field.at(points)[1][:, :, axis], slope, rtol=1e-6, atol=1e-6)


def test_normals_stay_on_the_distorted_surface():
    """A patch of a tilted plane: its normal from two edges of each of its small triangles."""
    middles = torch.rand(80, 3, generator=generator(4)).double() * 2
    normal = functional.normalize(torch.tensor([0.2, -0.4, 1.0]).double(), dim=0)
    one = functional.normalize(
        torch.linalg.cross(normal, torch.tensor([1.0, 0, 0]).double()), dim=0
    )
    two = torch.linalg.cross(normal, one)
    points = torch.cat([middles, middles + 1e-5 * one, middles + 1e-5 * two])
    normals = normal.float().expand(len(points), 3)
    moved, turned = distort(points, normals, generator(9))
    first, second, third = moved.split(80)
    expected = functional.normalize(torch.linalg.cross(second - first, third - first), dim=1)
    agreement = (expected * turned[:80].double()).sum(dim=1)
    assert float(agreement.median()) > 1 - 1e-5  # a triangle may cross a border of the grid
    assert float((turned[:80].double() @ normal).min()) < 0.99  # they do turn


def test_an_empty_cloud_stays_empty():
    change = draw_reference(generator(1))._replace(elastic_seed=1)
    cloud = change(StudentInput(torch.zeros(0, 3), torch.zeros(0, 3)))
    assert cloud.points.shape == cloud.normals.shape == (0, 3)
