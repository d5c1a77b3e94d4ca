"""Two measured scans of the toy world: clusters of points, each of one word, seen in part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from pcdistill.labels import IGNORE_LABEL
from pcdistill.pipeline.context import RunContext
from pcdistill.scenes import Scene
from tests.stages.toy import (
    AXES,
    CLASSES,
    MEASURED,
    store,
    toy_run,
    write_capability,
    write_lifted,
    write_superpoints,
)

SECOND = "home-validation-1"
SIDE = 6
EACH = SIDE * SIDE
"""Points of a cluster, a square with a point every tenth of a metre."""
SKILL = {
    "demo-masks": {"bed": 0.9, "door": 0.1, "lamp": 0.6},
    "demo-dense": {"bed": 0.1, "door": 0.8, "lamp": 0.5},
}
BED, DOOR, LAMP, LAMPISH = (2, 0, 0, 0), (0, 1, 0, 0), (0, 0, 3, 0), (0, 1, 2, 0)
CLUSTERS = {
    MEASURED: {
        "bed": {"demo-masks": BED, "demo-dense": DOOR},
        "door": {"demo-masks": BED, "demo-dense": DOOR},
    },
    SECOND: {
        "lamp": {"demo-masks": LAMP, "demo-dense": LAMP},
        "door": {"demo-masks": LAMPISH, "demo-dense": LAMPISH},
    },
}
"""Scan -> true class of each cluster -> what each teacher takes it for."""


def cluster(number: int) -> torch.Tensor:
    """(EACH, 3) points of a square, ten metres from the next one."""
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    flat = torch.stack([row.flatten(), column.flatten(), torch.zeros(EACH)], dim=1)
    return 0.1 * flat + torch.tensor([10.0 * number, 0, 0])


def sight(point: int) -> tuple[str, ...]:
    """Who sees a point of a cluster: mostly both, some one each, some nobody."""
    return {0: ("demo-masks",), 1: ("demo-dense",), 2: ()}.get(
        point % 9, ("demo-masks", "demo-dense")
    )


def scan(name: str) -> Scene:
    """A cluster for each class, then some points without a label."""
    truth = [word for word in CLUSTERS[name] for _ in range(EACH)]
    labels = torch.tensor([CLASSES.index(word) for word in truth])
    labels[::7] = IGNORE_LABEL
    generator = torch.Generator().manual_seed(len(name) + sum(map(ord, name)))
    axes = torch.tensor([AXES[word] for word in truth])
    normals = torch.eye(3)[axes] + 0.6 * torch.randn(len(truth), 3, generator=generator)
    points = torch.cat([cluster(number) for number in range(len(CLUSTERS[name]))])
    return Scene(
        name,
        points,
        colors=torch.full((len(truth), 3), 90, dtype=torch.uint8),
        normals=functional.normalize(normals, dim=1),
        labels=labels,
    )


def said(name: str) -> dict[str, dict[int, tuple[int, ...]]]:
    """Teacher -> point -> feature."""
    found: dict[str, dict[int, tuple[int, ...]]] = {"demo-masks": {}, "demo-dense": {}}
    for number, features in enumerate(CLUSTERS[name].values()):
        for point in range(EACH):
            for teacher in sight(point):
                found[teacher][number * EACH + point] = features[teacher]
    return found


def homes_run(folder: Path, **sections: Any) -> RunContext:
    """A run whose scans are stored, cut into their clusters and lifted."""
    ingest = {"train": 1, "validation": 2, **sections.pop("ingest", {})}
    run = toy_run(folder, ingest=ingest, **sections)
    for name in CLUSTERS:
        scene = scan(name)
        store(run, scene)
        write_superpoints(run, name, [point // EACH for point in range(len(scene.points))])
        write_lifted(run, name, said(name))
    write_capability(run, SKILL)
    return run
