"""nerfstudio captures: cameras that look along -z, pixels counted from their corners."""

from __future__ import annotations

import json
import logging
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from pcdistill.errors import SceneError
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.detection import DetectedScan, open_scan
from pcdistill.scenes.readers.nerfstudio.reader import find_nerfstudio
from tests.fixtures import box_room, user_captures
from tests.tolerances import FLOAT32, FLOAT32_SUMS, FLOAT64_EXACT, MILLIMETRE


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return user_captures.write_nerfstudio(tmp_path_factory.mktemp("ns") / "room")


@pytest.fixture
def capture(written, tmp_path):
    shutil.copytree(written, tmp_path / "room")
    return tmp_path / "room"


def read(folder, **settings):
    (scan,) = find_nerfstudio(folder)
    settings = {"fuse_voxel_size": 0.1} | settings
    return open_scan(DetectedScan("nerfstudio", scan), ReaderSettings(**settings))


def refused(folder, message, **settings):
    with pytest.raises(SceneError, match=message) as caught:
        read(folder, **settings)
    assert "\n" not in str(caught.value)


def edit(folder, remove=(), **changes):
    file = folder / "transforms.json"
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if key not in remove}))


def test_poses_depth_and_camera_are_those_that_were_written(written):
    scene = read(written)
    assert [frame.name for frame in scene.frames] == [f"frame_{i + 1:05d}" for i in range(8)]
    for frame, pose in zip(scene.frames, box_room.poses(8), strict=True):
        np.testing.assert_allclose(frame.camera_to_world, pose, atol=FLOAT64_EXACT)
        np.testing.assert_allclose(frame.intrinsics, box_room.INTRINSICS)
        np.testing.assert_allclose(frame.depth(), box_room.depth_of(pose), atol=MILLIMETRE)
    np.testing.assert_allclose(scene.points, box_room.wall_points(), atol=FLOAT32)
    assert scene.provenance["surface"] == "sparse_pc.ply"


def test_a_known_point_lands_on_the_pixel_of_the_files_own_projection(written):
    content = json.loads((written / "transforms.json").read_text())
    point = np.array([5.0, 2.0, 1.0, 1.0])
    for frame, entry in zip(read(written).frames, content["frames"], strict=True):
        x, y, z, _ = np.linalg.inv(entry["transform_matrix"]) @ point  # looks along -z, y up
        corner_pixel = (
            content["fl_x"] * x / -z + content["cx"],
            content["fl_y"] * -y / -z + content["cy"],
        )
        ours = frame.intrinsics.numpy() @ (np.linalg.inv(frame.camera_to_world.numpy()) @ point)[:3]
        np.testing.assert_allclose(ours[:2] / ours[2] + 0.5, corner_pixel)


def test_cameras_of_each_frame_and_an_angle_of_view(capture):
    file = capture / "transforms.json"
    content = json.loads(file.read_text())
    for place, entry in enumerate(content["frames"]):
        entry["fl_x"] = 60.0 + place / 10
    file.write_text(json.dumps(content))
    assert float(read(capture).frames[3].intrinsics[0, 0]) == 60.3
    for entry in content["frames"]:
        del entry["fl_x"]
    content["camera_angle_x"] = 2 * float(np.arctan(40 / 60))
    for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
        del content[key]
    file.write_text(json.dumps(content))
    np.testing.assert_allclose(read(capture).frames[0].intrinsics, box_room.INTRINSICS)


def test_without_a_cloud_the_depth_is_fused(tmp_path):
    scene = read(user_captures.write_nerfstudio(tmp_path / "room", cloud=False))
    assert scene.provenance["surface"] == "fused depth"
    walls = np.stack([scene.points, torch.from_numpy(box_room.SIZE).float() - scene.points])
    assert np.quantile(np.abs(walls).min(axis=(0, 2)), 0.95) < 0.03


def test_without_depth_frames_have_none(tmp_path):
    scene = read(user_captures.write_nerfstudio(tmp_path / "room", depth=False))
    assert all(frame.depth() is None for frame in scene.frames)
    assert scene.provenance["frames_without_depth"] == 8
    half = read(tmp_path / "room", image_size=(30, 40))
    assert half.frames[0].depth() is None
    refused(
        user_captures.write_nerfstudio(tmp_path / "bare", depth=False, cloud=False),
        "has neither depth nor a cloud",
    )


def test_the_points_of_its_colmap_model_are_moved_along(tmp_path, caplog):
    turn = [[1, 0, 0, 0.5], [0, 0, 1, 0], [0, -1, 0, 0]]  # as nerfstudio turns COLMAP's world
    folder = user_captures.write_nerfstudio(
        tmp_path / "room", depth=False, cloud=False, applied_transform=turn
    )
    user_captures.write_colmap(tmp_path / "model")
    shutil.copytree(tmp_path / "model/sparse", folder / "colmap/sparse")
    with caplog.at_level(logging.WARNING):
        scene = read(folder)
    expected = box_room.wall_points(0.5)[1:]  # the first is seen by two images only
    expected = expected @ np.array(turn)[:, :3].T + [0.5, 0, 0]
    np.testing.assert_allclose(scene.points, expected, atol=FLOAT32)
    assert "whose unit is arbitrary" in caplog.text
    assert scene.provenance["dropped_points"] == 1


@pytest.mark.parametrize("factor", [0.001, 1.0])
def test_floating_point_depth_in_its_own_unit(tmp_path, factor):
    folder = user_captures.write_nerfstudio(tmp_path / "room", depth_unit_scale_factor=factor)
    content = json.loads((folder / "transforms.json").read_text())
    for i, entry in enumerate(content["frames"]):
        np.save(folder / f"depths/{i}.npy", box_room.depth_of(box_room.poses(8)[i]) / factor)
        entry["depth_file_path"] = f"depths/{i}.npy"
    (folder / "transforms.json").write_text(json.dumps(content))
    np.testing.assert_allclose(
        read(folder).frames[2].depth(), box_room.depth_of(box_room.poses(8)[2]), rtol=FLOAT32_SUMS
    )


@pytest.mark.parametrize("up", ["y", "-y"])
def test_up_is_a_setting(written, up):
    straight, turned = read(written), read(written, up_axis=up)
    rotation = np.array({"y": user_captures.Y_UP[:3, :3].T, "-y": user_captures.Y_UP[:3, :3]}[up])
    np.testing.assert_allclose(turned.points, straight.points.numpy() @ rotation.T, atol=FLOAT32)
    np.testing.assert_allclose(
        turned.frames[0].camera_to_world[:3, 3],
        rotation @ straight.frames[0].camera_to_world[:3, 3].numpy(),
    )


def test_poses_of_another_convention_are_noticed(capture):
    content = json.loads((capture / "transforms.json").read_text())
    for entry in content["frames"]:
        entry["transform_matrix"] = (
            np.array(entry["transform_matrix"]) @ user_captures.OPENGL
        ).tolist()
    edit(capture, frames=content["frames"])
    refused(capture, "negate the y and z axis of every camera")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k1": 0.01}, "has a OPENCV camera with k1, expected a pinhole.*image_undistorter"),
        ({"camera_model": "OPENCV_FISHEYE"}, "has a OPENCV_FISHEYE camera"),
        ({"camera_model": ["x"]}, "camera, expected a pinhole"),
        ({"frames": []}, "has no list 'frames'"),
        ({"frames": [{"transform_matrix": 1}]}, "frame 0 has no 'file_path'"),
        ({"frames": [{"file_path": "images/frame_00001.jpg"}]}, "matrix of frame_00001"),
        ({"frames": [{"file_path": "no.jpg", "transform_matrix": np.eye(4).tolist()}]}, "none of"),
        ({"fl_x": "a"}, "'fl_x' is a, expected a number"),
        ({"fl_x": -60}, "positive focal lengths"),
        ({"w": 160, "h": 120}, "is 80 x 60 pixels, transforms.json has a camera for 160 x 120"),
        ({"cx": 400}, "principal point is that of images of about 799 x 59"),
        ({"ply_file_path": "no.ply"}, r"no\.ply: no such file, expected the cloud"),
        ({"depth_unit_scale_factor": 0}, "'depth_unit_scale_factor' is 0"),
        ({"depth_unit_scale_factor": 1}, "the median depth is"),
    ],
)
def test_bad_files(capture, changes, message):
    edit(capture, **changes)
    refused(capture, message)


def test_damaged_json_images_and_depth(capture):
    (capture / "depths/3.png").unlink()
    refused(capture, r"3\.png: is the depth of frame_00004\.jpg and no .* file that is there")
    Image.new("I;16", (60, 80)).save(capture / "depths/3.png")
    refused(capture, r"3\.png: is 60 x 80 pixels, its image 80 x 60")
    edit(capture, remove=("fl_x",))
    refused(capture, "has neither 'fl_x' nor 'camera_angle_x'")
    (capture / "transforms.json").write_text("{")
    refused(capture, "is no readable JSON")
    (capture / "transforms.json").write_text("[" * 100_000)
    refused(capture, "is no readable JSON")


def test_frames_whose_image_or_pose_is_lost_are_left_out(capture):
    content = json.loads((capture / "transforms.json").read_text())
    content["frames"][2]["transform_matrix"][0][3] = float("nan")
    content["frames"][4]["file_path"] = "images/\0.jpg"
    content["frames"][5]["file_path"] = "images/" + "x" * 5000
    edit(capture, frames=content["frames"])
    scene = read(capture)
    assert len(scene.frames) == 5
    assert scene.provenance["frames_without_pose"] == 1
    assert scene.provenance["frames_without_file"] == 2


def test_images_of_one_name_in_two_folders(tmp_path):
    folder = user_captures.write_nerfstudio(tmp_path / "room", 2)
    content = json.loads((folder / "transforms.json").read_text())
    for name, entry in zip("ab", content["frames"], strict=True):
        (folder / name).mkdir()
        shutil.copy(folder / entry["file_path"], folder / name / "0.jpg")
        entry["file_path"] = f"./{name}/0"  # Instant NGP leaves the suffix out
    edit(folder, frames=content["frames"])
    assert [frame.name for frame in read(folder).frames] == ["a_0", "b_0"]


def rewrite(folder, image=lambda path: path, depth=lambda path: path):
    """Give images and depth other paths in the file."""
    content = json.loads((folder / "transforms.json").read_text())
    for entry in content["frames"]:
        entry["file_path"] = image(entry["file_path"])
        entry["depth_file_path"] = depth(entry["depth_file_path"])
    (folder / "transforms.json").write_text(json.dumps(content))
    return content


PATHS = {
    "backslashes": lambda path: path.replace("/", "\\"),
    "mixed": lambda path: ".\\" + path,
    "another Unix": lambda path: f"/home/somebody/scans/room/{path}",
    "another Windows": lambda path: "C:\\Users\\some body\\room\\" + path.replace("/", "\\"),
    "a share": lambda path: "\\\\server\\scans\\room\\" + path.replace("/", "\\"),
    "mixed Windows": lambda path: "D:/scans\\room/" + path,
    "from above": lambda path: f"data/room/{path}",
    "from beside": lambda path: f"../room/{path}",
    "blanks around": lambda path: f" {path} ",
    "no suffix": lambda path: path.rsplit(".", 1)[0],
    "no suffix on Windows": lambda path: "E:\\" + path.rsplit(".", 1)[0].replace("/", "\\"),
}


@pytest.mark.parametrize("name", PATHS)
def test_paths_of_other_systems_machines_and_folders(capture, written, name):
    rewrite(capture, PATHS[name], PATHS[name])
    ply = "sparse_pc.ply"
    edit(capture, ply_file_path=ply if "from" in name else PATHS[name](ply))
    scene, expected = read(capture), read(written)
    assert [frame.name for frame in scene.frames] == [frame.name for frame in expected.frames]
    for frame, other in zip(scene.frames, expected.frames, strict=True):
        assert torch.equal(frame.image(), other.image())
        assert torch.equal(frame.depth(), other.depth())
    assert torch.equal(scene.points, expected.points)


def test_suffixes_in_capitals(capture):
    for file in (capture / "images").iterdir():
        file.rename(file.with_suffix(".JPG"))
    rewrite(capture, PATHS["no suffix"])
    assert len(read(capture).frames) == 8


def test_paths_that_end_alike_are_not_taken_for_one_file(capture):
    rewrite(capture, lambda path: f"/data/cam{path[-5]}/images/frame_00001.jpg")
    refused(capture, "were both taken for .*frame_00001.jpg, expected an image each")


def test_a_path_of_another_folder_needs_more_than_a_name(capture):
    shutil.copy(capture / "images/frame_00001.jpg", capture / "frame_00001.jpg")
    rewrite(capture, lambda path: path.replace("images/", "photos/"))
    refused(capture, "none of the 8 frames has both its image")


@pytest.mark.parametrize("depth", [True, False])
def test_scaled_poses_are_brought_back_to_the_unit_of_depth_and_cloud(tmp_path, depth):
    folder = user_captures.write_nerfstudio(tmp_path / "room", depth=depth, applied_scale=0.25)
    content = json.loads((folder / "transforms.json").read_text())
    for entry in content["frames"]:
        for row in entry["transform_matrix"][:3]:
            row[3] *= 0.25
    edit(folder, frames=content["frames"])
    scene = read(folder)
    for frame, pose in zip(scene.frames, box_room.poses(8), strict=True):
        np.testing.assert_allclose(frame.camera_to_world, pose, atol=FLOAT64_EXACT)
    np.testing.assert_allclose(scene.points, box_room.wall_points(), atol=FLOAT32)
    edit(folder, applied_scale=0)
    refused(folder, "'applied_scale' is 0, expected the factor by which the poses were scaled")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distortion_params": [0.1, 0, 0, 0]}, "OPENCV camera with distortion_params"),
        ({"k6": 0.1}, "OPENCV camera with k6"),
        ({"camera_model": "EQUIRECTANGULAR"}, "has a EQUIRECTANGULAR camera, expected a pinhole"),
        ({"is_fisheye": True}, "camera, expected a pinhole"),
        ({"integer_depth_scale": 0}, "'integer_depth_scale' is 0, expected metres per count"),
    ],
)
def test_what_a_file_says_of_lenses_and_units_is_not_ignored(capture, changes, message):
    edit(capture, **changes)
    refused(capture, message)


def test_a_lens_of_one_frame_is_not_ignored(capture):
    content = json.loads((capture / "transforms.json").read_text())
    content["frames"][3] |= {"camera_model": "OPENCV_FISHEYE", "k1": 0.1}
    edit(capture, frames=content["frames"])
    refused(capture, "has a OPENCV_FISHEYE camera with k1")


def test_depth_as_instant_ngp_names_it(tmp_path):
    folder = user_captures.write_nerfstudio(tmp_path / "room", integer_depth_scale=1 / 4000)
    content = json.loads((folder / "transforms.json").read_text())
    for pose, entry in zip(box_room.poses(8), content["frames"], strict=True):
        entry["depth_path"] = entry.pop("depth_file_path")
        user_captures.counts(pose, 4000.0).save(folder / entry["depth_path"])
    edit(folder, frames=content["frames"])
    scene = read(folder)
    np.testing.assert_allclose(
        scene.frames[2].depth(), box_room.depth_of(box_room.poses(8)[2]), atol=MILLIMETRE
    )
    assert scene.provenance["depth_scale"] == pytest.approx(4000)


def test_angles_of_view_of_both_sides(tmp_path):
    capture = user_captures.write_nerfstudio(tmp_path / "room", depth=False)
    angles = {
        "camera_angle_x": 2 * float(np.arctan(40 / 60)),
        "camera_angle_y": 2 * float(np.arctan(30 / 50)),
    }
    edit(capture, remove=("fl_x", "fl_y"), **angles)
    diagonal = read(capture).frames[0].intrinsics.diagonal()
    np.testing.assert_allclose(diagonal, [60, 50, 1])
    edit(capture, camera_angle_y=4)
    refused(capture, "'camera_angle_y' is 4, expected radians")


def test_a_matrix_without_its_last_row(capture):
    content = json.loads((capture / "transforms.json").read_text())
    for entry in content["frames"]:
        del entry["transform_matrix"][3]
    edit(capture, frames=content["frames"])
    assert len(read(capture).frames) == 8


def test_of_several_files_the_one_with_most_images_is_read(capture, caplog):
    content = json.loads((capture / "transforms.json").read_text())
    for name, frames in {"train": content["frames"][:6], "test": content["frames"][6:]}.items():
        part = json.dumps(content | {"frames": frames})
        (capture / f"transforms_{name}.json").write_text(part)
    gone = [entry | {"file_path": f"gone/{i}.jpg"} for i, entry in enumerate(content["frames"])]
    (capture / "transforms_old.json").write_text(json.dumps(content | {"frames": gone * 2}))
    with caplog.at_level(logging.WARNING):
        scene = read(capture)
    assert len(scene.frames) == 8
    assert scene.provenance["other_transforms"] == [
        "transforms_old.json",
        "transforms_test.json",
        "transforms_train.json",
    ]
    assert "taking transforms.json (8 images) and not transforms_old.json" in caplog.text
    edit(capture, frames=content["frames"][:3])
    assert len(read(capture).frames) == 6
    (capture / "transforms.json").unlink()  # as Blender's scenes are written
    assert len(read(capture).frames) == 6


def test_masks_are_named_as_unused(capture, caplog):
    content = json.loads((capture / "transforms.json").read_text())
    content["frames"][1]["mask_path"] = "masks/1.png"
    edit(capture, frames=content["frames"], orientation_override="none")
    with caplog.at_level(logging.WARNING):
        provenance = read(capture).provenance
    assert "the masks of 1 frames are not used" in caplog.text
    assert provenance["masks_ignored"] == 1
    assert provenance["orientation_override"] == "none"


def test_images_that_lie_on_their_side(tmp_path):
    folder = user_captures.write_nerfstudio(tmp_path / "room", depth=False)
    edit(folder, remove=("w", "h"))
    for file in (folder / "images").iterdir():
        Image.open(file).transpose(Image.Transpose.ROTATE_90).save(file)
    refused(folder, r"is that of images of 80 x 60 pixels, frame_00001\.jpg is 60 x 80")
    edit(folder, w=80, h=60)
    refused(folder, "is 60 x 80 pixels, .* has a camera for 80 x 60; turn the images as they were")


def test_an_orientation_for_viewers_is_named_where_the_sides_do_not_fit(tmp_path):
    folder = user_captures.write_nerfstudio(tmp_path / "room", depth=False)
    edit(folder, w=60, h=80, cx=30, cy=40)
    for file in (folder / "images").iterdir():
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(file).save(file, exif=exif)
    refused(folder, "has a camera for 60 x 80; its EXIF orientation says that it is to be turned")
