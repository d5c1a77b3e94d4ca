"""The streaming multi-view mean: the reference's banks, painted maps, and memory that stays put."""

from __future__ import annotations

import mmap
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.fusion import MultiViewAccumulator
from tests.conftest import golden_cases, load_npz
from tests.tolerances import FLOAT32, FLOAT32_SUMS


def half_steps(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Difference in units of half-precision spacing at the expected values."""
    spacing = np.abs(np.spacing(expected)).astype(np.float64)
    return np.abs(got.astype(np.float64) - expected.astype(np.float64)) / spacing


def accumulate_mapping(case, mapping) -> MultiViewAccumulator:
    """Feed stored (frame, point, (row, column, visible)) and feature maps, frame by frame."""
    maps = case["feature_maps_i8"]
    accumulator = MultiViewAccumulator(mapping.shape[1], maps.shape[1])
    scale = np.float32(case["feature_map_scale"])
    for frame, rows in enumerate(mapping):
        seen = np.flatnonzero(rows[:, 2])
        samples = maps[frame][:, rows[seen, 0], rows[seen, 1]].T.astype(np.float32) * scale
        accumulator.add_features(torch.from_numpy(seen), torch.from_numpy(samples))
    return accumulator


@pytest.mark.parametrize("file", golden_cases("projection/scannet_multiview*.npz"))
def test_the_references_indoor_bank(file):
    mapping_file = file.with_name(file.name.replace("multiview", "mapping"))
    if not mapping_file.exists():
        pytest.skip(f"no {mapping_file.name} beside {file.name}")
    case, mapping = load_npz(file), load_npz(mapping_file)["mapping"]
    accumulator = accumulate_mapping(case, mapping)
    np.testing.assert_array_equal(accumulator.views.numpy(), case["counter"])
    features, seen = accumulator.result()
    np.testing.assert_array_equal(seen.numpy(), case["point_ids"])
    np.testing.assert_array_equal(features.numpy(), case["saved_feat_half"])  # bit for bit
    exact = accumulator.result(dtype=torch.float32)
    bank = np.zeros_like(case["feat_bank"])
    bank[exact.seen.numpy()] = exact.features.numpy()
    np.testing.assert_allclose(bank, case["feat_bank"], atol=FLOAT32, rtol=0)


@pytest.mark.parametrize("file", golden_cases("projection/nuscenes*.npz"))
def test_the_references_outdoor_bank(file):
    case = load_npz(file)
    features, seen = accumulate_mapping(case, case["mapping"]).result()
    labelled = np.flatnonzero(case["labels"] != 255)
    np.testing.assert_array_equal(labelled[seen.numpy()], np.flatnonzero(case["saved_mask_full"]))
    assert half_steps(features.numpy(), case["saved_feat_half"]).max() <= 1


def random_frames(seed, points, frames, dimensions=5, masks=4):
    """Frames of a mask teacher over one palette of captions; some masks share a caption."""
    generator = torch.Generator().manual_seed(seed)
    palette = torch.randn(6, dimensions, generator=generator)
    result = []
    for _ in range(frames):
        count = int(torch.randint(points + 1, (1,), generator=generator))
        seen = torch.randperm(points, generator=generator)[:count]
        captions = torch.randint(6, (masks,), generator=generator)
        mask_of_point = torch.randint(-1, masks, (count,), generator=generator)
        result.append((seen, mask_of_point, palette[captions], [f"a {c}" for c in captions]))
    return result


def dense_mean(frames, points, dimensions=5):
    """What painting every frame and averaging gives, in float64: (mean, views, spoken)."""
    total, views = np.zeros((points, dimensions)), np.zeros(points, dtype=int)
    spoken = np.zeros(points, dtype=bool)
    for seen, mask_of_point, embeddings, _ in frames:
        for point, mask in zip(seen.tolist(), mask_of_point.tolist(), strict=True):
            views[point] += 1
            if mask >= 0:
                spoken[point] = True
                total[point] += embeddings[mask].numpy()
    return total / np.maximum(views, 1)[:, None], views, spoken


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 30), st.integers(0, 8), st.booleans(), st.booleans())
def test_masks_equal_the_painted_mean(seed, points, frames, with_keys, keep_zero_rows):
    observed = random_frames(seed, points, frames)
    accumulator = MultiViewAccumulator(points, 5)
    for seen, mask_of_point, embeddings, keys in observed:
        accumulator.add_masks(seen, mask_of_point, embeddings, keys if with_keys else None)
    mean, views, spoken = dense_mean(observed, points)
    features, seen = accumulator.result(dtype=torch.float32, keep_zero_rows=keep_zero_rows)
    assert accumulator.views.tolist() == views.tolist()
    assert seen.tolist() == np.flatnonzero(views > 0 if keep_zero_rows else spoken).tolist()
    np.testing.assert_allclose(features.numpy(), mean[seen.numpy()], atol=FLOAT32_SUMS)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(0, 8))
def test_dense_samples_equal_the_mean_and_the_order_does_not_matter(seed, points, frames):
    observed = random_frames(seed, points, frames)
    order = torch.randperm(frames, generator=torch.Generator().manual_seed(seed)).tolist()
    results = []
    for indices in (range(frames), order):
        dense, masks = MultiViewAccumulator(points, 5), MultiViewAccumulator(points, 5)
        for seen, mask_of_point, embeddings, keys in (observed[i] for i in indices):
            painted = torch.cat([embeddings, torch.zeros(1, 5)])[mask_of_point]
            dense.add_features(seen, painted)
            masks.add_masks(seen, mask_of_point, embeddings, keys)
        results += [dense.result(dtype=torch.float32)]
        results += [masks.result(dtype=torch.float32, keep_zero_rows=True)]
    mean, views, _ = dense_mean(observed, points)
    for features, seen in results:
        assert seen.tolist() == np.flatnonzero(views > 0).tolist()
        np.testing.assert_allclose(features.numpy(), mean[seen.numpy()], atol=FLOAT32_SUMS)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    map_size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    align_corners=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    strip=st.sampled_from([1, 40, 1 << 20]),
)
def test_a_map_is_never_upsampled_yet_gives_what_upsampling_gives(
    seed, map_size, align_corners, dtype, strip
):
    """Upsample to (D, H, W), index, accumulate: in float64, frame by frame."""
    generator = torch.Generator().manual_seed(seed)
    image_size, points, dimensions = (13, 17), 40, 4
    accumulator = MultiViewAccumulator(points, dimensions)
    total, views = torch.zeros(points, dimensions, dtype=torch.float64), torch.zeros(points)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pcdistill.geometry.sampling._STRIP_ELEMENTS", {False: strip, True: strip})
        for _ in range(5):
            seen = torch.randperm(points, generator=generator)[: 5 + int(seed) % 30]
            index = torch.randint(13 * 17, (len(seen),), generator=generator)
            pixels = torch.stack([index % 17, index // 17], dim=1)
            low = torch.randn((dimensions, *map_size), generator=generator).to(dtype)
            accumulator.add_map(seen, pixels, low, image_size, align_corners=align_corners)
            high = torch.nn.functional.interpolate(
                low[None].double(), image_size, mode="bilinear", align_corners=align_corners
            )[0]
            total[seen] += high[:, pixels[:, 1], pixels[:, 0]].T
            views[seen] += 1
    features, seen = accumulator.result(dtype=torch.float32)
    assert torch.equal(seen, views.nonzero()[:, 0])
    expected = (total / views.clamp(min=1)[:, None])[seen].float()
    torch.testing.assert_close(features, expected, rtol=0, atol=FLOAT32_SUMS)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    points=st.integers(0, 60),
    frames=st.integers(0, 5),
    chunk=st.sampled_from([1, 12, 1 << 19]),
    masks=st.booleans(),
    dense=st.booleans(),
)
def test_finishing_gives_the_result_and_starts_anew(seed, points, frames, chunk, masks, dense):
    observed = random_frames(seed, points, frames)
    accumulator = MultiViewAccumulator(points, 5)
    for seen, mask_of_point, embeddings, keys in observed:
        if masks:
            accumulator.add_masks(seen, mask_of_point, embeddings, keys)
        if dense:
            accumulator.add_features(seen, torch.randn(len(seen), 5))
    expected = accumulator.result()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pcdistill.fusion.accumulator._CHUNK_ELEMENTS", chunk)
        features, seen = accumulator.finish()
    assert torch.equal(seen, expected.seen)
    assert torch.equal(features, expected.features)
    assert accumulator.views.sum() == 0
    assert len(accumulator.result().seen) == 0


@pytest.mark.parametrize("fraction", [0.02, 0.5, 1.0])
def test_finishing_many_points_gives_memory_back_only_where_it_is_read(monkeypatch, fraction):
    """Large enough for many pages, most of which are given back before their turn to be written."""
    monkeypatch.setattr("pcdistill.fusion.accumulator._CHUNK_ELEMENTS", 5000)
    generator = torch.Generator().manual_seed(0)
    accumulator = MultiViewAccumulator(6000, 96)
    for _ in range(3):
        seen = (torch.rand(6000, generator=generator) < fraction).nonzero()[:, 0]
        accumulator.add_features(seen, torch.randn(len(seen), 96, generator=generator))
    expected, memory = accumulator.result(), accumulator._memory
    features, seen = accumulator.finish()
    assert torch.equal(seen, expected.seen)
    assert torch.equal(features, expected.features)
    if fraction == 1.0 and sys.platform == "linux":  # what was given back is read as zero
        behind = memory[len(memory) // 2 + mmap.PAGESIZE : len(memory) - mmap.PAGESIZE]
        assert behind.count(0) == len(behind) > 10**6


def test_both_kinds_of_observation_add_up():
    accumulator = MultiViewAccumulator(4, 2)
    accumulator.add_features(torch.tensor([2, 0]), torch.tensor([[1.0, 0], [0, 1]]))
    accumulator.add_masks(torch.tensor([2, 3]), torch.tensor([0, -1]), torch.tensor([[0.0, 3]]))
    features, seen = accumulator.result()
    assert seen.tolist() == [0, 2]
    assert features.tolist() == [[0, 1], [0.5, 1.5]]
    assert features.dtype == torch.float16
    assert accumulator.views.tolist() == [1, 0, 2, 1]


def test_the_result_may_be_asked_for_between_frames():
    accumulator = MultiViewAccumulator(3, 1)
    for value in (1.0, 3.0):
        accumulator.add_masks(
            torch.tensor([1]), torch.tensor([0]), torch.tensor([[value]]), [f"{value}"]
        )
        assert accumulator.result().seen.tolist() == [1]
    assert accumulator.result().features.tolist() == [[2.0]]


def test_nothing_added_gives_nothing():
    features, seen = MultiViewAccumulator(5, 3).result()
    assert features.shape == (0, 3)
    assert seen.shape == (0,)
    features, seen = MultiViewAccumulator(0, 3).result()
    assert features.shape == (0, 3)


def test_an_empty_frame_changes_nothing():
    accumulator = MultiViewAccumulator(2, 3)
    none = torch.zeros(0, dtype=torch.int64)
    accumulator.add_features(none, torch.zeros(0, 3))
    accumulator.add_masks(none, none, torch.zeros(0, 3), [])
    assert accumulator.views.tolist() == [0, 0]
    assert len(accumulator.result().seen) == 0


def test_memory_does_not_grow_with_the_frames(monkeypatch):
    monkeypatch.setattr("pcdistill.fusion.accumulator._MERGE_AT_LEAST", 100)
    accumulator = MultiViewAccumulator(50, 4)
    generator = torch.Generator().manual_seed(0)
    held = []
    for frame in range(400):
        embeddings = torch.eye(4)[torch.randperm(4, generator=generator)[:2]]
        keys = [str(int(row.argmax())) for row in embeddings]
        masks = torch.randint(2, (50,), generator=generator)
        accumulator.add_masks(torch.arange(50), masks, embeddings, keys)
        held.append(len(accumulator._pairs) + accumulator._pending_size)
        assert len(accumulator._table) <= 4
        assert frame < 200 or held[-1] <= 2 * 200 + 100 + 50  # 50 points x 4 captions, twice
    assert max(held[200:]) <= max(held[:200])


@pytest.mark.parametrize("merge_at_least", [0, 1 << 20])
def test_merging_early_or_late_is_the_same(monkeypatch, merge_at_least):
    monkeypatch.setattr("pcdistill.fusion.accumulator._MERGE_AT_LEAST", merge_at_least)
    observed = random_frames(seed=5, points=40, frames=30)
    accumulator = MultiViewAccumulator(40, 5)
    for seen, mask_of_point, embeddings, keys in observed:
        accumulator.add_masks(seen, mask_of_point, embeddings, keys)
    mean, _, _ = dense_mean(observed, 40)
    features, seen = accumulator.result(dtype=torch.float32)
    np.testing.assert_allclose(features.numpy(), mean[seen.numpy()], atol=FLOAT32_SUMS)


def silent_often(**rules):
    """Four points seen by four frames; point k is spoken about in k of them."""
    accumulator = MultiViewAccumulator(4, 2, **rules)
    for frame in range(4):
        told = [0 if frame < point else -1 for point in range(4)]
        accumulator.add_masks(torch.arange(4), torch.tensor(told), torch.tensor([[0.0, 1.0]]))
    return accumulator


@pytest.mark.parametrize(
    ("min_spoken", "seen"), [(0.0, [1, 2, 3]), (0.5, [2, 3]), (0.51, [3]), (1.0, [])]
)
def test_points_that_are_spoken_about_too_seldom_are_left_out(min_spoken, seen):
    accumulator = silent_often(min_spoken=min_spoken)
    expected = torch.tensor([[0.0, point / 4] for point in seen]).reshape(-1, 2)
    for found in (accumulator.result(dtype=torch.float32), accumulator.finish()):
        assert found.seen.tolist() == seen
        torch.testing.assert_close(found.features.float(), expected)


def test_what_is_said_of_a_point_left_out_goes_to_no_other():
    """Its pairs lie between those of its neighbours, whose sums are taken in one go."""
    accumulator = MultiViewAccumulator(3, 2, min_spoken=0.5)
    both = torch.eye(2)
    accumulator.add_masks(torch.arange(3), torch.tensor([0, 1, 0]), both)
    accumulator.add_masks(torch.arange(3), torch.tensor([0, -1, 0]), both)
    accumulator.add_masks(torch.arange(3), torch.tensor([0, -1, 0]), both)
    features, seen = accumulator.result(dtype=torch.float32)
    assert seen.tolist() == [0, 2]
    assert features.tolist() == [[1, 0], [1, 0]]


def test_the_share_is_counted_over_groups_of_points():
    """Points 1 and 3 are spoken about in half of their views together, 0 and 2 in a quarter."""
    groups = torch.tensor([0, 1, 0, 1])
    assert silent_often(min_spoken=0.5, groups=groups).result().seen.tolist() == [1, 3]
    assert silent_often(min_spoken=0.25, groups=groups).result().seen.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"min_spoken": 1.5}, "min_spoken is 1.5, expected a share"),
        ({"groups": torch.zeros(3)}, r"groups has shape \(3,\), expected \(4\)"),
    ],
)
def test_bad_rules_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        MultiViewAccumulator(4, 2, **rules)


def test_views_are_not_a_window_into_the_accumulator():
    accumulator = MultiViewAccumulator(2, 1)
    accumulator.views[:] = 7
    assert accumulator.views.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("seen", "samples", "message"),
    [
        ([0, 1], torch.zeros(3, 2), r"samples has shape \(3, 2\), expected \(2, 2\)"),
        ([0, 1], torch.zeros(2, 3), r"samples has shape \(2, 3\), expected \(2, 2\)"),
        ([0, 5], torch.zeros(2, 2), "seen ranges from 0 to 5, expected 0 to 4"),
        ([-1, 1], torch.zeros(2, 2), "seen ranges from -1 to 1"),
        ([1, 1], torch.zeros(2, 2), "names 2 points of which 1 are distinct"),
        ([0.0, 1.0], torch.zeros(2, 2), "torch.float32, expected integer"),
        ([True, False], torch.zeros(2, 2), "torch.bool, expected integer"),
        ([0, 1], torch.tensor([[0, torch.nan], [0, 0]]), "samples has 1 non-finite"),
    ],
)
def test_bad_samples_are_refused_and_leave_no_trace(seen, samples, message):
    accumulator = MultiViewAccumulator(5, 2)
    with pytest.raises(ValueError, match=message):
        accumulator.add_features(torch.tensor(seen), samples)
    assert accumulator.views.sum() == 0
    assert len(accumulator.result().seen) == 0


@pytest.mark.parametrize(
    ("masks", "embeddings", "keys", "message"),
    [
        ([0, 2], torch.zeros(2, 2), None, "mask_of_point ranges from 0 to 2, expected -1 to 1"),
        ([0, -2], torch.zeros(2, 2), None, "mask_of_point ranges from -2 to 0"),
        ([0], torch.zeros(2, 2), None, r"mask_of_point has shape \(1,\), expected \(2\)"),
        ([0, 0], torch.zeros(2, 3), None, "embeddings has shape"),
        ([0, 0], torch.zeros(2, 2), ["a"], "1 keys for 2 embeddings"),
        ([0, 0], torch.full((2, 2), torch.inf), None, "embeddings has 4 non-finite"),
        ([0, 1], torch.eye(2), ["a", "a"], "key 'a' stood for another embedding before"),
    ],
)
def test_bad_masks_are_refused_and_leave_no_trace(masks, embeddings, keys, message):
    accumulator = MultiViewAccumulator(5, 2)
    with pytest.raises(ValueError, match=message):
        accumulator.add_masks(torch.tensor([3, 1]), torch.tensor(masks), embeddings, keys)
    assert accumulator.views.sum() == 0
    assert len(accumulator.result().seen) == 0


@pytest.mark.parametrize(
    ("seen", "pixels", "feature_map", "message"),
    [
        ([0, 1], [[0, 0]], torch.zeros(2, 1, 1), r"pixels has shape \(1, 2\), expected \(2, 2\)"),
        ([0], [[0, 0]], torch.zeros(3, 1, 1), r"feature_map has shape \(3, 1, 1\)"),
        ([0], [[4, 0]], torch.zeros(2, 1, 1), r"column range \[4, 4\], expected inside \[0, 3\]"),
        ([0], [[0, 0]], torch.full((2, 1, 1), torch.nan), "feature_map has 2 non-finite"),
        ([5], [[0, 0]], torch.zeros(2, 1, 1), "seen ranges from 5 to 5"),
    ],
)
def test_bad_maps_are_refused(seen, pixels, feature_map, message):
    accumulator = MultiViewAccumulator(5, 2)
    with pytest.raises(ValueError, match=message):
        accumulator.add_map(torch.tensor(seen), torch.tensor(pixels), feature_map, (4, 4))
    assert accumulator.views.sum() == 0
    assert len(accumulator.result().seen) == 0


def test_no_points_or_channels_are_refused():
    with pytest.raises(ValueError, match="points=-1 and dimensions=2"):
        MultiViewAccumulator(-1, 2)
    with pytest.raises(ValueError, match="points=3 and dimensions=0"):
        MultiViewAccumulator(3, 0)
