"""OpenEXR images that the package OpenEXR wrote, in every compression that it knows."""

from __future__ import annotations

import struct
import sys
import types

import numpy as np
import pytest

from pcdistill.errors import MissingExtraError, SceneError
from pcdistill.scenes.formats import exr as exr_module
from pcdistill.scenes.formats.exr import read_exr_depth, read_exr_size

openexr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed (extra exr)")

LOSSLESS = ("NO", "RLE", "ZIPS", "ZIP", "PIZ", "HTJ2K256", "HTJ2K32")
LOSSY = {"PXR24": 2**-15, "B44": 0, "B44A": 0, "DWAA": 0, "DWAB": 0}
"""Largest relative error of 32-bit floats: PXR24 keeps 24 bits, the others lose only of halves."""
PACKED = ("PIZ", "HTJ2K256", "HTJ2K32", *LOSSY)


def write(file, compression, depth, name="Z", **others):
    header = {
        "compression": getattr(openexr, f"{compression}_COMPRESSION"),
        "type": openexr.scanlineimage,
    }
    openexr.File(header, {name: depth, **others}).write(str(file))
    return file


@pytest.fixture
def depth():
    """(300, 41) float32, smooth, with noise and pixels without a reading."""
    rows, columns = np.mgrid[:300, :41]
    noise = np.random.default_rng(0).normal(0, 0.01, (300, 41))
    depth = (1 + rows / 100 + columns / 50 + noise).astype(np.float32)
    depth[5:9, 3:20] = 0
    return depth


@pytest.mark.parametrize("compression", [*LOSSLESS, *LOSSY])
def test_depth_is_that_which_was_written(tmp_path, depth, compression):
    file = write(tmp_path / "a.exr", compression, depth, R=depth + 1, A=np.float16(depth))
    assert read_exr_size(file) == (300, 41)
    found = read_exr_depth(file).numpy()
    np.testing.assert_allclose(found, depth, rtol=LOSSY.get(compression, 0), atol=0)


@pytest.mark.parametrize("compression", ["ZIP", "PIZ"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.uint32])
def test_kinds_of_numbers_and_names_of_layers(tmp_path, compression, kind):
    depth = np.arange(12 * 7).reshape(12, 7).astype(kind)
    file = write(tmp_path / "a.exr", compression, depth, name="camera.depth.Z")
    np.testing.assert_array_equal(read_exr_depth(file), depth.astype(np.float32))


@pytest.mark.parametrize("compression", ["ZIP", "PIZ"])
def test_no_reading_is_zero(tmp_path, compression):
    depth = np.array([[1, np.inf, np.nan], [-1, 0, 2]], dtype=np.float32)
    file = write(tmp_path / "a.exr", compression, depth)
    assert read_exr_depth(file).tolist() == [[1, 0, 0], [0, 0, 2]]


@pytest.mark.parametrize("compression", PACKED)
def test_the_missing_extra_is_named(tmp_path, monkeypatch, depth, compression):
    file = write(tmp_path / "a.exr", compression, depth)
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    assert read_exr_size(file) == (300, 41)
    with pytest.raises(MissingExtraError, match=r"a\.exr: .*pip install 'pcdistill\[exr\]'"):
        read_exr_depth(file)


@pytest.mark.parametrize("compression", ["RLE", "ZIPS", "ZIP"])
def test_the_usual_compressions_need_no_extra(tmp_path, monkeypatch, depth, compression):
    file = write(tmp_path / "a.exr", compression, depth)
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    np.testing.assert_array_equal(read_exr_depth(file), depth)


@pytest.fixture
def untouched(monkeypatch):
    """A package that must not see the file."""
    package = types.ModuleType("OpenEXR")
    package.InputFile = lambda path: pytest.fail("the package saw the file")
    monkeypatch.setitem(sys.modules, "OpenEXR", package)


def window(width, height):
    return struct.pack("<4i", 0, 0, width - 1, height - 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (window(41, 300), window(2**30, 2**30), "declares .* pixels"),
        (window(41, 300), window(63_000_000, 1), "declares lines of 252000000 bytes"),
        (window(41, 300), window(30, 2_000_000), "ends within its table of 62500 blocks"),
        (window(41, 300), window(41, 330), "has a block at byte|has a block of|lacks"),
        (b"\x01\x00\x00\x00\x04", b"\x01\x00\x00\x00\x0d", r"in an unknown way \(number 13\)"),
    ],
)
def test_a_header_that_lies_is_refused_before_the_package_sees_it(
    tmp_path, depth, untouched, old, new, message
):
    file = write(tmp_path / "a.exr", "PIZ", depth)
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new))
    with pytest.raises(SceneError, match=message) as caught:
        read_exr_depth(file)
    assert "\n" not in str(caught.value)


def test_a_truncated_image_is_refused_before_the_package_sees_it(tmp_path, depth, untouched):
    file = write(tmp_path / "a.exr", "PIZ", depth)
    content = file.read_bytes()
    for length in (len(content) - 1, len(content) // 2, 400, 40):
        file.write_bytes(content[:length])
        with pytest.raises(SceneError, match="expected an OpenEXR image"):
            read_exr_depth(file)


@pytest.mark.parametrize("compression", ["PIZ", "PXR24", "DWAA"])
def test_a_broken_block_is_one_sentence(tmp_path, depth, compression):
    depth = depth.round()  # what cannot be compressed would be stored as it is
    file = write(tmp_path / "a.exr", compression, depth)
    content = bytearray(file.read_bytes())
    header = exr_module._read_header(file, bytes(content))
    for block in exr_module._blocks(file, bytes(content), header):
        content[block.start : block.start + block.size] = b"\xff" * block.size
    file.write_bytes(content)
    with pytest.raises(SceneError, match="has blocks that OpenEXR cannot expand") as caught:
        read_exr_depth(file)
    assert "\n" not in str(caught.value)
