"""Interfaces of image generators and segmenters, with what they are built with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pcdistill.teachers import WeightStore


class SynthesisSetup(NamedTuple):
    """What an image generator or a segmenter is built with."""

    weights: WeightStore = WeightStore()
    """Finds the files of weights on this machine."""
    device: torch.device = torch.device("cpu")
    """Where it computes."""


class GeneratedImage(NamedTuple):
    """One image made for a class, with a rough idea of where in it the class is."""

    image: Tensor
    """(3, H, W) uint8, RGB."""
    attention: Tensor
    """(H, W) float32 in [0, 1], coarse map of the class words, such as cross-attention gives."""


class ImageGenerator(Protocol):
    """Makes images from a prompt, and says where in them some of its words are."""

    name: str

    def unsupported_categories(self, prompt: str, categories: Sequence[str]) -> tuple[str, ...]:
        """Those of `categories` that it cannot draw; none for a model that takes any words.

        Args:
            prompt: with {} for the category.
            categories: names to put there.
        """
        ...

    def __call__(self, prompt: str, words: str, seed: int) -> GeneratedImage:
        """Make one image; the same prompt, words and seed give the same image and map.

        Args:
            prompt: what is drawn, such as "a good photo of a chair".
            words: of the prompt, whose attention is wanted: "chair".
            seed: 0 or more.

        Raises:
            ConfigError: the prompt does not have the words, or says what the generator cannot draw.
        """
        ...


class Segmenter(Protocol):
    """Outlines the object that points lie on, without knowing what it is."""

    name: str

    @property
    def provenance(self) -> Mapping[str, str]:
        """`revision` of its weights or method; of weights also their license and source."""
        ...

    def __call__(self, image: Tensor, points: Tensor) -> Tensor:
        """Mask (H, W) bool of the object at `points` (P, 2) int64, (x, y), in a (3, H, W) image."""
        ...
