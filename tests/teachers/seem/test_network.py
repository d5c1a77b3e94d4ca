"""SEEM's network against what the official code computed with the same weights."""

from __future__ import annotations

import pytest
import torch

from pcdistill.teachers.seem.mask_decoder import block_outside, open_blocked_rows
from pcdistill.teachers.seem.network import SeemNetwork, normalize_and_pad
from tests.teachers.seem.reference import assert_near, load_case, load_facts, reduced_network

FEATURES, LOGITS, MASKS = 1e-3, 1e-3, 5e-3
"""Tolerances of the fixtures."""


@pytest.fixture(scope="module")
def case():
    return load_case("seem_reduced_io")


@pytest.fixture(scope="module")
def network():
    return reduced_network()


@pytest.fixture(scope="module")
def features(network, case):
    return network.backbone(case["normalised_padded"])


@pytest.fixture(scope="module")
def pixels(network, features):
    return network.sem_seg_head.pixel_decoder(features)


@pytest.fixture(scope="module")
def predictions(network, pixels, case):
    return network.sem_seg_head.predictor(pixels, case["class_text_embeddings"])


def test_the_full_network_has_the_keys_and_shapes_of_the_official_checkpoint():
    wanted = load_facts("seem_manifest_full")["keys"]
    with torch.device("meta"):
        own = SeemNetwork().state_dict()
    kinds = {name: [list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in own.items()}
    assert kinds == wanted
    assert len(own) == 932


def test_images_are_normalized_before_they_are_padded(case):
    image = case["image_uint8"].permute(2, 0, 1)[None]
    assert_near(normalize_and_pad(image), case["normalised_padded"], 1e-6)


def test_stem_and_stages_of_the_backbone(network, features, case):
    stem = network.backbone.patch_embed(case["normalised_padded"].permute(0, 2, 3, 1))
    assert_near(stem.permute(0, 3, 1, 2), case["patch_embed"], FEATURES)
    for level, found in enumerate(features):
        assert_near(found, case[f"res{level + 2}"], FEATURES)


def test_the_pixel_decoder(pixels, case):
    assert_near(pixels.encoded, case["transformer_encoder_features"], FEATURES)
    assert_near(pixels.mask_features, case["mask_features"], FEATURES)
    for level, found in enumerate(pixels.levels):
        assert_near(found, case[f"multi_scale_{level}"], FEATURES)


def test_queries_and_predictions_before_and_after_every_layer(predictions, case):
    assert len(predictions) == 5
    for layer, expected in enumerate(case["query_after_layer"]):
        assert_near(predictions[layer + 1].queries[0], expected, LOGITS)
    for layer, found in enumerate(predictions[:-1]):
        assert_near(found.logits, case[f"aux{layer}_pred_logits"], LOGITS)
        assert_near(found.mask_logits, case[f"aux{layer}_pred_masks"], MASKS)


def test_the_last_prediction(network, predictions, case):
    last = predictions[-1]
    assert_near(last.logits, case["pred_logits"], LOGITS)
    assert_near(last.mask_logits, case["pred_masks"], MASKS)
    assert_near(last.mask_embeddings, case["pred_maskembs"], LOGITS)
    assert_near(last.class_embeddings, case["mask_emb_class_space"], LOGITS)
    whole = network(case["normalised_padded"], case["class_text_embeddings"])
    assert torch.equal(whole.logits, last.logits)


def test_cells_outside_of_the_masks_are_blocked(predictions, case):
    for layer, size in enumerate([(2, 3), (4, 6)]):
        blocked = block_outside(predictions[layer].mask_logits, size)[0]
        assert torch.equal(blocked, case[f"attn_mask_from_head{layer}_image0"])


def test_a_query_that_would_see_nothing_sees_everything():
    blocked = torch.tensor([[True, True], [True, False]])
    assert open_blocked_rows(blocked).tolist() == [[False, False], [True, False]]


def test_images_of_a_batch_do_not_mix(network, case):
    images = case["normalised_padded"]
    both = network(torch.cat([images, images.flip(3)]), case["class_text_embeddings"])
    assert_near(both.logits[:1], case["pred_logits"], LOGITS)
    assert_near(both.mask_logits[:1], case["pred_masks"], MASKS)
    assert not torch.allclose(both.logits[1], both.logits[0], atol=LOGITS)
