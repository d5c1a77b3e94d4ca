"""Rules by which images get another size."""

from typing import get_args

import numpy as np
import pytest
import torch

from pcdistill.scenes.resampling import Resampling, resize

RULES = get_args(Resampling)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [(30, 50), (10, 50), (7, 13), (60, 20), (61, 101)])
def test_what_is_even_stays_even(rule, size):
    even = torch.full((30, 50, 3), 77, dtype=torch.uint8)
    resized = resize(even, size, rule)
    assert resized.shape == (*size, 3)
    assert resized.dtype == torch.uint8
    assert (resized == 77).all()


def test_half_the_size_is_a_mean_of_four_or_one_of_them():
    pixels = torch.tensor([[1, 2, 10, 20], [3, 4, 30, 42]], dtype=torch.uint8)
    found = {rule: resize(pixels, (1, 2), rule).tolist() for rule in RULES[:4]}
    assert found == {
        "nearest": [[1, 10]],
        "nearest-opencv": [[1, 10]],
        "linear": [[2, 26]],  # of 2.5 and 25.5, to the even one
        "area": [[3, 26]],  # upwards
    }


def test_opencv_rounds_before_it_looks_for_the_nearest():
    """Where 1 / (240 / 58) falls below the exact step, a whole number becomes the one below it."""
    rows = torch.arange(58, dtype=torch.float32)[:, None].expand(58, 2)
    exact, rounded = (resize(rows, (240, 2), rule)[:, 0] for rule in RULES[:2])
    assert torch.equal(exact, torch.arange(240) * 58 // 240)
    steps = np.floor(np.arange(240) * (1.0 / (240 / 58)))
    np.testing.assert_array_equal(rounded, steps)
    assert int((exact != rounded).sum()) == 1
    assert float((exact - rounded).max()) == 1
