"""Stage synthesize: images of each vocabulary class with pseudo masks, without annotations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.callbacks import ProgressCallback
from pcdistill.capability import ImageGenerator, NoMask, Segmenter, pseudo_mask
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
        measures = run.config.run.teachers and run.capability_table is None
        self._vocabulary = run.vocabulary if measures else ()
        self._segmenter: Callable[[], Segmenter] = lambda: run.segmenter
        self._models: Callable[[], tuple[ImageGenerator, Segmenter]] = lambda: (
            run.generator,
            run.segmenter,
        )

    def units(self) -> tuple[str, ...]:
        """All words of the vocabulary; none where no teacher is to be measured."""
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
        """Draw images of a class and keep those in which the segmenter finds it."""
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
        tensors = {
            "images": _stack(images, generated.image),
            "masks": _stack(masks, generated.attention).to(torch.uint8),
            "attention": _stack(attention, generated.attention).half(),
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
        if not images:
            return (
                f"none of {config.images} images shows where the class is ({reasons}), so it has "
                "no score; raise synthesize.images or lower synthesize.threshold"
            )
        fraction = 100 * float(tensors["masks"].float().mean())
        without = f", left out: {reasons}" if reasons else ""
        return f"{len(images)} images, masks cover {fraction:.0f} %{without}"

    def estimate(self, unit: str) -> int:
        """Bytes of all images, masks and attention maps."""
        return self._config.images * _BYTES_PER_IMAGE


def _stack(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    """Stack m tensors of the shape of `like`; there may be none."""
    return torch.stack(list(parts)) if parts else like.new_zeros((0, *like.shape))
