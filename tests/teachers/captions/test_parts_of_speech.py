"""The tagger against NLTK's tags, and on captions that it was not made on."""

from __future__ import annotations

import json

import pytest

from pcdistill.teachers.captions import adjectives, tag_words
from tests.conftest import golden_cases

MEANT = {
    "a brown wooden table": ["brown", "wooden"],
    "small round table": ["small", "round"],
    "a blue and white striped pillow": ["blue", "white"],
    "a person wearing a blue shirt": ["blue"],
    "yellow": ["yellow"],
}
"""Captions of the reference in which NLTK takes an adjective for a noun."""


REFERENCE = pytest.mark.parametrize("file", golden_cases("teachers/captions_adjectives.json"))


@REFERENCE
def test_adjectives_are_those_of_nltk_where_it_is_right(file):
    rows = json.loads(file.read_text())["rows"]
    expected = {row["caption"]: MEANT.get(row["caption"], row["jj"]) for row in rows}
    assert {caption: adjectives(caption) for caption in expected} == expected


@REFERENCE
def test_agreement_with_nltk_is_what_the_docs_say(file):
    rows = json.loads(file.read_text())["rows"]
    pairs = [
        (word, token, tag)
        for row in rows
        for word, token, tag in zip(
            tag_words(row["caption"]), row["tokens"], row["tags"], strict=True
        )
    ]
    assert all(word.text == token for word, token, _ in pairs)
    assert len(pairs) == 180
    assert sum(word.tag == tag for word, _, tag in pairs) == 173
    found = [word.tag == "JJ" for word, _, tag in pairs if tag == "JJ"]
    assert (sum(found), len(found)) == (37, 37)
    assert sum(word.tag == "JJ" for word, _, _ in pairs) == 42


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a light on the ceiling", []),
        ("a light grey sofa in the corner", ["light", "grey"]),
        ("an orange on a plate", []),
        ("the orange pillow is soft", ["orange", "soft"]),
        ("the top of a wooden dresser", ["wooden"]),
        ("a cable behind the vegetable stand", []),
        ("a square mirror that is tall and narrow", ["square", "tall", "narrow"]),
        ("close up of a red sofa", ["red"]),
        ("a basket full of dirty clothes", ["full", "dirty"]),
        ("two black covers on a table", ["black"]),
        ("a fridge covered with colorful magnets", ["colorful"]),
        ("an unfinished cabinet", ["unfinished"]),
        ("", []),
        ("...", []),
    ],
)
def test_adjectives_of_other_captions(caption, expected):
    assert adjectives(caption) == expected


@pytest.mark.parametrize(
    ("caption", "tags"),
    [
        ("a tv stand with drawers", "DT NN NN IN NNS"),
        ("chairs stand on it", "NNS VBP IN PRP"),
        ("a ceiling fan that is turned off", "DT NN NN WDT VBZ VBN RP"),
        ("this is a person sitting in 3 chairs", "DT VBZ DT NN VBG IN CD NNS"),
        ("glass, cactus", "NN , NN"),
    ],
)
def test_tags(caption, tags):
    assert " ".join(word.tag for word in tag_words(caption)) == tags
