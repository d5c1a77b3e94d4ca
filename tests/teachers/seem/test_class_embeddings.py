"""SEEM's text tower against what the official code computed with the same weights."""

from __future__ import annotations

import pytest

from pcdistill.teachers.seem import class_embeddings
from pcdistill.teachers.seem.class_embeddings import embed_classes
from pcdistill.teachers.seem.language_encoder import unit_length
from tests.teachers.seem.reference import assert_near, load_case, reduced_network

EMBEDDINGS, HIDDEN = 1e-5, 1e-4
"""Tolerances of the fixtures."""


@pytest.fixture(scope="module")
def case():
    return load_case("seem_lang_reduced_io")


@pytest.fixture(scope="module")
def network():
    return reduced_network()


def test_hidden_states_and_embeddings_of_prompts(network, case):
    encoder = network.language_encoder
    token_ids = case["token_ids_first6"].long()
    assert_near(encoder.hidden_states(token_ids), case["last_hidden_first6"], HIDDEN)
    assert_near(encoder(token_ids), case["text_emb_first6_raw"], EMBEDDINGS)
    assert_near(unit_length(encoder(token_ids)), case["text_emb_first6_normalised"], EMBEDDINGS)


@pytest.mark.parametrize("chunk", [7, 256])
def test_classes_are_means_over_their_prompts(network, case, chunk, monkeypatch):
    monkeypatch.setattr(class_embeddings, "CHUNK", chunk)
    found = embed_classes(network.language_encoder, case["token_ids_all"].long())
    assert_near(found, case["class_embeddings"], EMBEDDINGS)


def test_what_stands_behind_the_end_of_a_text_plays_no_role(network, case):
    token_ids = case["token_ids_all"][:1, :3].long()
    padded_otherwise = token_ids.clone()
    for text in padded_otherwise[0]:
        text[int(text.argmax()) + 1 :] = 0
    encoder = network.language_encoder
    assert_near(
        embed_classes(encoder, padded_otherwise), embed_classes(encoder, token_ids), EMBEDDINGS
    )


def test_logits_with_the_models_own_class_embeddings(network, case):
    pictures = load_case("seem_reduced_io")
    classes = embed_classes(network.language_encoder, case["token_ids_all"].long())
    assert_near(classes, pictures["class_text_embeddings_language_encoder"], EMBEDDINGS)
    found = network(pictures["normalised_padded"], classes)
    assert_near(found.logits, pictures["pred_logits_with_language_encoder"], 1e-3)
