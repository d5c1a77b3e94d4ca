"""What E57 files say about themselves: poses, validity, spherical coordinates, colour limits."""

from __future__ import annotations

import importlib.util
import logging
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pcdistill.errors import SceneError
from pcdistill.scenes import open_scene
from pcdistill.scenes.formats.e57 import NOT_MEASURED, read_e57
from tests.fixtures import e57_files
from tests.fixtures.e57_files import Field, Scan

INSTALLED = importlib.util.find_spec("pye57") is not None
RNG = np.random.default_rng(4)
POINTS = RNG.uniform(0, 4, (300, 3))
COLORS = RNG.integers(0, 256, (300, 3))
NAMES = ("colorRed", "colorGreen", "colorBlue")


@pytest.fixture(
    params=[
        "stand-in",
        pytest.param(
            "real", marks=pytest.mark.skipif(not INSTALLED, reason="pye57 is not installed")
        ),
    ]
)
def written(request, tmp_path, monkeypatch):
    """Writes scans to a file that is read by the real package, or by one of its shape."""

    def write(*scans):
        file = tmp_path / "a.e57"
        if request.param == "real":
            e57_files.write(importlib.import_module("pye57"), file, list(scans))
        else:
            file.write_bytes(b"")
            monkeypatch.setitem(sys.modules, "pye57", e57_files.stand_in(list(scans)))
        return file

    return write


def cartesian(points=POINTS):
    return {f"cartesian{a}": Field(points[:, i], -1e9, 1e9) for i, a in enumerate("XYZ")}


def colored(values, low, high, kind="integer"):
    return {name: Field(values[:, i], low, high, kind) for i, name in enumerate(NAMES)}


@pytest.mark.parametrize(
    ("values", "low", "high", "kind", "limits"),
    [
        pytest.param(COLORS, 0, 255, "integer", (0, 255), id="8 bits"),
        pytest.param(COLORS, 0, 255, "integer", None, id="8 bits without limits"),
        pytest.param(COLORS / 255, 0, 1, "single", (0, 1), id="floats"),
        pytest.param(COLORS / 255, -3e38, 3e38, "single", None, id="floats without limits"),
        pytest.param(COLORS / 255, 0, 1, "double", (0, 255), id="floats with limits of bytes"),
        pytest.param(COLORS, -1e30, 1e30, "single", (0, 255), id="floats up to 255"),
        pytest.param(COLORS, 0, 255, "integer", (0, 1), id="bytes with limits of floats"),
        pytest.param(COLORS * 257, 0, 65535, "integer", (0, 65535), id="16 bits"),
        pytest.param(COLORS * 256, 0, 65535, "integer", None, id="16 bits in the upper byte"),
        pytest.param(COLORS, 0, 65535, "integer", (0, 65535), id="8 bits in 16"),
        pytest.param(COLORS * 4 + 100, 0, 2000, "integer", (100, 1120), id="limits of its own"),
    ],
)
def test_colors_are_the_same_whatever_their_limits(written, values, low, high, kind, limits):
    file = written(Scan(cartesian() | colored(values, low, high, kind), limits))
    np.testing.assert_array_equal(read_e57(file).colors, COLORS)


def test_points_that_were_not_measured_are_left_out_and_counted(written, caplog):
    state = RNG.integers(0, 3, 300)
    points = np.where(state[:, None] == 0, POINTS, 0)
    fields = cartesian(points) | {"cartesianInvalidState": Field(state, 0, 2, "integer")}
    with caplog.at_level(logging.WARNING):
        scene = open_scene(written(Scan(fields | colored(COLORS, 0, 255))))
    np.testing.assert_allclose(scene.points, POINTS[state == 0], atol=1e-6)
    np.testing.assert_array_equal(scene.colors, COLORS[state == 0])
    missing = int((state != 0).sum())
    assert scene.provenance["points_left_out"] == {NOT_MEASURED: missing}
    assert scene.provenance["dropped_points"] == missing
    assert f"left out {missing} points, marked as not measured" in caplog.text


def test_spherical_coordinates_and_their_marks(written):
    distance = np.linalg.norm(POINTS, axis=1)
    angles = np.arctan2(POINTS[:, 1], POINTS[:, 0]), np.arcsin(POINTS[:, 2] / distance)
    state = (np.arange(300) % 7 == 0).astype(int)
    fields = {
        "sphericalRange": Field(distance, 0, 1e6),
        "sphericalAzimuth": Field(angles[0], -4, 4),
        "sphericalElevation": Field(angles[1], -4, 4),
        "sphericalInvalidState": Field(state, 0, 2, "integer"),
    }
    found = read_e57(written(Scan(fields)))
    np.testing.assert_allclose(found.points, POINTS[state == 0], atol=1e-5)
    assert found.colors is None


@pytest.mark.parametrize("order", ["wxyz", "xyzw"])
def test_each_scan_is_put_where_its_pose_says(written, order):
    turn = Rotation.from_euler("xyz", [0.3, -0.5, 1.1])
    x, y, z, w = turn.as_quat()
    quaternion = {"w": w, "x": x, "y": y, "z": z}
    place = np.array([451234.5, 5411876.25, 118.0])
    own = turn.inv().apply(POINTS)
    scans = [
        Scan(
            cartesian(own[:100]),
            rotation={name: quaternion[name] for name in order},
            translation=dict(zip("xyz", place, strict=True)),
        ),
        Scan(cartesian(POINTS[100:200]), translation=dict(zip("xyz", place, strict=True))),
        Scan(cartesian(POINTS[200:] + place)),
    ]
    found = read_e57(written(*scans))
    points = found.points.double() + found.offset
    np.testing.assert_allclose(points, POINTS + place, rtol=0, atol=1e-5)


def test_colors_that_are_none_do_not_count(written, caplog):
    none = np.arange(300) % 5 == 0
    values = np.where(none[:, None], 7, COLORS)
    fields = colored(values, 0, 255) | {"isColorInvalid": Field(none.astype(int), 0, 1, "integer")}
    with caplog.at_level(logging.WARNING):
        found = read_e57(written(Scan(cartesian() | fields)))
    np.testing.assert_array_equal(found.colors[~none], COLORS[~none])
    assert (found.colors[none].float() - COLORS[~none].mean(axis=0)).abs().max() <= 0.5
    assert "60 points of scan 0 have no colour" in caplog.text
    fields["isColorInvalid"] = Field(np.ones(300), 0, 1, "integer")
    assert read_e57(written(Scan(cartesian() | fields))).colors is None


def test_scans_of_which_some_lack_colors_or_poses_are_named(written, caplog):
    place = {"x": 0.0, "y": 0.0, "z": 0.0}
    scans = [Scan(cartesian() | colored(COLORS, 0, 255), translation=place), Scan(cartesian())]
    with caplog.at_level(logging.WARNING):
        found = read_e57(written(*scans))
    assert found.colors is None
    assert len(found.points) == 600
    assert "1 of 2 scans have no colours" in caplog.text
    assert "1 of 2 scans have no pose" in caplog.text


def test_a_pose_that_is_no_rotation_is_refused(written):
    scan = Scan(cartesian(), rotation={"w": 0.0, "x": 0.0, "y": 0.0, "z": 0.0})
    with pytest.raises(SceneError, match=r"a\.e57: the rotation of a scan is the quaternion 0 0 0"):
        read_e57(written(scan))


def test_other_fields_than_coordinates_are_refused(written):
    scan = Scan({"intensity": Field(POINTS[:, 0], 0, 1e3)})
    with pytest.raises(SceneError, match="scan 0 has the fields intensity, expected cartesianX"):
        read_e57(written(scan))


def test_no_scan_and_a_damaged_file(written, tmp_path, monkeypatch):
    with pytest.raises(SceneError, match="has no scan"):
        read_e57(written())
    package = e57_files.stand_in([])
    package.E57 = lambda path: 1 / 0
    monkeypatch.setitem(sys.modules, "pye57", package)
    with pytest.raises(SceneError, match=r"cannot be read \(division by zero\)"):
        read_e57(tmp_path / "a.e57")


def test_more_points_than_the_file_can_hold_are_refused_before_memory_is_taken(
    tmp_path, monkeypatch
):
    package = e57_files.stand_in([Scan(cartesian())])
    get_header = package.E57.get_header

    def lying(self, number):
        header = get_header(self, number)
        header.point_count = 10**12
        return header

    monkeypatch.setattr(package.E57, "get_header", lying)
    monkeypatch.setitem(sys.modules, "pye57", package)
    file = tmp_path / "a.e57"
    file.write_bytes(bytes(1000))
    with pytest.raises(SceneError, match="declares 1000000000000 points of a scan, more than its"):
        read_e57(file)
