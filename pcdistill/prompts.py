"""Prompts that a text encoder reads for a class name: one template, or the mean of a named set."""

from __future__ import annotations

IMAGENET_TEMPLATES = (
    *("{}.", "a photo of a {}.", "a bad photo of a {}.", "a photo of many {}."),
    *("a sculpture of a {}.", "a photo of the hard to see {}."),
    *("a low resolution photo of the {}.", "a rendering of a {}.", "graffiti of a {}."),
    *("a bad photo of the {}.", "a cropped photo of the {}.", "a tattoo of a {}."),
    *("the embroidered {}.", "a photo of a hard to see {}.", "a bright photo of a {}."),
    *("a photo of a clean {}.", "a photo of a dirty {}.", "a dark photo of the {}."),
    *("a drawing of a {}.", "a photo of my {}.", "the plastic {}.", "a photo of the cool {}."),
    *("a close-up photo of a {}.", "a black and white photo of the {}.", "a painting of the {}."),
    *("a painting of a {}.", "a pixelated photo of the {}.", "a sculpture of the {}."),
    *("a bright photo of the {}.", "a cropped photo of a {}.", "a plastic {}."),
    *("a photo of the dirty {}.", "a jpeg corrupted photo of a {}.", "a blurry photo of the {}."),
    *("a photo of the {}.", "a good photo of the {}.", "a rendering of the {}."),
    *("a {} in a video game.", "a photo of one {}.", "a doodle of a {}."),
    *("a close-up photo of the {}.", "the origami {}.", "the {} in a video game."),
    *("a sketch of a {}.", "a doodle of the {}.", "a origami {}."),
    *("a low resolution photo of a {}.", "the toy {}.", "a rendition of the {}."),
    *("a photo of the clean {}.", "a photo of a large {}.", "a rendition of a {}."),
    *("a photo of a nice {}.", "a photo of a weird {}.", "a blurry photo of a {}."),
    *("a cartoon {}.", "art of a {}.", "a sketch of the {}.", "a embroidered {}."),
    *("a pixelated photo of a {}.", "itap of the {}.", "a jpeg corrupted photo of the {}."),
    *("a good photo of a {}.", "a plushie {}.", "a photo of the nice {}."),
    *("a photo of the small {}.", "a photo of the weird {}.", "the cartoon {}.", "art of the {}."),
    *("a drawing of the {}.", "a photo of the large {}.", "a black and white photo of a {}."),
    *("the plushie {}.", "a dark photo of a {}.", "itap of a {}.", "graffiti of the {}."),
    *("a toy {}.", "itap of my {}.", "a photo of a cool {}.", "a photo of a small {}."),
    *("a tattoo of the {}.",),
)
"""The name alone, and the 80 prompts of CLIP's authors for ImageNet; in the order of X-Decoder."""

PROMPT_SETS: dict[str, tuple[str, ...]] = {"imagenet-81": IMAGENET_TEMPLATES}
"""Sets of templates by the name that stands in the place of a template."""


def is_prompt(text: str) -> bool:
    """Whether a text is the name of a set of templates, or a template with one {}."""
    return text in PROMPT_SETS or text.count("{}") == 1


def fill_prompt(prompt: str, name: str) -> str:
    """Say what is read for a name: put it in the place of {}; other braces of either are text.

    Of a set of templates its name is said, not all that is read.
    """
    return f"{prompt}: {name}" if prompt in PROMPT_SETS else prompt.replace("{}", name)
