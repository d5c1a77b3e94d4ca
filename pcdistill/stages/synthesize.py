"""Stage synthesize: images of each vocabulary class with pseudo masks, without annotations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.callbacks import ProgressCallback
from pcdistill.capability import (
    GeneratedImage,
    ImageGenerator,
    Segmenter,
    binarize_attention,
    prompt_points,
)
from pcdistill.errors import ArtifactError
from pcdistill.pipeline import RunContext, Stage, Task, write_tensors

_BYTES_PER_IMAGE = 240 * 320 * 6
"""Colours, mask and half-precision attention of one picture of the embedded generator."""


def pseudo_mask(
    generated: GeneratedImage, segmenter: Segmenter, threshold: float, prompts: int
) -> Tensor | None:
    """Mask of the class in a generated image, found by the segmenter from prompt points.

    Returns:
        (H, W) bool, or None where the attention map gives no region to put a point in.

    Source: SAS, section 3.2: threshold the map, spread points, let the segmenter refine.
    """
    coarse = binarize_attention(generated.attention, threshold)
    if not bool(coarse.any()):
        return None
    mask = segmenter(generated.image, prompt_points(coarse, prompts, mode="inside"))
    return mask if bool(mask.any()) else None


class SynthesizeStage(Stage):
    """A unit is a word of the vocabulary."""

    name = "synthesize"
    version = 2

    def __init__(self, run: RunContext) -> None:
        self._workspace = run.workspace
        self._config = run.config.synthesize
        self._seed = run.config.run.seed
        self._vocabulary = run.vocabulary if run.config.run.teachers else ()
        self._segmenter: Callable[[], Segmenter] = lambda: run.segmenter
        self._models: Callable[[], tuple[ImageGenerator, Segmenter]] = lambda: (
            run.generator,
            run.segmenter,
        )

    def units(self) -> tuple[str, ...]:
        """All words of the vocabulary; none without teachers to compare."""
        return self._vocabulary

    def settings(self, unit: str) -> Mapping[str, Any]:
        """What draws which images, and what makes masks of them."""
        config = self._config
        return {
            "category": unit,
            "prompt": config.prompt,
            "generator": config.generator,
            "segmenter": config.segmenter,
            "segmenter_revision": self._segmenter().provenance["revision"],
            "images": config.images,
            "threshold": config.threshold,
            "prompts": config.prompt_points,
            "seed": self._seed,
        }

    def outputs(self, unit: str) -> tuple[Path, ...]:
        """Images and pseudo masks of the class."""
        return (self._workspace.reference_images(unit),)

    def work(self, task: Task, report: ProgressCallback) -> str:
        """Draw images of a class and keep those in which the segmenter finds it.

        Raises:
            ArtifactError: it is found in none.
        """
        config = self._config
        first = self._seed * 10_000
        generator, segmenter = self._models()
        images, masks, attention = [], [], []
        prompt = config.prompt.replace("{}", task.unit)
        for number in range(config.images):
            generated = generator(prompt, task.unit, first + number)
            mask = pseudo_mask(generated, segmenter, config.threshold, config.prompt_points)
            report(number + 1, config.images, "images")
            if mask is not None:
                images.append(generated.image)
                masks.append(mask)
                attention.append(generated.attention)
        if not images:
            raise ArtifactError(
                f"{task.unit}: none of {config.images} synthesised images shows where the class "
                "is; raise synthesize.images or lower synthesize.threshold"
            )
        tensors = {
            "images": torch.stack(images),
            "masks": torch.stack(masks).to(torch.uint8),
            "attention": torch.stack(attention).half(),
        }
        provenance = {
            "prompt": prompt,
            "generator": generator.name,
            "segmenter": {"name": segmenter.name, **segmenter.provenance},
        }
        write_tensors(self._workspace.reference_images(task.unit), tensors, provenance)
        fraction = 100 * float(tensors["masks"].float().mean())
        missing = config.images - len(images)
        without = f", {missing} without a mask left out" if missing else ""
        return f"{len(images)} images, masks cover {fraction:.0f} %{without}"

    def estimate(self, unit: str) -> int:
        """Bytes of all images, masks and attention maps."""
        return self._config.images * _BYTES_PER_IMAGE
