"""What is written of a scene lies where the scan's own files have it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pcdistill.scenes import open_scene, read_ply, write_ply, write_scene, write_source_ply
from tests.fixtures import box_room, scannet, user_captures
from tests.fixtures.far_rooms import SURFACES, move_rooms, opened, record3d_with_mesh

FAR = np.array([451234.5, 5411876.25, 118.0])


def exported(scene, folder):
    """Of the stored scene, as `export` does it: the file's text before the data, and what it is."""
    write_scene(scene, folder / "stored")
    stored = open_scene(folder / "stored")
    count = len(stored.points)
    write_source_ply(
        folder / "out.ply",
        stored,
        colors=torch.zeros((count, 3), dtype=torch.uint8),
        scalars={"label": torch.arange(count)},
    )
    header = (folder / "out.ply").read_bytes().split(b"end_header")[0].decode()
    return header, read_ply(folder / "out.ply")


def places(ply):
    return ply.points.double() + ply.offset


@pytest.mark.parametrize("write", SURFACES, ids=lambda write: write.__name__)
def test_a_capture_far_out_is_exported_where_its_surface_lies(tmp_path, monkeypatch, write):
    move_rooms(monkeypatch, FAR)
    scene = opened(write(tmp_path / write.__name__ / "scan"))
    header, found = exported(scene, tmp_path)
    truth = torch.from_numpy(
        box_room.wall_points(0.5 if write is user_captures.write_colmap else 0.1)
    )
    if write is user_captures.write_colmap:
        truth = truth[1:]  # seen by two images only
    if write is record3d_with_mesh:
        truth = truth @ torch.from_numpy(user_captures.Y_UP[:3, :3].T)
    torch.testing.assert_close(places(found), truth, rtol=0, atol=1e-3)
    assert "property double x" in header


@pytest.mark.parametrize("up", ["z", "y", "-y"])
@pytest.mark.parametrize("far", [0.0, 1.0])
def test_a_mesh_comes_back_with_its_faces_and_normals(tmp_path, up, far):
    points = torch.from_numpy(box_room.wall_points() + far * FAR)
    normals = torch.nn.functional.normalize(torch.from_numpy(box_room.wall_points() - 1.2), dim=1)
    faces = torch.tensor([[0, 1, 2], [5, 4, 3]])
    write_ply(tmp_path / "a.ply", points, normals=normals, faces=faces, doubles=True)
    header, found = exported(open_scene(tmp_path / "a.ply", up_axis=up), tmp_path)
    torch.testing.assert_close(places(found), points, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.normals.double(), normals, rtol=0, atol=1e-6)
    assert torch.equal(found.faces, faces)
    assert found.scalars["label"].tolist() == list(range(len(points)))
    assert ("double" in header) == bool(far)


def test_points_that_were_left_out_are_missing_and_the_others_in_order(tmp_path):
    points = box_room.wall_points() + FAR
    points[[3, 70]] = np.nan
    (tmp_path / "a.pcd").write_bytes(pcd_of_doubles(points))
    scene = open_scene(tmp_path / "a.pcd", up_axis="y")
    _, found = exported(scene, tmp_path)
    kept = points[np.isfinite(points).all(axis=1)]
    np.testing.assert_allclose(places(found), kept, rtol=0, atol=1e-5)
    assert scene.provenance["dropped_points"] == 2


def test_scannet_with_aligned_axes_is_exported_unaligned(tmp_path):
    folder = scannet.write_scannet(tmp_path)
    scene = open_scene(folder, align_axes=True)
    plain = open_scene(folder)
    assert not torch.allclose(scene.points, plain.points, atol=0.1)
    _, found = exported(scene, tmp_path)
    torch.testing.assert_close(places(found), plain.points.double(), rtol=0, atol=1e-5)


def pcd_of_doubles(points):
    header = (
        "VERSION 0.7\nFIELDS x y z\nSIZE 8 8 8\nTYPE F F F\nCOUNT 1 1 1\n"
        f"WIDTH {len(points)}\nHEIGHT 1\nDATA binary\n"
    )
    return header.encode() + points.astype("<f8").tobytes()
