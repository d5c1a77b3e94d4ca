"""Semantic scores and panoptic segments against the official post-processing."""

from __future__ import annotations

import pytest
import torch

from pcdistill.teachers.seem.post_processing import (
    panoptic_segments,
    resize_masks,
    semantic_scores,
)
from pcdistill.teachers.seem.vocabulary import (
    SeemVocabulary,
    released_vocabulary,
    seem_vocabulary,
)
from tests.teachers.seem.reference import assert_near, load_case, load_facts

LOGITS, SCORES, EQUAL = 1e-4, 1e-4, 0.995
"""Tolerances of the fixtures; the last is the fraction of pixels that must be equal."""
SIZES = ("same", "bigger", "smaller")
HALF_STEP = 2.0**-10
"""The recorded scores are in halves."""


@pytest.fixture(scope="module")
def case():
    return load_case("seem_postprocess")


@pytest.fixture(scope="module")
def facts():
    return load_facts("seem_postprocess_meta")


def equal_fraction(found, expected):
    return (found == expected).float().mean().item()


def resized(case, facts, size):
    output = tuple(facts["cases"][size]["out_hw"])
    return resize_masks(case["pred_masks"], tuple(facts["padded"]), (60, 80), output)[0]


@pytest.mark.parametrize("size", SIZES)
def test_masks_are_resized_by_way_of_the_padded_input(case, facts, size):
    assert_near(resized(case, facts, size), case[f"{size}_mask_logits"], LOGITS)


@pytest.mark.parametrize("size", SIZES)
def test_semantic_scores_leave_out_the_last_class(case, facts, size):
    scores = semantic_scores(case["pred_logits"][0], resized(case, facts, size))
    assert list(scores.shape) == facts["cases"][size]["sem_shape"]
    assert equal_fraction(scores.argmax(dim=0), case[f"{size}_sem_argmax"]) >= EQUAL
    assert_near(scores.amax(dim=0), case[f"{size}_sem_max"], SCORES)
    if size == "same":
        assert_near(scores, case["same_sem_scores_f16"].float(), SCORES + HALF_STEP)


@pytest.mark.parametrize("size", SIZES)
def test_the_released_count_of_classes_gives_the_released_segments(case, facts, size):
    masks = resized(case, facts, size)
    found, segments = panoptic_segments(case["pred_logits"][0], masks, released_vocabulary())
    expected = facts["cases"][size]
    assert equal_fraction(found + 1, case[f"{size}_panoptic"]) >= EQUAL
    assert [(s.category, s.is_thing) for s in segments] == [
        (info["category_id"], info["isthing"]) for info in expected["segments_info"]
    ]
    kept = torch.tensor(expected["keep"]).nonzero()[:, 0]
    assert [s.query for s in segments] == kept[expected["real_id"]].tolist()


def test_counted_right_the_sofa_stays_and_the_last_class_goes(case, facts):
    masks = resized(case, facts, "same")
    names = seem_vocabulary().names
    released = panoptic_segments(case["pred_logits"][0], masks, released_vocabulary())[1]
    segments = panoptic_segments(case["pred_logits"][0], masks, seem_vocabulary())[1]
    named = {names[segment.category]: segment for segment in segments}
    assert {"sofa", "desk"} <= set(named)
    assert named["desk"].is_thing
    assert "background" not in named
    released_names = {released_vocabulary().names[s.category] for s in released}
    assert "others" in released_names
    assert "sofa" not in released_names


@pytest.mark.parametrize(("size", "name"), [((60, 80), "same"), ((90, 120), "other")])
def test_outputs_of_the_reduced_network(size, name):
    case, facts = load_case("seem_reduced_io"), load_facts("seem_reduced_meta")
    classes = facts["config"]["classes"]
    vocabulary = SeemVocabulary(
        tuple(classes), facts["num_classes_attr"], frozenset(facts["config"]["things"])
    )
    masks = resize_masks(case["pred_masks"], (64, 96), (60, 80), size)[0]
    scores = semantic_scores(case["pred_logits"][0], masks)
    assert_near(scores, case[f"{name}_sem_seg"], SCORES)
    found, segments = panoptic_segments(
        case["pred_logits"][0], masks, vocabulary, min_visible=facts["overlap_threshold"]
    )
    assert equal_fraction(found + 1, case[f"{name}_panoptic"]) >= EQUAL
    expected = [info["category_id"] for info in facts[name]["segments_info"]]
    assert [segment.category for segment in segments] == expected


def test_no_query_sure_enough_gives_no_segment():
    logits = torch.zeros(3, 139)
    found, segments = panoptic_segments(logits, torch.ones(3, 4, 5), seem_vocabulary())
    assert (found == -1).all()
    assert found.shape == (4, 5)
    assert segments == []


def test_a_mask_that_others_cover_is_dropped_and_stuff_is_merged():
    vocabulary = SeemVocabulary(("cup", "wall", "background"), 2, frozenset({0}))
    inside = torch.full((4, 4, 8), -9.0)
    inside[0, :, :3] = 9.0
    inside[1, :, 5:] = 9.0
    inside[2, :, :4] = 8.0  # of its 16 pixels, 12 belong to the first
    inside[3, :, 3:5] = 9.0
    logits = torch.tensor([[0.0, 9, 0], [0, 9, 0], [6, 0, 0], [0, 0, 9]])
    found, segments = panoptic_segments(logits, inside, vocabulary)
    assert [(s.category, s.query) for s in segments] == [(1, 0)]
    assert found[0].tolist() == [0, 0, 0, -1, -1, 0, 0, 0]
