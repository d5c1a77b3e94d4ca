"""Recordings of rerun: read by rerun's own reader."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from pcdistill.errors import ConfigError, MissingExtraError
from pcdistill.scenes import LabelSet, get_export_format
from tests.scenes.exports.clouds import FAR, ODD_NAMES, PROVENANCE, cloud, label_set


def written(of, tmp_path):
    """Entity -> component -> the values of its only row."""
    pytest.importorskip("rerun", reason="rerun is not installed (extra rerun)")
    from rerun.chunk import RrdReader

    get_export_format("rrd").write(tmp_path / "a.rrd", of)
    found: dict[str, dict[str, list]] = {}
    for chunk in RrdReader(tmp_path / "a.rrd").stream():
        assert chunk.is_static
        rows = chunk.to_record_batch()
        for name in rows.schema.names:
            (values,) = rows.column(name).to_pylist()
            found.setdefault(chunk.entity_path, {})[name] = values
    return found


@pytest.mark.parametrize(("classes", "offset"), [(5, (0.0, 0.0, 0.0)), (300, FAR)])
def test_points_are_read_again(tmp_path, classes, offset):
    of = cloud(classes, offset=offset)
    found = written(of, tmp_path)
    shown = found["/world/classes"]
    points = np.array(shown["Points3D:positions"], dtype=np.float32)
    assert np.array_equal(points, of.scene.points.numpy())
    ids = torch.where(of.answers < 0, classes, of.answers)
    assert shown["Points3D:class_ids"] == ids.tolist()
    assert np.array_equal(np.array(shown["confidence"], np.float32), of.confidence.numpy())
    assert shown["instance"] == of.instances.tolist()
    red = [color >> 24 for color in found["/world/colors"]["Points3D:colors"]]
    assert red == of.scene.colors[:, 0].tolist()


def test_classes_and_provenance_are_of_the_world(tmp_path):
    world = written(cloud(), tmp_path)["/world"]
    (context,) = world["AnnotationContext:context"]
    infos = [entry["class_description"]["info"] for entry in context]
    assert [info["label"] for info in infos] == [*ODD_NAMES, "no answer"]
    assert [info["id"] for info in infos] == list(range(6))
    (text,) = world["provenance"]
    assert {key: json.loads(text)[key] for key in PROVENANCE} == PROVENANCE


def test_a_scan_without_colours_and_answers_is_written(tmp_path):
    found = written(cloud(colored=False, answered=False), tmp_path)
    assert "/world/colors" not in found
    assert set(found["/world/classes"]["Points3D:class_ids"]) == {5}


def test_more_classes_than_ids_are_refused():
    names = tuple(str(number) for number in range(65536))
    many = LabelSet("many", names, names, torch.zeros(65536, 3, dtype=torch.uint8))
    with pytest.raises(ConfigError, match="many has 65536 classes, expected at most 65535"):
        get_export_format("rrd").require(many)


def test_without_the_package_it_is_named_before_anything_is_written(monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MissingExtraError, match=r"--format rrd: needs .*pcdistill\[rerun\]"):
        get_export_format("rrd").require(label_set())
