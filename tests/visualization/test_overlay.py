"""Points over a photograph: where they are, and which is seen where they meet."""

import pytest
import torch

from pcdistill.visualization.overlay import DIMMED, overlay_points


def test_points_are_squares_and_the_later_is_seen():
    image = torch.full((8, 10, 3), 200, dtype=torch.uint8)
    pixels = torch.tensor([[3, 4], [4, 4], [9, 0]])
    colors = torch.tensor([[250, 0, 0], [0, 250, 0], [0, 0, 250]], dtype=torch.uint8)
    drawn = overlay_points(image, pixels, colors, radius=1)
    red, green, blue = ((drawn == color).all(dim=2) for color in colors)
    assert red.nonzero().tolist() == [[3, 2], [4, 2], [5, 2]]  # the rest lies under the second
    assert green.sum() == 9
    assert green[3:6, 3:6].all()
    assert blue.nonzero().tolist() == [[0, 8], [0, 9], [1, 8], [1, 9]]
    assert drawn[7, 0].tolist() == [int(200 * DIMMED)] * 3
    assert (image == 200).all()


def test_many_points_at_one_pixel_show_the_last():
    image = torch.zeros(4, 4, 3, dtype=torch.uint8)
    colors = torch.arange(1, 101, dtype=torch.uint8)[:, None].expand(100, 3)
    drawn = overlay_points(image, torch.ones(100, 2, dtype=torch.int64), colors, radius=0)
    assert drawn[1, 1].tolist() == [100, 100, 100]
    assert drawn.sum() == 300


def test_no_points_leave_the_dimmed_photograph():
    image = torch.full((4, 4, 3), 100, dtype=torch.uint8)
    empty = torch.zeros(0, 3, dtype=torch.uint8)
    drawn = overlay_points(image, torch.zeros(0, 2, dtype=torch.int64), empty)
    assert (drawn == int(100 * DIMMED)).all()
    with pytest.raises(ValueError, match=r"colors has shape \(0, 3\), expected \(2, 3\)"):
        overlay_points(image, torch.zeros(2, 2, dtype=torch.int64), empty)
