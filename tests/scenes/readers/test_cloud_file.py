"""One file with a cloud: PLY, PCD, LAS, E57."""

from __future__ import annotations

import struct
import sys
import types

import numpy as np
import pytest
import torch

from pcdistill.errors import ConfigError, MissingExtraError, SceneError
from pcdistill.scenes import write_ply
from pcdistill.scenes.formats.pcd import read_pcd
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Scan
from pcdistill.scenes.readers.cloud_file import find_cloud_file
from pcdistill.scenes.readers.detection import DetectedScan, open_scan
from tests.fixtures import box_room, user_captures

COLORS = np.random.default_rng(3).integers(0, 256, (len(box_room.wall_points()), 3))


def read(file, **settings):
    (scan,) = find_cloud_file(file)
    return open_scan(DetectedScan("bare", scan), ReaderSettings(**settings))


def refused(file, message, **settings):
    with pytest.raises(SceneError, match=message) as caught:
        read(file, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_pcd_gives_the_points_and_colors_that_were_written(tmp_path, encoding):
    walls = box_room.wall_points()
    (tmp_path / "hall.pcd").write_bytes(user_captures.pcd(walls, encoding, COLORS))
    scene = read(tmp_path / "hall.pcd")
    assert scene.name == "hall"
    assert scene.frames == ()
    # float32 at a few metres
    np.testing.assert_allclose(scene.points, walls, atol=1e-6)
    np.testing.assert_array_equal(scene.colors, COLORS)


def test_pcd_colors_as_whole_numbers_in_text(tmp_path):
    content = (
        "FIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\nWIDTH 2\nHEIGHT 1\n"
        "POINTS 2\nDATA ascii\n1 2 3 16711935\n4 5 6 255\n"
    )
    (tmp_path / "a.pcd").write_text(content)
    assert read(tmp_path / "a.pcd").colors.tolist() == [[255, 0, 255], [0, 0, 255]]


def test_pcd_with_normals_padding_and_an_organized_cloud(tmp_path):
    header = (
        "VERSION .7\nFIELDS x y z _ normal_x normal_y normal_z\nSIZE 4 4 4 1 4 4 4\n"
        "TYPE F F F U F F F\nCOUNT 1 1 1 4 1 1 1\nWIDTH 2\nHEIGHT 2\nDATA binary\n"
    )
    rows = b"".join(
        struct.pack("<3f4x3f", *place, 0, 0, 2.0)
        for place in [(1, 2, 3), (float("nan"),) * 3, (4, 5, 6), (float("inf"), 0, 0)]
    )
    (tmp_path / "a.pcd").write_bytes(header.encode() + rows)
    scene = read(tmp_path / "a.pcd", up_axis="y")
    assert scene.points.tolist() == [[1, -3, 2], [4, -6, 5]]
    assert scene.normals.tolist() == [[0, -1, 0]] * 2
    assert scene.provenance["dropped_points"] == 2


def test_a_survey_is_moved_to_the_origin_without_losing_millimetres(tmp_path):
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 50, (100, 3)) + np.array([500_000, 5_400_000, 300])
    header = "FIELDS x y z\nSIZE 8 8 8\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 100\nHEIGHT 1\nDATA binary\n"
    (tmp_path / "a.pcd").write_bytes(header.encode() + places.astype("<f8").tobytes())
    scene = read(tmp_path / "a.pcd")
    offset = np.array(scene.provenance["offset"])
    assert (offset == np.floor(places.min(axis=0))).all()
    # float32 after the offset was taken off
    np.testing.assert_allclose(scene.points.double() + torch.from_numpy(offset), places, atol=1e-4)


def test_ply_keeps_its_mesh(tmp_path):
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    write_ply(tmp_path / "a.ply", points, faces=torch.tensor([[0, 1, 2]]))
    scene = read(tmp_path / "a.ply")
    assert scene.faces.tolist() == [[0, 1, 2]]
    assert torch.equal(scene.points, points)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no header with FIELDS, SIZE and DATA"),
        (b"FIELDS x y z\nSIZE 4 4 4\nDATA zip\n", "and 'zip' data"),
        (b"FIELDS x y z\nSIZE 4 4\nDATA ascii\n", "has 3 fields, 2 sizes"),
        (b"FIELDS x y z\nSIZE 4 4 3\nWIDTH 1\nDATA ascii\n", "its field 'z' has type F, size 3"),
        (b"FIELDS x y z\nSIZE 4 4 4\nWIDTH -1\nDATA ascii\n", "has WIDTH '-1'"),
        (b"FIELDS x y z\nSIZE 4 4 4\nDATA ascii\n", "has WIDTH ''"),
        (b"FIELDS x y\nSIZE 4 4\nWIDTH 1\nDATA ascii\n1 2\n", "has no fields x, y and z"),
        (b"FIELDS x y z\nSIZE 4 4 4\nWIDTH 999999999999\nDATA binary\n1", "declares 999999999999"),
        (b"FIELDS x y z\nSIZE 4 4 4\nWIDTH 2\nDATA ascii\n1 2 3 4 5 6\n", "does not hold 2 lines"),
        (b"FIELDS x y z\nSIZE 4 4 4\nWIDTH 1\nDATA ascii\n1 b 3\n", "does not hold 1 lines"),
        (b"FIELDS x y z\nSIZE 4 4 4\nWIDTH 0\nDATA ascii\n", "has no points"),
        (
            b"FIELDS x y z\nSIZE 4 4 4\nWIDTH 1\nDATA binary_compressed\n"
            + struct.pack("<II", 2, 12)
            + b"\x01a",
            "does not expand to the 12 bytes",
        ),
        (
            b"FIELDS x y z\nSIZE 4 4 4\nWIDTH 90000000\nDATA binary_compressed\n"
            + struct.pack("<II", 2, 1080000000)
            + b"\x01a",
            "declares 90000000 points",
        ),
    ],
)
def test_bad_pcd(tmp_path, content, message):
    (tmp_path / "a.pcd").write_bytes(content)
    refused(tmp_path / "a.pcd", message)


def test_expansion_never_reads_before_its_start(tmp_path):
    head = b"FIELDS x y z\nSIZE 4 4 4\nWIDTH 1\nDATA binary_compressed\n"
    (tmp_path / "a.pcd").write_bytes(head + struct.pack("<II", 3, 12) + b"\x00a\x20")
    with pytest.raises(SceneError):
        read_pcd(tmp_path / "a.pcd")
    (tmp_path / "a.pcd").write_bytes(head + struct.pack("<II", 2, 12) + b"\x20\x05")
    refused(tmp_path / "a.pcd", "does not expand")


def las(points: np.ndarray, declared: int | None = None) -> bytes:
    """LAS 1.2, format 2: whole millimetres and 16-bit colours."""
    count = len(points)
    head = b"LASF" + bytes(20) + b"\x01\x02" + bytes(68)
    head += struct.pack("<HII", 227, 227, 0) + b"\x02" + struct.pack("<HI", 26, declared or count)
    head += bytes(20) + struct.pack("<3d", 0.001, 0.001, 0.001) + bytes(24)
    limits = [
        v for low, high in zip(points.min(0), points.max(0), strict=True) for v in (high, low)
    ]
    head += struct.pack("<6d", *limits)
    rows = b"".join(
        struct.pack(
            "<3iHBBbBH3H", *np.rint(place * 1000).astype(int), *[0] * 6, 65535, 257, i % 7 * 257
        )
        for i, place in enumerate(points)
    )
    return head + rows


def test_las_through_its_package(tmp_path):
    (tmp_path / "a.las").write_bytes(las(box_room.wall_points(1.0)))
    pytest.importorskip("laspy", reason="laspy is not installed (extra las)")
    scene = read(tmp_path / "a.las")
    # stored in whole millimetres: half of one
    np.testing.assert_allclose(scene.points, box_room.wall_points(1.0), atol=6e-4)
    assert scene.colors[0].tolist() == [255, 1, 0]


def test_extras_that_are_missing_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "laspy", None)
    monkeypatch.setitem(sys.modules, "pye57", None)
    for name, extra in (("a.las", "las"), ("b.laz", "las"), ("c.e57", "e57")):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(MissingExtraError, match=rf"pip install 'pcdistill\[{extra}\]'"):
            read(tmp_path / name)


def test_las_whose_header_lies_is_refused_before_its_package_sees_it(tmp_path, monkeypatch):
    package = types.ModuleType("laspy")
    monkeypatch.setitem(sys.modules, "laspy", package)
    (tmp_path / "a.las").write_bytes(las(box_room.wall_points(1.0), declared=4_000_000_000))
    refused(tmp_path / "a.las", "declares 4000000000 points of 26 bytes")
    (tmp_path / "a.las").write_bytes(b"LASX" + bytes(400))
    refused(tmp_path / "a.las", "does not begin like a LAS file")
    package.open = lambda path, **_: 1 / 0
    (tmp_path / "a.las").write_bytes(las(box_room.wall_points(1.0)))
    refused(tmp_path / "a.las", r"a\.las: cannot be read \(division by zero\)")


def test_finding_clouds(tmp_path):
    for name in ("b10.ply", "b9.ply", "b9.pcd", "notes.txt", ".hidden.ply"):
        (tmp_path / name).write_bytes(b"")
    assert [scan.name for scan in find_cloud_file(tmp_path)] == ["b9.pcd", "b9.ply", "b10"]
    assert find_cloud_file(tmp_path / "b10.ply") == (Scan("b10", tmp_path / "b10.ply"),)
    assert find_cloud_file(tmp_path / "notes.txt") == ()
    assert find_cloud_file(tmp_path / "none") == ()


def test_settings_without_meaning(tmp_path):
    write_ply(tmp_path / "a.ply", torch.ones(3, 3))
    with pytest.raises(ConfigError, match="`frame_step` has no meaning .* only up"):
        read(tmp_path / "a.ply", frame_step=2)
