"""Which points a frame sees: reference parity, a plain loop, and the traps of rounding."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.geometry import project_points
from tests.conftest import golden_cases, load_npz
from tests.fixtures.surfaces import pinhole, random_pose


def reference_rows(projection):
    """(N, 3) (row, column, visible) as the fixtures store it."""
    return torch.cat([projection.pixels.flip(1), projection.visible[:, None].long()], 1).numpy()


def frames_of(case):
    """Arguments of `project_points` and the expected mapping of each frame of a fixture."""
    points = case["points"]
    if "labels" in case:
        points = points[case["labels"] != 255]
    width, height = case["image_dim_wh"].tolist()
    intrinsics = case.get("intrinsics", case.get("intrinsic"))
    options = {"border": int(case["cut_bound"])}
    if "vis_thres" in case:
        options["depth_tolerance"] = float(case["vis_thres"])
    for frame, pose in enumerate(case["poses"]):
        matrix = (intrinsics[frame] if len(intrinsics.shape) == 3 else intrinsics)[:3, :3]
        depth = None
        if "depth_u16" in case:
            depth = torch.from_numpy(case["depth_u16"][frame] / case["depth_scale"])
        yield (
            (torch.from_numpy(points), torch.from_numpy(pose), torch.from_numpy(matrix)),
            ((height, width), depth),
            options,
            case["mapping"][frame],
        )


@pytest.mark.parametrize(
    "file", golden_cases("projection/*_mapping*.npz") + golden_cases("projection/nuscenes*.npz")
)
def test_mapping_equals_the_reference(file):
    for camera, image, options, mapping in frames_of(load_npz(file)):
        result = project_points(*camera, *image, **options)
        np.testing.assert_array_equal(reference_rows(result), mapping)


@pytest.mark.parametrize("file", golden_cases("projection/*_mapping*.npz"))
def test_float32_depth_moves_next_to_nothing(file):
    for camera, (size, depth), options, mapping in frames_of(load_npz(file)):
        result = project_points(*camera, size, depth.float(), **options)
        assert (reference_rows(result) != mapping).any(axis=1).sum() <= 5


def plain_loop(points, pose, intrinsics, size, depth, tolerance, border):
    """(row, column, visible) of each point, one at a time."""
    inverse = np.linalg.inv(pose)
    rows = []
    for point in points:
        x, y, z = (inverse @ [*point, 1.0])[:3]
        row = (0, 0, 0)
        if z > 0:
            u = round(intrinsics[0, 0] * x / z + intrinsics[0, 2])  # half to even
            v = round(intrinsics[1, 1] * y / z + intrinsics[1, 2])
            inside = border <= u < size[1] - border and border <= v < size[0] - border
            if inside and (depth is None or abs(depth[v, u] - z) <= tolerance * depth[v, u]):
                row = (v, u, 1)
        rows.append(row)
    return np.array(rows).reshape(-1, 3)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 60),
    with_depth=st.booleans(),
    tolerance=st.sampled_from([0.0, 0.02, 0.25]),
    border=st.integers(0, 12),
)
def test_mapping_equals_a_plain_loop(seed, count, with_depth, tolerance, border):
    generator = np.random.default_rng(seed)
    size = (24, 32)
    intrinsics, pose = pinhole(15.0, size), random_pose(generator)
    points = generator.normal(scale=2, size=(count, 3)).astype(np.float32)
    depth = generator.uniform(0, 4, size=size) * (generator.random(size) < 0.8)
    depth = depth if with_depth else None
    expected = plain_loop(points, pose.numpy(), intrinsics.numpy(), size, depth, tolerance, border)
    result = project_points(
        torch.from_numpy(points),
        pose,
        intrinsics,
        size,
        None if depth is None else torch.from_numpy(depth),
        depth_tolerance=tolerance,
        border=border,
    )
    np.testing.assert_array_equal(reference_rows(result), expected)


def straight_ahead(points, depth=None, **options):
    """Through a camera at the origin: focal length 2, 8 x 8 pixels, principal point (4, 4)."""
    intrinsics = torch.tensor([[2.0, 0, 4], [0, 2, 4], [0, 0, 1]])
    return project_points(
        torch.tensor(points), torch.eye(4), intrinsics, (8, 8), depth, **{"border": 0, **options}
    )


def test_rounding_is_half_to_even():
    result = straight_ahead([[0.25, 0.75, 1.0], [-0.25, -0.75, 1.0]])
    assert result.pixels.tolist() == [[4, 6], [4, 2]]  # columns 4.5, 3.5; rows 5.5, 2.5


def test_the_border_is_part_of_the_image_on_one_side_only():
    columns = [[-1.0, 0, 1], [-0.5, 0, 1], [1.0, 0, 1], [0.5, 0, 1]]  # columns 2, 3, 6, 5
    assert straight_ahead(columns, border=2).visible.tolist() == [True, True, False, True]
    assert straight_ahead(columns, border=3).visible.tolist() == [False, True, False, False]


def test_points_beside_and_behind_the_camera_are_unseen():
    nan, inf = float("nan"), float("inf")
    points = [[0.0, 0, -1], [0, 0, 0], [1, 1, 0], [nan, 0, 1], [0, inf, 1], [0, 0, inf], [0, 0, 1]]
    for depth in (None, torch.ones(8, 8)):
        result = straight_ahead(points, depth, depth_tolerance=5.0)
        assert result.visible.tolist() == [False] * 6 + [True]
        assert result.pixels[:6].abs().sum() == 0
        assert result.depth[[0, 6]].tolist() == [-1, 1]


@pytest.mark.parametrize("reading", [0.0, -1.0, float("nan"), float("inf")])
def test_a_pixel_without_reading_sees_nothing(reading):
    assert not straight_ahead([[0.0, 0, 1]], torch.full((8, 8), reading)).visible.any()


def test_the_tolerance_is_a_share_of_the_measured_depth():
    depth = torch.full((8, 8), 2.0)
    points = [[0.0, 0, 1.5], [0, 0, 2.5], [0, 0, 1.49], [0, 0, 2.51]]
    seen = straight_ahead(points, depth, depth_tolerance=0.25).visible
    assert seen.tolist() == [True, True, False, False]


def test_inputs_stay_as_they_were():
    points, depth = torch.rand(9, 3, dtype=torch.float64) + 0.5, torch.ones(8, 8)
    pose, intrinsics = torch.eye(4).double(), pinhole(3.0, (8, 8))
    copies = [tensor.clone() for tensor in (points, pose, intrinsics, depth)]
    project_points(points, pose, intrinsics, (8, 8), depth, border=0)
    for tensor, copy in zip((points, pose, intrinsics, depth), copies, strict=True):
        assert torch.equal(tensor, copy)


def test_bad_arguments_are_named():
    points, pose, intrinsics = torch.zeros(2, 3), torch.eye(4), torch.eye(3)
    missing = pose.clone()
    missing[0, 3] = float("nan")
    with pytest.raises(ValueError, match="camera_to_world has 1 non-finite values of 16"):
        project_points(points, missing, intrinsics, (4, 4))
    with pytest.raises(ValueError, match="intrinsics has 9 non-finite"):
        project_points(points, pose, intrinsics * float("nan"), (4, 4))
    with pytest.raises(ValueError, match=r"depth has shape \(4, 5\), expected the image size"):
        project_points(points, pose, intrinsics, (5, 4), torch.zeros(4, 5))
    with pytest.raises(ValueError, match=r"points has shape \(3,\)"):
        project_points(points[0, :3], pose, intrinsics, (4, 4))
    with pytest.raises(ValueError, match=r"must be >= 0, got -0\.1 and 10"):
        project_points(points, pose, intrinsics, (4, 4), depth_tolerance=-0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_sees_what_the_cpu_sees():
    generator = np.random.default_rng(0)
    points = torch.from_numpy(generator.normal(size=(2000, 3)).astype(np.float32))
    pose, intrinsics = random_pose(generator), pinhole(50.0, (48, 64))
    depth = torch.from_numpy(generator.uniform(0, 3, (48, 64)).astype(np.float32))
    here = project_points(points, pose, intrinsics, (48, 64), depth)
    there = project_points(points.cuda(), pose.cuda(), intrinsics, (48, 64), depth)
    assert (here.visible != there.visible.cpu()).sum() <= 1
    assert there.pixels.is_cuda
