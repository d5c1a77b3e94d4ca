"""Part-of-speech tagger for captions of things in rooms, from word lists and a few rules.

It knows the small English of image captioners, works offline and needs no trained model. What is in
no list is a noun. docs/teachers/captions.md compares it with NLTK's averaged perceptron.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pcdistill.teachers.captions import word_lists as lists

_TOKEN = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*|&|[.,;:!?]")
_NOMINAL = ("NN", "NNS")
_ADJECTIVE_ENDINGS = ("less", "ful", "ous", "able", "ible")
_NOT_PLURAL = ("ss", "us", "is")
_COMPOUND = ("ed", "sized", "style", "shaped", "colored", "like", "free")
"""Endings of the second part of a compound that is an adjective: "three-legged"."""


class Word(NamedTuple):
    """One token of a caption."""

    text: str
    """As written."""
    tag: str
    """Penn Treebank's: JJ adjective, NN and NNS noun, DT, IN, CC, PRP, VBZ, VBG, VBN and so on;
    a mark is its own tag."""


def tag_words(caption: str) -> list[Word]:
    """Words and marks of one caption with their parts of speech, in order."""
    tokens = _TOKEN.findall(caption)
    tags = [_first_tag(token.lower()) for token in tokens]
    for place in range(len(tokens)):
        tags[place] = _in_context(tokens, tags, place)
    for place in range(len(tokens)):  # a noun is missing: the last word that could be one is it
        if tags[place] == "JJ" and _stands_for_a_noun(tokens, tags, place):
            tags[place] = "NN"
    return [Word(token, tag) for token, tag in zip(tokens, tags, strict=True)]


def adjectives(caption: str) -> list[str]:
    """Adjectives of a caption, as written, in order."""
    return [word.text for word in tag_words(caption) if word.tag == "JJ"]


_CLOSED = (
    (lists.DETERMINERS, "DT"),
    (lists.PREPOSITIONS, "IN"),
    (lists.CONJUNCTIONS, "CC"),
    (lists.PRONOUNS, "PRP"),
    (lists.POSSESSIVES, "PRP$"),
    (lists.RELATIVES - {"that"}, "WDT"),
    (lists.NUMBERS, "CD"),
    (lists.COLORS | lists.LOOKS, "JJ"),
    (lists.MATERIALS, "NN"),
    (lists.ADVERBS, "RB"),
    (lists.SINGULAR_VERBS, "VBZ"),
    (lists.PLURAL_VERBS, "VBP"),
    (lists.PAST_VERBS, "VBD"),
    (lists.PARTICIPLES, "VBN"),
    (lists.NOUNS_IN_ING | lists.NOUNS_IN_ED | lists.PARTS, "NN"),
)


def _first_tag(word: str) -> str:
    """Most likely tag of a word by itself."""
    if word in (".", ",", ";", ":", "!", "?"):
        return word
    if word == "to":
        return "TO"
    if word in ("being", "be", "been"):
        return "VB"
    for known, tag in _CLOSED:
        if word in known:
            return tag
    if word[0].isdigit():
        return "CD"
    if "-" in word:
        return "JJ" if word.endswith(_COMPOUND) else "NN"
    if word.endswith("ing") and len(word) > 4:
        return "VBG"
    if word.endswith("ed") and len(word) > 3:
        return "JJ" if word.startswith("un") else "VBN"
    if word.endswith(_ADJECTIVE_ENDINGS) and word not in lists.NOUNS_LIKE_ADJECTIVES:
        return "JJ"
    if word.endswith("s") and not word.endswith(_NOT_PLURAL) and len(word) > 3:
        return "NNS"
    return "NN"


def _in_context(tokens: list[str], tags: list[str], place: int) -> str:
    """Tag of a word, given the final tags before it and the likely ones behind it."""
    word, tag = tokens[place].lower(), tags[place]
    before = tags[place - 1] if place else ""
    after = tags[place + 1] if place + 1 < len(tags) else ""
    if word == "that" and before in _NOMINAL:
        return "WDT"
    if word == "close" and tokens[place + 1 : place + 2] == ["up"]:
        return "RB"
    if tag == "VBZ" and before in ("", "DT", "JJ", "CD", "PRP$") and word not in ("is", "has"):
        return "NNS"  # "two covers"
    if tag == "VBP" and before in ("DT", "JJ", "NN"):
        return "NN"  # "a tv stand"
    if tag == "VBG" and before in ("DT", "JJ", "PRP$") and after not in (*_NOMINAL, "JJ", "VBN"):
        return "NN"  # "a wooden carving"
    if word in ("on", "off", "up", "down", "out") and before in ("VBN", "VBG"):
        return "RP"
    return tag


def _stands_for_a_noun(tokens: list[str], tags: list[str], place: int) -> bool:
    """Whether an adjective is a noun here: "a light on the wall", "the top of a desk"."""
    after = tags[place + 1] if place + 1 < len(tags) else ""
    if after in ("JJ", "CC", ",", "CD", "VBN", "VBG", "RB", *_NOMINAL):
        return False
    if after == "IN" and tokens[place + 1].lower() == "of" and tokens[place].lower() != "full":
        return True
    start = place
    while start and tags[start - 1] in ("JJ", "RB", "CC", ",", "VBN"):
        start -= 1
    return start > 0 and tags[start - 1] in ("DT", "PRP$", "CD")
