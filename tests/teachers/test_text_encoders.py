"""The embedded text space is open: words that were never listed land where they belong."""

from __future__ import annotations

import pytest
import torch

from pcdistill.errors import ConfigError
from pcdistill.scenes import load_label_set
from pcdistill.teachers import build_text_encoder


@pytest.fixture(scope="module")
def encoder():
    return build_text_encoder("static")


def test_rows_are_unit_vectors(encoder):
    rows = encoder.encode(["a chair", "the quick brown fox", "fridge"])
    assert rows.shape == (3, encoder.dimensions)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))


def test_nothing_gives_no_rows(encoder):
    assert encoder.encode([]).shape == (0, encoder.dimensions)


@pytest.mark.parametrize(
    ("word", "category"),
    [
        ("couch", "sofa"),
        ("fridge", "refrigerator"),
        ("a place to sleep", "bed"),
        ("cupboard", "cabinet"),
    ],
)
def test_other_words_land_on_their_class(encoder, word, category):
    label_set = load_label_set("scannet20")
    scores = encoder.encode(label_set.names) @ encoder.encode([word])[0]
    assert label_set.names[int(scores.argmax())] == category


def test_a_text_without_words_is_refused(encoder):
    with pytest.raises(ConfigError, match="the text '' has no word"):
        encoder.encode(["chair", ""])


def test_an_unknown_encoder_is_named_with_a_suggestion():
    with pytest.raises(ConfigError, match="unknown text encoder 'statik'; did you mean 'static'"):
        build_text_encoder("statik")
