"""The text that stands for a mask: what a captioner said of it, joined with its label."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pcdistill.suggest import look_up
from pcdistill.teachers.captions.parts_of_speech import Word, tag_words
from pcdistill.teachers.captions.word_lists import MATERIALS, PARTS

_MODIFIERS = ("DT", "PRP$", "CD", "JJ", "VBN", "RB", "CC", ",")
_NOUNS = ("NN", "NNS")
_OPENING = ("DT", "IN", "PRP$", "RP", "TO")
"""What follows a participle that says what a thing does; before a noun it describes the noun."""
_MARKS = tuple(".,;:!?")

CaptionWording = Callable[[str, str], str]
"""Joins a caption and a label into one text."""


def article(phrase: str) -> str:
    """The indefinite article before a phrase."""
    return "an" if phrase[:1].lower() in set("aeiou") else "a"


def place_label(caption: str, label: str) -> str:
    """Put a label in the place of the noun of a caption: "a wooden table" of "a wooden bench".

    The noun is the one that the caption is about: the last of its first phrase, and of the next
    where the first only names a part or an amount ("the back of a chair"). Nouns before it go with
    it ("an office chair") but for materials, which stay ("a metal cabinet"). Where a caption names
    nothing, the label follows its adjectives or stands before what it does ("sitting on a bench");
    where it says nothing, the text is "a" and the label. The label is never inflected.

    Args:
        caption: what a captioner said of a mask, one sentence.
        label: what the teacher calls it.

    Source: SAS 3.1.
    """
    words = tag_words(caption)
    start, stop = _place(words)
    texts = [word.text for word in words]
    placed = [*texts[:start], label, *texts[stop:]]
    if start == 0:
        placed.insert(0, article(label))
    elif all(word.tag not in ("DT", "PRP$", "CD") for word in words[:start]) and not words[stop:]:
        placed.insert(0, article(placed[0]))
    for place, text in enumerate(placed[:-1]):
        if text in ("a", "an"):
            placed[place] = article(placed[place + 1])
    return _join(placed)


def label_in_a_scene(caption: str, label: str) -> str:
    """Put the adjectives of a caption before a label: "a {adjectives} {label} in a scene".

    Adjectives are joined by "and", whatever they belong to.

    Args:
        caption: what a captioner said of a mask.
        label: what the teacher calls it.

    Source: the release of SAS, `extract_seem_img_feature`, whose captions are those of the next
    mask by a slip of the index; here each mask has its own.
    """
    return scene_text([word.text for word in tag_words(caption) if word.tag == "JJ"], label)


def scene_text(adjectives: Sequence[str], label: str) -> str:
    """Compose "a {adjectives} {label} in a scene", the adjectives joined by "and"."""
    described = " and ".join(adjectives)
    return f"a {described} {label} in a scene" if described else f"a {label} in a scene"


CAPTION_WORDINGS: dict[str, CaptionWording] = {
    "paper": place_label,
    "release": label_in_a_scene,
}
"""Ways to join captions and labels, by name."""


def caption_wording(name: str) -> CaptionWording:
    """Look up a way to join captions and labels.

    Raises:
        ConfigError: there is none of this name; the text suggests the closest one.
    """
    return look_up("caption wording", name, CAPTION_WORDINGS)


def _place(words: Sequence[Word]) -> tuple[int, int]:
    """First and past-the-last place of what the label stands for; equal where it is added."""
    tags = [word.tag for word in words]
    if tags[:1] == ["IN"] or (len(tags) > 1 and tags[0] in ("VBG", "VBN") and tags[1] in _OPENING):
        return 0, 0
    start, stop = _thing(words)
    if start < stop:
        return start, stop
    if "PRP" in tags:
        return tags.index("PRP"), tags.index("PRP") + 1
    first = 0
    while first < len(words) and _describes(words[first]):
        first += 1
    return first, first


def _describes(word: Word) -> bool:
    """Whether a word can stand before a noun that it tells something of."""
    return word.tag in _MODIFIERS or word.text.lower() in MATERIALS


def _thing(words: Sequence[Word]) -> tuple[int, int]:
    """First and past-the-last place of the nouns that name what a caption is about."""
    start = 0
    while start < len(words):
        while start < len(words) and words[start].tag not in _NOUNS:
            start += 1
        stop = start
        while stop < len(words) and _goes_on(words, stop):
            stop += 1
        follows_of = stop < len(words) and words[stop].text.lower() == "of"
        if start < stop and follows_of and words[stop - 1].text.lower().rstrip("s") in PARTS:
            further = _thing(words[stop + 1 :])
            if further[0] < further[1]:
                return stop + 1 + further[0], stop + 1 + further[1]
        while start < stop and words[start].text.lower() in MATERIALS and not follows_of:
            start += 1
        return (start, stop) if start < stop else (stop, stop)
    return start, start


def _goes_on(words: Sequence[Word], place: int) -> bool:
    """Whether a noun or a modifier in the middle of a compound stands there: "flat screen tv"."""
    if words[place].tag in _NOUNS:
        return True
    behind = place + 1 < len(words) and words[place + 1].tag in _NOUNS
    return words[place].tag in ("JJ", "VBN") and behind


def _join(texts: Sequence[str]) -> str:
    """Join words by blanks, marks without."""
    joined = " ".join(texts)
    for mark in _MARKS:
        joined = joined.replace(f" {mark}", mark)
    return joined
