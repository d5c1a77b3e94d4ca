"""Labelled meshes and clouds as binary glTF, coloured by class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.atomic_io import atomic_file
from pcdistill.scenes.exports.labelled_cloud import LabelledCloud
from pcdistill.scenes.formats.extras import import_extra
from pcdistill.scenes.label_sets import LabelSet
from pcdistill.scenes.scene import Scene

_OTHERWISE = "export the labels as ply"
_OPAQUE = 255


def require_trimesh(label_set: LabelSet) -> None:
    """Refuse to begin without the package that writes the files.

    Raises:
        MissingExtraError: it is not installed.
    """
    del label_set  # any number of classes fits
    import_extra("--format glb", "trimesh", "glb", _OTHERWISE)


def write_labelled_glb(path: Path, cloud: LabelledCloud) -> None:
    """Write a mesh, or points where the scene has no faces, with the colours of the classes.

    Coordinates are metres in the scene's own frame, near the origin, because glTF has 32 bits;
    z up becomes glTF's y up: (x, y, z) is written as (x, z, -y). Vertices of a mesh also have
    ``_LABEL``, ``_CONFIDENCE`` and ``_INSTANCE`` (float32). The scene's ``extras.pcdistill`` tell
    class names, provenance, and ``scene_to_source``, the way back to the files' frame, z up.

    Raises:
        MissingExtraError: there is no package that writes it.
    """
    trimesh = import_extra(path, "trimesh", "glb", _OTHERWISE)
    scene = cloud.scene
    vertices, colors = _vertices(scene), _opaque(cloud.class_colors)
    geometry: Any
    if scene.faces is not None and len(scene.faces):
        geometry = trimesh.Trimesh(
            vertices, scene.faces.numpy(), vertex_colors=colors, process=False
        )
        geometry.vertex_attributes["_LABEL"] = cloud.labels.numpy().astype(np.float32)
        geometry.vertex_attributes["_CONFIDENCE"] = cloud.confidence.numpy()
        geometry.vertex_attributes["_INSTANCE"] = cloud.instances.numpy().astype(np.float32)
    else:
        geometry = trimesh.PointCloud(vertices, colors=colors)
    told = {**cloud.facts(), "classes": list(cloud.label_set.names)}
    content = trimesh.Scene({scene.name: geometry}, metadata={"pcdistill": told})
    with atomic_file(path) as temporary:
        temporary.write_bytes(content.export(file_type="glb"))


def colored_glb(scene: Scene, colors: Tensor, shown: Tensor) -> bytes:
    """Binary glTF of a scene in any colours: its mesh, or points where it has no faces.

    Coordinates are as `write_labelled_glb` writes them.

    Args:
        scene: N points.
        colors: (N, 3) uint8.
        shown: (N,) bool; faces that lack a corner are left out.

    Raises:
        MissingExtraError: there is no package that writes it.
    """
    trimesh = import_extra("a .glb file", "trimesh", "glb", "share a page")
    vertices, painted, kept = _vertices(scene), _opaque(colors), shown.numpy()
    geometry: Any
    if scene.faces is not None and len(scene.faces):
        faces = scene.faces.numpy()
        faces = faces[kept[faces].all(axis=1)]
        geometry = trimesh.Trimesh(vertices, faces, vertex_colors=painted, process=False)
        geometry.remove_unreferenced_vertices()
    else:
        geometry = trimesh.PointCloud(vertices[kept], colors=painted[kept])
    content: bytes = trimesh.Scene({scene.name: geometry}).export(file_type="glb")
    return content


def _vertices(scene: Scene) -> NDArray[np.float32]:
    """(N, 3) with y up."""
    x, y, z = scene.points.numpy().T
    return np.stack([x, z, -y], axis=1)


def _opaque(colors: Tensor) -> NDArray[np.uint8]:
    """(N, 4) of (N, 3) uint8."""
    found = np.full((len(colors), 4), _OPAQUE, dtype=np.uint8)
    found[:, :3] = colors.numpy()
    return found
