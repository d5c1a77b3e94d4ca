"""Compilation of the package's loops for this processor, so that the first run need not wait.

    python tools/compile_loops.py

The compiled code is kept beside the package (or in NUMBA_CACHE_DIR) for every later run. Without
this the first run compiles them itself, which changes nothing but its minutes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable


def render_home() -> None:
    """Generate a home and pictures of objects."""
    from pcdistill.homes import home_scene, render_object_image

    home_scene(0, "train", frames=1, image_size=(24, 32))
    render_object_image("chair", 0, image_size=(24, 32))


def train_student() -> None:
    """Cut superpoints, draw, and train a small student for a step in every precision."""
    import torch

    from pcdistill.capability import prompt_points
    from pcdistill.distillation.batches import TrainingScene
    from pcdistill.distillation.settings import TrainerSettings
    from pcdistill.distillation.trainer import Trainer
    from pcdistill.geometry import mesh_superpoints
    from pcdistill.networks import build_student
    from pcdistill.visualization import draw_points

    steps = torch.arange(12) * 0.1
    points = torch.cartesian_prod(steps, steps, torch.tensor([0.0, 1.0]))
    normals = torch.tensor([0.0, 0.0, 1.0]).expand(len(points), 3)
    colors = torch.full((len(points), 3), 128, dtype=torch.uint8)
    faces = torch.stack([torch.arange(100), torch.arange(100) + 1, torch.arange(100) + 24], dim=1)
    ids = mesh_superpoints(points, faces)
    draw_points(points, colors, normals=normals)
    blob = torch.zeros(32, 32, dtype=torch.bool)
    blob[8:24, 8:24] = True
    prompt_points(blob, 3)
    means = torch.nn.functional.normalize(torch.randn(int(ids.max()) + 1, 64), dim=1)
    seen = torch.ones(len(points), dtype=torch.bool)
    scene = TrainingScene("grid", points, ids, means, seen, None, normals, colors)
    for precision in ("float32", "auto"):
        network = build_student("MinkUNet14A", 7, 64, width=0.25)
        settings = TrainerSettings(
            voxel_size=0.1,
            epochs=1,
            batch_size=1,
            learning_rate=1e-3,
            final_learning_rate=1e-3,
            max_voxels_per_step=0,
            augment="grid",
            precision=precision,
        )
        Trainer(network, [scene], means[:2], settings, torch.device("cpu")).train_epoch()


PARTS: tuple[Callable[[], None], ...] = (render_home, train_student)


def main() -> None:
    """Compile all parts side by side."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    begin = time.perf_counter()
    print("compiling loops for this processor, once ...", flush=True)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=part) for part in PARTS]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        sys.exit("compiling did not work; see above")
    print(f"compiled in {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
