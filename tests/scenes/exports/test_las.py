"""Labelled LAS and LAZ: read by laspy, and as scans again."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from pcdistill.errors import MissingExtraError
from pcdistill.scenes import get_export_format, open_scene
from pcdistill.scenes.source_frame import source_coordinates as coordinates_of
from tests.scenes.exports.clouds import FAR, ODD_NAMES, PROVENANCE, TEACHER, cloud, label_set
from tests.scenes.exports.clouds import source_coordinates as expected_coordinates

laspy = pytest.importorskip("laspy", reason="laspy is not installed (extra las)")
HALF_STEP = 0.5e-4 + 1e-9  # metres, and what doubles of a survey round off


def written(of, tmp_path, suffix="las"):
    file = tmp_path / f"a.{suffix}"
    get_export_format(suffix).write(file, of)
    return laspy.read(file)


def lookup_record(file):
    """Code -> name of the record, from the bytes of the file as the standard lays them out."""
    data = file.read_bytes()
    start, count = struct.unpack_from("<H", data, 94)[0], struct.unpack_from("<I", data, 100)[0]
    for _ in range(count):
        user, number, length = struct.unpack_from("<2x16sHH32x", data, start)
        start += 54
        if user.rstrip(b"\0") == b"LASF_Spec" and number == 0:
            entries = struct.iter_unpack("<B15s", data[start : start + length])
            return {code: name.rstrip(b"\0").decode("ascii") for code, name in entries}
        start += length
    raise AssertionError("no lookup record")


@pytest.mark.parametrize("suffix", ["las", "laz"])
@pytest.mark.parametrize("offset", [(0.0, 0.0, 0.0), FAR])
def test_every_point_keeps_its_values(tmp_path, suffix, offset):
    of = cloud(offset=offset)
    las = written(of, tmp_path, suffix)
    assert (str(las.header.version), las.header.point_format.id) == ("1.4", 7)
    assert las.header.global_encoding.wkt
    assert las.header.are_points_compressed == (suffix == "laz")
    assert np.abs(las.xyz - expected_coordinates(of)).max() <= HALF_STEP
    assert (las.header.offsets % 1 == 0).all()
    assert (las.xyz.min(axis=0) - las.header.offsets < 1).all()
    assert np.array_equal(las.label, of.labels.numpy())
    assert np.array_equal(las.confidence, of.confidence.numpy())
    assert np.array_equal(las.instance, of.instances.numpy())
    codes = [1 if point % 7 == 0 else 64 + point % 5 for point in range(len(las.points))]
    assert las.classification.tolist() == codes
    red = of.scene.colors[:, 0].numpy().astype(int)
    assert np.array_equal(np.asarray(las.red).astype(int), red * 65535 // 255)


def test_names_are_in_the_lookup_record_in_fifteen_bytes(tmp_path):
    written(cloud(), tmp_path)
    record = lookup_record(tmp_path / "a.las")
    assert len(record) == 256
    assert record[1] == "no answer"
    short = ['a "chair"', "Stuhle?& Tische", "units: mm", "??", "end_header"]
    assert [record[64 + label] for label in range(5)] == short
    assert {name for code, name in record.items() if code not in (1, *range(64, 69))} == {""}


def test_names_in_full_and_provenance_are_in_an_extended_record(tmp_path):
    (record,) = written(cloud(offset=FAR), tmp_path).evlrs
    assert (record.user_id, record.record_id) == ("pcdistill", 1)
    told = json.loads(record.record_data_bytes())
    assert tuple(told["classes"]) == ODD_NAMES
    assert {key: told[key] for key in PROVENANCE} == PROVENANCE
    assert told["teachers"] == [TEACHER]


@pytest.mark.parametrize(("classes", "last"), [(192, "thing 191"), (193, "see label")])
def test_codes_end_at_255(tmp_path, classes, last):
    las = written(cloud(classes), tmp_path)
    assert int(las.classification.max()) == 255
    assert lookup_record(tmp_path / "a.las")[255] == last


def test_300_classes_are_told_apart_by_their_label(tmp_path):
    of = cloud(300, points=900)
    las = written(of, tmp_path)
    assert np.array_equal(las.label, of.labels.numpy())
    assert int(las.label.max()) == 299
    alone = (las.label >= 0) & (las.label < 191)
    assert np.array_equal(las.classification[alone], 64 + las.label[alone])
    assert set(las.classification[las.label >= 191].tolist()) == {255}
    assert set(las.classification[las.label < 0].tolist()) == {1}


def test_a_scan_without_colours_has_those_of_its_classes(tmp_path):
    of = cloud(colored=False)
    las = written(of, tmp_path)
    colors = np.stack([las.red, las.green, las.blue], axis=1)
    palette = label_set().palette.numpy().astype(int)
    assert colors[1].tolist() == (palette[1] * 257).tolist()
    assert colors[0].tolist() == [0, 0, 0]


def test_a_scene_without_any_answer_is_written(tmp_path):
    las = written(cloud(answered=False, ignore_label=255), tmp_path)
    assert set(las.classification.tolist()) == {1}
    assert set(las.label.tolist()) == {255}


def test_a_scene_wider_than_32_bits_of_a_tenth_of_a_millimetre_has_a_coarser_grid(tmp_path):
    of = cloud()
    of.scene.points[0, 0] = 900_000.0
    las = written(of, tmp_path)
    assert las.header.scales.tolist() == [0.001] * 3
    assert np.abs(las.xyz - expected_coordinates(of)).max() <= 0.5e-3 + 1e-9


def test_the_file_is_read_as_a_scan_where_the_survey_was(tmp_path):
    of = cloud(offset=FAR)
    written(of, tmp_path)
    found = coordinates_of(open_scene(tmp_path / "a.las")).numpy()
    assert np.abs(found - expected_coordinates(of)).max() < 1e-4  # and 32 bits of 40 m


@pytest.mark.parametrize(("format", "module"), [("las", "laspy"), ("laz", "lazrs")])
def test_without_the_package_it_is_named_before_anything_is_written(monkeypatch, format, module):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"--format {format}: needs .*pcdistill\[las\]"):
        get_export_format(format).require(label_set())
