"""Labelled clouds as arrays of NumPy, in one compressed .npz file without pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pcdistill.atomic_io import atomic_file
from pcdistill.scenes.exports.labelled_cloud import LabelledCloud, ascii_json


def write_labelled_npz(path: Path, cloud: LabelledCloud) -> None:
    """Write ``points colors class_colors labels confidence instances class_names provenance``.

    ``points`` are (N, 3) float64 where the scan's own files have them; ``colors`` (N, 3) uint8 are
    left out where the scan has none, as are ``normals`` (N, 3) float32 and ``faces`` (F, 3) int32;
    ``labels`` and ``instances`` are (N,) int32, ``confidence`` (N,) float32; ``class_names`` are
    (K,) text by label; ``provenance`` is one text of JSON, which tells the number of no answer.
    """
    scene = cloud.scene
    arrays: dict[str, Any] = {
        "points": cloud.coordinates.numpy(),
        "class_colors": cloud.class_colors.numpy(),
        "labels": cloud.labels.numpy().astype(np.int32),
        "confidence": cloud.confidence.numpy(),
        "instances": cloud.instances.numpy(),
        "class_names": np.array(cloud.label_set.names),
        "provenance": np.array(ascii_json(cloud.facts())),
    }
    if scene.colors is not None:
        arrays["colors"] = scene.colors.numpy()
    if cloud.normals is not None:
        arrays["normals"] = cloud.normals.numpy()
    if scene.faces is not None:
        arrays["faces"] = scene.faces.numpy().astype(np.int32)
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
