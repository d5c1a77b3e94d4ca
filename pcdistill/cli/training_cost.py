"""What training the students of a run will cost: steps, time, memory and disk, before it begins."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from pcdistill.artifacts import (
    SizeEstimates,
    estimate_sizes,
    load_student_input,
    load_superpoint_ids,
    split_scenes,
)
from pcdistill.distillation import INPUT_CHANNELS, KEPT_BYTES, Trainer, TrainingScene
from pcdistill.errors import ArtifactError
from pcdistill.networks import build_student
from pcdistill.pipeline import DistillConfig, RunContext, Workspace
from pcdistill.stages import STAGES

_POINTS_OF_A_STAND_IN = 50
"""Of a superpoint, where a scene is not cut yet."""
_BYTES_PER_POINT = {"constant": 21, "geometry": 33, "color": 36}
"""Of a scene while it is learned from: place, superpoint, whether it is seen, and the input."""
_KIB_TO_GIB = 2**20


class TrainingCost(NamedTuple):
    """Of one student."""

    student: str
    scenes: int
    steps: int
    """Of the optimizer, in all epochs."""
    seconds_per_step: float
    """Measured on this machine with scenes of middle size, scaled to the mean."""
    memory_gib: float
    """Most of the process in a measured step, and the scenes that are kept besides."""
    disk_bytes: int
    """While it learns."""

    @property
    def hours(self) -> float:
        """Of all steps."""
        return self.steps * self.seconds_per_step / 3600


def estimate_training(run: RunContext) -> tuple[TrainingCost, ...]:
    """Time two steps of the run's network on its scenes, and count what all steps would cost.

    Targets are random numbers of the right shapes, so that it is enough that scenes are stored.
    What the temporal ensemble adds to a step is not measured; its scores are on the disk.

    Raises:
        ArtifactError: no training scene is stored yet.
    """
    config, sizes = run.config.distill, estimate_sizes(run)
    (stage,) = (stage(run) for stage in STAGES if stage.name == "distill")
    names = split_scenes(run).training
    stored = [name for name in names if run.workspace.scene(name).is_dir()]
    if not stored:
        raise ArtifactError(
            f"{run.workspace.root}: no scene to learn from is stored yet, so that no step can be "
            "timed; run it with --only ingest partition first"
        )
    chosen = middle_scenes({name: sizes.points(name) for name in stored}, config.batch_size)
    torch.manual_seed(0)
    dimensions = run.text_encoder.dimensions
    scenes = [_stand_in(run.workspace, name, config, dimensions) for name in chosen]
    seconds, peak = _time_step(scenes, config, dimensions, run.device)
    points = [sizes.points(name) for name in names]
    seconds *= _mean(points) / _mean([len(scene.points) for scene in scenes])
    steps = config.epochs * -(-len(names) // config.batch_size)
    held = min(KEPT_BYTES, _bytes_held(names, sizes, config, dimensions)) / 2**30
    memory = peak + held
    return tuple(
        TrainingCost(student, len(names), steps, seconds, memory, stage.estimate(student))
        for student in stage.units()
    )


def middle_scenes(points: dict[str, int], count: int) -> list[str]:
    """Choose `count` scenes nearest to the median number of points; few are taken repeatedly.

    Args:
        points: of each scene, at least one.
        count: how many.
    """
    ordered = sorted(points, key=lambda name: (points[name], name))
    first = max(0, (len(ordered) - count) // 2)
    around = ordered[first : first + count]
    return [around[number % len(around)] for number in range(count)]


def _stand_in(
    workspace: Workspace, name: str, config: DistillConfig, dimensions: int
) -> TrainingScene:
    """A stored scene with random targets."""
    cloud = load_student_input(workspace, name, config.input)
    count = len(cloud.points)
    if workspace.superpoints(name).exists():
        ids = load_superpoint_ids(workspace, name)
    else:
        ids = torch.arange(count) // _POINTS_OF_A_STAND_IN
    means = torch.randn(int(ids.max()) + 1, dimensions).half()
    seen = torch.ones(count, dtype=torch.bool)
    return TrainingScene(name, cloud.points, ids, means, seen, None, cloud.normals, cloud.colors)


def _time_step(
    scenes: Sequence[TrainingScene], config: DistillConfig, dimensions: int, device: torch.device
) -> tuple[float, float]:
    """Seconds of the second of two steps, and the most memory so far in GiB."""
    network = build_student(
        config.architecture,
        INPUT_CHANNELS[config.input],
        dimensions,
        width=config.width,
        engine=config.engine,
    )
    text = torch.randn(2, dimensions)
    settings = replace(config, batch_size=len(scenes), students=("superpoint",), epochs=2)
    trainer = Trainer(network, scenes, text, settings, device)
    trainer.train_epoch()
    begin = time.perf_counter()
    trainer.train_epoch()
    seconds = time.perf_counter() - begin
    if device.type == "cuda":
        return seconds, torch.cuda.max_memory_allocated() / 2**30
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_TO_GIB


def _bytes_held(
    names: Sequence[str], sizes: SizeEstimates, config: DistillConfig, dimensions: int
) -> int:
    """Bytes of all scenes that a student learns from, with their targets."""
    each = _BYTES_PER_POINT[config.input]
    return sum(
        each * sizes.points(name) + 2 * dimensions * sizes.superpoints(name) for name in names
    )


def _mean(values: Sequence[int]) -> float:
    return sum(values) / max(len(values), 1)
