"""Sampling a low-resolution map equals upsampling it first and indexing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from pcdistill.geometry import sample_feature_map
from tests.tolerances import FLOAT32_SUMS


@settings(max_examples=80, deadline=None)
@given(
    map_size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    image_size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    align_corners=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.float64]),
    seed=st.integers(0, 2**31),
)
def test_equals_upsampling_first(map_size, image_size, align_corners, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    feature_map = torch.randn((3, *map_size), generator=generator).to(dtype)
    height, width = image_size
    index = torch.randint(0, height * width, (25,), generator=generator)
    pixels = torch.stack([index % width, index // width], dim=1)
    upsampled = functional.interpolate(
        feature_map[None].float(), size=image_size, mode="bilinear", align_corners=align_corners
    )[0]
    expected = upsampled[:, pixels[:, 1], pixels[:, 0]].T
    sampled = sample_feature_map(feature_map, image_size, pixels, align_corners=align_corners)
    assert sampled.dtype == torch.float32
    torch.testing.assert_close(sampled, expected, rtol=0, atol=FLOAT32_SUMS)


def test_a_map_of_the_images_own_size_is_read_exactly():
    feature_map = torch.arange(24.0).reshape(1, 4, 6)
    pixels = torch.tensor([[0, 0], [5, 3], [2, 1]])
    assert sample_feature_map(feature_map, (4, 6), pixels)[:, 0].tolist() == [0, 23, 8]


@pytest.mark.parametrize("align_corners", [True, False])
def test_a_map_of_a_padded_image_is_read_at_its_own_part(align_corners):
    feature_map = torch.randn(2, 6, 8)
    pixels = torch.cartesian_prod(torch.arange(13), torch.arange(9))
    padded = sample_feature_map(feature_map, (20, 30), pixels, align_corners=align_corners)
    found = sample_feature_map(
        feature_map, (9, 13), pixels, align_corners=align_corners, covered=(20, 30)
    )
    assert torch.equal(found, padded)


def test_beyond_the_last_cell_a_map_goes_on_with_it():
    feature_map = torch.tensor([[[0.0, 1.0, 2.0]]])
    pixels = torch.tensor([[column, 0] for column in range(7)])
    found = sample_feature_map(feature_map, (1, 7), pixels, align_corners=True, covered=(1, 5))
    assert found[:, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2, 2]


def test_columns_come_first():
    feature_map = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    corners = torch.tensor([[9, 0], [0, 19]])
    assert sample_feature_map(feature_map, (20, 10), corners)[:, 0].tolist() == [1, 2]


def test_gradient_reaches_the_map():
    feature_map = torch.zeros(2, 3, 3, requires_grad=True)
    sample_feature_map(feature_map, (9, 9), torch.tensor([[4, 4], [0, 8]])).sum().backward()
    assert feature_map.grad.sum() == pytest.approx(4.0)


def test_no_pixels_give_no_rows():
    empty = sample_feature_map(torch.zeros(5, 2, 2), (4, 4), torch.zeros(0, 2, dtype=torch.int64))
    assert empty.shape == (0, 5)


def test_bad_arguments_are_named():
    feature_map, pixels = torch.zeros(5, 2, 2), torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"feature_map has shape \(2, 2\)"):
        sample_feature_map(feature_map[0], (4, 4), pixels)
    with pytest.raises(ValueError, match="expected h, w >= 1"):
        sample_feature_map(feature_map[:, :0], (4, 4), pixels)
    with pytest.raises(ValueError, match=r"column range \[4, 4\], expected inside \[0, 3\]"):
        sample_feature_map(feature_map, (9, 4), torch.tensor([[4, 0]]))
    with pytest.raises(ValueError, match=r"row range \[-1, 0\]"):
        sample_feature_map(feature_map, (9, 4), torch.tensor([[0, 0], [0, -1]]))
    with pytest.raises(ValueError, match=r"pixels have dtype torch\.float32, expected integers"):
        sample_feature_map(feature_map, (4, 4), pixels.float())
