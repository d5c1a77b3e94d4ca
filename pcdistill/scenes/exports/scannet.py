"""Predictions as ScanNet's benchmark takes them: one text file a scene, one id a vertex.

Source: kaldir.vc.in.tum.de/scannet_benchmark/documentation, 3D semantic label prediction.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pcdistill.atomic_io import atomic_file
from pcdistill.errors import ConfigError, SceneError
from pcdistill.scenes.exports.labelled_cloud import LabelledCloud
from pcdistill.scenes.label_sets import LabelSet

UNANNOTATED = 0
"""Id of no class; the benchmark counts it as a wrong guess."""


def require_ids(label_set: LabelSet) -> None:
    """Refuse a label set whose classes have no ids of the data set.

    Raises:
        ConfigError: it is none of ScanNet's.
    """
    if not label_set.ids:
        raise ConfigError(
            f"--format scannet: the label set {label_set.name} has no ids of ScanNet's benchmark, "
            "expected scannet20 or scannet200; export the labels as ply or npz"
        )


def write_benchmark_text(path: Path, cloud: LabelledCloud) -> None:
    """Write the id of each vertex's class on a line, in the order of the mesh's vertices.

    A vertex without an answer has the id 0.

    Raises:
        SceneError: vertices were left out when the scan was read, so that lines would not fit.
    """
    scene = cloud.scene
    dropped = int(scene.provenance.get("dropped_points", 0))
    if dropped:
        raise SceneError(
            f"scene {scene.name}: {dropped} vertices of its mesh were left out when it was read, "
            "the benchmark expects a line for each; export the labels as ply or npz"
        )
    ids = torch.tensor([*cloud.label_set.ids, UNANNOTATED])
    known = torch.where(cloud.answers < 0, len(ids) - 1, cloud.answers)
    with atomic_file(path) as temporary:
        np.savetxt(temporary, ids[known].numpy(), fmt="%d")


def write_benchmark_zip(path: Path, files: Sequence[Path]) -> None:
    """Pack the text files of all scenes, without folders, as the benchmark takes them."""
    with (
        atomic_file(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for file in files:
            packed.write(file, file.name)
