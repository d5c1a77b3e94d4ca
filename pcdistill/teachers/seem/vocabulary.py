"""Class names that SEEM is asked for, and the prompts in which its text tower reads them."""

from __future__ import annotations

from typing import NamedTuple

from pcdistill.prompts import IMAGENET_TEMPLATES
from pcdistill.teachers.detector.network import CLASSES

COCO_STUFF = (
    *("banner", "blanket", "bridge", "cardboard", "counter", "curtain", "door-stuff", "floor-wood"),
    *("flower", "fruit", "gravel", "house", "light", "mirror-stuff", "net", "pillow", "platform"),
    *("playingfield", "railroad", "river", "road", "roof", "sand", "sea", "shelf", "snow"),
    *("stairs", "tent", "towel", "wall-brick", "wall-stone", "wall-tile", "wall-wood"),
    *("water-other", "window-blind", "window-other", "tree-merged", "fence-merged"),
    *("ceiling-merged", "sky-other-merged", "cabinet-merged", "table-merged"),
    *("floor-other-merged", "pavement-merged", "mountain-merged", "grass-merged", "dirt-merged"),
    *("paper-merged", "food-other-merged", "building-other-merged", "rock-merged"),
    *("wall-other-merged", "rug-merged"),
)
"""The 53 classes of COCO panoptic that follow its 80 things."""
INDOOR_THINGS = ("sofa", "bookshelf", "desk", "shower curtain", "bathtub")
"""What SAS asks for besides, as COCO has no such class."""
BACKGROUND = "background"
"""Name that SEEM was trained with for "none of these"; the last of its classes."""
OTHERS = "others"
"""Last name of the SAS release, which has no background."""


class SeemVocabulary(NamedTuple):
    """Classes of which SEEM's queries choose one each."""

    names: tuple[str, ...]
    """C names as prompts are made of them. The last is not a channel of the semantic scores."""
    void: int
    """Index of the class whose queries are left out of the panoptic segments."""
    things: frozenset[int]
    """Indices of countable classes, of which two segments stay two; others are merged."""


def seem_vocabulary() -> SeemVocabulary:
    """COCO panoptic and indoor things, with the background that SEEM was trained with."""
    coco = (*CLASSES, *COCO_STUFF)
    things = (*range(len(CLASSES)), *range(len(coco), len(coco) + len(INDOOR_THINGS)))
    names = (*coco, *INDOOR_THINGS, BACKGROUND)
    return SeemVocabulary(names, len(names) - 1, frozenset(things))


def released_vocabulary() -> SeemVocabulary:
    """Names as the SAS release has them, and its count of COCO's 133 classes.

    There is no background: whatever a query is, it gets a name. The class after the 133rd, "sofa",
    is taken for the background and left out; "others" stays, but is no channel of the semantic
    scores; and only COCO's own things are counted one by one.
    """
    coco = (*CLASSES, *COCO_STUFF)
    names = (*coco, *INDOOR_THINGS, OTHERS)
    return SeemVocabulary(names, len(coco), frozenset(range(len(CLASSES))))


def clean_name(name: str) -> str:
    """A class name without COCO's suffixes, as SEEM's prompts have it: "wall-brick" stays."""
    for suffix in ("-other", "-merged", "-stuff"):
        name = name.replace(suffix, "")
    return name


def class_noun(name: str) -> str:
    """A class as one says it: "wall-other-merged" is a wall, "wall-brick" a brick wall."""
    base, _, kind = clean_name(name).partition("-")
    if base == "window":
        return f"{base} {kind}".strip()
    return f"{kind} {base}".strip()


def class_prompts(name: str) -> list[str]:
    """The 81 texts whose mean embedding stands for a class."""
    return [template.format(clean_name(name)) for template in IMAGENET_TEMPLATES]
