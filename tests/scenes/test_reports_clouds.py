"""Clouds and meshes of public bug reports, each a room whose truth is known."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from pcdistill.pipeline.config import PartitionConfig
from pcdistill.scenes import open_scene
from pcdistill.stages.partition import partition_scene

REPORTS = Path(__file__).parents[3] / "shared" / "data" / "reports"
UTM = [451234.0, 5411876.0, 118.0]

pytestmark = pytest.mark.skipif(not REPORTS.is_dir(), reason="the reports are not here")


def scene(name, **settings):
    return open_scene(REPORTS / name, **settings)


def in_source(found):
    return found.points.double() + torch.tensor(found.provenance["offset"], dtype=torch.float64)


@pytest.mark.parametrize(
    "name", ["01_utm_double_cloud.ply", "01_utm_double_mesh.ply", "01_utm.las"]
)
def test_large_coordinates_are_the_same_room(name):
    local, far = scene("01_local_mesh.ply"), scene(name)
    assert far.provenance["offset"] == UTM
    # a millimetre: the grid of the LAS file is half of one off
    torch.testing.assert_close(far.points, local.points, rtol=0, atol=1e-3)
    assert torch.equal(far.colors, local.colors)
    if name.endswith("mesh.ply"):
        assert torch.equal(far.faces, local.faces)
    assert local.provenance["offset"] == [0.0, 0.0, 0.0]


def test_a_colmap_model_far_out_is_the_local_one():
    local, far = scene("02_colmap_local"), scene("02_colmap_utm")
    assert far.provenance["offset"] == UTM
    torch.testing.assert_close(far.points, local.points, rtol=0, atol=1e-3)
    for one, other in zip(far.frames, local.frames, strict=True):
        torch.testing.assert_close(one.camera_to_world, other.camera_to_world, rtol=0, atol=1e-6)


def test_depth_far_out_is_fused_like_depth_near_by():
    found = scene("02_rgbd_utm")
    low, high = in_source(found).aminmax(dim=0)
    truth = torch.tensor(UTM, dtype=torch.float64)
    # depth in whole millimetres
    torch.testing.assert_close(low - truth, torch.zeros(3).double(), rtol=0, atol=2e-3)
    assert (high - truth)[:2].tolist() == pytest.approx([4.0, 3.0], abs=2e-3)
    assert max(abs(f.camera_to_world[:3, 3]).max() for f in found.frames) < 10


@pytest.mark.parametrize("name", ["05_phantom_utm.pcd", "05_phantom_local.pcd"])
def test_misses_are_left_out_and_counted(name):
    found, truth = scene(name), scene("01_local_mesh.ply")
    torch.testing.assert_close(found.points, truth.points, rtol=0, atol=1e-3)
    assert torch.equal(found.colors, truth.colors)
    assert found.provenance["dropped_points"] == 3196
    assert found.provenance["offset"] == (UTM if "utm" in name else [0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("name", "count"),
    [("all_same", 500), ("collinear", 500), ("one_point", 1), ("two_points", 2)],
)
def test_degenerate_clouds_stay_whole(name, count):
    assert len(scene(f"20_{name}.ply").points) == count


@pytest.mark.skipif(find_spec("pye57") is None, reason="pye57 is not installed")
def test_e57_has_the_rooms_colors_and_no_misses():
    truth = scene("01_local_mesh.ply")
    for name in ("04_colour8.e57", "04_colour_float.e57", "05_flagged_utm.e57"):
        found = scene(name)
        torch.testing.assert_close(found.points, truth.points, rtol=0, atol=1e-3)
        assert torch.equal(found.colors, truth.colors)
    assert found.provenance["dropped_points"] == 3196
    assert found.provenance["offset"] == UTM


@pytest.mark.parametrize("kind", ["padding", "r_g_b_u1", "red_green_blue_u2"])
def test_colors_of_pcd_files_in_every_layout(kind):
    found, truth = scene(f"09_{kind}.pcd"), scene("01_local_mesh.ply")
    torch.testing.assert_close(found.points, truth.points, rtol=0, atol=1e-6)
    assert torch.equal(found.colors, truth.colors)


@pytest.mark.parametrize(
    "kind", ["big_endian", "diffuse_red", "list_int_int", "list_ushort_crlf", "quads_and_triangles"]
)
def test_ply_files_of_every_writer_are_the_same_mesh(kind):
    found, truth = scene(f"22_{kind}.ply"), scene("20_triangle_shared.ply")
    torch.testing.assert_close(found.points, truth.points, rtol=0, atol=1e-6)
    assert torch.equal(found.colors, truth.colors)
    if found.faces is not None:
        assert len(found.faces) == len(truth.faces)


def test_uneven_lists_are_skipped():
    found, truth = scene("10_openmvs_lists.ply"), scene("01_local_mesh.ply")
    torch.testing.assert_close(found.points, truth.points, rtol=0, atol=1e-6)
    assert torch.equal(found.colors, truth.colors)


def test_las_without_colors_has_none_and_marked_points_are_left_out():
    truth = scene("01_local_mesh.ply")
    for name in ("06_no_rgb.las", "06_zero_rgb.las", "06_withheld_noise_14.las"):
        found = scene(name)
        torch.testing.assert_close(found.points, truth.points, rtol=0, atol=1e-3)
        assert (found.colors is None) == ("rgb" in name)
    assert found.provenance["dropped_points"] == 400
    assert found.bounds[1].tolist() == pytest.approx([4, 3, 2.5], abs=1e-3)


def test_a_triangle_soup_has_the_superpoints_of_the_mesh():
    def pieces(name):
        found = scene(name)
        partition = partition_scene(found, PartitionConfig())
        assert partition.method == "mesh"
        places = [tuple(place) for place in found.points.tolist()]
        return dict(zip(places, partition.superpoint_ids.tolist(), strict=True)), partition

    soup, of_soup = pieces("20_triangle_soup.ply")
    shared, of_shared = pieces("20_triangle_shared.ply")
    assert soup.keys() == shared.keys()
    pairs = {(soup[place], shared[place]) for place in soup}
    assert len(pairs) == len(set(soup.values())) == len(set(shared.values()))
    assert len(of_soup.edges) == len(of_shared.edges)
