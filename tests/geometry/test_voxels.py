"""Voxels: reference parity as a mapping, and what every grid must satisfy."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.geometry import voxelize
from tests.conftest import golden_cases, load_npz


def reference_cases(arrays):
    """(points, size, options, voxel of each kept point, representatives) in one fixture."""
    for key in arrays:
        if match := re.fullmatch(r"(v(\d+))_coords", key):
            name = match[1]  # v02 is 0.02 m
            yield (
                (arrays["points"], int(match[2]) / 100, {}),
                arrays[key][arrays[f"{name}_inverse"]],
                arrays[f"{name}_ind"],
            )
        if match := re.fullmatch(r"rotation_matrix_(\w+)", key):
            name = match[1]
            matrix = arrays[key] @ arrays[f"scale_matrix_{name}"]
            yield (
                (arrays["points"], 1.0, {"transform": torch.from_numpy(matrix)}),
                arrays[f"coords_{name}"][arrays[f"inverse_{name}"]],
                arrays[f"ind_{name}"],
            )
        if key == "clip_bound":
            yield (
                (arrays["points"], 0.05, {"clip_box": torch.from_numpy(arrays[key])}),
                arrays["coords"][arrays["inverse_within_clipped"]],
                arrays["kept_point_of_voxel"],
            )
        if match := re.fullmatch(r"(\w+)_ravel_ind", key):
            name = match[1]
            cells = arrays[f"{name}_coords"]
            origin = np.floor(cells).min(axis=0)
            inverse = arrays[f"{name}_ravel_inverse"]
            yield (
                (cells, 1.0, {}),
                (np.floor(cells) - origin)[arrays[key]][inverse],
                arrays[key],
            )


@pytest.mark.parametrize("file", golden_cases("voxelize/*.npz"))
def test_voxels_equal_the_reference(file):
    cases = list(reference_cases(load_npz(file)))
    if not cases:
        pytest.skip(f"{file.name} holds no voxel case of a known kind")
    for (points, size, options), expected, representatives in cases:
        result = voxelize(torch.from_numpy(points), size, **options)
        kept = result.point_to_voxel >= 0
        np.testing.assert_array_equal(result.coords[result.point_to_voxel[kept]], expected)
        np.testing.assert_array_equal(result.representative.sort()[0], np.sort(representatives))


clouds = st.tuples(
    st.integers(1, 80), st.integers(0, 2**32 - 1), st.sampled_from([0.1, 3.0, 200.0])
)


def random_cloud(count, seed, spread):
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.normal(scale=spread, size=(count, 3)).astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(cloud=clouds, size=st.sampled_from([0.02, 0.05, 0.37]))
def test_every_point_lies_in_its_voxel(cloud, size):
    points = random_cloud(*cloud)
    coords, point_to_voxel, representative = voxelize(points, size, origin=None)
    low = coords[point_to_voxel].double() * size
    slack = 1e-9 * (1 + points.abs().max().item())
    assert (points.double() >= low - slack).all()
    assert (points.double() < low + size + slack).all()
    assert point_to_voxel[representative].tolist() == list(range(len(coords)))
    assert point_to_voxel.unique().tolist() == list(range(len(coords)))
    lowest = [int((point_to_voxel == voxel).nonzero()[0]) for voxel in range(len(coords))]
    assert representative.tolist() == lowest
    rows = [tuple(row) for row in coords.tolist()]
    assert rows == sorted(set(rows))


@settings(max_examples=30, deadline=None)
@given(cloud=clouds, size=st.sampled_from([0.05, 0.37]))
def test_the_shift_moves_all_voxels_alike(cloud, size):
    points = random_cloud(*cloud)
    signed, shifted = voxelize(points, size, origin=None), voxelize(points, size)
    assert torch.equal(shifted.coords, signed.coords - signed.coords.amin(0))
    assert torch.equal(shifted.point_to_voxel, signed.point_to_voxel)
    assert torch.equal(shifted.representative, signed.representative)


@settings(max_examples=30, deadline=None)
@given(cloud=clouds, size=st.sampled_from([0.05, 0.37]))
def test_any_cell_can_be_the_origin(cloud, size):
    points, origin = random_cloud(*cloud), torch.tensor([-7, 0, 1 << 20])
    signed, moved = voxelize(points, size, origin=None), voxelize(points, size, origin=origin)
    assert torch.equal(moved.coords, (signed.coords - origin).int())
    assert torch.equal(moved.point_to_voxel, signed.point_to_voxel)
    assert torch.equal(moved.representative, signed.representative)
    far = torch.tensor([1 << 32, 0, 0])
    if len(points):
        with pytest.raises(ValueError, match="which 32-bit coordinates cannot hold"):
            voxelize(points, size, origin=-far)
    with pytest.raises(ValueError, match="origin"):
        voxelize(points, size, origin=torch.zeros(2))


def test_distinct_cells_never_merge():
    axis = torch.arange(-30, 30, dtype=torch.float64) + 0.5
    points = torch.cartesian_prod(axis, axis, axis)
    assert len(voxelize(points, 1.0).coords) == 60**3


def test_lattice_points_use_float64():
    steps = torch.arange(-500, 500).double() * 0.02
    points = torch.stack([steps, steps, steps], dim=1).float()
    expected = torch.floor(points.double() * 50).to(torch.int32)
    result = voxelize(points, 0.02, origin=None)
    assert torch.equal(result.coords[result.point_to_voxel], expected)


def test_the_transform_comes_before_the_grid():
    points = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    quarter_turn = torch.tensor([[0.0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    result = voxelize(points, 0.5, origin=None, transform=quarter_turn)
    assert result.coords[result.point_to_voxel].tolist() == [[10, 2, 0], [8, 0, 0]]


def test_the_clip_box_includes_its_lower_face_only():
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 0, 0]])
    box = torch.tensor([[-1.0, 1.0], [-1, 1], [-1, 1]])
    result = voxelize(points, 1.0, clip_box=box)
    assert result.point_to_voxel.tolist() == [-1, 0, 1, -1, -1]
    assert result.representative.tolist() == [1, 2]
    nothing = voxelize(points, 1.0, clip_box=torch.zeros(3, 2))
    assert nothing.coords.shape == (0, 3)
    assert nothing.point_to_voxel.tolist() == [-1] * 5


def test_no_points_give_no_voxels():
    for box in (None, torch.ones(3, 2)):
        result = voxelize(torch.zeros(0, 3), 0.1, clip_box=box)
        assert [tuple(part.shape) for part in result] == [(0, 3), (0,), (0,)]
        assert result.coords.dtype == torch.int32


def test_bad_arguments_are_named():
    points = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="voxel_size must be a positive length in metres, got 0"):
        voxelize(points, 0)
    with pytest.raises(ValueError, match="points has 1 non-finite values of 6"):
        voxelize(torch.tensor([[0.0, 0, 0], [0, float("nan"), 0]]), 0.1)
    with pytest.raises(ValueError, match="check the unit of the points or remove outliers"):
        voxelize(torch.tensor([[0.0, 0, 0], [1e9, 0, 0]]), 0.02)
    with pytest.raises(ValueError, match="32-bit coordinates cannot hold"):
        voxelize(torch.tensor([[1e9, 0, 0]]), 0.02, origin=None)
    with pytest.raises(ValueError, match="32-bit coordinates cannot hold"):
        voxelize(torch.tensor([[0.0, 0, 0], [3e7, 3e7, 3e7]]), 0.02)
    with pytest.raises(ValueError, match=r"clip_box has shape \(2, 3\)"):
        voxelize(points, 0.1, clip_box=torch.zeros(2, 3))
    with pytest.raises(ValueError, match="origin must be 'minimum' or None, got 'centre'"):
        voxelize(points, 0.1, origin="centre")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_voxels():
    points = random_cloud(5000, 0, 1.0)
    for here, there in zip(voxelize(points, 0.1), voxelize(points.cuda(), 0.1), strict=True):
        assert torch.equal(here, there.cpu())
