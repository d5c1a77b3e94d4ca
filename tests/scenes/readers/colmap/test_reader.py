"""COLMAP models: world-to-camera, w first, half a pixel off, in no unit at all."""

from __future__ import annotations

import logging
import shutil
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from pcdistill.errors import SceneError
from pcdistill.scenes import write_ply
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.colmap.model import read_depth_map
from pcdistill.scenes.readers.colmap.reader import find_colmap
from pcdistill.scenes.readers.detection import DetectedScan, open_scan
from tests.fixtures import box_room, user_captures
from tests.tolerances import FLOAT32, FLOAT64


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return user_captures.write_colmap(tmp_path_factory.mktemp("colmap") / "room", depth=True)


@pytest.fixture
def model(written, tmp_path):
    shutil.copytree(written, tmp_path / "room")
    return tmp_path / "room"


@pytest.fixture
def text(tmp_path):
    return user_captures.write_colmap(tmp_path / "room", binary=False)


def read(folder, **settings):
    (scan,) = find_colmap(folder)
    settings = {"fuse_voxel_size": 0.1} | settings
    return open_scan(DetectedScan("colmap", scan), ReaderSettings(**settings))


def refused(folder, message, **settings):
    with pytest.raises(SceneError, match=message) as caught:
        read(folder, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("camera", ["PINHOLE", "SIMPLE_PINHOLE"])
@pytest.mark.parametrize("sparse", ["sparse/0", "sparse"])
def test_poses_and_points_are_those_that_were_written(tmp_path, binary, camera, sparse, caplog):
    folder = user_captures.write_colmap(tmp_path / "a", binary=binary, model=camera, sparse=sparse)
    with caplog.at_level(logging.WARNING):
        scene = read(folder)
    assert [frame.name for frame in scene.frames] == [f"{i:03d}" for i in range(8)]
    for frame, pose in zip(scene.frames, box_room.poses(8), strict=True):
        np.testing.assert_allclose(frame.camera_to_world, pose, atol=FLOAT64)
        np.testing.assert_allclose(frame.intrinsics, box_room.INTRINSICS)
        assert frame.depth() is None
        assert frame.image().shape == (60, 80, 3)
    np.testing.assert_allclose(scene.points, box_room.wall_points(0.5)[1:], atol=FLOAT32)
    assert scene.colors[0].tolist() == [10, 20, 30]
    assert scene.provenance["surface"] == "sparse points"
    assert scene.provenance["unit"] == "arbitrary"
    assert "the unit of a COLMAP model is arbitrary" in caplog.text


def test_a_known_point_lands_on_the_pixel_of_colmaps_own_projection(written):
    point = np.array([5.0, 2.0, 1.0, 1.0])
    content = (written / "sparse/0/images.bin").read_bytes()
    w, x, y, z, *t = struct.unpack_from("<7d", content, 12)  # the first image
    axis = np.array([x, y, z])
    turned = point[:3] + 2 * np.cross(axis, np.cross(axis, point[:3]) + w * point[:3])
    in_camera = turned + t
    focal, cx, cy = 60.0, 40.0, 30.0  # as the file has them: the image's corner is (0, 0)
    corner_pixel = focal * in_camera[:2] / in_camera[2] + [cx, cy]
    frame = read(written).frames[0]
    ours = frame.intrinsics.numpy() @ (np.linalg.inv(frame.camera_to_world.numpy()) @ point)[:3]
    np.testing.assert_allclose(ours[:2] / ours[2] + 0.5, corner_pixel)


def test_dense_depth_is_read_and_fused(written):
    scene = read(written)
    assert scene.provenance["surface"] == "fused depth"
    for frame, pose in zip(scene.frames, box_room.poses(8), strict=True):
        np.testing.assert_allclose(frame.depth(), box_room.depth_of(pose), rtol=FLOAT32)
    walls = np.stack([scene.points, torch.from_numpy(box_room.SIZE).float() - scene.points])
    assert np.quantile(np.abs(walls).min(axis=(0, 2)), 0.95) < 0.03


def test_smaller_depth_and_an_own_folder_of_depth(model):
    half = box_room.INTRINSICS * [[0.5], [0.5], [1]]
    half[:2, 2] -= 0.25
    (model / "depth/left").mkdir(parents=True)
    for i, pose in enumerate(box_room.poses(8)):
        user_captures.counts(pose, intrinsics=half, image_size=(30, 40)).save(
            model / f"depth/left/{i:03d}.png"
        )
    frame = read(model).frames[1]
    error = np.abs(frame.depth().numpy() / box_room.depth_of(box_room.poses(8)[1]) - 1)
    assert np.quantile(error, 0.95) < 0.03
    Image.new("I;16", (30, 40)).save(model / "depth/left/001.png")
    refused(model, r"001\.png: is 30 x 40 pixels, its image 80 x 60, expected one shape")


def test_a_dense_cloud_is_the_surface(model):
    write_ply(model / "fused.ply", torch.from_numpy(box_room.wall_points()))
    scene = read(model)
    assert scene.provenance["surface"] == "fused.ply"
    assert len(scene.points) == len(box_room.wall_points())
    write_ply(model / "fused.ply", torch.from_numpy(0.5 * box_room.wall_points()))
    refused(model, r"with fused\.ply: .* the surface")


def test_a_cloud_elsewhere_is_noticed_without_depth(text):
    write_ply(text / "fused.ply", torch.from_numpy(box_room.wall_points() + np.array([0, 0, 1e4])))
    refused(text, "no frame looked at has a single point of the cloud in view")


def test_the_dense_workspace_comes_first(tmp_path):
    user_captures.write_colmap(
        tmp_path / "a", model="OPENCV", parameters=(60, 60, 40, 30, 0.1, 0, 0, 0)
    )
    refused(tmp_path / "a", "camera 1 is a OPENCV with lens distortion.*image_undistorter")
    user_captures.write_colmap(tmp_path / "a/dense", sparse="sparse")
    assert read(tmp_path / "a").provenance["model"] == "dense/sparse"


def test_a_distorted_model_without_distortion_is_a_pinhole(tmp_path):
    folder = user_captures.write_colmap(
        tmp_path / "a", model="SIMPLE_RADIAL", parameters=(60, 40, 30, 0)
    )
    np.testing.assert_allclose(read(folder).frames[0].intrinsics, box_room.INTRINSICS)


def test_images_that_are_missing_or_of_another_size(model):
    (model / "images/left/003.jpg").unlink()
    scene = read(model)
    assert len(scene.frames) == 7
    assert scene.provenance["skipped_frames"] == 1
    Image.new("RGB", (40, 30)).save(model / "images/left/004.jpg")
    refused(model, r"004\.jpg: is 40 x 30 pixels, 0 has a camera for 80 x 60")
    shutil.rmtree(model / "images")
    refused(model, "none of the 8 frames has both its image and a pose")


def test_lies_in_binary_files(model):
    place = model / "sparse/0"
    for name in ("cameras", "images", "points3D"):
        file = place / f"{name}.bin"
        content = file.read_bytes()
        for count in (2**62, 10**9, 0):
            file.write_bytes(struct.pack("<Q", count) + content[8:])
            if name != "points3D":  # depth is fused here, points are not read
                refused(model, rf"{name}\.bin: (declares|has more content)")
        file.write_bytes(content[: len(content) - 5])
        if name != "points3D":
            refused(model, rf"{name}\.bin: ends within a record")
        file.write_bytes(content)
    shutil.rmtree(model / "stereo")
    content = (place / "points3D.bin").read_bytes()
    (place / "points3D.bin").write_bytes(content[:8] + content[8:-3])
    refused(model, r"points3D\.bin: ends within a record")
    huge = content[:51] + struct.pack("<Q", 2**61) + content[59:]
    (place / "points3D.bin").write_bytes(huge)
    refused(model, r"points3D\.bin: ends within a record")
    (place / "points3D.bin").unlink()
    refused(model, "has no sparse points and .* neither depth nor fused.ply")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("cameras.txt", "", "has no camera"),
        ("cameras.txt", "1 PINHOLE 80 60 60 60 40", "has 3 parameters, a PINHOLE camera has 4"),
        ("cameras.txt", "1 PINCUSHION 80 60 60 60 40 30", "is no camera"),
        ("cameras.txt", "1 PINHOLE 80.5 60 60 60 40 30", "'80.5' is no whole number"),
        ("cameras.txt", "1 PINHOLE 80 60 0 60 40 30", "positive focal lengths"),
        ("cameras.txt", "1 PINHOLE 1e9 1e9 60 60 40 30", "expected a size"),
        ("cameras.txt", "2 PINHOLE 80 60 60 60 40 30", "has camera 1, which cameras lack"),
        ("cameras.txt", "1 FOV 80 60 60 60 40 30 1", "is a FOV with lens distortion"),
        ("images.txt", "1 1 0 0 0 0 0 0 1", "is no image"),
        ("images.txt", "1 1 0 0 0 0 0 x 1 a.jpg", "'x' is no number"),
        ("images.txt", "1 1 0 0 0 0 0 0 1 a.jpg\n1 2\n", "expected 'X Y POINT3D_ID'"),
        ("images.txt", "1 0 0 0 0 0 0 0 1 left/001.jpg\n", "none of the 1 frames"),
        ("points3D.txt", "1 2 3", "is no point"),
        ("points3D.txt", "1 2 3 4 5 6 700 1", "has no colour from 0 to 255"),
        ("points3D.txt", "", "has no sparse points"),
        ("points3D.txt", "1 nan 2 2 1 1 1 0.5 1 1 2 1 3 1", "has no sparse points"),
    ],
)
def test_bad_text_files(text, file, content, message):
    (text / "sparse/0" / file).write_text(content)
    refused(text, message)


def test_missing_files(text):
    (text / "sparse/0/cameras.txt").unlink()
    refused(text, r"sparse/0: has neither cameras\.bin nor cameras\.txt")


@pytest.mark.parametrize(
    "content",
    [b"", b"80&60", b"80&60&1&", b"80&60&3&" + b"\0" * 57600, b"-8&6&1&", b"9999999&9999999&1&"],
)
def test_depth_maps_that_lie(tmp_path, content):
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(SceneError, match=r"a\.bin: (does not begin|declares)"):
        read_depth_map(tmp_path / "a.bin")
