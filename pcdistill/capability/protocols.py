"""What makes images of a class and what outlines objects in them, whoever does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor


class GeneratedImage(NamedTuple):
    """One image made for a class, with a rough idea of where in it the class is."""

    image: Tensor
    """(3, H, W) uint8, RGB."""
    attention: Tensor
    """(H, W) float32 in [0, 1], coarse map of the class words, such as cross-attention gives."""


class ImageGenerator(Protocol):
    """Makes images of "a good photo of a XX"."""

    name: str

    def cannot_draw(self, categories: Sequence[str]) -> tuple[str, ...]:
        """Those of `categories` that it does not know; none for a model that takes any words."""
        ...

    def __call__(self, category: str, seed: int) -> GeneratedImage:
        """Make one image; the same category and seed give the same image.

        Raises:
            ConfigError: the generator does not know this category.
        """
        ...


class Segmenter(Protocol):
    """Outlines the object that points lie on, without knowing what it is."""

    name: str

    def __call__(self, image: Tensor, points: Tensor) -> Tensor:
        """Mask (H, W) bool of the object at `points` (P, 2) int64, (x, y), in a (3, H, W) image."""
        ...
