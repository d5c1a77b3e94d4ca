"""Full-size teachers with random weights, on one photograph: seconds and memory.

The weights are drawn at random in the layout of the official file, written to a folder, and read
through the table of teachers as a user's are; those that come with the package are the real ones.
Each teacher runs in a process of its own, so that its memory is its own; the text encoder of a
teacher that names what it finds is the embedded one, whose memory does not count.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from .random_weights import write_weights

if TYPE_CHECKING:
    from pcdistill.teachers import TeacherSetup

Result = TypeVar("Result")

NEEDS: dict[str, tuple[str, ...]] = {
    "detector": (),
    "demo-dense": (),
    "demo-masks": (),
    "lseg-fast": ("lseg",),
    "lseg": ("lseg",),
    "lseg-openscene": ("lseg",),
    "lseg-multiscale": ("lseg",),
    "maskclip": ("clip-vit-b-16",),
    "seem": ("seem",),
    "sam3": ("sam3",),
}
"""Teacher -> entries of the table of weights that it reads."""
VOCABULARY = "indoor"
"""Whose words a teacher looks for that finds what it is asked for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--teachers", nargs="+", choices=list(NEEDS), default=list(NEEDS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=2, help="besides the first")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), help="height and width")
    parser.add_argument("--device", default="cpu")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the teachers one after the other."""
    results = {}
    for name in arguments.teachers:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            for entry in NEEDS[name]:
                alone(write_weights, entry, folder)
            results[name] = alone(measure, name, folder, arguments)
            print(name, json.dumps(results[name]), flush=True)
    return results


def alone(work: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a new process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(work, *arguments).result()


def measure(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds until the first answer and per further image, and the most memory."""
    from pcdistill.teachers import build_teacher

    torch.set_num_threads(arguments.threads)
    setup = setup_for(name, folder, torch.device(arguments.device))
    before = peak_gib()
    image = torch.randint(0, 256, (3, *arguments.size), dtype=torch.uint8)
    begin = time.perf_counter()
    teacher = build_teacher(name, setup)
    teacher(image)
    first = time.perf_counter() - begin
    begin, used = time.perf_counter(), time.process_time()
    for _ in range(arguments.images):
        teacher(image)
    return {
        "first_seconds": round(first, 1),
        "seconds_per_image": round((time.perf_counter() - begin) / arguments.images, 2),
        "processor_seconds_per_image": round((time.process_time() - used) / arguments.images, 2),
        "peak_gib": round(peak_gib(), 2),
        "peak_gib_without_teacher": round(before, 2),
        "threads": arguments.threads,
        "device": arguments.device,
    }


class NoWords:
    """A text encoder of the text space of a dense teacher, which is asked for no word."""

    def __init__(self, text_space: str, dimensions: int) -> None:
        self.text_space, self.dimensions = text_space, dimensions

    def encode(self, texts: Any) -> Tensor:
        """Refuse: a dense teacher embeds no texts."""
        raise NotImplementedError(f"asked to embed {texts}")


def setup_for(name: str, folder: Path, device: torch.device) -> TeacherSetup:
    """What the teacher is built with."""
    from pcdistill.scenes import load_vocabulary
    from pcdistill.teachers import TeacherSetup, WeightStore, build_text_encoder

    store = WeightStore(folder)
    if name.startswith("lseg"):
        return TeacherSetup(NoWords("clip-vit-b-32", 512), store, device)
    if name == "maskclip":
        return TeacherSetup(build_text_encoder("clip-vit-b-16", store), store, device)
    encoder = build_text_encoder()
    encoder.encode(["table"])
    return TeacherSetup(encoder, store, device, vocabulary=load_vocabulary(VOCABULARY))


def peak_gib() -> float:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
