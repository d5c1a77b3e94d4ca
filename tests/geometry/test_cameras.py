"""The pinhole camera, forwards, backwards and for resized images."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.geometry import (
    back_project,
    camera_rays,
    invert_pose,
    project_to_pixels,
    resize_intrinsics_openscene,
)
from tests.conftest import golden_cases, load_npz
from tests.fixtures.surfaces import pinhole, random_pose
from tests.tolerances import FLOAT32, FLOAT32_SUMS, FLOAT64, FLOAT64_EXACT


def test_a_point_on_the_axis_lands_on_the_principal_point():
    intrinsics = torch.tensor([[100.0, 0, 31], [0, 50, 17], [0, 0, 1]])
    points = torch.tensor([[0.0, 0, 2], [1, 0, 2], [0, 1, 2], [0, 0, -2]])
    pixels, depth = project_to_pixels(points, torch.eye(4), intrinsics)
    torch.testing.assert_close(pixels[:3], torch.tensor([[31.0, 17], [81, 17], [31, 42]]))
    torch.testing.assert_close(depth, torch.tensor([2.0, 2, 2, -2]))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), skew=st.sampled_from([0.0, 3.0]))
def test_projection_is_the_homogeneous_product(seed, skew):
    generator = np.random.default_rng(seed)
    intrinsics = pinhole(80.0, (40, 60))
    intrinsics[0, 1] = skew
    world_to_camera = invert_pose(random_pose(generator))
    points = torch.from_numpy(generator.normal(size=(20, 3)))
    pixels, depth = project_to_pixels(points, world_to_camera, intrinsics)
    for point, pixel, z in zip(points.numpy(), pixels.numpy(), depth.numpy(), strict=True):
        camera = world_to_camera.numpy() @ [*point, 1.0]
        image = intrinsics.numpy() @ camera[:3]
        np.testing.assert_allclose(pixel, image[:2] / image[2], rtol=FLOAT64, atol=FLOAT32)
        np.testing.assert_allclose(z, camera[2], atol=FLOAT64_EXACT)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 9), width=st.integers(1, 9))
def test_back_projection_undoes_projection(seed, height, width):
    generator = np.random.default_rng(seed)
    intrinsics = pinhole(7.0, (height, width))
    intrinsics[0, 1] = 0.5
    pose = random_pose(generator)
    depth = torch.from_numpy(generator.uniform(0.5, 4, size=(height, width)))
    depth[torch.from_numpy(generator.random((height, width)) < 0.3)] = 0
    points, pixel_index = back_project(depth, intrinsics, pose)
    assert pixel_index.tolist() == torch.nonzero(depth.flatten())[:, 0].tolist()
    pixels, z = project_to_pixels(points, invert_pose(pose), intrinsics)
    expected = torch.stack([pixel_index % width, pixel_index // width], dim=1).double()
    torch.testing.assert_close(pixels, expected, rtol=0, atol=FLOAT64)
    torch.testing.assert_close(z, depth.flatten()[pixel_index], rtol=0, atol=FLOAT64_EXACT)


def test_unknown_depths_give_no_point():
    depth = torch.tensor([[0.0, -1.0, float("nan")], [float("inf"), 2.0, 0.0]])
    points, pixel_index = back_project(depth, torch.eye(3), torch.eye(4))
    assert pixel_index.tolist() == [4]
    assert points.dtype == torch.float32
    torch.testing.assert_close(points, torch.tensor([[2.0, 2.0, 2.0]]))


def test_rays_have_unit_depth():
    intrinsics = torch.tensor([[2.0, 1.0, 3.0], [0, 4.0, 1.0], [0, 0, 1]])
    rays = camera_rays(torch.tensor([0, 7]), 5, intrinsics)
    image = rays @ intrinsics.double().T
    torch.testing.assert_close(image, torch.tensor([[0, 0, 1], [2, 1, 1]]).double())


@pytest.mark.parametrize("file", golden_cases("projection/intrinsics*.npz"))
def test_adjusted_intrinsics_equal_the_reference(file):
    case = load_npz(file)
    for raw, before, after, adjusted in zip(
        case["raw"], case["from_wh"].tolist(), case["to_wh"].tolist(), case["adjusted"], strict=True
    ):
        result = resize_intrinsics_openscene(
            torch.from_numpy(raw[:3, :3]), (before[1], before[0]), (after[1], after[0])
        )
        np.testing.assert_allclose(result.numpy(), adjusted[:3, :3], rtol=0, atol=FLOAT64_EXACT)


def test_adjusted_intrinsics_keep_the_corners_and_the_input():
    intrinsics = torch.tensor([[100.0, 2, 63], [0, 100, 47], [0, 0, 1]], dtype=torch.float64)
    before = intrinsics.clone()
    half = resize_intrinsics_openscene(intrinsics, (96, 128), (48, 64))
    expected = torch.tensor([[50.0, 1, 63 * 63 / 127], [0, 50, 47 * 47 / 95], [0, 0, 1]])
    torch.testing.assert_close(half, expected.double(), rtol=0, atol=FLOAT32_SUMS)
    assert torch.equal(intrinsics, before)
    assert torch.equal(resize_intrinsics_openscene(intrinsics, (96, 128), (96, 128)), intrinsics)


def test_the_width_is_rounded_down_when_the_aspect_changes():
    adjusted = resize_intrinsics_openscene(pinhole(1000.0, (968, 1296)), (968, 1296), (240, 320))
    assert adjusted[0, 0].item() == pytest.approx(1000 * 321 / 1296, abs=FLOAT64)
    assert adjusted[1, 1].item() == pytest.approx(1000 * 240 / 968, abs=FLOAT64)


def test_bad_arguments_are_named():
    points, pose, intrinsics = torch.zeros(2, 3), torch.eye(4), torch.eye(3)
    with pytest.raises(ValueError, match=r"points has shape \(2, 2\)"):
        project_to_pixels(points[:, :2], pose, intrinsics)
    with pytest.raises(ValueError, match=r"world_to_camera has shape \(3, 3\)"):
        project_to_pixels(points, intrinsics, intrinsics)
    with pytest.raises(ValueError, match=r"intrinsics has shape \(4, 4\)"):
        project_to_pixels(points, pose, pose)
    with pytest.raises(ValueError, match="camera_to_world has 16 non-finite values of 16"):
        back_project(torch.ones(2, 2), intrinsics, torch.full((4, 4), float("-inf")))
    with pytest.raises(ValueError, match="camera_to_world is singular"):
        invert_pose(torch.zeros(4, 4))
    with pytest.raises(ValueError, match="must be at least one pixel"):
        resize_intrinsics_openscene(intrinsics, (0, 4), (2, 2))
    with pytest.raises(ValueError, match=r"size \(1, 4\) cannot be resized to \(2, 2\)"):
        resize_intrinsics_openscene(intrinsics, (1, 4), (2, 2))
