"""Cameras that are not those of the images: backwards, or of images turned by 90 degrees."""

from __future__ import annotations

import json
import re
import struct

import numpy as np
import pytest
from PIL import Image

from pcdistill.errors import SceneError
from pcdistill.scenes import open_scene
from tests.fixtures import box_room, matterport_replica, scannetpp_arkitscenes, user_captures
from tests.scenes.readers.scannet.test_openscene import write_extracted
from tests.scenes.test_disguises import CAPTURES


def in_json(*keys, factor=-1.0):
    """Multiply a number deep in a JSON file."""

    def change(file):
        content = json.loads(file.read_text())
        place = content
        for key in keys[:-1]:
            place = place[key] if key != "every" else next(iter(place.values()))
        place[keys[-1]] *= factor
        file.write_text(json.dumps(content))

    return change


def in_matrix(file):
    rows = np.loadtxt(file)
    rows[1] = -rows[1]
    rows[1, 2] = -rows[1, 2]
    np.savetxt(file, rows)


def in_words(number):
    """Negate a word of the line that has the camera."""

    def change(file):
        words = file.read_text().split(" ")
        words[number] = "-" + words[number]
        file.write_text(" ".join(words))

    return change


def in_conf(file):
    text = file.read_text()
    file.write_text(re.sub(r"(intrinsics_matrix \S+ 0 \S+  0 )", r"\1-", text))


def in_colmap(file):
    content = bytearray(file.read_bytes())
    struct.pack_into("<d", content, 40, -60.0)
    file.write_bytes(content)


NEGATIVE = {
    "rgbd": ("rgbd", "intrinsics.txt", in_matrix),
    "tum": ("tum", "intrinsics.txt", in_matrix),
    "tum camera": ("tum camera", "camera.txt", in_words(1)),
    "nerfstudio": ("nerfstudio", "transforms.json", in_json("fl_y")),
    "record3d": ("record3d", "metadata.json", in_json("K", 4)),
    "scannetpp": ("scannetpp", "dslr/nerfstudio/*.json", in_json("fl_y")),
    "scannetpp iphone": ("scannetpp iphone", "iphone/*.json", in_json("every", "intrinsic", 1, 1)),
    "arkitscenes": ("arkitscenes", "*/*/*.pincam", in_words(3)),
    "replica": ("replica camera", "cam_params.json", in_json("camera", "fy")),
    "matterport": ("matterport", "scans/*/*/*.conf", in_conf),
    "scannet extracted": ("scannet extracted", "scannet_2d/intrinsics.txt", in_matrix),
    "colmap": (None, "sparse/0/cameras.bin", in_colmap),
}


@pytest.mark.parametrize("name", NEGATIVE)
def test_a_focal_length_below_zero_is_said_to_be_an_image_upside_down(tmp_path, name):
    capture, files, change = NEGATIVE[name]
    write, _, settings = CAPTURES[capture] if capture else (user_captures.write_colmap, [], {})
    write(tmp_path / "room")
    found = list((tmp_path / "room").glob(files))
    assert found
    for file in found:
        change(file)
    message = (
        r"a focal length is below 0: image rows run upwards, expected finite numbers with positive "
        r"focal lengths .*; write them without the sign, .* F = diag\(1, -1, 1, 1\)"
    )
    with pytest.raises(SceneError, match=message):
        open_scene(tmp_path / "room", **settings)


def test_the_advice_for_images_upside_down_is_right(tmp_path):
    """A capture in the camera of POV-Ray: y up, a focal length below zero; then as advised."""
    folder = box_room.write_scan(tmp_path / "room", surface=False)
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    mirrored = [
        flip @ pose @ flip for pose in box_room.poses(10)
    ]  # rigid again, in a mirrored world
    for i, pose in enumerate(mirrored):
        np.savetxt(folder / f"pose/{7 * i}.txt", pose)
    in_matrix(folder / "intrinsics.txt")
    with pytest.raises(SceneError, match="image rows run upwards"):
        open_scene(folder)
    np.savetxt(folder / "intrinsics.txt", box_room.INTRINSICS)
    for i, pose in enumerate(mirrored):
        np.savetxt(folder / f"pose/{7 * i}.txt", flip @ pose @ flip)
    points = open_scene(folder, fuse_voxel_size=0.1).points.numpy()
    walls = np.stack([points, box_room.SIZE - points])
    assert np.quantile(np.abs(walls).min(axis=(0, 2)), 0.95) < 0.03


@pytest.mark.parametrize(("scale", "flip"), [((-1, 1), "-1, 1, 1, 1"), ((-1, -1), "-1, -1, 1, 1")])
def test_columns_that_run_to_the_left(tmp_path, scale, flip):
    folder = box_room.write_scan(tmp_path / "room")
    matrix = box_room.INTRINSICS * [[scale[0], 1, 1], [1, scale[1], 1], [1, 1, 1]]
    np.savetxt(folder / "intrinsics.txt", matrix)
    with pytest.raises(SceneError, match=rf"columns run to the left.* F = diag\({flip}\)"):
        open_scene(folder)


def on_their_sides(files):
    for file in files:
        image = Image.open(file)
        image.transpose(Image.Transpose.ROTATE_90).save(file)


LANDSCAPE = {
    "rgbd": (box_room.write_scan, ["color/*", "depth/*"], {}),
    "tum": (user_captures.write_tum, ["rgb/*", "depth/*"], {}),
    "scannetpp iphone": (
        lambda folder: scannetpp_arkitscenes.write_scannetpp(folder, dslr=False),
        ["iphone/*/*.jpg", "iphone/*/*.png"],
        {},
    ),
    "scannet extracted": (write_extracted, ["scannet_2d/*/color/*", "scannet_2d/*/depth/*"], {}),
    "matterport": (
        matterport_replica.write_house,
        ["scans/*/undistorted_color_images/*", "scans/*/undistorted_depth_images/*"],
        {},
    ),
}


@pytest.mark.parametrize("name", LANDSCAPE)
def test_the_camera_of_images_before_they_were_turned_is_refused(tmp_path, name):
    write, kinds, settings = LANDSCAPE[name]
    write(tmp_path / "room")
    for kind in kinds:
        on_their_sides((tmp_path / "room").glob(kind))
    message = (
        r"its principal point \(39\.5, 29\.5\) is that of images of 80 x 60 pixels, .* is 60 x 80, "
        r"expected .*; exchange fx with fy and cx with cy"
    )
    with pytest.raises(SceneError, match=message):
        open_scene(tmp_path / "room", **settings)


@pytest.mark.parametrize("center", [(39.5, 29.5), (36.0, 32.0), (45.0, 24.0), (39.5, 22.0)])
def test_cropped_landscapes_are_no_portraits(tmp_path, center):
    folder = box_room.write_scan(tmp_path / "room", surface=False)
    matrix = box_room.INTRINSICS.copy()
    matrix[:2, 2] = center
    np.savetxt(folder / "intrinsics.txt", matrix)
    for i, pose in enumerate(box_room.poses(10)):
        user_captures.counts(pose, intrinsics=matrix).save(folder / f"depth/{7 * i}.png")
    assert len(open_scene(folder, fuse_voxel_size=0.1).frames) == 10


def test_the_matrix_exchanged_as_advised_is_right(tmp_path):
    folder = box_room.write_scan(tmp_path / "room", surface=False)
    matrix = box_room.INTRINSICS[[1, 0, 2]][:, [1, 0, 2]]
    for i, pose in enumerate(box_room.poses(10)):
        depth = user_captures.counts(pose, intrinsics=matrix, image_size=(80, 60))
        depth.save(folder / f"depth/{7 * i}.png")
        Image.new("RGB", (60, 80)).save(folder / f"color/{7 * i}.jpg")
    with pytest.raises(SceneError, match="exchange fx with fy and cx with cy"):
        open_scene(folder)
    np.savetxt(folder / "intrinsics.txt", matrix)
    assert len(open_scene(folder, fuse_voxel_size=0.1).frames) == 10


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((80, 60), r"intrinsics_depth\.txt: its principal point .* of images of 80 x 60 pixels"),
        ((30, 40), r"intrinsics_depth\.txt: its principal point .* scale the camera matrix"),
    ],
)
def test_the_depth_has_a_camera_of_its_own(tmp_path, size, message):
    folder = box_room.write_scan(tmp_path / "room")
    np.savetxt(folder / "intrinsics_depth.txt", box_room.INTRINSICS)
    assert len(open_scene(folder).frames) == 10
    for file in (folder / "depth").iterdir():
        Image.open(file).resize(size[::-1], Image.Resampling.NEAREST).save(file)
    with pytest.raises(SceneError, match=message):
        open_scene(folder)
