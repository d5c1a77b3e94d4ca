"""Points that measure nothing are dropped, counted and named; all others stay."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdistill.errors import SceneError
from pcdistill.scenes import open_scene, write_ply
from pcdistill.scenes.checks import strays as strays_module
from pcdistill.scenes.checks.strays import FAR, NOT_FINITE, REPEATED, without_strays
from pcdistill.scenes.formats.ply import Ply
from tests.fixtures import box_room, user_captures

FILE = Path("hall.ply")


def room(count=3000, size=(4.0, 3.0, 2.5)):
    return torch.from_numpy(np.random.default_rng(1).uniform(0.1, 1, (count, 3)) * size).float()


def mixed(points, others):
    """Both, the others among the points; and where the points went."""
    together = torch.cat([points, others])
    order = torch.from_numpy(np.random.default_rng(2).permutation(len(together)))
    return together[order], order < len(points)


def test_nothing_is_touched_where_all_is_well():
    surface = Ply(room())
    assert without_strays(FILE, surface) is surface


@pytest.mark.parametrize("count", [10, 400, 9000])
@pytest.mark.parametrize("offset", [[0.0, 0, 0], [451234.0, 5411876, 118]])
def test_misses_at_the_origin_are_left_out_and_counted(count, offset, caplog):
    offset = torch.tensor(offset, dtype=torch.float64)
    points, real = mixed(room(), (-offset).float().repeat(count, 1))
    with caplog.at_level(logging.WARNING):
        left = without_strays(FILE, Ply(points, offset=offset))
    assert torch.equal(left.points, points[real])
    assert left.left_out == {REPEATED: count}
    assert f"hall.ply: left out of {3000 + count} points: {count} {REPEATED}" in caplog.text


def test_a_scanners_own_place_is_left_out_wherever_it_is():
    points, real = mixed(room(), torch.tensor([[1.5, 1.25, 1.0], [3.0, 1, 1]]).repeat(60, 1))
    left = without_strays(FILE, Ply(points))
    assert torch.equal(left.points, points[real])
    assert left.left_out == {REPEATED: 120}


def test_what_is_known_of_the_points_stays_with_them():
    points, real = mixed(room(), torch.zeros(100, 3))
    number = torch.arange(len(points))
    shades = (number[:, None] % 200).repeat(1, 3).to(torch.uint8)
    normals = number[:, None].repeat(1, 3).float()
    left = without_strays(FILE, Ply(points, shades, normals, None, {"label": number}))
    kept = real.nonzero()[:, 0]
    assert torch.equal(left.scalars["label"], kept)
    assert torch.equal(left.colors, shades[kept])
    assert torch.equal(left.normals, normals[kept])


def test_real_points_at_the_origin_are_told_from_misses_by_their_color():
    points, real = mixed(torch.cat([room(), torch.zeros(3, 3)]), torch.zeros(500, 3))
    colors = torch.where(real[:, None], 90, 0).to(torch.uint8).repeat(1, 3)
    left = without_strays(FILE, Ply(points, colors))
    assert torch.equal(left.points, points[real])


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(torch.ones(500, 3), id="all alike"),
        pytest.param(torch.zeros(500, 3), id="all at the origin"),
        pytest.param(room().repeat(3, 1), id="written three times"),
        pytest.param((room(30_000) * 3).round() / 3, id="on a coarse grid"),
        pytest.param(torch.cat([room(), torch.zeros(9, 3)]), id="a few at the origin"),
    ],
)
def test_points_that_repeat_all_over_stay(points):
    surface = Ply(points)
    assert without_strays(FILE, surface) is surface


def test_outdoor_points_far_from_a_dense_middle_stay():
    rng = np.random.default_rng(3)
    distance = np.abs(rng.standard_cauchy(20_000)).clip(max=60) * 5
    angle = rng.uniform(0, 2 * np.pi, 20_000)
    points = np.stack([distance * np.cos(angle), distance * np.sin(angle), angle], axis=1)
    points = np.concatenate([points, [[200.0, 0, 1], [0, -210, 3], [600, 0, 30]]])
    surface = Ply(torch.from_numpy(points).float())
    assert without_strays(FILE, surface) is surface


def test_strays_at_impossible_distances_go():
    others = torch.tensor([[5.4e6, 0, 0], [0, -1e9, 0], [3.0, 2.0, 30_000]])
    points, real = mixed(room(), others)
    left = without_strays(FILE, Ply(points))
    assert torch.equal(left.points, points[real])
    assert left.left_out == {FAR: 3}


@pytest.mark.parametrize("fraction", [0.15, 0.5, 0.85])
def test_two_places_are_no_scan_with_strays(fraction):
    points = room()
    points[: int(fraction * len(points))] += torch.tensor([451234.0, 5411876, 0])
    with pytest.raises(SceneError, match="expected one"):
        without_strays(FILE, Ply(points))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -1e35])
def test_faces_that_use_a_dropped_point_go_and_the_others_keep_their_corners(bad):
    points = room(100)
    points[[0, 40]] = torch.tensor([bad, 0, 0])
    faces = torch.tensor([[0, 1, 2], [1, 2, 3], [41, 39, 40], [99, 41, 39]])
    left = without_strays(FILE, Ply(points, faces=faces))
    assert left.left_out == {NOT_FINITE: 2}
    assert left.faces.tolist() == [[0, 1, 2], [97, 39, 38]]
    assert torch.equal(left.points[left.faces], points[faces[[1, 3]]])


def test_corners_that_many_faces_share_are_no_mass():
    fan = room(200)
    fan[:100] = 0  # a triangle soup whose corner lies in a hundred triangles
    faces = torch.stack([torch.arange(100), torch.arange(100) + 100, torch.arange(100)], dim=1)
    surface = Ply(fan, faces=faces)
    assert without_strays(FILE, surface) is surface


def test_masses_are_found_in_clouds_of_which_only_some_is_looked_at(monkeypatch):
    monkeypatch.setattr(strays_module, "_MAX_ROWS", 2000)
    points, real = mixed(room(30_000), torch.tensor([[1.0, 1.0, 1.0]]).repeat(3000, 1))
    left = without_strays(FILE, Ply(points))
    assert torch.equal(left.points, points[real])


def test_a_mesh_file_says_what_was_left_out(tmp_path):
    points = room(50)
    points[7] = torch.nan
    write_ply(tmp_path / "a.ply", points, faces=torch.tensor([[7, 8, 9], [10, 11, 12]]))
    scene = open_scene(tmp_path / "a.ply")
    assert scene.faces.tolist() == [[9, 10, 11]]
    assert scene.provenance["dropped_points"] == 1
    assert scene.provenance["points_left_out"] == {NOT_FINITE: 1}


def test_captures_too_are_without_misses_strays_and_empty_colors(tmp_path):
    """Misses and one far point in the surface of a capture; its colours are all grey."""
    folder = box_room.write_scan(tmp_path / "scan")
    walls = torch.from_numpy(box_room.wall_points())
    bad = torch.cat([torch.tensor([[2.0, 2.0, 1.0]]).repeat(80, 1), torch.full((1, 3), 4e5)])
    points = torch.cat([walls, bad.double()])
    gray = torch.full((len(points), 3), 128, dtype=torch.uint8)
    write_ply(folder / "cloud.ply", points, colors=gray)
    scene = open_scene(folder, surface_file="cloud.ply")
    torch.testing.assert_close(scene.points.double(), walls, rtol=0, atol=1e-6)
    assert scene.provenance["points_left_out"] == {REPEATED: 80, FAR: 1}
    assert scene.colors is None


def test_a_sparse_cloud_is_without_points_at_infinity(tmp_path):
    folder = user_captures.write_colmap(tmp_path / "a", binary=False)
    with (folder / "sparse/0/points3D.txt").open("a") as stream:
        stream.write("9999 1e7 2e6 3 10 20 30 0.5 1 0 1 0 1 0\n")
    scene = open_scene(folder)
    assert scene.provenance["points_left_out"] == {FAR: 1}
    assert float(scene.points.abs().max()) < 10
