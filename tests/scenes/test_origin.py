"""Large coordinates: one offset for points and cameras, taken off before anything is rounded."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pcdistill.errors import SceneError
from pcdistill.scenes import open_scene, write_ply
from pcdistill.scenes.origin import find_offset, move_frames, near_origin, scene_to_source
from tests.fixtures import box_room, matterport_replica, user_captures
from tests.fixtures.far_rooms import FUSED, SURFACES, move_rooms, opened, record3d_with_mesh

UTM = torch.tensor([451234.0, 5411876.0, 118.0], dtype=torch.float64)


def room(count=2000, seed=0):
    """Points in 4 x 3 x 2.5 m, the low corner among them."""
    points = torch.from_numpy(np.random.default_rng(seed).uniform(0, 1, (count, 3)))
    points[0] = 0
    return points * torch.tensor([4.0, 3.0, 2.5], dtype=torch.float64)


def test_a_scan_near_the_origin_stays_where_it_is_to_the_bit():
    points = room().float()
    moved = near_origin(points)
    assert torch.equal(moved.points, points)
    assert not moved.offset.any()
    assert not find_offset(room() - 990.0).any()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_offset_is_whole_metres_at_the_low_corner(sign):
    offset = find_offset(room() + sign * UTM)
    assert offset.tolist() == (sign * UTM).tolist()


def test_points_are_rounded_after_the_offset_is_off():
    far = room() + UTM + 0.123
    points, offset = near_origin(far)
    # float32 within a few metres of the origin
    torch.testing.assert_close(points.double() + offset, far, rtol=0, atol=5e-7)


@pytest.mark.parametrize("fraction", [0.3, 3.0])
def test_masses_of_equal_points_have_no_say(fraction):
    points = room() + UTM
    misses = torch.zeros((int(fraction * len(points)), 3), dtype=torch.float64)
    assert find_offset(torch.cat([misses, points])).tolist() == UTM.tolist()


def test_strays_and_numbers_that_are_none_have_no_say():
    points = room() + UTM
    strays = torch.tensor(
        [[1e12, 0, 0], [-1e9, 1e9, 5], [torch.nan, 0, 0], [torch.inf, 1, 1], [0, 0, 0]],
        dtype=torch.float64,
    )
    assert find_offset(torch.cat([strays, points])).tolist() == UTM.tolist()


def test_a_scan_around_the_origin_is_not_moved_away_from_it():
    assert not find_offset((room() - 2.0) * 2000).any()


@pytest.mark.parametrize("rows", [[], [[torch.nan, 0, 0]]])
def test_nothing_to_look_at_gives_no_offset(rows):
    assert not find_offset(torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)).any()


def test_one_or_two_points_far_out_are_moved():
    assert find_offset(UTM[None] + 0.5).tolist() == UTM.tolist()
    assert find_offset(torch.stack([UTM, UTM + 1.5])).tolist() == UTM.tolist()


def test_frames_near_the_origin_are_the_same_objects():
    frames = [object(), object()]
    assert move_frames(frames, torch.zeros(3, dtype=torch.float64)) == frames


def in_source(scene):
    """Points and camera centres where the files have them, float64."""
    back = scene_to_source(scene.provenance)
    centers = torch.stack([frame.camera_to_world[:3, 3] for frame in scene.frames])
    return [rows.double() @ back[:3, :3].T + back[:3, 3] for rows in (scene.points, centers)]


@pytest.mark.parametrize("write", SURFACES, ids=lambda write: write.__name__)
@pytest.mark.parametrize("far", [(451234.5, 5411876.25, 118.0), (-2.5e6, 30.0, 4000.0)])
def test_a_capture_far_out_is_the_one_near_by(tmp_path, monkeypatch, write, far):
    near = opened(write(tmp_path / f"near_{write.__name__}" / "scan"))
    move_rooms(monkeypatch, np.array(far))
    found = opened(write(tmp_path / f"far_{write.__name__}" / "scan"))
    assert any(found.provenance["offset"])
    assert not any(near.provenance["offset"])
    shift = torch.tensor(far, dtype=torch.float64)
    if write is record3d_with_mesh:
        shift = shift @ torch.from_numpy(user_captures.Y_UP[:3, :3].T)
    for there, here in zip(in_source(found), in_source(near), strict=True):
        torch.testing.assert_close(there - shift, here, rtol=0, atol=1e-3)
    assert float(found.points.abs().max()) < 20


@pytest.mark.parametrize("write", FUSED, ids=lambda write: write.__name__)
def test_depth_far_out_is_fused_like_depth_near_by(tmp_path, monkeypatch, write):
    near = opened(write(tmp_path / f"near_{write.__name__}" / "scan"))
    far = np.array((451234.0, 5411876.0, 118.0))
    move_rooms(monkeypatch, far)
    found = opened(write(tmp_path / f"far_{write.__name__}" / "scan"))
    shift = torch.from_numpy(far)
    (there, cameras), (here, near_cameras) = in_source(found), in_source(near)
    torch.testing.assert_close(cameras - shift, near_cameras, rtol=0, atol=1e-3)
    # a voxel holds the mean of its points, which a border of the grid may cut otherwise
    assert len(there) == pytest.approx(len(here), rel=0.02)
    for one, other in zip((there - shift).aminmax(dim=0), here.aminmax(dim=0), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0.02)
    assert float(found.points.abs().max()) < 20


def test_poses_of_another_convention_are_recognised_far_out_too(tmp_path, monkeypatch):
    move_rooms(monkeypatch, np.array((451234.0, 5411876.0, 118.0)))
    folder = box_room.write_scan(tmp_path / "scan")
    for file in (folder / "pose").iterdir():
        np.savetxt(file, np.linalg.inv(np.loadtxt(file)))
    with pytest.raises(SceneError, match="world_to_camera"):
        open_scene(folder)
    assert len(open_scene(folder, pose_convention="world_to_camera").points)


@pytest.mark.parametrize("up", ["y", "-y"])
def test_the_way_back_undoes_the_turn_as_well(tmp_path, up):
    far = torch.from_numpy(box_room.wall_points()) + UTM
    write_ply(tmp_path / "a.ply", far, doubles=True)
    scene = open_scene(tmp_path / "a.ply", up_axis=up)
    back = scene_to_source(scene.provenance)
    found = scene.points.double() @ back[:3, :3].T + back[:3, 3]
    torch.testing.assert_close(found, far, rtol=0, atol=1e-5)


def test_a_replica_scene_far_out_is_the_one_near_by(tmp_path, monkeypatch):
    near = open_scene(matterport_replica.write_replica(tmp_path / "near"), frame_step=1)
    far = np.array((451234.0, 5411876.0, 118.0))
    move_rooms(monkeypatch, far)
    folder = matterport_replica.write_replica(tmp_path / "far")
    mesh = folder.parent / f"{folder.name}_mesh.ply"
    write_ply(mesh, near.points.double() + torch.from_numpy(far), faces=near.faces, doubles=True)
    found = open_scene(folder, frame_step=1)
    assert found.provenance["offset"] == far.tolist()
    torch.testing.assert_close(found.points, near.points, rtol=0, atol=1e-3)
    for one, other in zip(found.frames, near.frames, strict=True):
        torch.testing.assert_close(one.camera_to_world, other.camera_to_world, rtol=0, atol=1e-3)


def test_sparse_points_far_out_follow_the_transform_of_the_poses(tmp_path, monkeypatch):
    turn = [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]]
    scenes = []
    for name in ("near", "far"):
        if name == "far":
            move_rooms(monkeypatch, np.array((451234.0, 5411876.0, 118.0)))
        folder = user_captures.write_nerfstudio(
            tmp_path / name, depth=False, cloud=False, applied_transform=turn
        )
        content = json.loads((folder / "transforms.json").read_text())
        for entry in content["frames"]:
            moved = np.vstack([turn, [0, 0, 0, 1]]) @ entry["transform_matrix"]
            entry["transform_matrix"] = moved.tolist()
        (folder / "transforms.json").write_text(json.dumps(content))
        user_captures.write_colmap(tmp_path / f"{name} model").joinpath("sparse").rename(
            folder / "sparse"
        )
        (folder / "colmap").mkdir()
        (folder / "sparse").rename(folder / "colmap/sparse")
        scenes.append(open_scene(folder))
    near, far = scenes
    shift = torch.tensor([451234.0, 118.0, -5411876.0], dtype=torch.float64)
    for there, here in zip(in_source(far), in_source(near), strict=True):
        torch.testing.assert_close(there - shift, here, rtol=0, atol=1e-3)
