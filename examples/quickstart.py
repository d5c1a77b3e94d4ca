"""What can be done with a finished run in Python; `make demo` makes one in runs/demo.

python examples/quickstart.py [WORKSPACE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import pcdistill

WORDS = ("wall", "floor", "chair", "table", "bed")


def main(workspace: Path) -> None:
    """Ask a run, compare its methods, and let its student label a scene from the points alone."""
    run = pcdistill.open_run(workspace)
    print(f"{len(run.scenes)} scenes; {run.best_method} answers")

    response = run.query("a place to sleep", top_k=3)
    for place in response.answers:
        x, y, z = place.position
        print(
            f"{place.scene}: {place.looks_like} at {x:.1f} {y:.1f} {z:.1f} m, {place.points} points"
        )
    if not response.answers:
        print("nothing here looks like a place to sleep")

    for method in run.methods:
        print(f"{method:<28} mIoU {run.result(method)['miou']:5.1f} %")

    # the student needs no images: any cloud in metres with z up will do
    scene = pcdistill.open_scene(workspace / "scenes" / response.scenes[0])
    student = pcdistill.load_student(workspace)
    labels = student.label(scene.points, scene.colors, WORDS, scene.normals)
    for number, word in enumerate(WORDS):
        print(f"{word:<8} {100 * float((labels == number).float().mean()):5.1f} % of the points")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo"))
