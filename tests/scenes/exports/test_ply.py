"""Labelled PLY: read by a parser of the tests' own and by trimesh."""

from __future__ import annotations

import json

import numpy as np
import pytest
import trimesh

from pcdistill.scenes import get_export_format, read_ply
from tests.scenes.exports.clouds import FAR, ODD_NAMES, PROVENANCE, cloud, source_coordinates

TYPES = {"float": "<f4", "double": "<f8", "uchar": "u1", "int": "<i4"}


def parse(file):
    """Comments, and the vertices as a structured array: a reader of this one layout."""
    head, _, data = file.read_bytes().partition(b"\nend_header\n")
    lines = head.decode("ascii").split("\n")
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    comments = [line.removeprefix("comment ") for line in lines if line.startswith("comment ")]
    counts = [int(line.split()[2]) for line in lines if line.startswith("element vertex")]
    row = [
        (name, TYPES[kind])
        for word, kind, name in (line.split() for line in lines if line.count(" ") == 2)
        if word == "property"
    ]
    return comments, np.frombuffer(data, dtype=row, count=counts[0])


def facts(comments):
    """Values by key; comments of one key in a row continue each other."""
    texts: dict[str, str] = {}
    for comment in comments:
        words = 2 if comment.startswith("class ") else 1
        *key, value = comment.split(" ", words)
        texts[" ".join(key)] = texts.get(" ".join(key), "") + value
    return {key: json.loads(text) for key, text in texts.items()}


@pytest.mark.parametrize("offset", [(0.0, 0.0, 0.0), FAR])
def test_every_point_keeps_its_values(tmp_path, offset):
    of, file = cloud(offset=offset), tmp_path / "a.ply"
    get_export_format("ply").write(file, of)
    _, rows = parse(file)
    xyz = np.stack([rows[axis] for axis in "xyz"], axis=1).astype(np.float64)
    assert np.abs(xyz - source_coordinates(of)).max() < 1e-5
    assert rows["label"].tolist() == [
        -1 if point % 7 == 0 else point % 5 for point in range(len(rows))
    ]
    assert np.array_equal(rows["confidence"], of.confidence.numpy())
    assert np.array_equal(rows["instance"], of.instances.numpy())
    assert np.stack([rows[c] for c in ("red", "green", "blue")], axis=1)[0].tolist() == [0, 0, 0]


def test_new_properties_stand_behind_those_of_older_files(tmp_path):
    get_export_format("ply").write(tmp_path / "a.ply", cloud())
    _, rows = parse(tmp_path / "a.ply")
    old = ("x", "y", "z", "nx", "ny", "nz", "red", "green", "blue", "label")
    assert rows.dtype.names == (*old, "confidence", "instance")
    assert rows.dtype["label"] == np.dtype("<i4")
    assert rows.dtype["instance"] == np.dtype("<i4")


def test_comments_tell_classes_and_provenance(tmp_path):
    of = cloud()
    of.provenance["note"] = "x" * 3000
    get_export_format("ply").write(tmp_path / "a.ply", of)
    comments, _ = parse(tmp_path / "a.ply")
    assert max(map(len, comments)) < 1000  # of a line in rply, which many readers are made with
    told = facts(comments)
    assert [told[f"class {number}"] for number in range(5)] == list(ODD_NAMES)
    assert told["class -1"] == "no answer"
    assert told["pcdistill.note"] == "x" * 3000
    assert {key: told[f"pcdistill.{key}"] for key in PROVENANCE} == PROVENANCE
    assert told["pcdistill.scene"] == "office, 2nd floor"


def test_a_class_called_like_a_unit_changes_no_length(tmp_path):
    of = cloud()
    get_export_format("ply").write(tmp_path / "a.ply", of)
    found = read_ply(tmp_path / "a.ply")
    assert found.metres_per_unit == (1, 1, 1)
    assert np.abs(found.points.numpy() - source_coordinates(of)).max() < 1e-5
    assert found.scalars["label"].tolist() == of.labels.tolist()
    assert found.scalars["instance"].tolist() == of.instances.tolist()


def test_trimesh_opens_the_mesh(tmp_path):
    of = cloud(300)
    get_export_format("ply").write(tmp_path / "a.ply", of)
    mesh = trimesh.load(tmp_path / "a.ply", process=False)
    assert np.abs(mesh.vertices - source_coordinates(of)).max() < 1e-5
    assert np.array_equal(mesh.faces, of.scene.faces.numpy())
    vertex = mesh.metadata["_ply_raw"]["vertex"]["data"]
    assert np.array_equal(vertex["label"].ravel(), of.labels.numpy())
    assert int(vertex["label"].max()) == 299


def test_a_scene_without_any_answer_is_written(tmp_path):
    get_export_format("ply").write(tmp_path / "a.ply", cloud(answered=False, ignore_label=255))
    _, rows = parse(tmp_path / "a.ply")
    assert set(rows["label"].tolist()) == {255}
    assert set(rows["instance"].tolist()) == {-1}
    assert set(rows["confidence"].tolist()) == {0}
