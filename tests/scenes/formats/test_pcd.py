"""What PCD files say about themselves: colours in any layout, padding, viewpoints, other fields."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from pcdistill.scenes.formats.pcd import read_pcd
from tests.fixtures.user_captures import lzf

RNG = np.random.default_rng(6)
POINTS = RNG.uniform(-3, 3, (40, 3)).astype(np.float32)
COLORS = RNG.integers(0, 256, (40, 3))
PACKED = (COLORS[:, 0] << 16 | COLORS[:, 1] << 8 | COLORS[:, 2]).astype(np.uint32)
ENCODINGS = ("ascii", "binary", "binary_compressed")


def pcd(fields, encoding, viewpoint="0 0 0 1 0 0 0", before=b"", end="\n"):
    """`fields`: (name, NumPy type, values (N,) or (N, C))."""
    columns = [np.asarray(values).astype(kind).reshape(40, -1) for _, kind, values in fields]
    kinds = {"f": "F", "i": "I", "u": "U"}
    header = [
        "# .PCD v0.7",
        "VERSION 0.7",
        "FIELDS " + " ".join(name for name, _, _ in fields),
        "SIZE " + " ".join(str(column.itemsize) for column in columns),
        "TYPE " + " ".join(kinds[column.dtype.kind] for column in columns),
        "COUNT " + " ".join(str(column.shape[1]) for column in columns),
        f"WIDTH {len(columns[0])}",
        "HEIGHT 1",
        f"VIEWPOINT {viewpoint}",
        f"POINTS {len(columns[0])}",
        f"DATA {encoding}",
        "",
    ]
    head = before + end.join(header).encode()
    if encoding == "ascii":
        rows = (
            " ".join(repr(number) for column in columns for number in column[i].tolist())
            for i in range(40)
        )
        return head + end.join([*rows, ""]).encode()
    if encoding == "binary":
        return head + b"".join(c[i].tobytes() for i in range(40) for c in columns)
    plain = b"".join(column.tobytes() for column in columns)
    packed = lzf(plain)
    return head + np.array([len(packed), len(plain)], "<u4").tobytes() + packed


def xyz(kind="<f4"):
    return [(name, kind, POINTS[:, axis]) for axis, name in enumerate("xyz")]


def channels(names, kind, times=1.0):
    return [(name, kind, COLORS[:, i] * times) for i, name in enumerate(names)]


LAYOUTS = {
    "packed float": [("rgb", "<f4", PACKED.view("<f4"))],
    "packed whole": [("rgb", "<u4", PACKED)],
    "packed with opacity": [("rgba", "<u4", PACKED | 0xFF000000)],
    "packed signed": [("rgba", "<i4", (PACKED | 0xFF000000).view("<i4"))],
    "packed double": [("rgb", "<f8", PACKED)],
    "three bytes": [("rgb", "<u1", COLORS)],
    "three floats": [("rgb", "<f4", COLORS / 255)],
    "r g b bytes": channels(("r", "g", "b"), "<u1"),
    "r g b shorts": channels(("r", "g", "b"), "<u2"),
    "r g b 16 bits": channels(("r", "g", "b"), "<u2", 257),
    "red 16 bits": channels(("red", "green", "blue"), "<u2", 256),
    "red floats": channels(("red", "green", "blue"), "<f4", 1 / 255),
    "red floats to 255": channels(("red", "green", "blue"), "<f4"),
    "red whole": channels(("red", "green", "blue"), "<i4"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_colors_are_found_in_every_layout(tmp_path, encoding, layout):
    padding = [("_", "<f4", np.arange(40)), ("label", "<u4", np.arange(40)), ("_", "<u1", POINTS)]
    fields = [xyz()[0], padding[0], *xyz()[1:], padding[1], *LAYOUTS[layout], padding[2]]
    (tmp_path / "a.pcd").write_bytes(pcd(fields, encoding))
    found = read_pcd(tmp_path / "a.pcd")
    np.testing.assert_array_equal(found.colors, COLORS)
    np.testing.assert_array_equal(found.points, POINTS)


def test_colors_that_cannot_be_read_are_named(tmp_path, caplog):
    fields = [*xyz(), ("rgb", "<u1", COLORS[:, 0]), ("red", "<u1", COLORS[:, 0])]
    (tmp_path / "a.pcd").write_bytes(pcd(fields, "binary"))
    with caplog.at_level(logging.WARNING):
        assert read_pcd(tmp_path / "a.pcd").colors is None
    assert "a.pcd: its fields rgb red are no colours that can be read" in caplog.text


def test_a_viewpoint_is_named_and_other_fields_too(tmp_path, caplog):
    fields = [*xyz(), ("label", "<u4", np.arange(40)), ("intensity", "<f4", np.arange(40))]
    (tmp_path / "a.pcd").write_bytes(pcd(fields, "binary", viewpoint="1 2 0.5 0 0 0 1"))
    with caplog.at_level(logging.INFO):
        found = read_pcd(tmp_path / "a.pcd")
    np.testing.assert_array_equal(found.points, POINTS)
    assert "its VIEWPOINT is 1 2 0.5 0 0 0 1 and not applied" in caplog.text
    assert "fields that are not used: label intensity" in caplog.text


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_other_line_ends_a_byte_order_mark_and_other_names_of_normals(tmp_path, encoding):
    normals = [(name, "<f4", POINTS[:, i]) for i, name in enumerate(("nx", "ny", "nz"))]
    content = pcd([*xyz("<f8"), *normals], encoding, before=b"\xef\xbb\xbf", end="\r\n")
    content = content.replace(b"# .PCD v0.7\r\nVERSION 0.7\r\n", b"")  # the mark before FIELDS
    (tmp_path / "a.pcd").write_bytes(content)
    found = read_pcd(tmp_path / "a.pcd")
    np.testing.assert_array_equal(found.points, POINTS)
    np.testing.assert_array_equal(found.normals, POINTS)
