"""Prompts from masks: the release's points, the distance they rest on, and the clean-up before."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pcdistill.capability import clean_mask, prompt_points
from pcdistill.geometry import chamfer_distance_transform
from tests.conftest import golden_cases, load_npz
from tests.tolerances import FLOAT32

masks_of_any_kind = hnp.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))


def unpacked(packed: np.ndarray, shape: np.ndarray) -> np.ndarray:
    return np.unpackbits(packed, axis=-1)[..., : int(shape[-1])].astype(bool)


@pytest.mark.parametrize("file", golden_cases("capability/prompt_points*.npz"))
def test_the_releases_points(file):
    case = load_npz(file)
    masks = unpacked(case["masks"], case["mask_shape"])
    for mask, expected, name in zip(masks, case["points_xy"], case["case"], strict=True):
        if (expected < 0).any():
            with pytest.raises(ValueError, match="mask is empty"):
                prompt_points(torch.from_numpy(mask))
            continue
        got = prompt_points(torch.from_numpy(mask))
        assert got.tolist() == expected.tolist(), name
        inside = prompt_points(torch.from_numpy(mask), mode="inside")
        assert mask[inside[:, 1], inside[:, 0]].all(), name


@pytest.mark.parametrize("file", golden_cases("capability/prompt_points*.npz"))
def test_the_releases_distances(file):
    case = load_npz(file)
    masks = unpacked(case["masks"], case["mask_shape"])
    for index, expected in zip(case["dist_case_index"], case["dist_l2_5x5"], strict=True):
        got = chamfer_distance_transform(masks[index])
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("file", golden_cases("capability/mask_cleanup_prompts*.npz"))
def test_the_releases_clean_up_and_points(file):
    case = load_npz(file)
    masks = unpacked(case["masks"], case["mask_shape"])
    for mask, expected in zip(masks, case["points_xy"], strict=True):
        cleaned = clean_mask(torch.from_numpy(mask))
        assert prompt_points(cleaned).tolist() == expected.tolist()


def distance_by_dijkstra(mask: np.ndarray) -> np.ndarray:
    """Shortest chamfer walk from any pixel outside, over the whole plane around the image."""
    moves = {}
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            length = {1: 1.0, 2: 1.4, 5: 2.1969}.get(dy * dy + dx * dx)
            if length:
                moves[dy, dx] = length
    best = {tuple(p): 0 for p in np.argwhere(~mask)}
    queue = [(0, p) for p in best]
    heapq.heapify(queue)
    height, width = mask.shape
    while queue:
        d, (y, x) = heapq.heappop(queue)
        if d > best[y, x]:
            continue
        for (dy, dx), step in moves.items():
            p = (y + dy, x + dx)
            on_plane = -2 <= p[0] < height + 2 and -2 <= p[1] < width + 2
            if on_plane and d + step < best.get(p, np.inf):
                best[p] = d + step
                heapq.heappush(queue, (d + step, p))
    return np.array([[best[y, x] for x in range(width)] for y in range(height)])


@settings(max_examples=60, deadline=None)
@given(masks_of_any_kind)
def test_distance_is_the_shortest_chamfer_walk(mask):
    if mask.all():
        assert np.isinf(chamfer_distance_transform(mask)).all()
        return
    np.testing.assert_allclose(
        chamfer_distance_transform(mask), distance_by_dijkstra(mask), rtol=FLOAT32
    )


def test_distance_is_within_two_percent_of_euclid():
    mask = np.ones((101, 101), dtype=bool)
    mask[50, 50] = False
    y, x = np.mgrid[-50:51, -50:51]
    euclid = np.hypot(x, y)
    chamfer = chamfer_distance_transform(mask)
    assert np.abs(chamfer - euclid)[euclid > 0].max() > 0
    assert (np.abs(chamfer - euclid) <= 0.02 * euclid).all()


@settings(max_examples=80, deadline=None)
@given(masks_of_any_kind, st.integers(1, 6), st.sampled_from(["release", "inside"]))
def test_as_many_points_as_asked_and_inside_the_mask(mask, count, mode):
    if not mask.any():
        with pytest.raises(ValueError, match="mask is empty"):
            prompt_points(torch.from_numpy(mask), count, mode=mode)
        return
    points = prompt_points(torch.from_numpy(mask), count, mode=mode)
    assert points.shape == (count, 2)
    assert points.dtype == torch.int64
    if mode == "inside":
        assert mask[points[:, 1], points[:, 0]].all()
        assert len(points.unique(dim=0)) == min(count, mask.sum()) or count > 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31))
def test_both_modes_agree_away_from_the_corners(seed):
    generator = np.random.default_rng(seed)
    mask = np.zeros((40, 40), dtype=bool)
    for corner, side in zip([(2, 2), (2, 24), (24, 2)], (5, 8, 11), strict=True):
        if generator.random() < 0.7:
            side += int(generator.integers(0, 3))
            mask[corner[0] : corner[0] + side, corner[1] : corner[1] + side] = True
    if mask.any():
        there, back = (prompt_points(torch.from_numpy(mask), mode=m) for m in ("release", "inside"))
        assert there.tolist() == back.tolist()


def test_three_points_are_shared_by_the_largest_components():
    mask = torch.zeros(30, 60, dtype=torch.bool)
    mask[2:13, 2:13] = True  # the largest: centre (7, 7)
    mask[2:9, 20:27] = True  # centre (23, 5)
    assert prompt_points(mask).tolist()[::2] == [[7, 7], [23, 5]]
    mask[2:7, 40:45] = True  # centre (42, 4)
    assert prompt_points(mask).tolist() == [[7, 7], [23, 5], [42, 4]]
    mask[20:22, 2:4] = True  # the fourth gets none
    assert prompt_points(mask).tolist() == [[7, 7], [23, 5], [42, 4]]
    assert prompt_points(mask, 1).tolist() == [[7, 7]]


def test_the_corners_of_the_two_modes():
    one = torch.zeros(9, 9, dtype=torch.bool)
    one[4, 5] = True
    assert prompt_points(one).tolist() == [[5, 4], [0, 0], [0, 0]]
    assert prompt_points(one, mode="inside").tolist() == [[5, 4]] * 3
    twins = one.clone()
    twins[0, 0] = True
    assert prompt_points(twins, 2).tolist() == [[0, 0], [0, 0]]
    assert prompt_points(twins, 2, mode="inside").tolist() == [[0, 0], [5, 4]]


def test_a_diagonal_contact_is_one_component():
    mask = torch.eye(6, dtype=torch.bool)
    assert len(prompt_points(mask, 6, mode="inside").unique(dim=0)) == 6


def test_the_mask_stays_as_it_was():
    mask = torch.ones(5, 5, dtype=torch.bool)
    prompt_points(mask)
    clean_mask(mask)
    assert mask.all()


def test_clean_up_scales_with_the_image():
    full = torch.ones(240, 320, dtype=torch.bool)
    cleaned = clean_mask(full)
    assert cleaned.nonzero().amin(dim=0).tolist() == [33, 44]
    assert cleaned.nonzero().amax(dim=0).tolist() == [240 - 34, 320 - 45]
    assert clean_mask(full, border=5).sum() == 230 * 310
    assert torch.equal(clean_mask(full, border=0), full)


def test_a_mask_that_is_as_good_as_empty_becomes_four_blocks_near_the_center():
    empty = clean_mask(torch.zeros(512, 512, dtype=torch.bool))
    assert empty.sum() == 16
    assert empty[240:242, 240:242].all()
    assert empty[270:272, 270:272].all()
    few = torch.zeros(512, 512, dtype=torch.bool)
    few[100, 100:109] = True
    assert clean_mask(few).sum() == 25
    few[100, 109] = True
    assert torch.equal(clean_mask(few), few)
    assert clean_mask(torch.zeros(64, 64, dtype=torch.bool)).sum() == 16
    assert clean_mask(torch.ones(20, 20, dtype=torch.bool), border=15).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prompt_points(torch.zeros(3, 3)), "mask is torch.float32, expected bool"),
        (lambda: prompt_points(torch.ones(1, 3, 3).bool()), r"mask has shape \(1, 3, 3\)"),
        (lambda: prompt_points(torch.ones(3, 3).bool(), 0), "count is 0, expected at least 1"),
        (lambda: prompt_points(torch.ones(3, 3).bool(), mode="x"), "mode is 'x'"),
        (lambda: prompt_points(torch.zeros(0, 0).bool()), "mask is empty"),
        (lambda: clean_mask(torch.zeros(3, 3)), "mask is torch.float32"),
        (lambda: clean_mask(torch.zeros(3, 3).bool(), border=-1), "border is -1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
