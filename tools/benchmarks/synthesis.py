"""Full-size models of stage synthesize with random weights, on one image: seconds and memory.

The weights are drawn at random in the layout of the official file, written to a folder, and read
through the table of models as a user's are. Each model runs in a process of its own, so that its
memory is its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from .random_weights import write_weights
from .teachers import alone, peak_gib


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--models", nargs="+", choices=list(MEASURED), default=["sam-vit-b"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=1, help="besides the first")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), help="height and width")
    parser.add_argument("--steps", type=int, default=2, help="of denoising, of a generator")
    parser.add_argument("--device", default="cpu")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the models one after the other."""
    results = {}
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as scratch:
            alone(write_weights, name, Path(scratch))
            results[name] = alone(MEASURED[name], name, Path(scratch), arguments)
            print(name, json.dumps(results[name]), flush=True)
    return results


def measure_segmenter(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds until the first mask and per further image, and the most memory."""
    from pcdistill.capability import SynthesisSetup, build_segmenter
    from pcdistill.teachers import WeightStore

    torch.set_num_threads(arguments.threads)
    height, width = arguments.size
    points = torch.tensor([[width // 2, height // 2], [width // 3, height // 3], [5, 7]])
    images = torch.randint(0, 256, (1 + arguments.images, 3, height, width), dtype=torch.uint8)
    before = peak_gib()
    begin, used = time.perf_counter(), time.process_time()
    segmenter = build_segmenter(
        name, SynthesisSetup(WeightStore(folder), torch.device(arguments.device))
    )
    segmenter(images[0], points)
    first, first_used = time.perf_counter() - begin, time.process_time() - used
    begin, used = time.perf_counter(), time.process_time()
    for image in images[1:]:
        segmenter(image, points)
    return {
        "first_seconds": round(first, 1),
        "first_processor_seconds": round(first_used, 1),
        "seconds_per_image": round((time.perf_counter() - begin) / arguments.images, 2),
        "processor_seconds_per_image": round((time.process_time() - used) / arguments.images, 2),
        "peak_gib": round(peak_gib(), 2),
        "peak_gib_without_model": round(before, 2),
        "threads": arguments.threads,
        "device": arguments.device,
    }


def measure_generator(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of an image of some steps with its heat map, and the most memory."""
    from pcdistill.capability import (
        DiffusionSettings,
        SynthesisSetup,
        build_generator,
        generate_batch,
    )
    from pcdistill.teachers import WeightStore

    torch.set_num_threads(arguments.threads)
    height, width = arguments.size
    settings = DiffusionSettings(
        model=name, steps=arguments.steps, image_size=(height, width), batch=1
    )
    before = peak_gib()
    begin, used = time.perf_counter(), time.process_time()
    device = torch.device(arguments.device)
    generator = build_generator(
        "stable-diffusion", SynthesisSetup(WeightStore(folder), device, settings)
    )
    ends: list[float] = []

    def step_done(_: int, __: int) -> None:
        ends.append(time.process_time())

    prompt, words = "a good photo of a shower curtain", "shower curtain"
    (image,) = generate_batch(generator, prompt, words, [0], step_done)
    calls = [later - earlier for earlier, later in pairwise(ends)]
    first, first_used = time.perf_counter() - begin, time.process_time() - used
    begin, used = time.perf_counter(), time.process_time()
    for number in range(arguments.images):
        generate_batch(generator, prompt, words, [1 + number])
    return {
        "steps": arguments.steps,
        "calls_of_the_network": len(calls) + 1,
        "first_seconds": round(first, 1),
        "first_processor_seconds": round(first_used, 1),
        "seconds_per_image": round((time.perf_counter() - begin) / arguments.images, 2),
        "processor_seconds_per_image": round((time.process_time() - used) / arguments.images, 2),
        "processor_seconds_per_call": round(sum(calls) / max(len(calls), 1), 2),
        "peak_gib": round(peak_gib(), 2),
        "peak_gib_without_model": round(before, 2),
        "image": list(image.image.shape),
        "heat_map": list(image.attention.shape),
        "threads": arguments.threads,
        "device": arguments.device,
    }


MEASURED: dict[str, Callable[[str, Path, argparse.Namespace], dict[str, Any]]] = {
    **dict.fromkeys(("sam-vit-b", "sam-vit-l", "sam-vit-h"), measure_segmenter),
    "stable-diffusion-1.5": measure_generator,
}
"""Model, by its name in the table of weights -> how it is measured."""
