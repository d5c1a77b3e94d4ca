"""How a caption and a label become one text: the paper's way and the release's."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.errors import ConfigError
from pcdistill.teachers.captions import (
    CAPTION_WORDINGS,
    caption_wording,
    label_in_a_scene,
    place_label,
    scene_text,
)
from tests.conftest import golden_cases, load_npz

REFERENCE = golden_cases("teachers/captions_adjectives.json")


@pytest.fixture(scope="module", params=REFERENCE)
def reference(request):
    return json.loads(request.param.read_text())


@pytest.mark.parametrize(
    ("caption", "label", "expected"),
    [
        ("a wooden bench", "table", "a wooden table"),  # the paper's example
        ("the wall is white", "door", "the door is white"),
        ("a wooden desk with a computer on it", "table", "a wooden table with a computer on it"),
        ("a black office chair", "oven", "a black oven"),
        ("an office chair", "chair", "a chair"),
        ("a bag", "umbrella", "an umbrella"),
        ("a metal cabinet", "oven", "a metal oven"),
        ("an oak cabinet", "bed", "an oak bed"),
        ("a flat screen tv", "tv", "a flat tv"),
        ("a shiny stainless steel refrigerator", "oven", "a shiny stainless steel oven"),
        ("a blue and white striped pillow", "bed", "a blue and white striped bed"),
        ("a white, rectangular sink", "bathtub", "a white, rectangular bathtub"),
        ("a person wearing a blue shirt", "chair", "a chair wearing a blue shirt"),
        ("a table and a chair", "desk", "a desk and a chair"),
        ("the back of a chair", "couch", "the back of a couch"),
        ("a stack of white towels on a shelf", "towel", "a stack of white towel on a shelf"),
        ("a picture of a kitchen", "picture", "a picture of a kitchen"),
        ("a glass of water", "cup", "a cup of water"),
        ("this is a wooden bench", "table", "this is a wooden table"),
        ("small round table", "desk", "a small round desk"),
        ("dark wood", "floor", "a dark wood floor"),
        ("yellow", "wall", "a yellow wall"),
        ("it is white", "door", "a door is white"),
        ("sitting on a bench", "person", "a person sitting on a bench"),
        ("made of wood", "desk", "a desk made of wood"),
        ("painted wall", "door", "a painted door"),
        ("A bench.", "table", "A table."),
        ("", "oven", "an oven"),
    ],
)
def test_the_label_stands_in_the_place_of_the_noun(caption, label, expected):
    assert place_label(caption, label) == expected


@given(
    caption=st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            (
                "a",
                "the",
                "white",
                "wooden",
                "table",
                "of",
                "on",
                "is",
                "sitting",
                "back",
                "it",
                "and",
                ",",
            )
        ),
        max_size=10,
    ).map(" ".join)
)
def test_any_caption_gets_the_label_once_and_keeps_its_adjectives(caption):
    text = place_label(caption, "qqzz")
    assert text.split().count("qqzz") + sum(text.count(f"qqzz{mark}") for mark in ".,;:!?") == 1
    for color in re.findall(r"\bwhite\b(?! (?:of|on|is|it)|$)", caption):
        assert color in text


def test_every_caption_of_the_reference_gets_its_label(reference):
    for row in reference["rows"]:
        assert re.search(r"\bdining table\b", place_label(row["caption"], "dining table"))


def test_the_text_of_the_release_is_composed_as_there(reference):
    for row in reference["rows"]:
        adjectives = "" if row["adj"] == reference["void_marker"] else f"{row['adj']} "
        assert scene_text(row["jj"], "bed") == f"a {adjectives}bed in a scene"


@pytest.mark.parametrize(("run", "before"), [("aligned", [""]), ("shifted", [])])
@pytest.mark.parametrize("file", golden_cases("teachers/captions_paint.npz"))
def test_every_pixel_of_the_release_has_the_text_that_was_painted(reference, file, run, before):
    """`shifted` is what the release did: mask k, from 1, had the caption of mask k + 1.

    A caption more than there were masks made it run. Of the captions NLTK misreads one.
    """
    case = reference["case"]
    tagged = {row["caption"]: row["jj"] for row in reference["rows"]} | {
        "a broken thing": ["broken"]
    }
    stored = load_npz(file)
    captions = [*before, *case["captions"], "a broken thing"]
    painted = np.array(case[f"strings_{run}"])[stored[f"string_index_{run}"]]
    pairs = np.stack([stored["pano_240x320"], stored["sem_seg_240x320"]], axis=-1).reshape(-1, 2)
    distinct, first = np.unique(pairs, axis=0, return_index=True)
    assert len(distinct) > 80
    for (mask, category), pixel in zip(distinct, first, strict=True):
        expected = painted.reshape(-1)[pixel]
        label, caption = reference["cls_139"][category], captions[mask]
        assert scene_text(tagged.get(caption, []), label) == expected
        if caption != "a brown wooden table":
            assert label_in_a_scene(caption, label) == expected


def test_wordings_are_found_by_name_and_a_wrong_name_is_told():
    assert caption_wording("paper") is place_label
    assert list(CAPTION_WORDINGS) == ["paper", "release"]
    with pytest.raises(ConfigError, match="'relese'.*release"):
        caption_wording("relese")
