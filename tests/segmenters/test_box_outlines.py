"""Outlines in boxes: what colours tell, what depth adds, and what superpoints add."""

from __future__ import annotations

import pytest
import torch

from pcdistill.capability import mask_iou
from pcdistill.segmenters import BoxOutliner

SIZE = (96, 128)
INSIDE = torch.zeros(SIZE, dtype=torch.bool)
INSIDE[30:70, 40:90] = True
BOX = torch.tensor([[36.0, 26.0, 94.0, 74.0]])
"""Around what is inside, with room to spare."""


def painted(inside, color=(180, 60, 50), other=(120, 125, 130)):
    """(3, H, W) uint8: a thing before a wall, both with a little noise."""
    generator = torch.Generator().manual_seed(0)
    image = torch.where(
        inside, torch.tensor(color)[:, None, None], torch.tensor(other)[:, None, None]
    )
    noise = torch.randint(-4, 5, image.shape, generator=generator)
    return (image + noise).clamp(0, 255).to(torch.uint8)


def iou(found, true):
    return float(mask_iou(found, true))


def test_a_thing_of_another_color_is_outlined():
    (mask,) = BoxOutliner()(painted(INSIDE), BOX)
    assert iou(mask, INSIDE) > 0.9


def test_a_thing_of_the_same_color_is_outlined_where_it_stands_out_in_depth():
    image = painted(INSIDE, color=(120, 125, 130))
    depth = torch.where(INSIDE, 1.5, 2.5)
    (blind,) = BoxOutliner()(image, BOX)
    (mask,) = BoxOutliner()(image, BOX, depth)
    assert iou(blind, INSIDE) < 0.85
    assert iou(mask, INSIDE) > 0.9


def test_readings_that_are_missing_are_taken_from_nearby():
    image = painted(INSIDE, color=(120, 125, 130))
    depth = torch.where(INSIDE, 1.5, 2.5)
    depth[:, ::3] = 0
    (mask,) = BoxOutliner()(image, BOX, depth)
    assert iou(mask, INSIDE) > 0.85


def test_a_depth_without_any_reading_tells_nothing():
    image = painted(INSIDE)
    (blind,) = BoxOutliner()(image, BOX)
    (mask,) = BoxOutliner()(image, BOX, torch.zeros(SIZE))
    assert torch.equal(mask, blind)


def test_a_superpoint_that_reaches_far_out_of_the_box_is_not_in_it():
    """A mat of the thing's own colour, of which the box shows a part beside the thing."""
    mat = torch.zeros(SIZE, dtype=torch.bool)
    mat[70:, :] = True
    image = painted(INSIDE | mat)
    box = torch.tensor([[36.0, 26.0, 94.0, 92.0]])
    ids = torch.full(SIZE, -1)
    ids[::3, ::3] = torch.where(mat, 0, torch.where(INSIDE, 1, 2))[::3, ::3]
    (blind,) = BoxOutliner()(image, box)
    (mask,) = BoxOutliner()(image, box, superpoint_ids=ids)
    assert iou(mask, INSIDE) > 0.85 > iou(blind, INSIDE) + 0.1


def test_masks_stay_inside_of_their_boxes_and_each_has_its_own():
    boxes = torch.tensor([[36.0, 26.0, 94.0, 74.0], [0.0, 0.0, 20.0, 20.0], [5.2, 5.2, 5.4, 5.3]])
    masks = BoxOutliner()(painted(INSIDE), boxes)
    assert masks.shape == (3, *SIZE)
    assert not masks[1][20:].any()
    assert not masks[1][:, 20:].any()
    assert not masks[2].any()
    alone = BoxOutliner()(painted(INSIDE), boxes[:1])
    assert torch.equal(masks[0], alone[0])


def test_large_images_are_outlined_at_a_smaller_size():
    large = painted(INSIDE).repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    true = INSIDE.repeat_interleave(4, dim=0).repeat_interleave(4, dim=1)
    ids = torch.full(true.shape, -1)
    ids[::9, ::9] = true[::9, ::9].long()
    (mask,) = BoxOutliner(max_side=128)(large, 4 * BOX, None, ids)
    assert mask.shape == true.shape
    assert iou(mask, true) > 0.9


def test_no_box_is_no_mask():
    assert BoxOutliner()(painted(INSIDE), torch.zeros(0, 4)).shape == (0, *SIZE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": torch.zeros(3, 8, 8)}, "uint8"),
        ({"image": torch.zeros(8, 8, dtype=torch.uint8)}, "image"),
        ({"boxes": torch.zeros(2, 3)}, "boxes"),
        ({"depth": torch.ones(8, 9)}, "depth"),
        ({"superpoint_ids": torch.zeros(7, 8)}, "superpoint_ids"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    given = {"image": torch.zeros(3, 8, 8, dtype=torch.uint8), "boxes": torch.zeros(1, 4)}
    with pytest.raises(ValueError, match=message):
        BoxOutliner()(**{**given, **changes})
