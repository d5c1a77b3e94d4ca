"""Interfaces of image generators and segmenters, with what they are built with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from pcdistill.capability.diffusion_settings import DiffusionSettings
from pcdistill.teachers import WeightStore

StepCallback = Callable[[int, int], None]
"""Called with the steps of the images at hand that are done, and all of them."""


class SynthesisSetup(NamedTuple):
    """What an image generator or a segmenter is built with."""

    weights: WeightStore = WeightStore()
    """Finds the files of weights on this machine."""
    device: torch.device = torch.device("cpu")
    """Where it computes."""
    diffusion: DiffusionSettings = DiffusionSettings()
    """Which diffusion model draws, and how, where one does."""


class GeneratedImage(NamedTuple):
    """One image made for a class, with a rough idea of where in it the class is."""

    image: Tensor
    """(3, H, W) uint8, RGB."""
    attention: Tensor
    """(H, W) float32 in [0, 1], coarse map of the class words, such as cross-attention gives."""


class ImageGenerator(Protocol):
    """Makes images from a prompt, and says where in them some of its words are."""

    name: str
    image_size: tuple[int, int]
    """(H, W) pixels of its images."""

    @property
    def provenance(self) -> Mapping[str, str]:
        """Model, `revision`, license and source; empty for one that comes with the package."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """JSON values that its images depend on beside prompt, words and seed."""
        ...

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


@runtime_checkable
class BatchGenerator(Protocol):
    """A generator that is quicker on several images of one prompt at once; optional."""

    batch: int
    """How many."""

    def generate_batch(
        self, prompt: str, words: str, seeds: Sequence[int], on_step: StepCallback
    ) -> Sequence[GeneratedImage]:
        """Make one image for each seed; the same as one at a time, to rounding.

        Args:
            prompt: what is drawn.
            words: of the prompt, whose attention is wanted.
            seeds: each 0 or more.
            on_step: told how far all of them are.
        """
        ...


def generate_batch(
    generator: ImageGenerator,
    prompt: str,
    words: str,
    seeds: Sequence[int],
    on_step: StepCallback = lambda done, total: None,
) -> Sequence[GeneratedImage]:
    """Make images of one prompt by any generator: at once where it can, else one by one.

    Args:
        generator: any.
        prompt: what is drawn.
        words: of the prompt, whose attention is wanted.
        seeds: one for each image.
        on_step: told how far all of them are.

    Raises:
        ConfigError: see `ImageGenerator`.
    """
    if isinstance(generator, BatchGenerator):
        return generator.generate_batch(prompt, words, seeds, on_step)
    made = []
    for number, seed in enumerate(seeds):
        made.append(generator(prompt, words, seed))
        on_step(number + 1, len(seeds))
    return made


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
