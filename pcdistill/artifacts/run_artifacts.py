"""Typed record of what a run leaves to those who read its results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from pcdistill.artifacts.point_features import PointFeatureStore, open_point_features
from pcdistill.artifacts.scene_splits import SceneSplit, split_scenes
from pcdistill.artifacts.students import LoadedStudent, load_student
from pcdistill.evaluation import Protocol
from pcdistill.fusion import FusionMode
from pcdistill.pipeline import RunContext, RunWords, Workspace


@dataclass(frozen=True, eq=False)
class RunArtifacts:
    """Where the artifacts of a run are, and the values by which they become answers."""

    title: str
    """What the run is called."""
    workspace: Workspace
    words: RunWords
    scenes: SceneSplit
    point_features: PointFeatureStore
    load_student: Callable[[str], LoadedStudent]
    """Loads a finished student by name."""
    students: tuple[str, ...]
    """Names of all students of the run."""
    protocol: Protocol
    measures_ensembles: bool
    """Whether the 2D-3D ensemble of every student is a row of the results."""
    voxel_size: float
    """Metres: what the students see the world in."""
    temperature: float
    """Of the fusion's softmax (Eq. 8)."""
    fusion_mode: FusionMode
    piece_neighbors: int
    """Edges per point where a scene is cut into pieces by its nearest neighbours."""
    piece_threshold: float
    """Merging threshold on normal differences of that cut, unitless."""
    piece_size: int
    """Fewest points of a piece."""
    seed: int
    find_device: Callable[[], torch.device]
    """Tells where students compute; only asked when one has to, as a run may be read elsewhere."""

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of the T teachers."""
        return self.point_features.teachers

    @property
    def protocol_line(self) -> str:
        """The protocol in one line, with what the student knows of the scenes."""
        classes, silent = len(self.words.label_set.names), len(self.teachers) > 0
        described = self.protocol.describe(classes, silent=silent)
        measured = self.scenes.measured_on
        return f"{described}; measured on {measured}" if measured else described


def open_artifacts(run: RunContext) -> RunArtifacts:
    """Collect the record of a run; no artifact is read.

    Raises:
        ConfigError: a setting names what there is not.
    """
    workspace, distill, partition = run.workspace, run.config.distill, run.config.partition
    return RunArtifacts(
        title=run.config.run.title,
        workspace=workspace,
        words=run.words,
        scenes=split_scenes(run),
        point_features=open_point_features(run),
        load_student=lambda name: load_student(workspace, distill, name),
        students=distill.student_names,
        protocol=run.protocol,
        measures_ensembles=run.measures_ensembles,
        voxel_size=run.voxel_size,
        temperature=run.config.fuse.temperature,
        fusion_mode=run.config.fuse.mode,
        piece_neighbors=partition.neighbors,
        piece_threshold=partition.threshold,
        piece_size=partition.min_size,
        seed=run.config.run.seed,
        find_device=lambda: run.device,
    )
