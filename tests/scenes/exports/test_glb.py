"""Labelled binary glTF: read by trimesh, and its JSON by hand."""

from __future__ import annotations

import io
import json
import struct
import sys

import numpy as np
import pytest
import torch
import trimesh

from pcdistill.errors import MissingExtraError
from pcdistill.scenes import colored_glb, get_export_format
from tests.scenes.exports.clouds import FAR, ODD_NAMES, PROVENANCE, cloud, label_set


def written(of, tmp_path):
    """The only geometry of the file, and its JSON."""
    file = tmp_path / "a.glb"
    get_export_format("glb").write(file, of)
    (geometry,) = trimesh.load(file, process=False).geometry.values()
    data = file.read_bytes()
    assert data[:4] == b"glTF"
    return geometry, json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])


def turned(of):
    x, y, z = of.scene.points.numpy().T
    return np.stack([x, z, -y], axis=1)


@pytest.mark.parametrize("offset", [(0.0, 0.0, 0.0), FAR])
def test_a_mesh_is_y_up_in_metres_near_the_origin(tmp_path, offset):
    of = cloud(offset=offset)
    mesh, content = written(of, tmp_path)
    assert np.array_equal(mesh.vertices.astype(np.float32), turned(of))
    assert np.array_equal(mesh.faces, of.scene.faces.numpy())
    assert content["meshes"][0]["primitives"][0]["mode"] == 4
    assert np.array_equal(mesh.visual.vertex_colors[:, :3], of.class_colors.numpy())
    assert set(mesh.visual.vertex_colors[:, 3].tolist()) == {255}


def test_turned_triangles_keep_their_front(tmp_path):
    """A proper rotation: an eye outside of a box sees the box from outside."""
    mesh, _ = written(cloud(), tmp_path)
    up = cloud().scene
    a, b, c = (up.points[up.faces[:, corner]].numpy() for corner in range(3))
    x, y, z = np.cross(b - a, c - a).T
    outward = np.stack([x, z, -y], axis=1)
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    np.testing.assert_allclose(np.cross(b - a, c - a), outward, rtol=1e-3, atol=1e-2)


def test_vertices_have_label_confidence_and_instance(tmp_path):
    of = cloud(300)
    mesh, _ = written(of, tmp_path)
    found = {name: values.ravel() for name, values in mesh.vertex_attributes.items()}
    assert np.array_equal(found["_LABEL"], of.labels.numpy())
    assert np.array_equal(found["_CONFIDENCE"], of.confidence.numpy())
    assert np.array_equal(found["_INSTANCE"], of.instances.numpy())


@pytest.mark.parametrize("answered", [True, False])
def test_a_scene_without_faces_is_a_primitive_of_points(tmp_path, answered):
    of = cloud(faces=False, answered=answered)
    points, content = written(of, tmp_path)
    assert content["meshes"][0]["primitives"][0]["mode"] == 0
    assert np.array_equal(points.vertices.astype(np.float32), turned(of))
    assert np.array_equal(points.colors[:, :3], of.class_colors.numpy())


@pytest.mark.parametrize("faces", [True, False])
def test_extras_tell_names_provenance_and_the_way_back(tmp_path, faces):
    _, content = written(cloud(offset=FAR, faces=faces), tmp_path)
    told = content["scenes"][0]["extras"]["pcdistill"]
    assert tuple(told["classes"]) == ODD_NAMES
    assert {key: told[key] for key in PROVENANCE} == PROVENANCE
    assert np.array(told["scene_to_source"])[:3, 3].tolist() == list(FAR)


def test_without_the_package_it_is_named_before_anything_is_written(monkeypatch):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(MissingExtraError, match=r"--format glb: needs .*pcdistill\[glb\]"):
        get_export_format("glb").require(label_set())


def test_any_colors_and_only_faces_whose_corners_are_shown():
    scene = cloud().scene
    colors = (scene.points * 20).byte()
    shown = torch.ones(len(scene.points), dtype=torch.bool)
    shown[scene.faces[0, 0]] = False
    content = io.BytesIO(colored_glb(scene, colors, shown))
    (mesh,) = trimesh.load(content, file_type="glb", process=False).geometry.values()
    kept = scene.faces[shown[scene.faces].all(dim=1)]
    assert 0 < len(kept) < len(scene.faces)
    assert len(mesh.faces) == len(kept)
    corners = mesh.vertices[mesh.faces].astype(np.float32)
    assert np.array_equal(corners, turned(cloud())[kept.numpy()])
    painted = mesh.visual.vertex_colors[mesh.faces][..., :3]
    assert np.array_equal(painted, colors.numpy()[kept.numpy()])
