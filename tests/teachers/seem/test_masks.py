"""Masks of an image, a SEEM teacher's own way and the way of the release."""

from __future__ import annotations

import pytest
import torch

from pcdistill.teachers.seem.masks import (
    MASK_STYLES,
    ImageQueries,
    released_masks,
    segment_masks,
)
from tests.teachers.seem.reference import load_case


@pytest.fixture(scope="module")
def case():
    return load_case("seem_postprocess")


def queries(case, image_size):
    return ImageQueries(
        case["pred_logits"][0], case["pred_masks"][0], (64, 96), (60, 80), image_size
    )


def categories_at(masks):
    return torch.tensor([*masks.categories, -1])[masks.mask_ids.long()]


def test_the_release_names_every_pixel_by_its_semantic_class(case):
    masks = released_masks(queries(case, (60, 80)), MASK_STYLES["released"].vocabulary)
    wrong = categories_at(masks) != case["same_sem_argmax"].long()
    assert wrong.float().mean() <= 0.005
    pairs = torch.stack([masks.mask_ids.flatten(), case["same_panoptic"].flatten()])
    assert pairs.unique(dim=1).shape[1] == len(masks.categories)  # no mask spans two segments


def test_the_release_resizes_its_maps_by_dropping_pixels(case):
    vocabulary = MASK_STYLES["released"].vocabulary
    masks = released_masks(queries(case, (30, 40)), vocabulary)
    wrong = categories_at(masks) != case["same_sem_argmax"][::2, ::2].long()
    assert wrong.float().mean() <= 0.005


def test_the_release_leaves_out_an_image_without_segments(case):
    given = queries(case, (60, 80))._replace(logits=torch.zeros(14, 139))
    masks = released_masks(given, MASK_STYLES["released"].vocabulary)
    assert (masks.mask_ids == -1).all()
    assert masks.categories == []


def test_segments_are_cut_at_the_size_of_the_image_and_leave_pixels_unseen(case):
    vocabulary = MASK_STYLES["segments"].vocabulary
    for size in [(60, 80), (120, 160)]:
        masks = segment_masks(queries(case, size), vocabulary)
        assert masks.mask_ids.shape == size
        assert set(masks.mask_ids.unique().tolist()) == {-1, *range(len(masks.categories))}
        named = [vocabulary.names[category] for category in masks.categories]
        assert named.count("chair") == 2
        assert {"sofa", "desk", "wall-other-merged"} <= set(named)
