"""Boxes from distances, and which of several stay."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.teachers.detector.boxes import (
    Boxes,
    box_iou,
    choose_boxes,
    decode_level,
    suppress_doubles,
)
from pcdistill.teachers.detector.network import BINS, CLASSES, Level


def level(stride, cell, distances, score=0.9, category=3):
    """A level that is sure of one cell, whose distances are single bins."""
    cells = (416 // stride) ** 2
    scores = torch.full((1, cells, len(CLASSES)), 0.01)
    scores[0, cell, category] = score
    logits = torch.zeros(1, cells, 4, BINS)
    logits[0, cell, torch.arange(4), torch.tensor(distances)] = 100.0
    return Level(scores, logits.flatten(2), stride)


def test_a_box_lies_around_the_center_of_its_cell():
    """Row 2, column 5 of a level of 32 pixels: center (176, 80)."""
    corners, _ = decode_level(level(32, 2 * 13 + 5, (1, 2, 3, 0)))
    expected = torch.tensor([176.0 - 32, 80 - 64, 176 + 96, 80])
    torch.testing.assert_close(corners[0, 2 * 13 + 5], expected)


def test_a_distance_is_the_mean_of_its_distribution():
    one = level(16, 0, (0, 0, 0, 0))
    logits = torch.full((BINS,), -100.0)
    logits[[2, 5]] = torch.tensor([0.0, 0.0])  # half and half
    one.distances[0, 0, 2 * BINS : 3 * BINS] = logits
    corners, _ = decode_level(one)
    torch.testing.assert_close(corners[0, 0, 2], torch.tensor(8 + 16 * 3.5))


def test_levels_are_chosen_from_together_and_sorted():
    levels = [level(8, 7, (1, 1, 1, 1), 0.4, 5), level(32, 80, (1, 1, 1, 1), 0.8, 2)]
    (found,) = choose_boxes(levels, 0.3, 0.5)
    assert found.classes.tolist() == [2, 5]
    torch.testing.assert_close(found.scores, torch.tensor([0.8, 0.4]))


def test_a_cell_speaks_for_its_best_class_only():
    one = level(32, 40, (1, 1, 1, 1), 0.8, 2)
    one.scores[0, 40, 9] = 0.7
    (found,) = choose_boxes([one], 0.3, 0.5)
    assert found.classes.tolist() == [2]


def test_nothing_above_the_threshold_is_no_box():
    (found,) = choose_boxes([level(32, 4, (1, 1, 1, 1), 0.3)], 0.3, 0.5)
    assert found.corners.shape == (0, 4)


def boxes(*rows):
    """Rows of (x0, y0, x1, y1, class), the surest first."""
    table = torch.tensor(rows, dtype=torch.float32)
    scores = torch.linspace(0.9, 0.4, len(rows))
    return Boxes(table[:, :4], scores, table[:, 4].long())


def test_doubles_are_suppressed_within_a_class_only():
    found = boxes((0, 0, 10, 10, 1), (0, 0, 10, 9, 2), (0, 0, 10, 8, 1), (20, 0, 30, 10, 1))
    assert suppress_doubles(found, 0.5).tolist() == [0, 1, 3]


def test_a_suppressed_box_suppresses_nothing():
    """The second overlaps the first and the third; these two do not overlap enough."""
    found = boxes((0, 0, 10, 10, 1), (3, 0, 13, 10, 1), (6, 0, 16, 10, 1))
    assert suppress_doubles(found, 0.5).tolist() == [0, 2]


def test_boxes_are_cut_at_the_rim_of_the_image():
    scaled = boxes((-5, 10, 430, 416, 0)).scaled_to((208, 832))
    assert scaled.corners.tolist() == [[0, 5, 832, 208]]


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 12))
def test_overlap_is_that_of_counted_pixels(seed, count):
    generator = torch.Generator().manual_seed(seed)
    low = torch.randint(0, 12, (count, 2), generator=generator)
    high = low + torch.randint(1, 9, (count, 2), generator=generator)
    corners = torch.cat([low, high], dim=1)
    masks = torch.zeros(count, 24, 24, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, corners.tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    both = (masks[:, None] & masks).sum(dim=(2, 3))
    either = (masks[:, None] | masks).sum(dim=(2, 3))
    torch.testing.assert_close(box_iou(corners.float(), corners.float()), both / either)
