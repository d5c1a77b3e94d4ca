"""LAS and LAZ files that laspy wrote, read chunk by chunk."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from pcdistill.errors import SceneError
from pcdistill.scenes import las as las_module
from pcdistill.scenes.las import read_las

laspy = pytest.importorskip("laspy", reason="laspy is not installed (extra las)")


def write(file, points, colors=None, *, version="1.4", scale=0.001, offset=(0.0, 0.0, 0.0)):
    """Points in metres and 16-bit colours in a file of this version."""
    header = laspy.LasHeader(point_format=7 if version == "1.4" else 2, version=version)
    header.scales = np.full(3, scale)
    header.offsets = np.array(offset)
    content = laspy.LasData(header)
    content.x, content.y, content.z = np.asarray(points, dtype=np.float64).T
    if colors is not None:
        content.red, content.green, content.blue = np.asarray(colors, dtype=np.uint16).T
    content.write(str(file))
    return file


@pytest.fixture
def points():
    return np.random.default_rng(0).uniform(-4, 4, (2500, 3)).round(3)


@pytest.mark.parametrize("suffix", ["las", "laz"])
@pytest.mark.parametrize("version", ["1.2", "1.4"])
@pytest.mark.parametrize("chunk", [1000, 2500, 10_000])
def test_points_and_colors_are_those_that_were_written(
    tmp_path, monkeypatch, points, suffix, version, chunk
):
    monkeypatch.setattr(las_module, "_CHUNK", chunk)
    colors = np.random.default_rng(1).integers(0, 65536, (2500, 3))
    file = write(tmp_path / f"a.{suffix}", points, colors, version=version)
    surface = read_las(file)
    assert surface.offset.tolist() == [0.0, 0.0, 0.0]
    assert str(surface.points.dtype) == "torch.float32"
    # float32 at a few metres
    np.testing.assert_allclose(surface.points, points, atol=1e-6)
    np.testing.assert_array_equal(surface.colors, colors // 257)


def test_a_survey_is_moved_by_whole_metres_and_keeps_its_millimetres(tmp_path, points):
    far = np.array([687_000.25, 5_334_000.5, 512.0])
    file = write(tmp_path / "a.laz", points + far, offset=far)
    surface = read_las(file)
    assert surface.offset.tolist() == np.floor((points + far).min(axis=0)).tolist()
    found = surface.points.double().numpy() + surface.offset.numpy()
    # stored in whole millimetres: half of one
    np.testing.assert_allclose(found, points + far, atol=6e-4)


def test_colors_of_eight_bits_are_taken_as_they_are(tmp_path, points):
    colors = np.tile([0, 100, 255], (2500, 1))
    surface = read_las(write(tmp_path / "a.las", points, colors))
    assert surface.colors[7].tolist() == [0, 100, 255]


def test_dark_beginnings_of_sixteen_bits_are_dark(tmp_path, monkeypatch, points):
    monkeypatch.setattr(las_module, "_CHUNK", 1000)
    colors = np.full((2500, 3), 200)
    colors[2000:] = 60_000
    surface = read_las(write(tmp_path / "a.las", points, colors))
    np.testing.assert_array_equal(surface.colors, colors // 257)


def test_memory_is_that_of_the_result_and_a_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(las_module, "_CHUNK", 1000)
    count = 200_000
    points = np.random.default_rng(0).uniform(-4, 4, (count, 3))
    file = write(tmp_path / "a.las", points, np.full((count, 3), 60_000))
    read_las(file)  # what is imported and kept is no part of it
    tracemalloc.start()
    read_las(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count * 15 < peak < count * 15 + 500_000


def test_a_file_without_points(tmp_path):
    surface = read_las(write(tmp_path / "a.las", np.zeros((0, 3))))
    assert len(surface.points) == 0
    assert surface.offset.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_a_truncated_file_is_one_sentence(tmp_path, points, suffix):
    file = write(tmp_path / f"a.{suffix}", points)
    content = file.read_bytes()
    for length in (len(content) - 1, len(content) // 2, 400):
        file.write_bytes(content[:length])
        with pytest.raises(SceneError, match=r"damaged, export it again") as caught:
            read_las(file)
        assert "\n" not in str(caught.value)


def test_a_scale_that_cannot_be_is_refused(tmp_path, points):
    file = write(tmp_path / "a.las", points)
    content = bytearray(file.read_bytes())
    for scale in (1e300, float("nan"), float("inf")):
        content[131:139] = np.float64(scale).tobytes()
        file.write_bytes(content)
        with pytest.raises(SceneError, match="its header places points at"):
            read_las(file)
