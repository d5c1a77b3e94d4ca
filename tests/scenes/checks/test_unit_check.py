"""A cloud in another unit than metres is doubted, a room and a sparse cloud are not."""

from __future__ import annotations

import re

import pytest
import torch

from pcdistill.scenes.checks.unit_check import metric_unit_warning


def room() -> torch.Tensor:
    """(N, 3) a floor and a wall, 5 cm between points."""
    flat = torch.rand(10_000, 3, generator=torch.Generator().manual_seed(0))
    flat = flat * torch.tensor([5.0, 4.0, 2.5])
    flat[:6000, 2] = 0
    flat[6000:, 1] = 0
    return flat


@pytest.mark.parametrize("voxel_size", [0.02, 0.05, 0.125])
def test_a_room_in_metres_is_not_doubted(voxel_size):
    assert metric_unit_warning(room(), voxel_size) == ""


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (1000.0, r"its points are [\d.]+ m apart but the student's voxels are 0.125 m"),
        (100.0, r"its points are \d\.\d+ m apart"),
        (0.001, r"it is 0\.00\d+ m long and the student's voxels are 0.125 m: is its unit"),
    ],
)
def test_other_units_are_doubted(factor, said):
    assert re.search(said, metric_unit_warning(room() * factor, 0.125))


@pytest.mark.parametrize("count", [0, 1])
def test_a_cloud_of_no_extent_is_left_to_others(count):
    assert metric_unit_warning(torch.zeros(count, 3), 0.1) == ""
