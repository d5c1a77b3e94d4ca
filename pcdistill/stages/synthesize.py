"""Stage synthesize: images of each vocabulary class with pseudo masks, without annotations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.artifacts import DrawnImages
from pcdistill.callbacks import ProgressCallback
from pcdistill.capability import (
    BatchGenerator,
    GeneratedImage,
    ImageGenerator,
    NoMask,
    Segmenter,
    generate_batch,
    pseudo_mask,
)
from pcdistill.pipeline import RunContext, Stage, Task, write_tensors

_BYTES_PER_PIXEL = 6
"""Colours, mask and half-precision attention."""
SEEDS_OF_A_RUN = 10_000
"""Images of a class have the seeds from the run's times this on."""


class SynthesizeStage(Stage):
    """A unit is a word of the vocabulary."""

    name = "synthesize"
    version = 3
    memory_advice = "lower synthesize.batch or synthesize.image_size"

    def __init__(self, run: RunContext) -> None:
        self._workspace = run.workspace
        self._config = run.config.synthesize
        self._seed = run.config.run.seed
        measures = run.config.run.teachers and run.capability_table is None
        self._vocabulary = run.vocabulary if measures else ()
        self._generator: Callable[[], ImageGenerator] = lambda: run.generator
        self._segmenter: Callable[[], Segmenter] = lambda: run.segmenter

    def units(self) -> tuple[str, ...]:
        """All words of the vocabulary; none where no teacher is to be measured."""
        return self._vocabulary

    def settings(self, unit: str) -> Mapping[str, Any]:
        """What draws which images, and what makes masks of them."""
        config = self._config
        return {
            **self._drawing(unit),
            "segmenter": config.segmenter,
            "segmenter_revision": self._segmenter().provenance["revision"],
            "images": config.images,
            "threshold": config.threshold,
            "prompts": config.prompt_points,
            "clean_border": config.clean_border,
        }

    def _drawing(self, category: str) -> dict[str, Any]:
        """JSON values that each image depends on, beside its number."""
        return {
            "category": category,
            "prompt": self._config.prompt,
            "generator": self._config.generator,
            "seed": self._seed,
            **self._generator().settings,
        }

    def outputs(self, unit: str) -> tuple[Path, ...]:
        """Images and pseudo masks of the class."""
        return (self._workspace.reference_images(unit),)

    def work(self, task: Task, report: ProgressCallback) -> str:
        """Draw images of a class and keep those in which the segmenter finds it."""
        config = self._config
        generator, segmenter = self._generator(), self._segmenter()
        images, masks, attention = [], [], []
        left_out: dict[str, list[int]] = {}
        prompt = config.prompt.replace("{}", task.unit)
        drawn = DrawnImages(self._workspace.drawn_images(task.unit), self._drawing(task.unit))
        for number, generated in enumerate(self._draw(drawn, prompt, task.unit, report)):
            found = pseudo_mask(
                generated,
                segmenter,
                config.threshold,
                config.prompt_points,
                clean_border=config.clean_border,
            )
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
            "generator": {
                "name": generator.name,
                **generator.provenance,
                **generator.settings,
            },
            "segmenter": {"name": segmenter.name, **segmenter.provenance},
            "threshold": config.threshold,
            "clean_border": config.clean_border,
            "drawn": config.images,
            "left_out": left_out,
        }
        write_tensors(self._workspace.reference_images(task.unit), tensors, provenance)
        if not images:  # what is drawn may be used with another threshold
            return (
                f"none of {config.images} images shows where the class is ({reasons}), so it has "
                "no score; raise synthesize.images or lower synthesize.threshold"
            )
        drawn.clear()
        fraction = 100 * float(tensors["masks"].float().mean())
        without = f", left out: {reasons}" if reasons else ""
        return f"{len(images)} images, masks cover {fraction:.0f} %{without}"

    def _draw(
        self, drawn: DrawnImages, prompt: str, category: str, report: ProgressCallback
    ) -> Iterator[GeneratedImage]:
        """Give all images of a class in order; those of a batch that was drawn are read.

        Batches are always of the same numbers, so that an interruption changes no image.

        Args:
            drawn: images that are kept.
            prompt: what is drawn.
            category: of which.
            report: told how far all images are.
        """
        generator, images = self._generator(), self._config.images
        in_batches = isinstance(generator, BatchGenerator)
        size = generator.batch if isinstance(generator, BatchGenerator) else 1
        for first in range(0, images, size):
            numbers = range(first, min(first + size, images))

            def step_done(done: int, total: int, numbers: range = numbers) -> None:
                words = "steps of images" if in_batches else "images"
                report(numbers[0] * total + done * len(numbers), images * total, words)

            kept = drawn.read(numbers)
            if kept is not None:
                yield from kept
                continue
            seeds = [self._seed * SEEDS_OF_A_RUN + number for number in numbers]
            batch = generate_batch(generator, prompt, category, seeds, step_done)
            drawn.write(numbers, batch)
            yield from batch

    def parallel(self) -> bool:
        """Not where a generator draws in batches: it uses the whole machine, and is large."""
        return not isinstance(self._generator(), BatchGenerator)

    def estimate(self, unit: str) -> int:
        """Bytes of all images, masks and attention maps."""
        height, width = self._generator().image_size
        return self._config.images * height * width * _BYTES_PER_PIXEL


def _stack(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    """Stack m tensors of the shape of `like`; there may be none."""
    return torch.stack(list(parts)) if parts else like.new_zeros((0, *like.shape))
