"""Captures of public bug reports, all of one analytic room: values against the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pcdistill.errors import SceneError
from pcdistill.scenes import open_scene

REPORTS = Path(__file__).parents[3] / "shared" / "data" / "reports"
UTM = np.array([451234.0, 5411876.0, 118.0])
ROOM = np.array([[0.0, 0.0, 0.0], [4.0, 3.0, 2.5]])  # metres, z up
TABLE = np.array([[1.5, 1.0, 0.0], [2.5, 2.0, 0.7]])
MILLIMETRES = 2e-3  # depth is stored in whole ones
COLOR = 40  # of 255: JPEG, beside edges of the checker too

pytestmark = pytest.mark.skipif(not REPORTS.is_dir(), reason="the reports are not here")


def read(name, **settings):
    return open_scene(REPORTS / name, **settings)


def in_room(scene, origin=0.0):
    """Points and camera-to-world poses in the room's own coordinates, z up, float64."""
    shift = np.array(scene.provenance["offset"]) - origin
    poses = [frame.camera_to_world.numpy().copy() for frame in scene.frames]
    for pose in poses:
        pose[:3, 3] += shift
    return scene.points.double().numpy() + shift, poses


def away_from_surfaces(points):
    """(N,) metres to the nearest wall, floor, ceiling or side of the table."""
    walls = np.abs(points[:, None] - ROOM).min(axis=(1, 2))
    outside = np.maximum(np.maximum(TABLE[0] - points, points - TABLE[1]), 0)
    inside = np.minimum(points - TABLE[0], TABLE[1] - points).min(axis=1)
    table = np.where(inside > 0, inside, np.linalg.norm(outside, axis=1))
    return np.minimum(walls, table)


def true_depth(intrinsics, pose, image_size):
    """(H, W) metres along the optical axis to what a camera in the room sees first."""
    v, u = np.mgrid[: image_size[0], : image_size[1]]
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(intrinsics).T @ pose[:3, :3].T
    with np.errstate(divide="ignore", invalid="ignore"):
        wall = np.where(rays > 0, ROOM[1] - pose[:3, 3], ROOM[0] - pose[:3, 3]) / rays
        ends = np.sort((TABLE[:, None, None] - pose[:3, 3]) / rays, axis=0)
    near, far = ends[0].max(axis=-1), ends[1].min(axis=-1)
    return np.where((near > 0) & (near < far), near, wall.min(axis=-1))


def require_true_depth(scene, origin=0.0, least=0.5, tolerance=MILLIMETRES):
    """Every reading of the files is the truth but for rounding, and for pixels on edges."""
    _, poses = in_room(scene, origin)
    for frame, pose in zip(scene.frames, poses, strict=True):
        frame = getattr(frame, "frame", frame)  # as its files are, where it is shown smaller
        if frame.depth_path is None:
            continue
        depth = frame.file_depth(frame.depth_path).numpy()
        camera = frame.intrinsics if frame.depth_intrinsics is None else frame.depth_intrinsics
        truth = true_depth(camera.numpy(), pose, depth.shape)
        known = depth > 0
        assert known.mean() > least
        assert (np.abs(depth - truth)[known] < tolerance).mean() > 0.97


def require_true_colors(scene, origin=0.0, least=0.8):
    """Points in view have the colour of the pixel they fall on, but beside edges of the checker."""
    points, poses = in_room(scene, origin)
    seen = right = 0
    for frame, pose in zip(scene.frames, poses, strict=True):
        truth = true_depth(frame.intrinsics.numpy(), pose, frame.image_size)
        in_camera = (points - pose[:3, 3]) @ pose[:3, :3]
        ahead = in_camera[:, 2] > 0.1
        pixels = in_camera[ahead] @ frame.intrinsics.numpy().T
        places = np.rint(pixels[:, :2] / pixels[:, 2:]).astype(int)
        height, width = frame.image_size
        inside = ((places >= 0) & (places < [width, height])).all(axis=1)
        columns, rows = places[inside].T
        visible = np.abs(in_camera[ahead][inside, 2] - truth[rows, columns]) < 0.02
        colors = scene.colors.numpy()[ahead][inside][visible].astype(int)
        pictured = frame.image().numpy()[rows[visible], columns[visible]].astype(int)
        seen += int(visible.sum())
        right += int((np.abs(colors - pictured).max(axis=1) < COLOR).sum())
    assert seen > 500
    assert right / seen > least


@pytest.mark.parametrize(
    ("name", "origin"), [("02_colmap_local", 0.0), ("02_colmap_utm", UTM), ("17_colmap_exif", 0.0)]
)
def test_colmap_models_are_the_room(name, origin):
    scene = read(name)
    points, _ = in_room(scene, origin)
    assert len(scene.frames) == 8
    assert away_from_surfaces(points).max() < 1e-3
    np.testing.assert_allclose([points.min(axis=0), points.max(axis=0)], ROOM, atol=1e-3)
    require_true_colors(scene, origin)


def test_a_model_far_out_is_the_local_one():
    near, far = in_room(read("02_colmap_local")), in_room(read("02_colmap_utm"), UTM)
    np.testing.assert_allclose(far[0], near[0], atol=1e-3)
    np.testing.assert_allclose(far[1], near[1], atol=1e-3)
    assert read("02_colmap_utm").provenance["offset"] == UTM.tolist()


def test_rgbd_far_out_is_the_room():
    scene = read("02_rgbd_utm")
    points, poses = in_room(scene, UTM)
    # a voxel's point is the mean of what lies in it, beside an edge of two surfaces
    assert np.quantile(away_from_surfaces(points), 0.95) < 0.01
    assert all((pose[:3, 3] > 0).all() and (pose[:3, 3] < ROOM[1]).all() for pose in poses)
    require_true_depth(scene, UTM, tolerance=7e-3)  # its poses are written with nine digits


@pytest.mark.parametrize("name", ["07_nerfstudio_backslash", "07_nerfstudio_bom"])
def test_nerfstudio_in_disguise(name):
    scene = read(name)
    assert len(scene.frames) == 8
    assert np.quantile(away_from_surfaces(in_room(scene)[0]), 0.95) < 0.01
    require_true_depth(scene)
    require_true_colors(scene)


def test_frames_of_two_cameras_some_without_depth():
    scene = read("24_nerfstudio_frames")
    assert len(scene.frames) == 8
    assert scene.provenance["frames_without_depth"] == 2
    assert len({frame.image_size for frame in scene.frames}) == 2
    assert len({float(frame.intrinsics[0, 0]) for frame in scene.frames}) == 8
    require_true_depth(scene)


def test_65535_is_no_reading():
    zero = read("12_slow_0_scale_6553", depth_scale=6553.5)
    largest = read("12_slow_65535_scale_6553", depth_scale=6553.5)
    assert torch.equal(zero.points, largest.points)
    assert torch.equal(zero.colors, largest.colors)
    for one, other in zip(zero.frames, largest.frames, strict=True):
        assert torch.equal(one.depth(), other.depth())
    assert away_from_surfaces(in_room(largest)[0]).max() < 0.1
    scene = read("12_invalid_65535_mm")
    assert max(float(frame.depth().max()) for frame in scene.frames) < 5.1
    require_true_depth(scene)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    # images and depth of ARKitScenes are 4 ms apart, on a way of half a metre a second
    [("15_scannetpp", MILLIMETRES), ("16_record3d_portrait", MILLIMETRES), ("25_arkit", 0.05)],
)
def test_what_was_right_stays_right(name, tolerance):
    scene = read(name)
    assert len(scene.frames) == 8
    assert np.quantile(away_from_surfaces(in_room(scene)[0]), 0.95) < 0.01
    require_true_depth(scene, least=0.4, tolerance=tolerance)


def test_a_camera_that_is_no_pinhole_is_named():
    message = r"a camera model that is not read \(17, EQUIRECTANGULAR\).*undistort to PINHOLE"
    with pytest.raises(SceneError, match=message) as caught:
        read("18_colmap_equirectangular")
    assert "damaged" not in str(caught.value)


def test_portraits_with_the_camera_of_landscapes_are_refused():
    message = r"that of images of 160 x 120 pixels, 0\.jpg is 120 x 160, .*; exchange fx with fy"
    with pytest.raises(SceneError, match=message):
        read("19_portrait_landscape_k")
    scene = read("19_portrait_right")
    require_true_depth(scene)
    require_true_colors(scene)
