"""Capability of a teacher: the release's scores, Eq. 3-4 by hand, and masks that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.capability import CapabilityMeter, binarize_attention, mask_iou, score_teacher
from tests.conftest import golden_cases, load_npz
from tests.tolerances import FLOAT64_EXACT


@pytest.mark.parametrize("file", golden_cases("capability/cal_miou*.npz"))
@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("kind", ["jpeg", "lossless"])
def test_the_releases_scores(file, pooled, kind):
    case = load_npz(file)
    pseudo = torch.from_numpy(case["gt_mask"])
    names = case["class_names"].tolist()
    ignored = names.index("other") if "other" in names else None
    teachers = [key.removesuffix("_mask_written") for key in case if key.endswith("_mask_written")]
    assert teachers
    for teacher in teachers:
        if kind == "jpeg":
            predicted = torch.from_numpy(case[f"{teacher}_mask_jpeg_decoded"] == 255)
        else:
            predicted = torch.from_numpy(case[f"{teacher}_mask_written"])
        scores = score_teacher(predicted, pseudo, pooled=pooled, ignored_class=ignored).numpy()
        expected = case[f"{teacher}_{'pooled' if pooled else 'mean_per_image'}_{kind}"]
        np.testing.assert_allclose(scores, expected, atol=FLOAT64_EXACT, rtol=0)
        if pooled and kind == "jpeg":
            np.testing.assert_allclose(
                scores, case[f"{teacher}_capability_official"], atol=FLOAT64_EXACT, rtol=0
            )


def random_masks(seed, classes=4, images=3, size=(6, 7)):
    generator = torch.Generator().manual_seed(seed)
    density = torch.rand(classes, images, 1, 1, generator=generator)
    return torch.rand(classes, images, *size, generator=generator) < density


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_scores_pixel_by_pixel(seed, pooled):
    predicted, pseudo = random_masks(seed), random_masks(seed + 1)
    scores = score_teacher(predicted, pseudo, pooled=pooled)
    for k in range(4):
        pairs = [
            (
                sum(bool(a) and bool(b) for a, b in zip(p.flatten(), q.flatten(), strict=True)),
                sum(bool(a) or bool(b) for a, b in zip(p.flatten(), q.flatten(), strict=True)),
            )
            for p, q in zip(predicted[k], pseudo[k], strict=True)
        ]
        if pooled:
            union = sum(u for _, u in pairs)
            expected = sum(i for i, _ in pairs) / union if union else 0.0
        else:
            expected = sum(i / u if u else 0.0 for i, u in pairs) / len(pairs)
        assert scores[k].item() == pytest.approx(expected, abs=FLOAT64_EXACT)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_one_image_at_a_time_in_any_order_is_the_same(seed):
    predicted, pseudo = random_masks(seed), random_masks(seed + 1)
    meter = CapabilityMeter(4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed)).tolist()
    for index in order:
        category, image = divmod(index, 3)
        meter.update(category, predicted[category, image], pseudo[category, image])
    for pooled in (True, False):
        torch.testing.assert_close(
            meter.scores(pooled=pooled), score_teacher(predicted, pseudo, pooled=pooled)
        )
    assert meter.images.tolist() == [3] * 4


@pytest.mark.parametrize("pooled", [False, True])
def test_several_images_at_once_count_as_that_many(pooled):
    generator = torch.Generator().manual_seed(3)
    predicted, pseudo = (torch.rand(2, 5, 8, 9, generator=generator) < 0.4).unbind()
    together, alone = CapabilityMeter(2), CapabilityMeter(2)
    together.update(1, predicted, pseudo)
    for one, other in zip(predicted, pseudo, strict=True):
        alone.update(1, one, other)
    assert together.images.tolist() == alone.images.tolist() == [0, 5]
    torch.testing.assert_close(together.scores(pooled=pooled), alone.scores(pooled=pooled))


def test_a_perfect_teacher_has_1_and_a_blind_one_0():
    pseudo = torch.ones(2, 3, 4, 4, dtype=torch.bool)
    assert score_teacher(pseudo, pseudo).tolist() == [1, 1]
    assert score_teacher(~pseudo, pseudo).tolist() == [0, 0]


def test_pooling_lets_large_objects_count_more():
    pseudo = torch.zeros(1, 2, 10, 10, dtype=torch.bool)
    pseudo[0, 0, :9] = True  # 90 pixels, found
    pseudo[0, 1, 0, :2] = True  # 2 pixels, missed
    predicted = pseudo.clone()
    predicted[0, 1] = False
    assert score_teacher(predicted, pseudo).item() == 0.5
    assert score_teacher(predicted, pseudo, pooled=True).item() == pytest.approx(90 / 92)


def test_images_of_different_sizes_and_numbers():
    wide, tall = torch.ones(2, 6, dtype=torch.bool), torch.ones(5, 2, dtype=torch.bool)
    half = wide.clone()
    half[0] = False
    scores = score_teacher([[half, tall], [wide]], [[wide, tall], [wide]])
    assert scores.tolist() == [0.75, 1.0]


def test_nothing_shown_is_no_sign_of_skill():
    empty = torch.zeros(3, 3, dtype=torch.bool)
    assert mask_iou(empty, empty).item() == 0
    assert CapabilityMeter(2).scores().tolist() == [0, 0]
    assert CapabilityMeter(2).scores(pooled=True).tolist() == [0, 0]


def test_iou_keeps_leading_axes():
    masks = random_masks(5)
    assert mask_iou(masks, masks).shape == (4, 3)
    assert mask_iou(masks[0, 0], masks[0, 0]).shape == ()


def test_the_threshold_is_exclusive():
    soft = torch.tensor([[0.2, 0.5, 0.500001, 1.0]])
    assert binarize_attention(soft, 0.5).tolist() == [[False, False, True, True]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: mask_iou(torch.ones(3, 3).bool(), torch.ones(3, 4).bool()),
            r"predicted has shape \(3, 3\) but reference has \(3, 4\)",
        ),
        (lambda: mask_iou(torch.ones(3, 3), torch.ones(3, 3).bool()), "predicted is torch.float32"),
        (lambda: mask_iou(torch.ones(3).bool(), torch.ones(3).bool()), r"shape \(3,\)"),
        (
            lambda: score_teacher(random_masks(0), random_masks(0, classes=3)),
            "predicted_masks has 4 classes but pseudo_masks 3",
        ),
        (
            lambda: score_teacher(random_masks(0), random_masks(0, images=2)),
            "class 0 has 3 predicted masks but 2 pseudo",
        ),
        (lambda: score_teacher([], []), "classes is 0, expected at least 1"),
        (
            lambda: score_teacher(random_masks(0), random_masks(0), ignored_class=4),
            "ignored_class is 4, expected 0 to 3",
        ),
        (
            lambda: CapabilityMeter(2).update(2, random_masks(0), random_masks(0)),
            "category is 2, expected 0 to 1",
        ),
        (lambda: binarize_attention(torch.zeros(3)), r"soft has shape \(3,\)"),
        (lambda: binarize_attention(torch.full((2, 2), torch.nan)), "soft has 4 non-finite"),
        (lambda: binarize_attention(torch.zeros(2, 2), 1.0), "threshold is 1.0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
