"""Rooms to train on in the toy world, and the student that a trainer makes of them by itself."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pcdistill.distillation.batch_cache import mixed_seed
from pcdistill.distillation.batches import TrainingScene
from pcdistill.distillation.settings import TrainerSettings
from pcdistill.distillation.trainer import Trainer
from pcdistill.networks import build_student, load_checkpoint
from pcdistill.pipeline.artifact_files import write_tensors
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.stage import Dependency, Task
from pcdistill.scenes import Scene
from pcdistill.stages.distill import DistillStage
from tests.stages.toy import CLASSES, OTHER, SCENE, ToyText, store, toy_run, write_superpoints

CPU = torch.device("cpu")
ENSEMBLE = "superpoint+ensemble"
CHANNELS = {"constant": 3, "geometry": 4, "color": 7}
SMALL = {
    "students": ["superpoint"],
    "architecture": "MinkUNet14A",
    "width": 0.125,
    "voxel_size": 0.3,
    "input": "color",
    "epochs": 2,
    "batch_size": 2,
    "learning_rate": 1e-2,
    "final_learning_rate": 1e-3,
    "max_voxels_per_step": 0,
    "augment": "none",
    "optimizer": "adam",
    "weight_decay": 0.0,
    "accumulate": 1,
    "max_voxels_per_batch": 0,
    "batch_order": "random",
    "max_gradient_norm": 0.0,
    "ema_decay": 0.0,
    "adam_beta2": 0.999,
    "schedule": "linear",
    "precision": "float32",
    "revoxelize_every": 1,
    "ensemble_preset": "paper",
    "ensemble_start": 0.5,
    "ensemble_decay": 0.9,
    "ensemble_temperature": 1.0,
    "ensemble_weight": 1.0,
    "keep_superpoint_loss": True,
}
TRAINER = (
    *("optimizer", "weight_decay", "accumulate", "max_gradient_norm", "ema_decay"),
    *("voxel_size", "epochs", "batch_size", "learning_rate", "final_learning_rate"),
    *("max_voxels_per_step", "augment", "adam_beta2", "schedule", "precision", "revoxelize_every"),
    *("ensemble_start", "ensemble_decay", "ensemble_temperature", "ensemble_weight"),
    *("ensemble_preset", "keep_superpoint_loss", "max_voxels_per_batch", "batch_order"),
)


def room(name: str, seed: int) -> TrainingScene:
    """Points on a floor and a wall; five superpoints, of which one was seen by nobody."""
    generator = torch.Generator().manual_seed(seed)
    flat = 1.5 * torch.rand(90, 2, generator=generator)
    floor = torch.stack([flat[:45, 0], flat[:45, 1], torch.zeros(45)], dim=1)
    wall = torch.stack([flat[45:, 0], torch.zeros(45), flat[45:, 1]], dim=1)
    ids = torch.arange(90) // 18
    seen = (torch.rand(90, generator=generator) < 0.6) & (ids != 3)
    features = torch.randn(90, 4, generator=generator).half() * seen[:, None]
    means = torch.stack([features[(ids == i) & seen].float().mean(dim=0) for i in range(5)])
    normals = torch.eye(3)[[2, 1]].repeat_interleave(45, dim=0)
    colors = torch.randint(0, 256, (90, 3), generator=generator, dtype=torch.uint8)
    points = torch.cat([floor, wall])
    return TrainingScene(
        name, points, ids, means.nan_to_num(0).half(), seen, features, normals, colors
    )


ROOMS = (room(SCENE, 1), room(OTHER, 2))


def ready(folder, *, seed: int = 0, **distill) -> RunContext:
    """A run whose two rooms are stored, partitioned and fused."""
    sections = {"run": {"seed": seed}, "ingest": {"train": 2}, "distill": {**SMALL, **distill}}
    run = toy_run(folder, **sections)
    for one in ROOMS:
        store(run, Scene(one.name, one.points, one.colors, one.normals))
        write_superpoints(run, one.name, one.superpoint_ids.tolist())
        sight = {
            "superpoint_means": one.superpoint_means,
            "superpoint_seen": torch.tensor([1, 1, 1, 0, 1], dtype=torch.uint8),
            "seen_bits": torch.from_numpy(np.packbits(one.seen.numpy())),
            "features": one.features[one.seen],
        }
        write_tensors(run.workspace.fused(one.name), sight, {})
    return run


def train(run: RunContext, student: str = "superpoint") -> list[int]:
    """Train one student; returns the epochs that were reported."""
    epochs: list[int] = []
    wanted = tuple(Dependency(i.stage, i.unit) for i in DistillStage(run).inputs(student))
    DistillStage(run).work(
        Task(student, wanted, "t"), lambda done, total, words: epochs.append(done)
    )
    return epochs


def weights(run: RunContext, student: str = "superpoint") -> dict[str, Tensor]:
    return load_checkpoint(run.workspace.checkpoint(student)).network.state_dict()


def losses(run: RunContext, student: str = "superpoint") -> list[tuple[float, float]]:
    lines = (run.workspace.student(student) / "metrics.jsonl").read_text().splitlines()
    return [(line["loss"], line["ensemble_loss"]) for line in map(json.loads, lines)]


def by_hand(student: str = "superpoint", *, seed: int = 0, **distill) -> dict[str, Tensor]:
    """The student that a trainer makes of the rooms; the ensemble joins one that goes on."""
    config = {**SMALL, **distill}
    shown = [
        replace(
            one,
            normals=None if config["input"] == "constant" else one.normals,
            colors=one.colors if config["input"] == "color" else None,
        )
        for one in ROOMS
    ]
    torch.manual_seed(mixed_seed(seed))
    channels, width = CHANNELS[config["input"]], config["width"]
    network = build_student(config["architecture"], channels, 4, width=width)
    settings = TrainerSettings(**{key: config[key] for key in TRAINER})
    target = "point" if student == "point" else "superpoint"
    text = ToyText().encode(CLASSES)
    learner = Trainer(network, shown, text, settings, CPU, target=target, seed=seed)
    if student == ENSEMBLE:
        joins = round(config["ensemble_start"] * config["epochs"])
        for _ in range(joins):
            learner.train_epoch()
        state = {key: value.clone() for key, value in learner.state().items()}
        learner = Trainer(network, shown, text, settings, CPU, ensemble=True, seed=seed)
        learner.load_state(state)
    while not learner.finished:
        learner.train_epoch()
    with learner.answering():
        return {key: value.clone() for key, value in network.state_dict().items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
