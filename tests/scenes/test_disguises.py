"""Text files as other systems and tools write them: every reader of captures reads the same."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from pcdistill.errors import SceneError
from pcdistill.scenes import open_scene
from pcdistill.scenes.formats.text import parse_numbers, read_rows, read_text, split_fields
from tests.fixtures import box_room, matterport_replica, scannetpp_arkitscenes, user_captures
from tests.fixtures import nuscenes as drives
from tests.fixtures import scannet as scannet_scans
from tests.scenes.readers.scannet.test_openscene import NAME, write_extracted
from tests.tolerances import FLOAT32_SUMS


def write_scannet(folder):
    scannet_scans.write_scannet(folder)
    (scan,) = (folder / "scans").iterdir() if (folder / "scans").is_dir() else folder.iterdir()
    turn = " ".join(["0 1 0 0.5", "-1 0 0 0", "0 0 1 0", "0 0 0 1"])
    (scan / f"{scan.name}.txt").write_text(f"numDepthFrames = 6\naxisAlignment = {turn}\n")
    return scan


CAPTURES = {
    "rgbd": (box_room.write_scan, ["intrinsics.txt", "pose/*.txt"], {}),
    "tum": (user_captures.write_tum, ["*.txt"], {}),
    "tum camera": (
        lambda folder: user_captures.write_tum(folder, camera="60.0 60.0 39.5 29.5 0 0 0 0 0"),
        ["camera.txt", "groundtruth.txt"],
        {},
    ),
    "nerfstudio": (user_captures.write_nerfstudio, ["transforms.json"], {}),
    "record3d": (user_captures.write_record3d, ["metadata.json"], {}),
    "colmap": (
        lambda folder: user_captures.write_colmap(folder, binary=False),
        ["sparse/0/*.txt"],
        {},
    ),
    "scannetpp": (
        lambda folder: scannetpp_arkitscenes.write_scannetpp(folder, iphone=False),
        ["scans/*.json", "dslr/nerfstudio/*.json", "dslr/colmap/images.txt"],
        {},
    ),
    "scannetpp iphone": (
        lambda folder: scannetpp_arkitscenes.write_scannetpp(folder, dslr=False),
        ["iphone/*.json"],
        {},
    ),
    "arkitscenes": (
        lambda folder: scannetpp_arkitscenes.write_arkitscenes(
            folder / scannetpp_arkitscenes.VIDEO
        ),
        ["*/*.traj", "*/*_intrinsics/*.pincam"],
        {},
    ),
    "replica": (matterport_replica.write_replica, ["*/traj.txt"], {"frame_step": 1}),
    "replica camera": (matterport_replica.write_replica, ["cam_params.json"], {"frame_step": 1}),
    "matterport": (
        matterport_replica.write_house,
        ["scans/*/undistorted_camera_parameters/*.conf", "*.tsv"],
        {},
    ),
    "scannet": (write_scannet, ["**/scene*.txt"], {"align_axes": True}),
    "scannet extracted": (
        write_extracted,
        ["scannet_2d/intrinsics.txt", f"scannet_2d/{NAME}/pose/*.txt"],
        {},
    ),
    "nuscenes": (
        drives.write_drive,
        ["v1.0-mini/*.json"],
        {"part": "scene-0001_01", "image_size": (36, 64)},
    ),
}

ENCODINGS = {
    "byte-order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16, big end first": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "line ends of Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "both": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    "blank lines at the end": lambda text: (text + "\n\n  \n").encode(),
}
TABLES = {
    "trailing blanks": lambda text: text.replace("\n", " \t \n"),
    "tabs": lambda text: text.replace(" ", "\t"),
    "commas": lambda text: re.sub(r"(?<=\w) (?=\S)", ",", text),
    "commas and blanks": lambda text: re.sub(r"(?<=\w) (?=\S)", ", ", text),
    "semicolons": lambda text: re.sub(r"(?<=\w) (?=\S)", ";", text),
    "decimal commas": lambda text: decimal_commas(text),
    "decimal commas, semicolons": lambda text: decimal_commas(text).replace(" ", ";"),
    "comments": lambda text: "# made by hand\n" + text.rstrip("\n") + "  # the end\n",
}
FUSED = ("rgbd", "tum", "tum camera", "record3d")
PLAIN_TABLES = ("rgbd", "tum camera", "arkitscenes", "replica", "scannet extracted")
"""Readers whose text files are numbers and names in columns."""


def decimal_commas(text):
    return re.sub(r"(?<![\w/.])(-?\d+)\.(\d+(?:e[-+]?\d+)?)(?![\w.])", r"\1,\2", text)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """One folder of each layout, written when it is asked for, and what was read from it."""
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("scan") / "room"
            CAPTURES[name][0](folder)
            made[name] = folder, summary(name, folder)
        return made[name]

    return get


def summary(name, folder):
    settings = {"fuse_voxel_size": 0.1} if name in FUSED else {}
    scene = open_scene(folder, **settings, **CAPTURES[name][2])
    parts = [scene.points.double().numpy().ravel()]
    for frame in scene.frames:
        parts += [frame.camera_to_world.numpy().ravel(), frame.intrinsics.numpy().ravel()]
    return len(scene.frames), np.concatenate(parts)


def require_same(name, scans, tmp_path, disguise):
    folder, (count, expected) = scans(name)
    shutil.copytree(folder, tmp_path / "room")
    found = {file for kind in CAPTURES[name][1] for file in (tmp_path / "room").glob(kind)}
    assert found
    for file in found:
        file.write_bytes(disguise(file.read_text()))
    frames, values = summary(name, tmp_path / "room")
    assert frames == count
    np.testing.assert_allclose(values, expected, atol=FLOAT32_SUMS)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", CAPTURES)
def test_encodings_and_line_ends(scans, tmp_path, name, encoding):
    if encoding.startswith("UTF-16") and name == "nuscenes":
        pytest.skip("tables of a gigabyte are read in parts; UTF-8 is all they come in")
    require_same(name, scans, tmp_path, ENCODINGS[encoding])


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", PLAIN_TABLES)
def test_tables_of_numbers(scans, tmp_path, name, table):
    require_same(name, scans, tmp_path, lambda text: TABLES[table](text).encode())


@pytest.mark.parametrize("table", TABLES)
def test_lists_of_times_files_and_poses(scans, tmp_path, table):
    require_same("tum", scans, tmp_path, lambda text: TABLES[table](text).encode())


@pytest.mark.parametrize("table", [name for name in TABLES if name != "comments"])
def test_colmap_models_in_text(scans, tmp_path, table):
    require_same("colmap", scans, tmp_path, lambda text: TABLES[table](text).encode())


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["1,5 2,5", "3 4,25"], [["1.5", "2.5"], ["3", "4.25"]]),
        (["1,5;2,5"], [["1.5", "2.5"]]),
        (["1;2"], [["1", "2"]]),
        (["1,2,3"], [["1", "2", "3"]]),
        (["1, 2"], [["1", "2"]]),
        (["1,2"], [["1", "2"]]),
        (["1.5,2.5 3"], [["1.5", "2.5", "3"]]),  # a point somewhere: commas divide
        (["0,5 1,5", "0.5 1.5"], [["0", "5", "1", "5"], ["0.5", "1.5"]]),
        (["12,5 rgb/12.5.png"], [["12.5", "rgb/12.5.png"]]),
        (["12.5,rgb/a.png"], [["12.5", "rgb/a.png"]]),
        (["-1,5e-3 2"], [["-1.5e-3", "2"]]),
        ([""], [[]]),
    ],
)
def test_what_a_comma_is(lines, expected):
    assert split_fields(lines) == expected


def test_places_of_rows_are_those_of_the_file(tmp_path):
    (tmp_path / "a.txt").write_text("# head\n\n1 2 # one\n#3\n\n4#5 6\n")
    assert read_rows(tmp_path / "a.txt", "rows") == [(3, ["1", "2"]), (6, ["4#5", "6"])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1 2 \xe9", r"a\.txt: is no text \(byte 4 is not UTF-8\).*save it as UTF-8"),
        (b"\xff\xfe1\0 \0\0\xd8", "is not UTF-16"),
        ("1 2".encode("utf-16-le"), "holds zero bytes.*save it as UTF-8"),
    ],
)
def test_what_is_no_text(tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(SceneError, match=message):
        read_text(tmp_path / "a.txt", "numbers")


def test_digits_divided_by_underscores_are_no_number():
    with pytest.raises(SceneError, match="a word that is no number"):
        parse_numbers("a.txt", ["1_000"], 1)
