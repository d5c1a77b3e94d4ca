"""Soft maps from cross-attention: the release's maps, Eq. 2 in float64, and streaming."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.capability import AttentionAccumulator, aggregate_attention, binarize_attention
from pcdistill.capability.attention import map_shape
from tests.conftest import golden_cases, load_npz
from tests.tolerances import FLOAT32, FLOAT32_SUMS, FLOAT64

RELEASE_RESOLUTIONS = {"sofa": (8,), "train": (8,), "tvmonitor": (8,), "diningtable": (16,)}


def stored_maps(case):
    """Every layer at every step, in call order, as (heads, P, L)."""
    layers = zip(case["layer_place"], case["layer_res"], strict=True)
    names = [f"attn_{i:02d}_{place}_{res}" for i, (place, res) in enumerate(layers)]
    for step in range(int(case["n_steps"])):
        for name in names:
            yield torch.from_numpy(case[name][step] * case["attn_scale"]).float()


@pytest.mark.parametrize("file", golden_cases("capability/cross_attention*.npz"))
def test_the_releases_soft_maps_and_masks(file):
    case = load_npz(file)
    categories = [key.removesuffix("_token_index") for key in case if key.endswith("_token_index")]
    assert categories
    for category in categories:
        shape = (512, 512)
        tokens = case[f"{category}_token_index"].tolist()
        resolutions = RELEASE_RESOLUTIONS.get(category)
        accumulator = AttentionAccumulator(tokens, mode="release", resolutions=resolutions)
        for attention in stored_maps(case):
            accumulator.add(attention)
        for (height, _), words in accumulator.mean_maps().items():
            expected = case[f"avg_map_{height}"][:, :, tokens].transpose(2, 0, 1)
            np.testing.assert_allclose(words.numpy(), expected, atol=FLOAT32, rtol=0)
        combined = accumulator.merged_map(shape).numpy()
        np.testing.assert_allclose(
            combined[::4, ::4], case[f"{category}_soft_every4"], atol=FLOAT32_SUMS, rtol=0
        )
        np.testing.assert_allclose(
            [combined.min(), combined.max()], case[f"{category}_soft_min_max"], atol=FLOAT32_SUMS
        )
        soft = aggregate_attention(
            stored_maps(case), tokens, shape, mode="release", resolutions=resolutions
        )
        mask = binarize_attention(soft).numpy()
        expected = np.unpackbits(case[f"{category}_mask"], axis=-1).astype(bool)
        assert (mask != expected).sum() <= 20


def cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -0.75."""
    a, d = -0.75, np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def enlarge_by_hand(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Separable bicubic with half-pixel centres and a repeated rim, in float64."""
    rows, columns = map(bicubic_matrix, values.shape, size)
    return rows @ values @ columns.T


@functools.cache
def bicubic_matrix(source: int, target: int) -> np.ndarray:
    matrix = np.zeros((target, source))
    for index in range(target):
        center = (index + 0.5) * source / target - 0.5
        for tap in range(int(np.floor(center)) - 1, int(np.floor(center)) + 3):
            matrix[index, np.clip(tap, 0, source - 1)] += cubic(np.array(center - tap))
    return matrix


def random_maps(seed, shapes=(4, 4, 6), heads=2, length=5):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.rand(heads, size * size, length, generator=generator, dtype=torch.float64)
        for size in shapes
    ]


def test_equation_2_by_hand():
    maps, tokens, size = random_maps(0), [1, 3], (20, 20)
    expected = np.zeros(size)
    for token in tokens:
        for attention in maps:
            side = round(attention.shape[1] ** 0.5)
            values = attention[:, :, token].mean(dim=0).numpy().reshape(side, side)
            expected += enlarge_by_hand(values / values.max(), size) / len(maps) / len(tokens)
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    np.testing.assert_allclose(
        aggregate_attention(maps, tokens, size).numpy(), expected, atol=FLOAT64
    )


def test_the_releases_order_by_hand():
    maps, tokens, size = random_maps(1), [2, 4], (18, 18)
    expected = np.zeros(size)
    for token in tokens:
        for group in (maps[:2], maps[2:]):
            side = round(group[0].shape[1] ** 0.5)
            values = np.mean([m[:, :, token].mean(dim=0).numpy() for m in group], axis=0)
            enlarged = enlarge_by_hand(values.reshape(side, side), size)
            expected += enlarged / enlarged.max() / 2 / len(tokens)
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    got = aggregate_attention(maps, tokens, size, mode="release", resolutions=(4, 6))
    np.testing.assert_allclose(got.numpy(), expected, atol=FLOAT64)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["paper", "release"]))
def test_the_order_of_the_maps_does_not_matter_and_the_range_is_0_to_1(seed, mode):
    maps = random_maps(seed)
    there = aggregate_attention(maps, [0], (16, 16), mode=mode, resolutions=(4, 6))
    back = aggregate_attention(iter(maps[::-1]), [0], (16, 16), mode=mode, resolutions=(4, 6))
    torch.testing.assert_close(there, back)
    assert there.min() == 0
    assert there.max() == 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 100))
def test_a_louder_layer_counts_no_more_in_equation_2(seed, gain):
    maps = random_maps(seed)
    louder = [maps[0] * gain, *maps[1:]]
    torch.testing.assert_close(
        aggregate_attention(maps, [1], (16, 16)), aggregate_attention(louder, [1], (16, 16))
    )


@pytest.mark.parametrize("mode", ["paper", "release"])
def test_images_of_a_batch_do_not_mix(mode):
    """One of them is all dark, the last has no contrast."""
    images = [random_maps(seed) for seed in (5, 6, 7)]
    images[1] = [maps * 0 for maps in images[1]]
    images.append([torch.full_like(maps, 0.25) for maps in images[0]])
    together = AttentionAccumulator([0, 2], mode=mode, resolutions=(4, 6))
    for maps in zip(*images, strict=True):
        together.add(torch.stack(maps))
    soft = together.soft_map((12, 12))
    assert soft.shape == (4, 12, 12)
    for image, maps in zip(soft, images, strict=True):
        alone = aggregate_attention(maps, [0, 2], (12, 12), mode=mode, resolutions=(4, 6))
        torch.testing.assert_close(image, alone)
    with pytest.raises(ValueError, match=r"attention is of \[2\] images, expected \[4\] as before"):
        together.add(torch.zeros(2, 2, 16, 5))


def test_maps_that_are_not_square():
    attention = torch.zeros(1, 12, 2)
    attention[0, 7, 1] = 1  # row 1, column 3 of a map of 3 x 4
    accumulator = AttentionAccumulator([1])
    accumulator.add(attention, (3, 4))
    soft = accumulator.soft_map((3, 4))
    assert soft[1, 3] == 1
    assert soft.sum() == 1


@pytest.mark.parametrize(
    ("image_size", "maps"),
    [
        ((512, 2048), [(8, 32), (16, 64), (64, 256)]),  # areas are squares of 16, 32 and 128
        ((576, 1024), [(9, 16), (18, 32), (36, 64)]),  # 144 and so on are squares too
        ((1024, 256), [(32, 8), (64, 16)]),
        ((512, 912), [(64, 114), (32, 57), (16, 29), (8, 15)]),  # halves are rounded up
        ((512, 512), [(8, 8), (64, 64)]),
        ((480, 640), [(60, 80), (30, 40), (15, 20), (8, 10)]),
    ],
)
def test_the_shape_of_maps_is_that_of_the_image(image_size, maps):
    """A peak at 70 % of the width and 30 % of the height stays there at every resolution."""
    attention = []
    for height, width in maps:
        layer = torch.zeros(1, height, width, 2)
        layer[0, int(0.3 * height), int(0.7 * width), 1] = 1
        attention.append(layer.reshape(1, -1, 2))
    for one in (*([layer] for layer in attention), attention):
        soft = aggregate_attention(one, [1], image_size)
        row, column = divmod(int(soft.argmax()), image_size[1])
        assert abs(row / image_size[0] - 0.3) < 1 / maps[-1][0] + 1 / maps[0][0]
        assert abs(column / image_size[1] - 0.7) < 1 / maps[-1][1] + 1 / maps[0][1]


@given(st.integers(4, 64), st.integers(4, 64))
def test_a_map_of_the_image_is_found_by_its_pixels(height, width):
    assert map_shape(height * width, (height * 8, width * 8)) == (height, width)


def test_maps_taken_for_squares_are_not_laid_over_an_oblong_image():
    accumulator = AttentionAccumulator([1])
    accumulator.add(torch.zeros(1, 256, 2))
    expected = "maps of 16 x 16 pixels are not of the shape of the image, which has 512 x 2048"
    with pytest.raises(ValueError, match=expected):
        accumulator.soft_map((512, 2048))


def test_nothing_of_a_step_is_kept():
    accumulator = AttentionAccumulator([0])
    for _ in range(50):
        for attention in random_maps(0):
            accumulator.add(attention)
    assert sum(words.numel() for words in accumulator._sums.values()) == 16 + 36


def test_maps_without_contrast_are_all_zero():
    for level in (0.0, 0.5):
        soft = aggregate_attention([torch.full((2, 16, 3), level)], [0], (8, 8))
        assert soft.eq(0).all()


def test_the_sum_does_not_share_memory_with_the_model():
    attention = torch.rand(1, 16, 2)
    accumulator = AttentionAccumulator([0], mode="release", resolutions=(4,))
    accumulator.add(attention)
    before = accumulator.merged_map((4, 4))
    attention.zero_()
    assert torch.equal(before, accumulator.merged_map((4, 4)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AttentionAccumulator([]), r"tokens are \[\], expected"),
        (lambda: AttentionAccumulator([1, -1]), r"tokens are \[1, -1\]"),
        (lambda: AttentionAccumulator([1], mode="fast"), "mode is 'fast'"),
        (lambda: AttentionAccumulator([1]).add(torch.zeros(16, 3)), r"shape \(16, 3\)"),
        (lambda: AttentionAccumulator([1]).add(torch.zeros(2, 15, 3)), "has 15 pixels"),
        (
            lambda: aggregate_attention([torch.zeros(1, 15, 3)], [1], (8, 8)),
            "15 pixels, expected a map of the shape of an image of 8 x 8 pixels; give map_size",
        ),
        (lambda: AttentionAccumulator([3]).add(torch.zeros(2, 16, 3)), "token 3 does not exist"),
        (lambda: AttentionAccumulator([1]).add(-torch.ones(2, 16, 3)), "negative values"),
        (
            lambda: AttentionAccumulator([1]).add(torch.full((2, 16, 3), torch.nan)),
            "attention has 32 non-finite values",
        ),
        (lambda: aggregate_attention([], [1], (8, 8)), "no attention map has been added"),
        (
            lambda: aggregate_attention([torch.zeros(1, 16, 3)], [1], (8, 8), mode="release"),
            r"added of \[16, 32, 64\] pixels",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("pixels", "image_size", "right"),
    [
        (6, (64, 60), (3, 2)),
        (6, (60, 64), (2, 3)),
        (12, (103, 100), (4, 3)),
        (12, (97, 100), (3, 4)),
    ],
)
def test_of_several_shapes_that_would_do_the_nearest_is_taken(pixels, image_size, right):
    """Maps of few pixels, one side of which is rounded by much."""
    assert map_shape(pixels, image_size) == right
