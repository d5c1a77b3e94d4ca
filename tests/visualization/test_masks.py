"""Masks and heat over an image: what stays as it was, what is darkened, and other sizes."""

from __future__ import annotations

import pytest
import torch

from pcdistill.visualization import draw_heat, draw_mask, fit_width, heat_colormap
from pcdistill.visualization.overlay import DIMMED


@pytest.fixture
def image() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randint(0, 256, (6, 9, 3), dtype=torch.uint8)


def test_a_mask_keeps_its_colors_and_the_rest_is_dark_and_gray(image):
    mask = torch.zeros(6, 9, dtype=torch.bool)
    mask[2:4, 3:] = True
    drawn = draw_mask(image, mask)
    assert torch.equal(drawn[mask], image[mask])
    gray = (DIMMED * image[~mask].float().mean(dim=1)).to(torch.uint8)
    assert torch.equal(drawn[~mask], gray[:, None].expand(-1, 3))


def test_heat_has_the_colors_of_the_scale_on_a_black_image(image):
    heat = torch.zeros(6, 9)
    heat[1, 2] = 1.0
    drawn = draw_heat(torch.zeros_like(image), heat)
    low, high = heat_colormap(2).float()
    assert (drawn[1, 2].float() / high - 0.65).abs().max() < 0.02
    assert (drawn[0, 0].float() / low - 0.65).abs().max() < 0.02
    assert not torch.equal(draw_heat(image, heat), drawn)


def test_wide_pictures_shrink_and_others_stay(image):
    assert fit_width(image, 9) is image
    assert fit_width(image.repeat(10, 10, 1), 45).shape == (30, 45, 3)
    plain = torch.full((40, 60, 3), 77, dtype=torch.uint8)
    assert (fit_width(plain, 7) == 77).all()


def test_masks_of_another_size_are_refused(image):
    with pytest.raises(ValueError, match="mask has shape"):
        draw_mask(image, torch.ones(6, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="heat has shape"):
        draw_heat(image, torch.ones(5, 9))
