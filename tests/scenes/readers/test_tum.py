"""TUM RGB-D sequences: three clocks, one camera, millimetres nowhere."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest
import torch

from pcdistill.errors import ConfigError, SceneError
from pcdistill.geometry import invert_pose, project_to_pixels
from pcdistill.scenes import write_ply
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Scan
from pcdistill.scenes.readers.detection import DetectedScan, open_scan
from pcdistill.scenes.readers.tum import FREIBURG, find_tum
from tests.fixtures import box_room, user_captures
from tests.tolerances import FLOAT32


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return user_captures.write_tum(tmp_path_factory.mktemp("tum") / "room")


@pytest.fixture
def sequence(written, tmp_path):
    shutil.copytree(written, tmp_path / "room")
    return tmp_path / "room"


def read(folder, **settings):
    (scan,) = find_tum(folder)
    return open_scan(
        DetectedScan("tum", scan), ReaderSettings(**{"fuse_voxel_size": 0.1} | settings)
    )


def refused(folder, message, **settings):
    with pytest.raises(SceneError, match=message) as caught:
        read(folder, **settings)
    assert "\n" not in str(caught.value)


def edit(file, change):
    file.write_text(change(file.read_text()))


def test_poses_depth_and_camera_are_those_that_were_written(written):
    scene = read(written, fuse_voxel_size=0.1)
    assert scene.name == "room"
    assert len(scene.frames) == 8
    for frame, pose in zip(scene.frames, box_room.poses(8), strict=True):
        np.testing.assert_allclose(frame.camera_to_world, pose, atol=FLOAT32)
        # depth steps of a fifth of a millimetre: half of one, and float32
        np.testing.assert_allclose(frame.depth(), box_room.depth_of(pose), atol=1.1e-4)
        np.testing.assert_array_equal(frame.intrinsics, box_room.INTRINSICS)
        assert torch.equal(frame.image(), torch.from_numpy(np.array(user_captures.picture(pose))))
    assert scene.provenance["depth_scale"] == 5000
    assert scene.provenance["surface"] == "fused depth"


def test_points_on_the_walls_are_where_their_pixels_and_depth_say(written):
    scene = read(written)
    places = torch.from_numpy(box_room.wall_points(0.5))
    seen = 0
    for frame in scene.frames:
        pixels, depth = project_to_pixels(
            places, invert_pose(frame.camera_to_world), frame.intrinsics
        )
        measured = frame.depth()
        for (u, v), distance in zip(torch.round(pixels).long().tolist(), depth, strict=True):
            if distance > 0 and 0 <= u < 80 and 0 <= v < 60:
                seen += 1
                # depth at a pixel and at its middle differ where walls slant
                assert float(measured[v, u]) == pytest.approx(float(distance), rel=0.05)
    assert seen > 50


def test_a_frame_without_a_near_pose_or_depth_is_left_out(sequence, caplog):
    edit(sequence / "groundtruth.txt", lambda t: "\n".join(t.splitlines()[:3] + t.splitlines()[4:]))
    edit(sequence / "depth.txt", lambda t: "\n".join(t.splitlines()[:-1]))
    with caplog.at_level(logging.WARNING):
        scene = read(sequence)
    assert len(scene.frames) == 6
    assert scene.provenance["frames_without_pose"] == 1
    assert scene.provenance["frames_without_file"] == 1
    assert scene.provenance["skipped_frames"] == 2
    assert "1 of 8 frames left out, they have no finite pose" in caplog.text


def test_a_lost_pose_is_left_out(sequence):
    lines = (sequence / "groundtruth.txt").read_text().splitlines()
    lines[3] = lines[3].split()[0] + " nan" * 7
    (sequence / "groundtruth.txt").write_text("\n".join(lines))
    assert read(sequence).provenance["skipped_frames"] == 1


def test_the_named_cameras(written, tmp_path, caplog):
    folder = tmp_path / "rgbd_dataset_freiburg3_desk"
    shutil.copytree(written, folder)
    (folder / "intrinsics.txt").unlink()
    # that camera is for 640 x 480
    refused(folder, r"freiburg3: its principal point is that of images of about 640.2 x 495.2")
    assert FREIBURG["freiburg3"][0] == 535.4
    other = tmp_path / "desk"
    shutil.copytree(written, other)
    (other / "intrinsics.txt").unlink()
    refused(other, r"intrinsics\.txt: is missing and the folder is not named after freiburg")


def test_a_camera_with_distortion_is_said_to_be_ignored(tmp_path, caplog):
    folder = user_captures.write_tum(tmp_path / "a", camera="60 60 39.5 29.5 0.2 -0.9 0 0 1.1")
    with caplog.at_level(logging.WARNING):
        scene = read(folder)
    assert scene.provenance["distortion_ignored"] is True
    assert "the lens distortion of camera.txt is ignored" in caplog.text
    np.testing.assert_array_equal(scene.frames[0].intrinsics, box_room.INTRINSICS)


def test_every_second_frame_at_half_the_size(written):
    scene = read(written, frame_step=2, image_size=(30, 40))
    assert len(scene.frames) == 4
    frame, whole = scene.frames[1], read(written).frames[2]
    assert frame.image().shape == (30, 40, 3)
    expected = box_room.INTRINSICS * [[0.5], [0.5], [1]]
    expected[:2, 2] -= 0.25
    np.testing.assert_allclose(frame.intrinsics, expected)
    assert frame.depth().shape == (30, 40)
    exact = box_room.depth_of(whole.camera_to_world.numpy(), expected, (30, 40))
    assert np.quantile(np.abs(frame.depth().numpy() / exact - 1), 0.9) < 0.03
    averaged = whole.image().float().view(30, 2, 40, 2, 3).mean(dim=(1, 3))
    assert float((frame.image().float() - averaged).abs().mean()) < 2


def test_an_own_cloud_is_the_surface(sequence):
    write_ply(sequence / "walls.ply", torch.from_numpy(box_room.wall_points()))
    scene = read(sequence, surface_file="walls.ply")
    assert len(scene.points) == len(box_room.wall_points())
    refused(
        sequence,
        r"pose_convention: camera_to_world",
        surface_file="walls.ply",
        pose_convention="world_to_camera",
    )


def test_what_cannot_be(sequence):
    with pytest.raises(ConfigError, match="`sweeps` has no meaning"):
        read(sequence, sweeps=True)
    refused(sequence, "the median depth is .*depth_scale: 1", depth_scale=1.0)
    refused(sequence, "in another unit.*set `depth_scale: 5000`", depth_scale=2000.0)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("rgb.txt", "", r"rgb\.txt: has no line"),
        ("rgb.txt", "1.0 a b", r"rgb\.txt:1: has 3 words"),
        ("rgb.txt", "x a.png", "no number"),
        ("rgb.txt", "nan a.png", "its timestamp is nan"),
        ("groundtruth.txt", "1 0 0 0 0 0 0", r"groundtruth\.txt:1: has 6 numbers, expected 7"),
        ("groundtruth.txt", "1 0 0 0 0 0 0 5", "its quaternion has length 5"),
        ("groundtruth.txt", "1 0 0 0 0 0 0 1", "none of the 8 frames has both"),
        ("intrinsics.txt", "60 60 39", "has 3 numbers"),
        ("intrinsics.txt", "60 60 a 3", "is not a matrix of numbers"),
        ("intrinsics.txt", "-60 60 39.5 29.5", "positive focal lengths"),
        ("intrinsics.txt", "600 600 320 240", "principal point is that of images of about 640"),
    ],
)
def test_bad_files(sequence, file, content, message):
    (sequence / file).write_text(content)
    refused(sequence, message)


def test_missing_images(sequence):
    shutil.rmtree(sequence / "rgb")
    refused(sequence, r"none of the 8 frames has both its image and a pose .*8 lack a file")


def test_a_folder_of_sequences(written, tmp_path):
    for name in ("b10", "b9"):
        shutil.copytree(written, tmp_path / name)
    (tmp_path / "other").mkdir()
    assert [scan.name for scan in find_tum(tmp_path)] == ["b9", "b10"]
    assert find_tum(tmp_path / "b9") == (Scan("b9", tmp_path / "b9"),)
    assert find_tum(tmp_path / "nothing") == ()


def test_lists_of_windows_and_several_cameras(tmp_path, caplog):
    folder = user_captures.write_tum(tmp_path / "room", 4)
    for name in ("rgb.txt", "depth.txt"):
        text = (folder / name).read_text().replace("rgb/", "rgb\\").replace("depth/", ".\\depth\\")
        (folder / name).write_text(text)
    (folder / "camera.txt").write_text("50 50 39.5 29.5")
    scene = read(folder)
    assert len(scene.frames) == 4
    assert scene.provenance["camera"] == "intrinsics.txt"
    assert "has the cameras intrinsics.txt, camera.txt, taking the first" in caplog.text
