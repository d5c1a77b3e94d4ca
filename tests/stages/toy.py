"""A world small enough to compute by hand: three words, each an axis of a space of four channels.

The stages are given what earlier ones would have left in the workspace, and work as ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.artifacts import ScoredTeacher, write_scores
from pcdistill.capability import CapabilityTable, ImageOverlaps, TeacherScores
from pcdistill.pipeline.artifact_files import read_json, write_json, write_tensors
from pcdistill.pipeline.config_loading import config_from_dict
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.stage import Dependency, Stage, Task
from pcdistill.scenes import LabelSet, Scene, write_scene
from pcdistill.teachers import FeatureMap, LabelledMasks

VOCABULARY = ("lamp", "bed", "door")
"""In another order than the alphabet's and than that of the classes."""
CLASSES = ("bed", "door", "lamp")
AXES = {"bed": 0, "door": 1, "lamp": 2}
TEACHERS = ("demo-masks", "demo-dense")
"""In another order than the alphabet's."""
SCENE, OTHER = "home-train-0", "home-train-1"
MEASURED = "home-validation-0"


class ToyText:
    """The axis of the word in a text; of the next word where the text says "not"."""

    text_space, dimensions = "toy", 4

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(K, 4); the last axis stands for all other words."""
        rows = []
        for text in texts:
            axis = next((AXES[word] for word in AXES if word in text), 3)
            rows.append(torch.eye(4)[(axis + 1) % 3 if "not" in text and axis < 3 else axis])
        return torch.stack(rows) if rows else torch.zeros(0, 4)


class ToyTeacher:
    """Sees a word in each colour: beds are red, doors green, lamps blue, and black is nothing.

    `demo-dense` gives the image itself as features, a fiftieth of each channel; `demo-masks` the
    regions of each colour, whatever their brightness.
    """

    text_space, dimensions, provenance = "toy", 4, {"revision": "1"}

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, image: Tensor) -> FeatureMap | LabelledMasks:
        """See a (3, H, W) uint8 image."""
        size = (image.shape[1], image.shape[2])
        if self.name == "demo-dense":
            return FeatureMap(torch.cat([image.float() / 50, torch.zeros(1, *size)]), size)
        brightest = image.max(dim=0)
        ids = torch.where(brightest.values > 0, brightest.indices, -1).int()
        words = ("bed", "door", "lamp")
        return LabelledMasks(ids, torch.eye(4)[:3], words, tuple(f"a {word}" for word in words))


def toy_labels(**changes: Any) -> LabelSet:
    """The classes, each with the prompt of its own name."""
    palette = torch.tensor([[200, 0, 0], [0, 200, 0], [0, 0, 200]], dtype=torch.uint8)
    known = {"name": "toy", "names": CLASSES, "prompt_names": CLASSES, "palette": palette}
    prompts = tuple(f"a {name} in a scene" for name in CLASSES)
    return LabelSet(**{"prompts": prompts, **known, **changes})


def toy_run(folder: Path, **sections: Mapping[str, Any]) -> RunContext:
    """A run in the toy world; settings of the sections as in a YAML file."""
    known = {"workspace": str(folder / "run"), "teachers": list(TEACHERS)}
    whole = {
        **sections,
        "run": {**known, **sections.get("run", {})},
        "ingest": {"train": 1, "validation": 1, **sections.get("ingest", {})},
        "distill": {"device": "cpu", **sections.get("distill", {})},
    }
    run = RunContext(config_from_dict(whole, "test"))
    run.text_encoder = ToyText()
    run.vocabulary = VOCABULARY
    run.label_set = toy_labels()
    run.teacher = {name: ToyTeacher(name) for name in ("demo-masks", "demo-dense")}.__getitem__
    return run


def nothing(done: int, total: int, words: str) -> None:
    """A report that nobody reads."""


def work(stage: type[Stage], run: RunContext, unit: str) -> str:
    """Let a stage make one unit, all of whose inputs are there."""
    opened = stage(run)
    inputs = tuple(Dependency(needed.stage, needed.unit) for needed in opened.inputs(unit))
    return opened.work(Task(unit, inputs, "t"), nothing)


def write_superpoints(run: RunContext, scene: str, ids: Sequence[int]) -> None:
    """What stage partition would have left."""
    tensors = {"superpoint_ids": torch.tensor(ids, dtype=torch.int32)}
    write_tensors(run.workspace.superpoints(scene), tensors, {"superpoints": max(ids) + 1})


def write_lifted(
    run: RunContext, scene: str, said: Mapping[str, Mapping[int, Sequence[float]]]
) -> None:
    """What stage lift would have left: teacher -> point -> its feature, whole numbers."""
    for teacher, points in said.items():
        seen = sorted(points)
        features = torch.tensor([points[point] for point in seen]).reshape(-1, 4).half()
        views = torch.zeros(max(seen, default=0) + 1, dtype=torch.int32)
        tensors = {"features": features, "seen": torch.tensor(seen).long(), "views": views}
        write_tensors(run.workspace.point_features(teacher, scene), tensors, {})


def write_capability(
    run: RunContext,
    scores: Mapping[str, Mapping[str, float]],
    taught: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """What stage score would have left: teacher -> word -> skill, to the last digit.

    And teacher -> words that it was taught; without any, none can tell.
    """
    for teacher, table in scores.items():
        overlaps = {w: ImageOverlaps((round(1000 * skill),), (1000,)) for w, skill in table.items()}
        told = None if taught is None else tuple(taught[teacher])
        rows = {teacher: TeacherScores("1", overlaps, told)}
        known = CapabilityTable("toy", {word: word for word in table}, {}, rows)
        write_scores(run.workspace, ScoredTeacher(teacher, "toy", False, None, known))
        path = run.workspace.capability(teacher)
        write_json(path, {**read_json(path), "capability": dict(table)})


def store(run: RunContext, scene: Scene) -> None:
    """What stage ingest would have left."""
    write_scene(scene, run.workspace.scene(scene.name))
