"""Culling: a frame that touches fewer points sees exactly the same ones."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pcdistill.geometry import PointGrid, project_points
from tests.conftest import golden_cases, load_npz
from tests.fixtures.surfaces import pinhole, random_pose
from tests.geometry.test_visibility import frames_of


def require_equal(points, camera, image, options):
    """`visible_from` and `project_points` agree to the last bit."""
    whole = project_points(points, *camera, *image, **options)
    culled = PointGrid(points).visible_from(*camera, *image, **options)
    assert torch.equal(culled.seen, whole.visible.nonzero()[:, 0])
    assert torch.equal(culled.pixels, whole.pixels[whole.visible])
    return culled


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 400),
    shape=st.sampled_from(["cloud", "wall", "line", "one place", "far away"]),
    with_depth=st.booleans(),
    tolerance=st.sampled_from([0.0, 0.05, 0.25, 1.5]),
    border=st.integers(0, 13),
    skew=st.sampled_from([0.0, 3.0]),
)
def test_culling_changes_nothing(seed, count, shape, with_depth, tolerance, border, skew):
    generator = np.random.default_rng(seed)
    points = generator.normal(scale=2, size=(count, 3))
    if shape == "wall":
        points[:, 2] = 0.5
    elif shape == "line":
        points[:, 1:] = 0.25
    elif shape == "one place":
        points[:] = 0.5
    elif shape == "far away":
        points += 1000
    points[generator.random(count) < 0.05] = np.nan
    points[generator.random(count) < 0.05, 1] = np.inf
    size = (24, 32)
    intrinsics, pose = pinhole(15.0, size), random_pose(generator)
    intrinsics[0, 1] = skew
    depth = None
    if with_depth:
        depth = generator.uniform(0, 4, size=size) * (generator.random(size) < 0.8)
        depth[0, :3] = [np.nan, np.inf, -1]
        depth = torch.from_numpy(depth)
    options = {"depth_tolerance": tolerance, "border": border}
    tensor = torch.from_numpy(points.astype(np.float32))
    require_equal(tensor, (pose, intrinsics), (size, depth), options)


def look_at(eye, target, generator):
    """(4, 4) float64 camera_to_world at `eye` whose optical axis leads to `target`."""
    forward = target - eye
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, generator.normal(size=3))
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = eye
    return torch.from_numpy(pose)


HUGE = (3000, 4000)


@settings(max_examples=200, deadline=None)
@example(0, "outside", 1.0, torch.float32, HUGE, 0.5, False, True, 0.0)
@given(
    seed=st.integers(0, 2**32 - 1),
    place=st.sampled_from(["outside", "turned away", "inside", "on a point", "far off"]),
    scale=st.sampled_from([1e-3, 1.0, 300.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    size=st.sampled_from([(1, 1), (2, 90), (24, 32), (200, 300)]),
    focal=st.sampled_from([1e-2, 0.5, 20.0, 1e5]),
    mirrored=st.booleans(),
    with_depth=st.booleans(),
    missing=st.floats(0, 1),
)
def test_no_odd_camera_loses_a_point(
    seed, place, scale, dtype, size, focal, mirrored, with_depth, missing
):
    """Tiny and huge rooms and images, cameras anywhere, some or all points NaN or infinite."""
    generator = np.random.default_rng(seed)
    points = scale * generator.uniform(-1, 1, size=(200, 3))
    middle = generator.uniform(-0.2, 0.2, size=3) * scale
    distance = {"far off": 50.0, "inside": 0.3, "on a point": 0.0}.get(place, 2.5)
    direction = generator.normal(size=3)
    eye = middle + distance * scale * direction / np.linalg.norm(direction)
    if place == "on a point":
        eye = points[7]
    target = 2 * eye - middle if place == "turned away" else middle
    pose = look_at(eye, target, generator)
    bad = generator.random(200) < missing * generator.integers(0, 2)
    points[bad, generator.integers(0, 3)] = generator.choice([np.nan, np.inf, -np.inf])
    intrinsics = pinhole(focal * max(size), size)
    if mirrored:
        intrinsics[0, 0] *= -1
    depth = None
    if with_depth:
        around = np.linalg.norm(eye - middle) + scale * generator.normal(size=(3, 4))
        rows, columns = np.arange(size[0]) % 3, np.arange(size[1]) % 4
        depth = torch.from_numpy(around[rows][:, columns].astype(np.float32))
    tensor = torch.from_numpy(points).to(dtype)
    culled = require_equal(tensor, (pose, intrinsics), (size, depth), {"border": 0})
    assert tensor[culled.seen].isfinite().all()
    if place == "turned away":
        assert len(culled.seen) == 0
    elif place == "far off" and focal == 0.5 and size[0] >= 24 and not with_depth:
        assert len(culled.seen) == (~bad).sum()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), border=st.integers(0, 3), turned=st.booleans())
def test_points_on_the_edge_of_the_frustum_are_not_lost(seed, border, turned):
    """Columns and rows that end in one half, and readings at the tolerance, to rounding or less."""
    generator = np.random.default_rng(seed)
    halves = generator.integers(-2, 20, size=(300, 2)) / 2.0
    z = generator.choice([0.5, 1.0, 2.0, 4.0], size=300)
    points = np.stack([(halves[:, 0] - 4) * z / 2, (halves[:, 1] - 4) * z / 2, z], axis=1)
    intrinsics = torch.tensor([[2.0, 0, 4], [0, 2, 4], [0, 0, 1]], dtype=torch.float64)
    pose = random_pose(generator) if turned else torch.eye(4, dtype=torch.float64)
    world = torch.from_numpy(points) @ pose[:3, :3].T + pose[:3, 3]
    depth = torch.full((8, 8), 2.0)
    for reading in (None, depth):
        options = {"border": border, "depth_tolerance": 1.0}
        found = require_equal(world, (pose, intrinsics), ((8, 8), reading), options)
        assert len(found.seen) > 0


@pytest.mark.parametrize(
    "file", golden_cases("projection/*_mapping*.npz") + golden_cases("projection/nuscenes*.npz")
)
def test_the_references_mapping(file):
    for camera, image, options, mapping in frames_of(load_npz(file)):
        found = PointGrid(camera[0]).visible_from(*camera[1:], *image, **options)
        rows = np.zeros_like(mapping)
        rows[found.seen, :2] = found.pixels.flip(1)
        rows[found.seen, 2] = 1
        np.testing.assert_array_equal(rows, mapping)


def test_cells_outside_the_view_are_not_touched():
    """Of a long corridor a camera in its middle projects only what lies ahead and near."""
    x = torch.linspace(-50, 50, 20_001)
    points = torch.stack([torch.zeros_like(x), torch.zeros_like(x), x], dim=1)
    grid = PointGrid(points)
    pose = torch.eye(4, dtype=torch.float64)
    matrix = pinhole(10.0, (20, 20))
    touched = grid._touched(torch.linalg.inv(pose), matrix, (20, 20), 2, 0.0, 5.0)
    assert 0 < int(grid._sizes[touched].sum()) < 0.1 * len(points)


def test_a_depth_image_without_readings_sees_nothing():
    points = torch.rand(50, 3) + torch.tensor([0, 0, 1.0])
    camera = (torch.eye(4), pinhole(3.0, (8, 8)))
    found = PointGrid(points).visible_from(*camera, (8, 8), torch.zeros(8, 8), border=0)
    assert found.seen.shape == (0,)
    assert found.pixels.shape == (0, 2)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"points has shape \(3,\)"):
        PointGrid(torch.zeros(3))
    grid = PointGrid(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"depth has shape \(4, 5\), expected the image size"):
        grid.visible_from(torch.eye(4), torch.eye(3), (5, 4), torch.zeros(4, 5))
    with pytest.raises(ValueError, match="camera_to_world has 1 non-finite"):
        missing = torch.eye(4)
        missing[0, 0] = torch.nan
        grid.visible_from(missing, torch.eye(3), (5, 4))
    with pytest.raises(ValueError, match="must be >= 0, got 0.25 and -1"):
        grid.visible_from(torch.eye(4), torch.eye(3), (5, 4), border=-1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_sees_what_the_cpu_sees():
    generator = np.random.default_rng(0)
    points = torch.from_numpy(generator.normal(size=(2000, 3)).astype(np.float32))
    camera = (random_pose(generator), pinhole(50.0, (48, 64)), (48, 64))
    depth = torch.from_numpy(generator.uniform(0, 3, (48, 64)).astype(np.float32))
    here = PointGrid(points).visible_from(*camera, depth)
    there = PointGrid(points.cuda()).visible_from(*camera, depth)
    assert there.seen.is_cuda
    assert torch.equal(here.seen, there.seen.cpu())
    assert torch.equal(here.pixels, there.pixels.cpu())
