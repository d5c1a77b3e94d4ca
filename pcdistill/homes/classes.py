"""The categories, materials and colour names of the embedded homes."""

from __future__ import annotations

from pcdistill.labels import IGNORE_LABEL_OF_FILES
from pcdistill.scenes import load_label_set

CLASSES: tuple[str, ...] = (*load_label_set("scannet20").names, "ceiling")
"""The twenty of ScanNet in its order, then the ceiling, which no label set scores."""

CLASS_INDEX: dict[str, int] = {name: index for index, name in enumerate(CLASSES)}

NO_CLASS = IGNORE_LABEL_OF_FILES
"""Class of a pixel whose ray leaves the scene; fits into a byte, and no class has it."""

MATERIALS: tuple[str, ...] = (
    "wood",
    "metal",
    "fabric",
    "leather",
    "ceramic",
    "glass",
    "plastic",
    "paint",
    "paper",
    "stone",
    "tile",
    "plant",
    "mirror",
)
"""What a surface is made of; renderings and instances refer to it by index."""

MATERIAL_INDEX: dict[str, int] = {name: index for index, name in enumerate(MATERIALS)}

NAMED_COLORS: dict[str, tuple[int, int, int]] = {
    "white": (236, 234, 230),
    "cream": (232, 220, 192),
    "beige": (208, 188, 156),
    "gray": (150, 150, 150),
    "dark gray": (84, 86, 90),
    "black": (34, 34, 36),
    "light brown": (190, 146, 100),
    "brown": (132, 90, 56),
    "dark brown": (78, 52, 36),
    "red": (178, 46, 44),
    "orange": (220, 126, 48),
    "yellow": (226, 190, 72),
    "green": (84, 136, 78),
    "dark green": (44, 82, 60),
    "teal": (52, 130, 132),
    "light blue": (150, 186, 214),
    "blue": (58, 98, 164),
    "dark blue": (38, 54, 96),
    "purple": (112, 76, 138),
    "pink": (218, 150, 164),
    "silver": (184, 188, 192),
    "gold": (190, 154, 84),
}
"""Colour words of captions with the sRGB value they start from."""
