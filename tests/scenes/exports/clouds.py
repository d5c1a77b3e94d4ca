"""Labelled clouds for the tests of export formats: odd names, far coordinates, many classes."""

from __future__ import annotations

import numpy as np
import torch

from pcdistill.scenes import LabelledCloud, LabelSet, Scene

FAR = (1_451_234.0, 5_411_876.0, 118.0)
"""Metres, where a survey may lie."""
ODD_NAMES = ('a "chair"', "Stühle\n& Tische", "units: mm", "椅子", "end_header")
TEACHER = {"name": "lseg", "revision": "0123abcd", "license": "MIT", "trained_on": "ADE20K"}
PROVENANCE = {"version": "9.8.7", "run": "Überlauf", "method": "fused", "teachers": [TEACHER]}


def label_set(classes: int = 5, ignore_label: int = -1) -> LabelSet:
    """`classes` classes, the first ones with odd names."""
    names = tuple(ODD_NAMES[i] if i < len(ODD_NAMES) else f"thing {i}" for i in range(classes))
    rng = np.random.default_rng(classes)
    return LabelSet(
        "own words",
        names,
        names,
        torch.from_numpy(rng.integers(1, 256, (classes, 3), dtype=np.uint8)),
        ignore_label,
        ids=tuple(range(1, 2 * classes, 2)),
    )


def cloud(
    classes: int = 5,
    *,
    points: int = 400,
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
    answered: bool = True,
    colored: bool = True,
    faces: bool = True,
    ignore_label: int = -1,
    **provenance: object,
) -> LabelledCloud:
    """A scene turned from y up; every class has points, every seventh point has no answer."""
    rng = np.random.default_rng(points + classes)
    back = np.eye(4)
    back[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    back[:3, 3] = offset
    scene = Scene(
        "office, 2nd floor",
        torch.from_numpy(rng.uniform(0, 40, (points, 3)).astype(np.float32)),
        torch.from_numpy(rng.integers(0, 256, (points, 3), dtype=np.uint8)) if colored else None,
        torch.tensor([[0.0, 0, 1]]).repeat(points, 1),
        faces=torch.arange(points - points % 3).reshape(-1, 3) if faces else None,
        provenance={"scene_to_source": back.tolist(), **provenance},
    )
    answers = torch.arange(points) % classes
    answers[::7] = -2
    if not answered:
        answers[:] = -2
    confidence = torch.from_numpy(rng.uniform(0.1, 1, points).astype(np.float32))
    instances = torch.arange(points, dtype=torch.int32) % 11 - 1
    none = answers < 0
    return LabelledCloud(
        scene,
        label_set(classes, ignore_label),
        answers,
        confidence.masked_fill(none, 0),
        instances.masked_fill(none, -1),
        dict(PROVENANCE),
    )


def source_coordinates(of: LabelledCloud) -> np.ndarray:
    """(N, 3) float64 where the scan's files have the points, by hand."""
    x, y, z = of.scene.points.double().numpy().T
    return np.stack([x, z, -y], axis=1) + np.array(of.scene.provenance["scene_to_source"])[:3, 3]
