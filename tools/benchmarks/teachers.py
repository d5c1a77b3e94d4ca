"""Full-size teachers with random weights, on one photograph: seconds and memory.

The weights are drawn at random in the layout of the official file, written to a folder, and read
through the table of teachers as a user's are. Each teacher runs in a process of its own, so that
its memory is its own; the text encoder is the embedded one, whose memory does not count.
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
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--teachers", nargs="+", choices=list(CHECKPOINTS), default=["seem"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=2, help="besides the first")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), help="height and width")
    parser.add_argument("--device", default="cpu")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the teachers one after the other."""
    results = {}
    for name in arguments.teachers:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.pt"
            alone(write_checkpoint, name, file)
            results[name] = alone(measure, name, file, arguments)
    print(json.dumps(results, indent=1))
    return results


def alone(work: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a new process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(work, *arguments).result()


def write_checkpoint(name: str, file: Path) -> None:
    """Write random weights of a teacher as its authors' training would."""
    torch.manual_seed(0)
    torch.save(CHECKPOINTS[name](), file)


def measure(name: str, file: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds until the first answer and per further image, and the most memory."""
    from pcdistill.teachers import TeacherSetup, WeightStore, build_teacher, build_text_encoder

    torch.set_num_threads(arguments.threads)
    store = WeightStore(file.parent, {name: file})
    setup = TeacherSetup(build_text_encoder(), store, torch.device(arguments.device))
    setup.text_encoder.encode(["table"])
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
        "weights_gib": round(file.stat().st_size / 2**30, 2),
        "threads": arguments.threads,
        "device": arguments.device,
    }


def peak_gib() -> float:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def random_seem() -> dict[str, torch.Tensor]:
    """SEEM Focal-L, its 932 tensors."""
    from pcdistill.teachers.seem import SeemNetwork

    return SeemNetwork().state_dict()


CHECKPOINTS: dict[str, Callable[[], dict[str, torch.Tensor]]] = {"seem": random_seem}
"""Entry of the table of teachers -> its random weights, in the official layout."""
