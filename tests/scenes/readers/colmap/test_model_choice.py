"""Camera models of COLMAP by number and name, and several models beside each other."""

from __future__ import annotations

import logging
import shutil
import struct

import numpy as np
import pytest

from pcdistill.errors import SceneError
from pcdistill.scenes import open_scene
from tests.fixtures import box_room, user_captures

PARAMETERS = {  # COLMAP 4.1, src/colmap/sensor/models.h
    0: ("SIMPLE_PINHOLE", (60, 40, 30)),
    1: ("PINHOLE", (60, 60, 40, 30)),
    2: ("SIMPLE_RADIAL", (60, 40, 30, 0.1)),
    3: ("RADIAL", (60, 40, 30, 0.1, 0)),
    4: ("OPENCV", (60, 60, 40, 30, 0.1, 0, 0, 0)),
    5: ("OPENCV_FISHEYE", (60, 60, 40, 30, 0, 0, 0, 0)),
    6: ("FULL_OPENCV", (60, 60, 40, 30, *[0] * 7, 0.1)),
    7: ("FOV", (60, 60, 40, 30, 0.5)),
    8: ("SIMPLE_RADIAL_FISHEYE", (60, 40, 30, 0)),
    9: ("RADIAL_FISHEYE", (60, 40, 30, 0, 0)),
    10: ("THIN_PRISM_FISHEYE", (60, 60, 40, 30, *[0] * 8)),
    11: ("RAD_TAN_THIN_PRISM_FISHEYE", (60, 60, 40, 30, *[0] * 12)),
    12: ("SIMPLE_DIVISION", (60, 40, 30, 0.1)),
    13: ("DIVISION", (60, 60, 40, 30, 0.1)),
    14: ("SIMPLE_FISHEYE", (60, 40, 30)),
    15: ("FISHEYE", (60, 60, 40, 30)),
    16: ("EUCM", (60, 60, 40, 30, 0.6, 1.1)),
    17: ("EQUIRECTANGULAR", (80, 60)),
}
STRAIGHT = (2, 3, 4, 6, 12, 13)


def with_camera(folder, number, parameters, *, binary, name=""):
    place = user_captures.write_colmap(folder, 4, binary=binary) / "sparse/0"
    if binary:
        count = len(parameters)
        content = struct.pack(f"<QiiQQ{count}d", 1, 1, number, 80, 60, *parameters)
        (place / "cameras.bin").write_bytes(content)
    else:
        numbers = " ".join(f"{p:g}" for p in parameters)
        (place / "cameras.txt").write_text(f"1 {name} 80 60 {numbers}\n")
    return folder


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("number", PARAMETERS)
def test_every_camera_model_is_read_or_named(tmp_path, number, binary):
    name, parameters = PARAMETERS[number]
    folder = with_camera(tmp_path / "a", number, parameters, binary=binary, name=name)
    if number < 2:
        np.testing.assert_allclose(open_scene(folder).frames[0].intrinsics, box_room.INTRINSICS)
        return
    message = (
        rf"camera 1 is a {name}.*, a camera model that is not read \({number}, {name}\), expected "
        r"PINHOLE .*; undistort to PINHOLE \(`colmap image_undistorter .*`\)"
    )
    with pytest.raises(SceneError, match=message) as caught:
        open_scene(folder)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("number", STRAIGHT)
def test_models_whose_distortion_is_zero_are_pinholes(tmp_path, number, binary):
    name, parameters = PARAMETERS[number]
    straight = [0 if value < 1 else value for value in parameters]
    folder = with_camera(tmp_path / "a", number, straight, binary=binary, name=name)
    np.testing.assert_allclose(open_scene(folder).frames[0].intrinsics, box_room.INTRINSICS)


@pytest.mark.parametrize(("number", "binary"), [(18, True), (99, True), (-1, True), (18, False)])
def test_a_model_of_tomorrow_is_unknown_and_not_damaged(tmp_path, number, binary):
    folder = with_camera(tmp_path / "a", number, (60, 60, 40, 30), binary=binary, name="LENS_9")
    with pytest.raises(SceneError, match="is unknown.*newer than this reader") as caught:
        open_scene(folder)
    assert str(number) in str(caught.value) or "LENS_9" in str(caught.value)
    assert "damaged" not in str(caught.value)


def test_rigs_and_frames_of_newer_versions_do_no_harm(tmp_path):
    folder = user_captures.write_colmap(tmp_path / "a", 4)
    for name in ("rigs.bin", "frames.bin"):
        (folder / "sparse/0" / name).write_bytes(struct.pack("<Q", 0))
    assert len(open_scene(folder).frames) == 4


@pytest.mark.parametrize("binary", [True, False])
def test_image_names_of_windows(tmp_path, binary):
    folder = user_captures.write_colmap(tmp_path / "a", 4, binary=binary, depth=True)
    file = folder / f"sparse/0/images.{'bin' if binary else 'txt'}"
    file.write_bytes(file.read_bytes().replace(b"left/", b"left\\"))
    frames = open_scene(folder, fuse_voxel_size=0.1).frames
    assert [frame.name for frame in frames] == ["000", "001", "002", "003"]
    assert all(frame.depth() is not None for frame in frames)


def project(folder, **models):
    """A project whose models have as many images as given; keys have _ for /, t for text."""
    for key, count in models.items():
        binary = not key.endswith("_t")
        place = key.removesuffix("_t").replace("_", "/")
        made = user_captures.write_colmap(folder.parent / f"made {key}", count, binary=binary)
        target = folder / place
        target.mkdir(parents=True, exist_ok=True)
        for file in (made / "sparse/0").iterdir():
            shutil.move(file, target / file.name)
        images = (folder / "dense" if place.startswith("dense") else folder) / "images"
        if place.startswith("dense/") and place.split("/")[1].isdecimal():
            images = folder / "/".join(place.split("/")[:2]) / "images"
        if not images.exists() or count > len(list(images.glob("*/*"))):
            shutil.rmtree(images, ignore_errors=True)
            shutil.move(made / "images", images)
        shutil.rmtree(made)
    return folder


@pytest.mark.parametrize(
    ("models", "model", "suffix", "count"),
    [
        ({"sparse_0": 3, "sparse_1": 8}, "sparse/1", ".bin", 8),
        ({"sparse_0": 3, "sparse_2": 4, "sparse_10": 6}, "sparse/10", ".bin", 6),
        ({"sparse_0": 8, "sparse_1": 3}, "sparse/0", ".bin", 8),
        ({"sparse_1": 5}, "sparse/1", ".bin", 5),
        ({"sparse": 8, "sparse_0": 3}, "sparse", ".bin", 8),
        ({"sparse_0": 3, "sparse_0_t": 8}, "sparse/0", ".txt", 8),
        ({"sparse_0": 8, "sparse_0_t": 3}, "sparse/0", ".bin", 8),
        ({"sparse_0": 5, "sparse_0_t": 5}, "sparse/0", ".bin", 5),
        ({"sparse_0": 8, "dense_sparse": 8}, "dense/sparse", ".bin", 8),
        ({"sparse_0": 8, "dense_sparse": 3}, "sparse/0", ".bin", 8),
        ({"dense_0_sparse": 3, "dense_1_sparse": 6}, "dense/1/sparse", ".bin", 6),
        ({"sparse_0_t": 3, "sparse_1_t": 8}, "sparse/1", ".txt", 8),
    ],
)
def test_the_model_with_most_images_is_read_and_the_others_named(
    tmp_path, caplog, models, model, suffix, count
):
    folder = project(tmp_path / "room", **models)
    with caplog.at_level(logging.WARNING):
        scene = open_scene(folder)
    assert len(scene.frames) == count
    assert scene.provenance["model"] == model
    assert scene.provenance["model_files"] == suffix
    others = scene.provenance["other_models"]
    assert len(others) == len(models) - 1
    for other in others:
        assert other in caplog.text


def test_an_undistorted_copy_is_read_in_place_of_bent_images(tmp_path):
    folder = project(tmp_path / "room", sparse_0=8, dense_sparse=7)
    bent = struct.pack("<QiiQQ4d", 1, 1, 2, 80, 60, 60, 40, 30, 0.1)
    (folder / "sparse/0/cameras.bin").write_bytes(bent)
    assert open_scene(folder).provenance["model"] == "dense/sparse"
    shutil.rmtree(folder / "dense")
    project(folder, dense_sparse=3)  # not a copy: most of the images would be lost
    with pytest.raises(SceneError, match=r"a camera model that is not read \(2, SIMPLE_RADIAL\)"):
        open_scene(folder)


def test_a_damaged_model_beside_a_whole_one_is_not_taken(tmp_path, caplog):
    folder = project(tmp_path / "room", sparse_0=8, sparse_1=3)
    (folder / "sparse/0/images.bin").write_bytes(b"\xff" * 40)
    assert open_scene(folder).provenance["model"] == "sparse/1"
    assert "sparse/0/images.bin: declares" in caplog.text
