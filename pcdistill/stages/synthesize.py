"""Stage synthesize: images of each vocabulary class with pseudo masks, without annotations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from pcdistill.callbacks import ProgressCallback
from pcdistill.capability import ImageGenerator, NoMask, Segmenter, pseudo_mask
from pcdistill.errors import ArtifactError
from pcdistill.pipeline import RunContext, Stage, Task, write_tensors

_BYTES_PER_IMAGE = 240 * 320 * 6
"""Colours, mask and half-precision attention of one picture of the embedded generator."""


class SynthesizeStage(Stage):
    """A unit is a word of the vocabulary."""

    name = "synthesize"
    version = 3

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
            "clean_border": config.clean_border,
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
        left_out: dict[str, list[int]] = {}
        prompt = config.prompt.replace("{}", task.unit)
        for number in range(config.images):
            generated = generator(prompt, task.unit, first + number)
            found = pseudo_mask(
                generated,
                segmenter,
                config.threshold,
                config.prompt_points,
                clean_border=config.clean_border,
            )
            report(number + 1, config.images, "images")
            if isinstance(found, NoMask):
                left_out.setdefault(found.value, []).append(number)
            else:
                images.append(generated.image)
                masks.append(found)
                attention.append(generated.attention)
        reasons = ", ".join(f"{len(some)} {reason}" for reason, some in left_out.items())
        if not images:
            raise ArtifactError(
                f"{task.unit}: none of {config.images} synthesised images shows where the class "
                f"is ({reasons}); raise synthesize.images or lower synthesize.threshold"
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
            "threshold": config.threshold,
            "clean_border": config.clean_border,
            "drawn": config.images,
            "left_out": left_out,
        }
        write_tensors(self._workspace.reference_images(task.unit), tensors, provenance)
        fraction = 100 * float(tensors["masks"].float().mean())
        without = f", left out: {reasons}" if reasons else ""
        return f"{len(images)} images, masks cover {fraction:.0f} %{without}"

    def estimate(self, unit: str) -> int:
        """Bytes of all images, masks and attention maps."""
        return self._config.images * _BYTES_PER_IMAGE
