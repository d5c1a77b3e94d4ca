"""Labelled arrays: read by NumPy, which must not need to unpickle anything."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pcdistill.scenes import get_export_format
from tests.scenes.exports.clouds import FAR, PROVENANCE, cloud, source_coordinates


def written(of, tmp_path):
    get_export_format("npz").write(tmp_path / "a.npz", of)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.mark.parametrize(("classes", "offset"), [(5, (0.0, 0.0, 0.0)), (300, FAR)])
def test_arrays_are_those_of_the_cloud(tmp_path, classes, offset):
    of = cloud(classes, offset=offset)
    found = written(of, tmp_path)
    assert np.abs(found["points"] - source_coordinates(of)).max() < 1e-6
    assert found["labels"].dtype == np.int32
    for name, expected in (
        ("labels", of.labels),
        ("confidence", of.confidence),
        ("instances", of.instances),
        ("colors", of.scene.colors),
        ("class_colors", of.class_colors),
        ("faces", of.scene.faces),
    ):
        assert np.array_equal(found[name], expected.numpy()), name
    assert found["normals"][0].tolist() == [0, 1, 0]
    assert tuple(found["class_names"].tolist()) == of.label_set.names


def test_provenance_is_one_text(tmp_path):
    told = json.loads(str(written(cloud(offset=FAR), tmp_path)["provenance"]))
    assert {key: told[key] for key in PROVENANCE} == PROVENANCE
    assert told["no_answer"] == -1
    assert np.array(told["scene_to_source"])[:3, 3].tolist() == list(FAR)


def test_what_the_scan_does_not_have_is_left_out(tmp_path):
    found = written(cloud(colored=False, faces=False, answered=False), tmp_path)
    assert found.keys().isdisjoint({"colors", "faces"})
    assert set(found["labels"].tolist()) == {-1}
