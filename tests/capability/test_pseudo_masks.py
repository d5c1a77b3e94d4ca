"""Pseudo masks: the clean-up and prompts of the release, and the four reasons for having none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pcdistill.capability import GeneratedImage, NoMask, coarse_mask, pseudo_mask
from tests.conftest import golden_cases, load_npz

HEIGHT, WIDTH = 20, 30
IMAGE = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)


class Outlines:
    """A segmenter that has one answer, and keeps the points it was asked for."""

    name, provenance = "outlines", {"revision": "1"}

    def __init__(self, answer: torch.Tensor) -> None:
        self.answer = answer
        self.points: list[list[int]] = []

    def __call__(self, image, points):
        self.points = points.tolist()
        return self.answer


def box(top: int, bottom: int, left: int, right: int) -> torch.Tensor:
    """(H, W) bool: a rectangle."""
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def found(hot: torch.Tensor, answer: torch.Tensor, *, clean_border: bool = False):
    """What comes of a map that is 0.9 in `hot` and 0.1 elsewhere, and of a segmenter's answer."""
    attention = torch.where(hot, 0.9, 0.1)
    generated = GeneratedImage(IMAGE, attention)
    return pseudo_mask(generated, Outlines(answer), 0.7, 3, clean_border=clean_border)


@pytest.mark.parametrize("file", golden_cases("capability/mask_cleanup_prompts*.npz"))
def test_points_are_put_where_the_release_puts_them(file):
    """But where equal parts of a mask take turns here and the release takes the first each time."""
    case = load_npz(file)
    masks = np.unpackbits(case["masks"], axis=-1)[..., : int(case["mask_shape"][-1])].astype(bool)
    exact = 0
    for mask, expected in zip(masks, case["points_xy"].tolist(), strict=True):
        attention = torch.from_numpy(mask).float()
        segmenter = Outlines(torch.from_numpy(mask))
        image = torch.zeros(3, *mask.shape, dtype=torch.uint8)
        pseudo_mask(GeneratedImage(image, attention), segmenter, 0.7, 3, clean_border=True)
        coarse = coarse_mask(attention, 0.7, clean_border=True)
        assert segmenter.points[0] == expected[0]
        assert all(bool(coarse[row, column]) for column, row in segmenter.points)
        repeated = len({tuple(point) for point in expected}) < 3
        assert segmenter.points == expected or repeated
        exact += segmenter.points == expected
    assert exact == 6


def test_a_mask_that_agrees_with_its_map_is_taken():
    hot, mask = box(5, 15, 10, 20), box(4, 16, 9, 21)
    assert torch.equal(found(hot, mask), mask)


def test_a_map_that_is_nowhere_hot_says_nothing():
    """Also with a clean border, which would point at the middle of the image."""
    for clean_border in (False, True):
        nothing = found(box(0, 0, 0, 0), box(0, 20, 0, 20), clean_border=clean_border)
        assert nothing is NoMask.NO_COARSE_REGION


def test_an_empty_mask_is_none():
    assert found(box(5, 15, 10, 20), box(0, 0, 0, 0)) is NoMask.EMPTY


@pytest.mark.parametrize(("columns", "believed"), [(14, False), (15, True), (29, True)])
def test_a_mask_of_everything_is_believed_where_half_of_the_map_is_hot(columns, believed):
    everything = box(0, 19, 0, 30)  # 95 %
    got = found(box(0, 20, 0, columns), everything)
    assert got is everything if believed else got is NoMask.EVERYTHING


def test_a_mask_of_a_little_less_than_everything_is_a_mask():
    large = box(0, 18, 0, 30)
    assert found(box(5, 15, 10, 20), large) is large


@pytest.mark.parametrize(("last", "agrees"), [(14, False), (15, True)])
def test_a_mask_holds_half_of_where_the_map_is_hot(last, agrees):
    """Ten columns are hot; the mask ends before `last` and has as many others."""
    mask = box(5, 15, 5, last)
    got = found(box(5, 15, 10, 20), mask)
    assert got is mask if agrees else got is NoMask.OFF_THE_HEAT_MAP


def test_the_rim_counts_for_nothing_where_the_border_is_cleaned():
    """Three rows and four columns are the rim; three quarters of what is hot lies there."""
    hot = box(8, 12, 6, 10) | box(0, 2, 0, 24)
    mask = box(8, 12, 6, 10)
    assert found(hot, mask) is NoMask.OFF_THE_HEAT_MAP
    assert torch.equal(found(hot, mask, clean_border=True), mask)


def test_points_in_the_middle_for_want_of_others_do_not_make_the_middle_hot():
    """Where only the rim is hot the release points at the middle; what is there must be hot too."""
    rim, middle = box(0, 2, 0, 24), box(6, 14, 10, 20)
    generated, segmenter = GeneratedImage(IMAGE, rim.float()), Outlines(middle)
    got = pseudo_mask(generated, segmenter, 0.7, 3, clean_border=True)
    assert all(bool(middle[row, column]) for column, row in segmenter.points)
    assert got is NoMask.OFF_THE_HEAT_MAP
    assert found(rim, rim | middle, clean_border=True) is not NoMask.OFF_THE_HEAT_MAP


def test_a_threshold_out_of_its_range_is_refused():
    with pytest.raises(ValueError, match="threshold is 1.5, expected 0 <= threshold < 1"):
        coarse_mask(torch.zeros(4, 4), 1.5, clean_border=False)
