"""Image generator of the demo: rendered photos, with a heat map as coarse as attention."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from pcdistill.capability.attention import min_max, normalize_by_max, upsample_bicubic
from pcdistill.capability.interfaces import GeneratedImage
from pcdistill.errors import ConfigError
from pcdistill.suggest import suggest

_IN_A_ROOM = re.compile(r"\bin (a|the|its) room\b")
"""Of a prompt that wants the thing where it stands."""
_GRIDS = ((16, 0.9), (32, 1.4))
"""Side of each coarse map in cells, with its blur (standard deviation, cells)."""
_DISPLACEMENT = 0.025
"""Standard deviation of the shift of the map, as a share of the image's side."""
_SPILL = (0.05, 0.35)
"""How bright an object that touches the wanted one is in its map."""
_IN_EVERY_ROOM = ("wall", "floor", "ceiling")
_NEIGHBORS = 3
_BLOBS = 3
"""Bright spots per coarse map that have nothing to do with the object."""


class RenderedImageGenerator:
    """Generator that renders what a prompt names, with a coarse heat map of where it is.

    It stands where a diffusion model with its cross-attention stands, and is as vague: the exact
    outline is known to the renderer but only leaves it averaged onto grids of 16 x 16 and
    32 x 32 cells, blurred there, shifted by a few per cent of the image, with a faint copy on
    objects that touch the wanted one and with spots in the background.

    Of a prompt it understands the names of the things of the embedded homes, as whole words and
    the longest first: "shower curtain" names no curtain. It draws one of them in a corner made for
    the picture, or, where the prompt says "in a room", where it stands in a furnished home, smaller
    and partly hidden; walls, floor and ceiling may be named besides, since they are in every
    picture. The other words change nothing. The same thing and seed give the same image and map.
    """

    name = "embedded"
    provenance: ClassVar[dict[str, str]] = {}
    settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, image_size: tuple[int, int] = (240, 320)) -> None:
        """Make pictures of `image_size` (H, W) pixels.

        Raises:
            ValueError: an image smaller than the coarse maps, 32 x 32.
        """
        if min(image_size) < 32:
            raise ValueError(f"image_size is {image_size}, expected at least 32 x 32 pixels")
        self.image_size = image_size

    def unsupported_categories(self, prompt: str, categories: Sequence[str]) -> tuple[str, ...]:
        """Those of `categories` that it cannot draw in place of the {} of `prompt`."""
        return tuple(
            name for name in categories if _trouble(prompt.replace("{}", name), name) is not None
        )

    def __call__(self, prompt: str, words: str, seed: int) -> GeneratedImage:
        """Render what the prompt names.

        Args:
            prompt: names one thing of the embedded homes; spaces in its name do not matter ("book
                shelf" is "bookshelf").
            words: of the prompt, that name the same thing.
            seed: 0 or more.

        Raises:
            ConfigError: the prompt names nothing that can be drawn, several things, or another one
                than the words; or it does not have the words. The text says which.
            ValueError: a negative seed.
        """
        from pcdistill.homes import CLASSES, object_in_room, render_object_image

        trouble = _trouble(prompt, words)
        if trouble is not None:
            raise ConfigError(f"the embedded image generator cannot draw '{prompt}': {trouble}")
        if seed < 0:
            raise ValueError(f"seed is {seed}, expected 0 or more")
        name = _thing(_named(prompt))
        draw = object_in_room if _IN_A_ROOM.search(prompt.lower()) else render_object_image
        picture = draw(name, seed, image_size=self.image_size)
        image = picture.rendering.image.permute(2, 0, 1).contiguous()
        rng = np.random.default_rng([CLASSES.index(name), seed])
        attention = blur_to_attention(picture.mask, picture.rendering.instances, rng)
        return GeneratedImage(image, attention)


def _trouble(prompt: str, words: str) -> str | None:
    """Why a prompt cannot be drawn with the attention of some words; None where it can."""
    from pcdistill.homes import CLASSES

    asked, known = _words(prompt), _named(prompt)
    wanted = _words(words)
    if not any(asked[i : i + len(wanted)] == wanted for i in range(len(asked))) or not wanted:
        return f"it does not have the words '{words}', whose attention is wanted; write them in it"
    if not known:
        return f"it names nothing that the embedded homes have; {suggest(words, CLASSES)}"
    things = list(dict.fromkeys(name for name in known if name not in _IN_EVERY_ROOM))
    if len(things) > 1:
        return f"it names {' and '.join(things)}, expected one thing; name it alone"
    if _thing(known) not in _named(words):
        return f"it shows a {_thing(known)}, which is not '{words}'; name {words} alone"
    return None


def _thing(named: Sequence[str]) -> str:
    """What is drawn of the categories that a prompt names: what is not in every room goes first."""
    return next((name for name in named if name not in _IN_EVERY_ROOM), named[0])


def _named(text: str) -> list[str]:
    """Classes of the embedded homes that a text names, in order; of two that overlap the longer."""
    from pcdistill.homes import CLASSES

    names = {name.replace(" ", ""): name for name in CLASSES}
    words, found, first = _words(text), [], 0
    while first < len(words):
        spans = (2, 1)  # words of a name
        span = next((n for n in spans if "".join(words[first : first + n]) in names), 0)
        if span:
            found.append(names["".join(words[first : first + span])])
        first += span or 1
    return found


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def blur_to_attention(mask: Tensor, instances: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur an outline until it is about as vague as a cross-attention map.

    Args:
        mask: (H, W) bool, the object.
        instances: (H, W) int32, which object each pixel shows, -1 for none.
        rng: draws the displacement, the spill and the spots.

    Returns:
        (H, W) float32 in [0, 1].
    """
    exact = mask.numpy()
    bright = exact.astype(np.float64)
    for neighbor in _touching(exact, instances.numpy()):
        bright[neighbor] = np.maximum(bright[neighbor], rng.uniform(*_SPILL))
    sides = np.array(exact.shape)
    shift = np.clip(rng.normal(0, _DISPLACEMENT, 2), -0.06, 0.06) * sides
    bright = ndimage.shift(bright, shift, order=1, mode="nearest")
    total = torch.zeros(exact.shape, dtype=torch.float64)
    for side, blur in _GRIDS:
        cells = functional.adaptive_avg_pool2d(torch.from_numpy(bright)[None, None], side)[0, 0]
        grid = ndimage.gaussian_filter(cells.numpy(), blur) + _spots(side, rng)
        enlarged = upsample_bicubic(torch.from_numpy(grid)[None], (exact.shape[0], exact.shape[1]))
        total += normalize_by_max(enlarged.flatten(1)).reshape(exact.shape)
    return min_max(total).float().clamp(0, 1)


def _touching(exact: NDArray[np.bool_], instances: NDArray[Any]) -> list[NDArray[np.bool_]]:
    """Masks (H, W) of the objects that share most of the object's rim."""
    rim = ndimage.binary_dilation(exact, iterations=3) & ~exact
    numbers, lengths = np.unique(instances[rim], return_counts=True)
    order = np.argsort(-lengths, kind="stable")[:_NEIGHBORS]
    return [(instances == number) & ~exact for number in numbers[order] if number >= 0]


def _spots(side: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(side, side) Gaussian spots that mean nothing."""
    row, column = np.mgrid[0:side, 0:side] / side
    spots = np.zeros((side, side))
    for _ in range(_BLOBS):
        center = rng.random(2)
        squared = (row - center[0]) ** 2 + (column - center[1]) ** 2
        spots += rng.uniform(0.05, 0.3) * np.exp(-squared / (2 * rng.uniform(0.03, 0.1) ** 2))
    return spots
