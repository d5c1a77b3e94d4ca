"""The embedded segmenter: clean shapes, minimum cuts against enumeration, odd input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.capability import mask_iou
from pcdistill.segmenters.region_graph import RegionGraph, region_graph
from pcdistill.segmenters.superpixel import SuperpixelSegmenter, minimum_cut


def painted(shape, paint, noise=3.0, seed=0):
    """(3, H, W) uint8 image from a function of (row, column) to RGB, with grain."""
    row, column = np.mgrid[: shape[0], : shape[1]]
    colors = np.zeros((*shape, 3)) + np.array([180, 180, 175])
    for region, color in paint(row, column):
        colors[region] = color
    colors += np.random.default_rng(seed).normal(0, noise, colors.shape)
    return torch.from_numpy(colors.clip(0, 255).astype(np.uint8)).permute(2, 0, 1).contiguous()


def disc(row, column, center, radius):
    return (row - center[0]) ** 2 + (column - center[1]) ** 2 <= radius**2


def test_a_disc_on_a_grainy_wall_is_found_to_the_pixel():
    image = painted((120, 160), lambda r, c: [(disc(r, c, (60, 70), 30), (150, 60, 50))])
    row, column = np.mgrid[:120, :160]
    exact = torch.from_numpy(disc(row, column, (60, 70), 30))
    points = torch.tensor([[70, 60], [60, 50], [80, 66]])
    assert mask_iou(SuperpixelSegmenter()(image, points), exact) > 0.95


def test_an_object_of_two_colors_is_one_object_when_points_lie_on_both():
    def paint(r, c):
        left, right = (c >= 40) & (c < 75), (c >= 75) & (c < 110)
        high = (r >= 30) & (r < 90)
        return [(left & high, (40, 60, 140)), (right & high, (200, 150, 60))]

    image = painted((120, 160), paint)
    exact = torch.zeros(120, 160, dtype=torch.bool)
    exact[30:90, 40:110] = True
    both = SuperpixelSegmenter()(image, torch.tensor([[55, 60], [95, 60], [75, 45]]))
    assert mask_iou(both, exact) > 0.9
    one = SuperpixelSegmenter()(image, torch.tensor([[50, 50], [62, 60], [52, 70]]))
    assert not one[40:80, 80:105].any()


def test_a_twin_that_does_not_touch_is_another_object():
    def paint(r, c):
        return [
            (disc(r, c, (60, 45), 25), (150, 60, 50)),
            (disc(r, c, (60, 115), 25), (150, 60, 50)),
        ]

    mask = SuperpixelSegmenter()(
        painted((120, 160), paint), torch.tensor([[45, 60], [38, 50], [52, 66]])
    )
    assert mask[60, 45]
    assert not mask[:, 85:].any()


def test_a_small_hole_is_filled_and_a_large_one_is_not():
    def paint(r, c):
        return [
            (disc(r, c, (60, 80), 50), (150, 60, 50)),
            (disc(r, c, (60, 50), 5), (30, 160, 60)),
            (disc(r, c, (60, 95), 25), (180, 180, 175)),
        ]

    points = torch.tensor([[62, 25], [60, 95], [70, 100]])
    mask = SuperpixelSegmenter()(painted((120, 160), paint), points)
    assert mask[60, 50]
    assert not mask[60, 95]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 4),
    st.booleans(),
)
def test_any_image_and_points_give_a_mask_with_the_points_inside(seed, height, width, count, flat):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    if flat:
        image = torch.full_like(image, 90)
    points = torch.stack(
        [
            torch.randint(0, width, (count,), generator=generator),
            torch.randint(0, height, (count,), generator=generator),
        ],
        dim=1,
    )
    before = image.clone()
    mask = SuperpixelSegmenter()(image, points)
    assert mask.shape == (height, width)
    assert mask.dtype == torch.bool
    assert mask[points[:, 1], points[:, 0]].all()
    assert torch.equal(mask, SuperpixelSegmenter()(image, points))
    assert torch.equal(image, before)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 8))
def test_the_cut_is_the_best_of_all(seed, count):
    generator = np.random.default_rng(seed)
    pairs = [p for p in itertools.combinations(range(count), 2) if generator.random() < 0.6]
    first = np.array([a for a, _ in pairs], dtype=np.int64)
    second = np.array([b for _, b in pairs], dtype=np.int64)
    costs = generator.uniform(0, 3, len(pairs))
    favour = generator.normal(0, 2, count)
    nothing = np.zeros(0)
    graph = RegionGraph(nothing, np.ones(count), nothing, first, second, nothing, nothing)

    def gain(inside):
        return favour[inside].sum() - costs[inside[first] != inside[second]].sum()

    best = max(gain(np.array(c)) for c in itertools.product([False, True], repeat=count))
    # the cut is found on whole numbers; what their rounding may cost on this few regions
    assert gain(minimum_cut(graph, favour, costs)) == pytest.approx(best, abs=0.02)


def test_regions_cover_the_image_and_follow_its_edges():
    image = painted((60, 80), lambda r, c: [(c >= 33, (40, 60, 140))])
    graph = region_graph(image.permute(1, 2, 0).numpy(), 100)
    assert graph.areas.sum() == 60 * 80
    assert len(graph.areas) == graph.region_of_pixel.max() + 1
    assert (graph.first < graph.second).all()
    left, right = (set(np.unique(half)) for half in np.split(graph.region_of_pixel, [33], axis=1))
    assert not left & right


@pytest.mark.parametrize(
    ("image", "points", "message"),
    [
        (torch.zeros(4, 5, 3, dtype=torch.uint8), torch.zeros(1, 2).long(), "image has shape"),
        (torch.zeros(3, 4, 5), torch.zeros(1, 2).long(), "image is torch.float32, expected uint8"),
        (torch.zeros(3, 4, 5, dtype=torch.uint8), torch.zeros(2).long(), "points has shape"),
        (torch.zeros(3, 4, 5, dtype=torch.uint8), torch.zeros(0, 2).long(), "points is empty"),
        (
            torch.zeros(3, 4, 5, dtype=torch.uint8),
            torch.tensor([[0, 0], [4, 4]]),
            r"from \[0, 0\] to \[4, 4\], expected \(x, y\) inside the image of 5 x 4",
        ),
        (torch.zeros(3, 4, 5, dtype=torch.uint8), torch.tensor([[-1, 0]]), r"from \[-1, 0\]"),
    ],
)
def test_bad_input_is_refused(image, points, message):
    with pytest.raises(ValueError, match=message):
        SuperpixelSegmenter()(image, points)
