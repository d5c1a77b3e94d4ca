"""Stage synthesize: images of each vocabulary class with pseudo masks, without annotations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.callbacks import ProgressCallback
from pcdistill.capability import (
    GeneratedImage,
    Segmenter,
    binarize_attention,
    prompt_points,
)
from pcdistill.errors import ArtifactError
from pcdistill.pipeline import RunContext, Stage, Task, no_inputs, write_tensors

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


def _settings(run: RunContext, category: str) -> Mapping[str, Any]:
    config = run.config.synthesize
    return {
        "category": category,
        "prompt": config.prompt,
        "generator": config.generator,
        "segmenter": config.segmenter,
        "images": config.images,
        "threshold": config.threshold,
        "prompts": config.prompt_points,
        "seed": run.config.run.seed,
    }


def _work(run: RunContext, task: Task, report: ProgressCallback) -> str:
    config = run.config.synthesize
    first = run.config.run.seed * 10_000
    images, masks, attention = [], [], []
    prompt = config.prompt.replace("{}", task.unit)
    for number in range(config.images):
        generated = run.generator(prompt, task.unit, first + number)
        mask = pseudo_mask(generated, run.segmenter, config.threshold, config.prompt_points)
        report(number + 1, config.images, "images")
        if mask is not None:
            images.append(generated.image)
            masks.append(mask)
            attention.append(generated.attention)
    if not images:
        raise ArtifactError(
            f"{task.unit}: none of {config.images} synthesised images shows where the class is; "
            "raise synthesize.images or lower synthesize.threshold"
        )
    tensors = {
        "images": torch.stack(images),
        "masks": torch.stack(masks).to(torch.uint8),
        "attention": torch.stack(attention).half(),
    }
    provenance = {
        "prompt": prompt,
        "generator": run.generator.name,
        "segmenter": run.segmenter.name,
    }
    write_tensors(run.workspace.reference_images(task.unit), tensors, provenance)
    fraction = 100 * float(tensors["masks"].float().mean())
    missing = config.images - len(images)
    without = f", {missing} without a mask left out" if missing else ""
    return f"{len(images)} images, masks cover {fraction:.0f} %{without}"


def _estimate(run: RunContext, category: str) -> int:
    return run.config.synthesize.images * _BYTES_PER_IMAGE


def _units(run: RunContext) -> tuple[str, ...]:
    return run.vocabulary if run.config.run.teachers else ()


def _outputs(run: RunContext, category: str) -> tuple[Path, ...]:
    return (run.workspace.reference_images(category),)


SYNTHESIZE = Stage(
    name="synthesize",
    version=2,
    units=_units,
    settings=_settings,
    inputs=no_inputs,
    outputs=_outputs,
    work=_work,
    estimate=_estimate,
)
