"""Every way to look at an image gives a feature where in the image it belongs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.teachers.lseg.views import LSEG_VIEWS, view_square, view_whole, view_windows

SIZES = ((240, 320), (480, 640), (512, 512), (320, 240), (968, 1296), (7, 33))


class Echo:
    """Stands for LSeg: its features are the colours of its input at half the resolution."""

    def __init__(self):
        self.seen = []

    def __call__(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape[2:]))
        half = (images.shape[2] // 2, images.shape[3] // 2)
        return functional.interpolate(images, half, mode="bilinear", align_corners=True)

    raw_features = __call__


def ramp(size: tuple[int, int]) -> Tensor:
    """(1, 3, H, W): the column, the row and nothing, each from 0.2 to 0.8."""
    height, width = size
    rows = torch.linspace(0.2, 0.8, height)[:, None].expand(size)
    columns = torch.linspace(0.2, 0.8, width).expand(size)
    return torch.stack([columns, rows, torch.full(size, 0.5)])[None]


def some_pixels(size: tuple[int, int]) -> Tensor:
    """(M, 2) corners, middle and more of an image."""
    height, width = size
    rows = torch.tensor([0, 1, height // 3, height // 2, height - 2, height - 1])
    columns = torch.tensor([0, 1, width // 3, width // 2, width - 2, width - 1])
    return torch.cartesian_prod(columns, rows)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [640, None])
def test_a_padded_square_is_sampled_by_position_in_the_image(size, side):
    image, pixels = ramp(size), some_pixels(size)
    found = view_square(Echo(), image, side)
    expected = image[0][:, pixels[:, 1], pixels[:, 0]].T
    inner = (pixels < torch.tensor([size[1] - 2, size[0] - 2])).all(dim=1)
    sampled = found.sample(pixels)
    torch.testing.assert_close(sampled[inner], expected[inner], atol=1e-3, rtol=0)
    cell = 0.6 / (min(found.features.shape[1:]) - 1)  # the last one may end before the last pixel
    torch.testing.assert_close(sampled, expected, atol=cell + 1e-3, rtol=0)


def test_of_640x480_the_rows_of_padding_are_left_out():
    network = Echo()
    found = view_square(network, ramp((480, 640)))
    assert network.seen == [(640, 640), (640, 640)]
    assert found.features.shape == (3, 240, 320)
    assert found.features.dtype == torch.float16
    assert found.image_size == (480, 640)


def test_a_padded_square_classifies_as_it_is_sampled():
    size = (48, 64)
    found = view_square(Echo(), ramp(size))
    text = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    pixels = torch.cartesian_prod(*(torch.arange(side) for side in size)).flip(1)
    scores = found.sample(pixels) @ text.T
    chosen = scores.gather(1, found.classify(text).reshape(-1, 1))[:, 0]
    torch.testing.assert_close(chosen, scores.amax(dim=1), atol=1e-5, rtol=0)
    classes = found.classify(text)
    assert classes[0, -1] == 0  # far right, at the top: the column is larger than the row
    assert classes[-1, 0] == 1


@pytest.mark.parametrize("size", SIZES)
def test_the_whole_image_is_one_input(size):
    network, image, pixels = Echo(), ramp(size), some_pixels(size)
    found = view_whole(network, image)
    ((height, width),) = network.seen
    assert (height % 32, width % 32) == (0, 0)
    assert max(height, width) == (480 if max(size) >= 240 else 64)
    cell = 0.6 / (min(found.features.shape[1:]) - 1)
    expected = image[0][:, pixels[:, 1], pixels[:, 0]].T
    torch.testing.assert_close(found.sample(pixels), expected, atol=0.5 * cell + 2e-3, rtol=0)


@pytest.mark.parametrize("size", [(240, 320), (480, 640), (64, 48)])
def test_windows_give_unit_features_of_the_shrunk_image(size):
    image, pixels = ramp(size), some_pixels(size)
    height, width = size
    pixels = pixels[(pixels < torch.tensor([width - 2, height - 2])).all(dim=1)]  # next to padding
    found = view_windows(Echo(), image)
    longer = min(480, max(size))
    assert max(found.features.shape[1:]) == longer
    length = found.features.float().norm(dim=0)
    torch.testing.assert_close(length, torch.ones_like(length), atol=2e-3, rtol=0)
    expected = functional.normalize(image[0], dim=0)[:, pixels[:, 1], pixels[:, 0]].T
    torch.testing.assert_close(found.sample(pixels), expected, atol=0.03, rtol=0)


@pytest.mark.parametrize("name", LSEG_VIEWS)
@pytest.mark.parametrize("size", [(75, 101), (96, 128), (333, 250)])
def test_no_map_is_finer_than_its_image(name, size):
    """The network takes multiples of 32 only; sizes are rounded down to one."""
    network = Echo()
    found = LSEG_VIEWS[name](network, ramp(size))
    assert all(side % 32 == 0 for seen in network.seen for side in seen)
    assert found.features.shape[1] <= size[0]
    assert found.features.shape[2] <= size[1]


def test_openscene_s_square_is_twice_as_long_as_the_image():
    network = Echo()
    LSEG_VIEWS["lseg-openscene"](network, ramp((160, 320)))
    assert network.seen == [(640, 640), (640, 640)]
