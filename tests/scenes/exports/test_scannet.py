"""Text files of ScanNet's benchmark: read as plain text."""

from __future__ import annotations

import zipfile

import pytest

from pcdistill.errors import ConfigError, SceneError
from pcdistill.scenes import get_export_format, load_label_set, write_benchmark_zip
from tests.scenes.exports.clouds import cloud


def test_each_line_is_the_id_of_a_vertex(tmp_path):
    of, file = cloud(), tmp_path / "scene0707_00.txt"
    get_export_format("scannet").write(file, of)
    lines = file.read_text(encoding="ascii").splitlines()
    assert lines == [str(0 if v % 7 == 0 else 2 * (v % 5) + 1) for v in range(len(lines))]
    assert len(lines) == len(of.scene.points)


@pytest.mark.parametrize(("name", "last"), [("scannet20", 39), ("scannet200", 1191)])
def test_the_benchmarks_own_label_sets_can_be_written(name, last):
    found = load_label_set(name)
    get_export_format("scannet").require(found)
    assert found.ids[-1] == last


@pytest.mark.parametrize("name", ["matterport21", "nuscenes16"])
def test_others_are_refused(name):
    with pytest.raises(
        ConfigError, match=rf"{name} has no ids .* expected scannet20 or scannet200"
    ):
        get_export_format("scannet").require(load_label_set(name))


def test_vertices_that_were_left_out_are_no_lines(tmp_path):
    with pytest.raises(SceneError, match="3 vertices of its mesh were left out"):
        get_export_format("scannet").write(tmp_path / "a.txt", cloud(dropped_points=3))
    assert list(tmp_path.iterdir()) == []


def test_the_archive_has_no_folders(tmp_path):
    files = [tmp_path / "in" / f"scene070{number}_00.txt" for number in (7, 8)]
    for points, file in enumerate(files):
        get_export_format("scannet").write(file, cloud(points=10 + points))
    write_benchmark_zip(tmp_path / "scannet.zip", files)
    with zipfile.ZipFile(tmp_path / "scannet.zip") as packed:
        assert packed.namelist() == ["scene0707_00.txt", "scene0708_00.txt"]
        assert [packed.read(name).count(b"\n") for name in packed.namelist()] == [10, 11]
