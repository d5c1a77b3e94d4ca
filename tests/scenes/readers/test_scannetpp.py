import json
import shutil

import numpy as np
import pytest
import torch

from pcdistill.errors import ConfigError, SceneError
from pcdistill.scenes import find_scans, open_scene
from tests.fixtures import box_room, scannetpp_arkitscenes
from tests.tolerances import FLOAT64

SCENE = "0a5c013435"


@pytest.fixture
def scan(tmp_path):
    return scannetpp_arkitscenes.write_scannetpp(tmp_path / "data" / SCENE)


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_dslr_images_have_the_poses_of_the_mesh_and_no_depth(scan):
    scene = open_scene(scan)
    assert scene.name == SCENE
    assert scene.provenance["images"] == "dslr"
    assert [frame.name for frame in scene.frames] == ["000", "002", "003", "004", "005"]
    assert scene.provenance["frames_marked_bad"] == 1
    for frame in scene.frames:
        pose = torch.from_numpy(box_room.poses(6)[int(frame.name)])
        torch.testing.assert_close(frame.camera_to_world, pose, rtol=0, atol=FLOAT64)
        torch.testing.assert_close(
            frame.intrinsics, torch.from_numpy(box_room.INTRINSICS), rtol=0, atol=FLOAT64
        )
        assert frame.depth() is None


def test_the_iphone_is_taken_where_the_path_says_so(scan):
    scene = open_scene(scan / "iphone")
    assert (scene.name, scene.provenance["images"]) == (SCENE, "iphone")
    for frame, pose in zip(scene.frames, box_room.poses(6), strict=True):
        torch.testing.assert_close(frame.camera_to_world, torch.from_numpy(pose))
        assert frame.image_size == box_room.IMAGE_SIZE
        error = np.abs(frame.depth().numpy() - box_room.depth_of(pose))
        assert np.median(error) < 0.02
    assert open_scene(scan / "dslr").provenance["images"] == "dslr"


def test_the_iphone_is_taken_where_no_undistorted_images_are(tmp_path):
    scan = scannetpp_arkitscenes.write_scannetpp(tmp_path / SCENE, dslr=False, depth=False)
    scene = open_scene(scan)
    assert scene.provenance["images"] == "iphone"
    assert scene.provenance["frames_without_depth"] == 6
    assert scene.frames[0].depth() is None


def test_objects_are_instances(scan):
    instances = open_scene(scan).instances
    of_vertex = torch.arange(len(instances)) % 3
    assert torch.equal(instances.long(), torch.tensor([1, 2, -1])[of_vertex])
    (scan / "scans/segments_anno.json").unlink()  # as in the test split
    assert open_scene(scan).instances is None


def test_large_images_are_shrunk_by_a_whole_factor(scan, monkeypatch):
    monkeypatch.setattr("pcdistill.scenes.readers.scannetpp.MAX_SIDE", 45)
    assert open_scene(scan).frames[0].image_size == (30, 40)
    assert open_scene(scan, image_size=(15, 20)).frames[0].image_size == (15, 20)


@pytest.mark.parametrize("place", ["", "data", f"data/{SCENE}"])
def test_scans_are_found_from_any_height(scan, tmp_path, place):
    scannetpp_arkitscenes.write_scannetpp(
        scan.parent / "1b", 2
    ) if place != f"data/{SCENE}" else None
    found = find_scans(tmp_path / place)
    names = [SCENE] if place == f"data/{SCENE}" else [SCENE, "1b"]
    assert [entry.name for entry in found] == names


def fisheye(scan):
    change(scan / "dslr/nerfstudio/transforms_undistorted.json", camera_model="OPENCV_FISHEYE")


def distorted(scan):
    change(scan / "dslr/nerfstudio/transforms_undistorted.json", k1=0.1)


def without_poses(scan):
    shutil.rmtree(scan / "dslr/colmap")


def without_mesh(scan):
    (scan / "scans/mesh_aligned_0.05.ply").unlink()


def other_segments(scan):
    (scan / "scans/segments.json").write_text('{"segIndices": [0, 1]}')


def without_images(scan):
    shutil.rmtree(scan / "dslr/resized_undistorted_images")
    shutil.rmtree(scan / "iphone/rgb")


def frames_twice(scan):
    poses = scan / "dslr/colmap/images.txt"
    poses.write_text(2 * poses.read_text())


def no_frames(scan):
    change(scan / "dslr/nerfstudio/transforms_undistorted.json", frames="none")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (fisheye, "has a OPENCV_FISHEYE camera .*dslr.undistort"),
        (distorted, "camera with k1, expected a pinhole .*dslr.undistort"),
        (without_poses, "has neither images.bin nor images.txt"),
        (without_mesh, "mesh_aligned_0.05.ply: cannot be read"),
        (other_segments, r"segments.json: has segments of 2 vertices, the mesh has \d+"),
        (without_images, "has neither dslr/resized_undistorted_images nor iphone/rgb"),
        (no_frames, "'frames' is no list of frames"),
        (frames_twice, "2 frames are named .*; list every frame once"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(scan, harm, words):
    harm(scan)
    with pytest.raises(SceneError, match=words) as raised:
        open_scene(scan)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"aligned_pose": [1, 2]}, "'aligned_pose' of frame_000000 is .*4 rows of 4"),
        ({"intrinsic": None}, "'intrinsic' of frame_000000 is None, expected 3 rows of 3"),
        ({"aligned_pose": (2 * np.eye(4)).tolist()}, "the pose is not rigid"),
        (7, "frame_000000 is no object"),
    ],
)
def test_a_broken_frame_of_the_iphone_is_named(scan, values, words):
    file = scan / "iphone/pose_intrinsic_imu.json"
    content = json.loads(file.read_text())
    entry = content["frame_000000"]
    content["frame_000000"] = entry | values if isinstance(values, dict) else values
    file.write_text(json.dumps(content))
    with pytest.raises(SceneError, match=words):
        open_scene(scan / "iphone")


def test_poses_of_the_iphone_in_its_own_world_are_refused(scan):
    file = scan / "iphone/pose_intrinsic_imu.json"
    content = json.loads(file.read_text())
    shift = np.eye(4)
    shift[:3, 3] = 20
    for entry in content.values():
        entry["aligned_pose"] = (shift @ np.array(entry["aligned_pose"])).tolist()
    file.write_text(json.dumps(content))
    words = r"with mesh_aligned_0\.05\.ply: .*another origin|not a single point"
    with pytest.raises(SceneError, match=words):
        open_scene(scan / "iphone")


def test_frames_without_pose_are_left_out_and_counted(scan):
    file = scan / "iphone/pose_intrinsic_imu.json"
    content = json.loads(file.read_text())
    del content["frame_000010"]
    content["frame_000020"]["aligned_pose"] = np.full((4, 4), np.inf).tolist()
    file.write_text(json.dumps(content))
    scene = open_scene(scan / "iphone")
    assert [frame.name[-2:] for frame in scene.frames] == ["00", "30", "40", "50"]
    assert scene.provenance["frames_without_pose"] == 2


def test_a_setting_without_meaning_is_refused(scan):
    with pytest.raises(ConfigError, match="`sweeps` has no meaning"):
        open_scene(scan, sweeps=True)
