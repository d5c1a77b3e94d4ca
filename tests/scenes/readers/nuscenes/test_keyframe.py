"""nuScenes from its tables: each sensor at its own time, or one sentence on what is wrong."""

from __future__ import annotations

import json
import logging
import shutil
import tracemalloc

import numpy as np
import pytest
import torch

from pcdistill.errors import ConfigError, SceneError
from pcdistill.geometry import project_to_pixels, resize_intrinsics
from pcdistill.labels import IGNORE_LABEL
from pcdistill.scenes import find_scans
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Scan
from pcdistill.scenes.readers.detection import DetectedScan, open_scan
from pcdistill.scenes.readers.nuscenes import tables as nuscenes_tables
from pcdistill.scenes.readers.nuscenes.keyframe import find_nuscenes, nuscenes_files, open_nuscenes
from pcdistill.scenes.readers.nuscenes.tables import read_rows
from pcdistill.scenes.resampling import resize
from tests.conftest import DATA, golden_cases, labels_in_memory, load_npz
from tests.fixtures import nuscenes as drives
from tests.tolerances import FLOAT32_SUMS, FLOAT64, FLOAT64_EXACT

FULL_SIZE = ReaderSettings(image_size=drives.FILE_SIZE)
GLOBAL_STEP = 1e-5  # metres: float32 within 128 m of the car


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return drives.write_drive(tmp_path_factory.mktemp("drive"))


@pytest.fixture
def own_drive(drive, tmp_path):
    """A copy to break."""
    return shutil.copytree(drive, tmp_path / "nuscenes")


def opened(root, part="scene-0000_01", settings=FULL_SIZE):
    return open_nuscenes(Scan(part, root, part), settings)


def refused(root, message, part="scene-0000_01", settings=FULL_SIZE):
    with pytest.raises(SceneError, match=message) as caught:
        opened(root, part, settings)
    assert "\n" not in str(caught.value)


def change(root, table, row, **values):
    """Set values of one row; None removes one."""
    path = root / "v1.0-mini" / f"{table}.json"
    rows = json.loads(path.read_text())
    for found in [found for found in rows if row in (found["token"], "every")]:
        for key, value in values.items():
            found.pop(key, None)
            if value is not None:
                found[key] = value
    path.write_text(json.dumps(rows))
    nuscenes_tables._tables.cache_clear()
    nuscenes_tables._keyframes.cache_clear()


def last_time(part="scene-0000_01"):
    return drives.START + int(part[6:10]) * 10_000_000 + int(part[-2:]) * 200_000


def to_global(scene, points=None):
    world = torch.tensor(scene.provenance["world_to_global"], dtype=torch.float64)
    points = scene.points if points is None else points
    return (points.double() @ world[:3, :3].T + world[:3, 3]).numpy()


# --- what is read -------------------------------------------------------------------------------


def test_every_keyframe_is_a_scan(drive):
    names = [f"scene-{scene}_{index}" for scene in ("0000", "0001") for index in ("00", "01")]
    assert [scan.name for scan in find_nuscenes(drive)] == names
    assert [scan.name for scan in find_nuscenes(drive / "v1.0-mini")] == names
    assert find_nuscenes(drive / "samples") == ()
    assert find_nuscenes(drive / "v1.0-mini" / "scene.json") == ()


def test_a_scene_has_the_points_where_they_were_on_the_map(drive):
    for scan in find_nuscenes(drive):
        scene = open_nuscenes(scan, FULL_SIZE)
        places = drives.landmarks(last_time(scan.name))
        np.testing.assert_allclose(to_global(scene), places, atol=GLOBAL_STEP)
        assert scene.name == scan.name
        assert scene.colors is None
        assert [frame.name for frame in scene.frames] == list(drives.CAMERAS)
        assert scene.provenance["skipped_frames"] == 0
        assert float(scene.points.abs().max()) < 100  # metres, the car is in the middle


def test_each_camera_sees_the_map_from_where_it_was_at_its_own_time(drive):
    scene = opened(drive)
    seen = 0
    for place, frame in enumerate(scene.frames):
        time = last_time() - 5000 * place
        camera = drives.matrix(drives.ego_pose(time)) @ drives.matrix(drives.mount(frame.name))
        places = np.c_[drives.landmarks(last_time()), np.ones(drives.POINTS)]
        in_camera = (np.linalg.inv(camera) @ places.T).T[:, :3]
        front = in_camera[:, 2] > 2
        expected = in_camera[front] @ np.array(drives.INTRINSICS).T
        pixels, depth = project_to_pixels(
            scene.points.double(), torch.linalg.inv(frame.camera_to_world), frame.intrinsics
        )
        np.testing.assert_allclose(depth[front], in_camera[front, 2], atol=FLOAT32_SUMS)
        # float32 pixels of images 1600 wide
        np.testing.assert_allclose(pixels[front], expected[:, :2] / expected[:, 2:], atol=1e-3)
        seen += int(front.sum())
        assert frame.depth() is None
    assert seen > drives.POINTS


def test_labels_become_the_sixteen_categories(own_drive):
    expected = np.resize(drives.LABELS, drives.POINTS)
    scene = opened(own_drive)
    assert scene.label_set == "nuscenes16"
    np.testing.assert_array_equal(scene.labels, expected)
    # without an index the ids are those of the release, which the drive uses
    change(own_drive, "category", "every", index=None)
    np.testing.assert_array_equal(opened(own_drive).labels, expected)


def test_the_category_table_says_what_an_id_means(own_drive):
    change(own_drive, "category", "c17", name="vehicle.truck")
    labels = opened(own_drive).labels
    assert labels[3] == 9
    assert 3 not in labels


def test_without_lidarseg_there_are_no_labels(own_drive, caplog):
    (own_drive / "v1.0-mini" / "lidarseg.json").write_text("[]")
    with caplog.at_level(logging.WARNING):
        assert opened(own_drive).labels is None
    assert "no labels" in caplog.text
    (own_drive / "v1.0-mini" / "lidarseg.json").unlink()
    (own_drive / "v1.0-mini" / "category.json").unlink()
    scene = opened(own_drive)
    assert (scene.labels, scene.label_set) == (None, None)
    assert scene.provenance["labels"] == "none"


def test_sweeps_come_before_the_keyframe_in_its_world(drive):
    scene = opened(drive, settings=ReaderSettings(image_size=drives.FILE_SIZE, sweeps=True))
    before = 3 * drives.POINTS
    assert scene.provenance["sweep_points"] == before
    times = [last_time() - step * 50_000 for step in (3, 2, 1, 0)]
    places = np.concatenate([drives.landmarks(time) for time in times])
    np.testing.assert_allclose(to_global(scene), places, atol=GLOBAL_STEP)
    assert (scene.labels[:before] == IGNORE_LABEL).all()
    np.testing.assert_array_equal(scene.labels[before:], opened(drive).labels)
    torch.testing.assert_close(scene.points[before:], opened(drive).points, rtol=0, atol=0)


def test_a_first_keyframe_has_no_sweeps(drive):
    scene = opened(drive, "scene-0001_00", ReaderSettings(sweeps=True))
    assert len(scene.points) == drives.POINTS


def test_images_are_halved_with_their_camera(drive):
    half = (drives.FILE_SIZE[0] // 2, drives.FILE_SIZE[1] // 2)
    small = opened(drive, settings=ReaderSettings(image_size=half)).frames[0]
    full = opened(drive).frames[0]
    pixels = full.image().double()
    assert tuple(pixels.shape[:2]) == drives.FILE_SIZE
    blocks = pixels.view(half[0], 2, half[1], 2, 3).mean(dim=(1, 3))
    assert float((small.image() - blocks).abs().max()) <= 0.5
    # the pixel in which a ray lands has both coordinates (u + 0.5) halved
    ray = torch.tensor([0.1, -0.2, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        (small.intrinsics @ ray)[:2] + 0.5, ((full.intrinsics @ ray)[:2] + 0.5) / 2
    )
    openscene = opened(
        drive, settings=ReaderSettings(image_size=half, intrinsics="openscene")
    ).frames[0]
    assert float(openscene.intrinsics[0, 2]) == pytest.approx(32.5 * 31 / 63, rel=FLOAT64_EXACT)


def test_frames_have_half_the_size_of_nuscenes_by_default(drive):
    frame = opened(drive, settings=ReaderSettings()).frames[0]
    assert frame.image_size == (450, 800)
    assert tuple(frame.image().shape) == (450, 800, 3)


def test_resizing_keeps_what_is_even():
    even = torch.full((30, 50, 3), 77, dtype=torch.uint8)
    for size in [(30, 50), (10, 50), (7, 13), (60, 20), (61, 101)]:
        assert (resize(even, size, "area") == 77).all()
        assert resize(even, size, "area").shape == (*size, 3)


def test_scaling_there_and_back_changes_nothing():
    matrix = torch.tensor(drives.INTRINSICS, dtype=torch.float64)
    there = resize_intrinsics(matrix, (36, 64), (450, 800))
    torch.testing.assert_close(resize_intrinsics(there, (450, 800), (36, 64)), matrix)


def test_a_part_is_a_name_or_a_sample_token(drive):
    by_token = opened(drive, "s1k1")
    by_name = opened(drive / "v1.0-mini", "scene-0001_01")
    assert by_token.provenance["sample_token"] == by_name.provenance["sample_token"] == "s1k1"
    refused(drive, "has no keyframe 'scene-0000_07'", part="scene-0000_07")
    refused(drive, "has 4 keyframes, expected the name of one such as scene-0000_00", part="")


def test_scenes_of_mini_are_found_once_beside_the_whole(own_drive):
    shutil.copytree(own_drive / "v1.0-mini", own_drive / "v1.0-trainval")
    scans = find_nuscenes(own_drive)
    assert len(scans) == 4
    assert {scan.folder.name for scan in scans} == {"v1.0-trainval"}
    change(own_drive, "sample", "s0k0", token="other")  # of mini
    names = {scan.name: scan.folder.name for scan in find_nuscenes(own_drive)}
    assert names["v1.0-mini_scene-0000_00"] == "v1.0-mini"
    assert len(names) == 5


# --- what cannot be read ------------------------------------------------------------------------


def test_a_camera_without_image_or_pose_is_left_out(own_drive, caplog):
    time = last_time()
    (own_drive / f"samples/CAM_FRONT/{time}.png").unlink()
    missing = f"e-CAM_BACK-{time - 5000 * drives.CAMERAS.index('CAM_BACK')}"
    change(own_drive, "ego_pose", missing, translation=[float("nan"), 0, 0])
    with caplog.at_level(logging.WARNING):
        scene = opened(own_drive)
    assert [frame.name for frame in scene.frames] == [
        name for name in drives.CAMERAS if name not in ("CAM_FRONT", "CAM_BACK")
    ]
    assert scene.provenance["skipped_frames"] == 2
    assert scene.provenance["frames_without_file"] == ["CAM_FRONT"]
    assert scene.provenance["frames_without_pose"] == ["CAM_BACK"]
    assert "CAM_FRONT" in caplog.text


def test_without_any_image_the_camera_blobs_are_asked_for(own_drive):
    for camera in drives.CAMERAS:
        shutil.rmtree(own_drive / "samples" / camera)
    refused(own_drive, "no usable camera image of keyframe scene-0000_01.*unpack the camera blobs")


LIDAR = f"LIDAR_TOP-{drives.START + 200_000}"
FRONT = f"CAM_FRONT-{drives.START + 200_000}"
BROKEN_ROWS = {
    "no pose": ("ego_pose", f"e-{LIDAR}", {"token": "x"}, "ego_pose.json: has no ego pose 'e-LID"),
    "quaternion": (
        "ego_pose",
        f"e-{LIDAR}",
        {"rotation": [1, 0.2, 0, 0.2]},
        "its rotation has length 1.039, expected a quaternion w x y z of length 1",
    ),
    "zero quaternion": ("ego_pose", f"e-{LIDAR}", {"rotation": [0, 0, 0, 0]}, "has length 0"),
    "infinite": ("ego_pose", f"e-{LIDAR}", {"translation": [1e999, 0, 0]}, "is not finite"),
    "huge": ("ego_pose", f"e-{LIDAR}", {"translation": [10**400, 0, 0]}, "expected numbers only"),
    "overflow": ("ego_pose", f"e-{LIDAR}", {"rotation": [1e308] * 4}, "has length inf"),
    "three": ("ego_pose", f"e-{LIDAR}", {"rotation": [1, 0, 0]}, "expected 4 numbers"),
    "words": ("ego_pose", f"e-{LIDAR}", {"rotation": list("1000")}, "expected numbers only"),
    "jump": ("ego_pose", f"e-{FRONT}", {"translation": [0, 0, 0]}, "car moves"),
    "turn": ("ego_pose", f"e-{FRONT}", {"rotation": [0, 0, 0, 1]}, "turns 1[0-9.]* degrees in 0"),
    "far mount": (
        "calibrated_sensor",
        "mount-CAM_FRONT",
        {"translation": [1e6, 0, 0]},
        "sits 1e.06 m from the car's origin",
    ),
    "another moment": ("sample", "s0k1", {"timestamp": drives.START + 9e6}, "a whole number"),
    "later": ("sample", "s0k1", {"timestamp": drives.START + 9_000_000}, "expected the same mom"),
    "same labels": (
        "lidarseg",
        LIDAR,
        {"filename": f"lidarseg/v1.0-mini/LIDAR_TOP-{drives.START}_lidarseg.bin"},
        "a label file of its own",
    ),
    "same name": ("category", "c17", {"name": "noise"}, "each once"),
    "no mount": (
        "calibrated_sensor",
        "mount-CAM_FRONT",
        {"token": "x"},
        "has no calibrated sensor 'mount-CAM_FRONT'",
    ),
    "no sensor": ("sensor", "sensor-CAM_FRONT", {"token": "x"}, "has no sensor 'sensor-CAM_FR"),
    "camera matrix": (
        "calibrated_sensor",
        "mount-CAM_FRONT",
        {"camera_intrinsic": [[1, 0], [0, 1]]},
        "expected a 3 x 3 matrix",
    ),
    "no camera matrix": (
        "calibrated_sensor",
        "mount-CAM_FRONT",
        {"camera_intrinsic": []},
        "expected a 3 x 3 matrix",
    ),
    "matrix of another size": (
        "calibrated_sensor",
        "mount-CAM_FRONT",
        {"camera_intrinsic": [[1266, 0, 816], [0, 1266, 491], [0, 0, 1]]},
        "its camera matrix is 1266 0 816 / 0 1266 491 / 0 0 1, expected .* an image of 64 x 36",
    ),
    "size": ("sample_data", "every", {"height": 900, "width": 1600}, "camera matrix is"),
    "size alone": ("sample_data", "every", {"height": 37}, "is 64 x 36 pixels.* for 64 x 37"),
    "no file name": ("sample_data", LIDAR, {"filename": None}, "has nothing as 'filename'"),
    "up": ("sample_data", LIDAR, {"filename": "../../etc/passwd"}, "expected a path relative"),
    "half a letter": ("sample_data", LIDAR, {"filename": "a\ud800"}, "expected a path relative"),
    "absolute": ("sample_data", LIDAR, {"filename": "/etc/passwd"}, "expected a path relative"),
    "nul": ("sample_data", LIDAR, {"filename": "a\0b"}, "expected a path relative"),
    "gone": ("sample_data", LIDAR, {"filename": "x.pcd.bin"}, "x.pcd.bin: cannot be read"),
    "folder": ("sample_data", LIDAR, {"filename": "samples"}, "samples: cannot be read"),
    "time": ("sample_data", FRONT, {"timestamp": 5}, "s away from"),
    "bad time": ("sample_data", LIDAR, {"timestamp": -1.5}, "expected a whole number"),
    "flag": ("sample_data", LIDAR, {"is_key_frame": "yes"}, "expected true or false"),
    "not a keyframe": ("sample_data", LIDAR, {"is_key_frame": False}, "has no LIDAR_TOP recording"),
    "two": ("sample_data", LIDAR, {"sample_token": "s0k0"}, "one keyframe recording of LIDAR_TOP"),
    "scene name": ("scene", "s0", {"name": "../../x"}, "row 1 has '../../x' as 'name'"),
    "one name": ("scene", "s0", {"name": "scene-0001"}, "expected another name for each scene"),
    "no scene": ("sample", "s0k0", {"scene_token": "x"}, "scene.json: has no scene 'x'"),
    "category": ("category", "c17", {"name": "vehicle.cart"}, "one of the 32 names"),
    "ids": ("category", "c17", {"index": 18}, "has the ids 17, which no 'index' in"),
    "large id": ("category", "c17", {"index": 1800}, "a number of its own below 256"),
    "same id": ("category", "c17", {"index": 0}, "a number of its own"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_ROWS)
def test_broken_rows_are_named(own_drive, case):
    table, row, values, message = BROKEN_ROWS[case]
    change(own_drive, table, row, **values)
    refused(own_drive, message)


def test_one_broken_keyframe_leaves_the_others(own_drive):
    change(own_drive, "ego_pose", f"e-{LIDAR}", rotation=[1, 0.2, 0, 0.2])
    refused(own_drive, "length 1.039")
    for part in ("scene-0000_00", "scene-0001_00", "scene-0001_01"):
        assert len(opened(own_drive, part).points) == drives.POINTS


def test_a_broken_chain_of_sweeps(own_drive):
    sweeps = ReaderSettings(sweeps=True)
    change(own_drive, "sample_data", LIDAR, prev="nowhere")
    refused(own_drive, "has no LIDAR_TOP recording 'nowhere'", settings=sweeps)
    assert len(opened(own_drive).points) == drives.POINTS  # not needed without sweeps
    second = f"LIDAR_TOP-{drives.START + 150_000}"
    change(own_drive, "sample_data", LIDAR, prev=second)
    change(own_drive, "sample_data", second, prev=second)
    refused(own_drive, "more than 100 LIDAR_TOP sweeps", settings=sweeps)


def cut(content):
    return content[: len(content) // 2]


BROKEN_TABLES = {
    "cut": (cut, "is not a list of JSON objects after row"),
    "empty": (lambda content: b"", "after row 0 .the file ends there"),
    "no list": (lambda content: b'{"token": 1}', "after row 0 .found '{'"),
    "numbers": (lambda content: b"[1, 2]", "after row 0 .found '1'"),
    "deep": (lambda content: b'[{"a":' + b"[" * 200_000, "after row 0"),
    "long number": (lambda content: b'[{"a":' + b"9" * 60_000 + b"}]", "after row 0"),
    "more after it": (lambda content: content + b"{", "found '{'"),
    "trailing comma": (lambda content: content[:-1] + b",]", "found ']'"),
    "bytes": (lambda content: b"\xff\xfe" + content, "not text in UTF-8"),
    "endless row": (lambda content: b'[{"a": "' + b"x" * 3_000_000 + b'"}]', "after row 0"),
    "zeros": (lambda content: bytes(len(content)), "after row 0"),
}


@pytest.mark.parametrize("case", BROKEN_TABLES)
@pytest.mark.parametrize("table", ["scene", "sample_data", "ego_pose"])
def test_broken_tables_are_named(own_drive, table, case):
    spoil, message = BROKEN_TABLES[case]
    path = own_drive / "v1.0-mini" / f"{table}.json"
    path.write_bytes(spoil(path.read_bytes()))
    refused(own_drive, f"{table}.json: .*{message}")
    scans = find_nuscenes(own_drive)
    assert [scan.name for scan in scans][:1] == (
        ["v1.0-mini"] if table == "scene" else ["scene-0000_00"]
    )


@pytest.mark.parametrize("table", drives.TABLES)
def test_missing_tables_are_named(own_drive, table):
    (own_drive / "v1.0-mini" / f"{table}.json").unlink()
    if table == "lidarseg":  # comes in an archive of its own
        assert opened(own_drive).labels is None
        return
    refused(own_drive, f"{table}.json: cannot be read .No such file")
    assert find_nuscenes(own_drive)


def test_no_tables_at_all(tmp_path):
    refused(tmp_path, "has no tables of nuScenes, expected v1.0-trainval/scene.json")


BROKEN_CLOUDS = {
    "cut": (cut, "has 400 bytes|expected a multiple of 20"),
    "one byte less": (lambda content: content[:-1], "has 799 bytes, expected a multiple of 20"),
    "empty": (lambda content: b"", "has 0 bytes"),
    "four columns": (
        lambda content: np.frombuffer(content, "<f4").reshape(-1, 5)[:, :4].tobytes(),
        "are no LiDAR returns",
    ),
    "big endian": (
        lambda content: np.frombuffer(content, "<f4").astype(">f4").tobytes(),
        "40 of 40 points are no LiDAR returns",
    ),
    "nan": (lambda content: b"\0\0\xc0\x7f" + content[4:], "1 of 40 points .*point 0 is nan"),
    "zeros and text": (lambda content: b"x" * 800, "are no LiDAR returns"),
}


@pytest.mark.parametrize("case", BROKEN_CLOUDS)
def test_broken_clouds_are_named(own_drive, case):
    spoil, message = BROKEN_CLOUDS[case]
    path = own_drive / f"samples/LIDAR_TOP/{last_time()}.pcd.bin"
    path.write_bytes(spoil(path.read_bytes()))
    if case == "cut":  # half of the points, too few for the labels
        message = "has 40 labels of one byte, its LiDAR cloud has 20 points"
    refused(own_drive, message)


def test_labels_must_belong_to_the_cloud(own_drive):
    path = own_drive / f"lidarseg/v1.0-mini/{LIDAR}_lidarseg.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    refused(own_drive, "has 39 labels of one byte, its LiDAR cloud has 40 points")
    path.write_bytes(b"\xc8" + content[1:])
    refused(own_drive, "has the ids 200, which no 'index' in .*category.json explains")
    path.unlink()
    refused(own_drive, "lidarseg.bin: cannot be read")


def test_a_damaged_image_header_is_named(own_drive):
    (own_drive / f"samples/CAM_FRONT/{last_time()}.png").write_bytes(b"\x89PNG")
    refused(own_drive, f"CAM_FRONT/{last_time()}.png: cannot be decoded")


@pytest.mark.parametrize(
    "settings",
    [
        {"depth_scale": 1000.0},
        {"up_axis": "y"},
        {"surface_file": "mesh.ply"},
        {"pose_convention": "world_to_camera"},
        {"align_axes": True},
        {"frame_step": 5},
    ],
)
def test_settings_without_effect_are_refused(drive, settings):
    scan = DetectedScan("nuscenes", Scan("scene-0000_01", drive, "scene-0000_01"))
    with pytest.raises(ConfigError, match=f"`{next(iter(settings))}` is .*, but in nuScenes"):
        open_scan(scan, ReaderSettings(**settings))


# --- how much is read ---------------------------------------------------------------------------


def test_tables_are_read_once_until_they_change(own_drive, monkeypatch):
    read = []
    monkeypatch.setattr(
        nuscenes_tables, "read_rows", lambda path: (read.append(path.stem), *read_rows(path))[1:]
    )
    for scan in find_nuscenes(own_drive):
        open_nuscenes(scan, FULL_SIZE)
    assert sorted(read) == sorted(drives.TABLES)
    read.clear()
    path = own_drive / "v1.0-mini" / "ego_pose.json"
    path.write_text(path.read_text() + "\n")
    opened(own_drive)
    assert set(read) == set(drives.TABLES) - {"scene", "sample"}


def test_finding_scans_reads_no_large_table(own_drive):
    for table in set(drives.TABLES) - {"scene", "sample"}:
        (own_drive / "v1.0-mini" / f"{table}.json").write_bytes(b"damaged")
    assert len(find_nuscenes(own_drive)) == 4


def test_damaged_tables_are_not_read_again_for_each_scan(own_drive, monkeypatch):
    (own_drive / "v1.0-mini" / "ego_pose.json").write_bytes(b"[")
    refused(own_drive, "ego_pose.json")
    monkeypatch.setattr(nuscenes_tables, "read_rows", lambda path: pytest.fail("read again"))
    refused(own_drive, "ego_pose.json")


def test_rows_are_those_of_the_whole_file(tmp_path):
    rng = np.random.default_rng(3)
    words = ["{[", '"}', "\\", "ü", "\n", "]", "日本", ","]
    rows = [
        {"token": str(i), "text": "".join(rng.choice(words, size=rng.integers(400))), "n": [i, {}]}
        for i in range(6000)
    ]
    for name, style in {"indented": {"indent": 1}, "plain": {"ensure_ascii": False}}.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(rows, **style), encoding="utf-8")
        assert path.stat().st_size > 2 << 20  # several chunks
        assert list(read_rows(path)) == rows


def test_a_scan_depends_on_its_own_files(own_drive):
    scans = find_nuscenes(own_drive)
    files = [set(nuscenes_files(scan)) for scan in scans]
    time = last_time(scans[1].name)
    assert own_drive / f"samples/LIDAR_TOP/{time}.pcd.bin" in files[1]
    assert own_drive / f"samples/CAM_FRONT/{time}.png" in files[1]
    assert own_drive / f"lidarseg/v1.0-mini/{LIDAR}_lidarseg.bin" in files[1]
    assert {path.suffix for path in files[0] & files[1]} == {".json"}
    assert all(path.is_file() for path in files[1])
    (own_drive / "v1.0-mini" / "ego_pose.json").write_bytes(b"[")
    assert nuscenes_files(scans[1]) == (own_drive / "v1.0-mini",)


def test_memory_does_not_grow_with_the_table(tmp_path):
    path = tmp_path / "sample_data.json"
    row = json.dumps({"token": "t" * 32, "text": "x" * 400})
    path.write_text("[" + ",\n".join([row] * 40_000) + "]")
    tracemalloc.start()
    count = sum(1 for _ in read_rows(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 40_000
    assert peak < 8 << 20 < path.stat().st_size


# --- damage at random ---------------------------------------------------------------------------


def spoil(content, rng):
    """Cut, flip bits, repeat, insert, or swap numbers for absurd ones."""
    content = bytearray(content)
    place = int(rng.integers(len(content)))
    kind = rng.integers(6)
    if kind == 0:
        return bytes(content[:place])
    if kind == 1:
        for _ in range(int(rng.integers(1, 6))):
            content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        return bytes(content)
    if kind == 2:
        return bytes(content[:place] + content[max(0, place - 50) :])
    if kind == 3:
        return bytes(content[:place] + rng.bytes(int(rng.integers(1, 40))) + content[place:])
    if kind == 4:
        absurd = [b"null", b"-1", b"1e999", b"[]", b"{}", b'"x"', b"NaN", b"9" * 400, b"true"]
        starts = [i for i in range(1, len(content)) if content[i - 1] in b' [,"']
        start = starts[int(rng.integers(len(starts)))] if starts else place
        stop = start + int(rng.integers(1, 12))
        word = absurd[int(rng.integers(len(absurd)))]
        return bytes(content[:start] + word + content[stop:])
    stop = place + int(rng.integers(1, 200))
    return bytes(content[:place] + content[stop:])


def spoil_rows(content, rng):
    """Valid JSON with one row gone, repeated or changed in one value."""
    rows = json.loads(content)
    place = int(rng.integers(len(rows)))
    row = rows[place]
    kind = rng.integers(4)
    if kind == 0:
        rows.pop(place)
    elif kind == 1:
        rows.insert(int(rng.integers(len(rows))), row)
    else:
        key = sorted(row)[int(rng.integers(len(row)))]
        absurd = [None, -1, 0, 10**400, 1e308, [], {}, "", "x", True, float("nan"), 1e999, [[0]]]
        value = absurd[int(rng.integers(len(absurd)))]
        if isinstance(row[key], list) and row[key] and kind == 2:
            row[key] = [*row[key][:-1], value]
        else:
            row[key] = rows[0][key] if rng.integers(3) == 0 and key in rows[0] else value
    return json.dumps(rows).encode()


@pytest.mark.parametrize("seed", range(8))
def test_damage_ends_in_a_scene_or_in_a_sentence(tmp_path, seed):
    rng = np.random.default_rng(seed)
    root = drives.write_drive(tmp_path / "nuscenes")
    settings = ReaderSettings(image_size=(18, 32), sweeps=True)
    tables = sorted((root / "v1.0-mini").iterdir())
    time = last_time()
    others = [
        root / f"samples/LIDAR_TOP/{time}.pcd.bin",
        root / f"sweeps/LIDAR_TOP/{time - 50_000}.pcd.bin",
        root / f"lidarseg/v1.0-mini/{LIDAR}_lidarseg.bin",
        root / f"samples/CAM_FRONT/{time}.png",
    ]
    outcomes = []
    for case in range(200):
        path = (tables * 2 + others)[case % (2 * len(tables) + len(others))]
        whole = path.read_bytes()
        in_rows = path.suffix == ".json" and rng.integers(3) > 0
        path.write_bytes(spoil_rows(whole, rng) if in_rows else spoil(whole, rng))
        nuscenes_tables._tables.cache_clear()
        nuscenes_tables._keyframes.cache_clear()
        names = [scan.name for scan in find_nuscenes(root)]
        assert len(set(names)) == len(names) > 0
        try:
            scene = opened(root, settings=settings)
            for frame in scene.frames:
                assert frame.image().shape == (18, 32, 3)
                assert torch.isfinite(frame.camera_to_world).all()
            outcomes.append("")
        except SceneError as error:
            outcomes.append(str(error))
        path.write_bytes(whole)
    nuscenes_tables._tables.cache_clear()
    assert len(opened(root).points) == drives.POINTS
    assert 60 < sum(map(bool, outcomes)) < 190
    assert "\n" not in "".join(outcomes)


# --- parity -------------------------------------------------------------------------------------

KEYFRAMES = golden_cases("preprocess/nuscenes_devkit_*.npz")


def scan_of(token):
    for root in sorted(DATA.glob("nuscenes_raw*")):
        for scan in find_nuscenes(root):
            if token in (open_nuscenes(scan, ReaderSettings()).provenance["sample_token"],):
                return scan
    pytest.skip(f"no raw capture below {DATA} has the sample {token}")


@pytest.mark.parametrize("file", KEYFRAMES)
def test_a_keyframe_is_that_of_the_devkit(file, data_root):
    case = load_npz(file)
    scene = open_nuscenes(
        scan_of(str(case["sample_token"])), ReaderSettings(image_size=(900, 1600))
    )
    world = torch.tensor(scene.provenance["world_to_global"], dtype=torch.float64)
    np.testing.assert_allclose(world, case["ego2global_lidar"], atol=FLOAT64)
    np.testing.assert_allclose(to_global(scene), case["points_global"], atol=GLOBAL_STEP)
    np.testing.assert_array_equal(scene.labels, labels_in_memory(case["labels16"]))
    frames = {frame.name: frame for frame in scene.frames}
    assert list(frames) == case["cams"].tolist()
    for place, name in enumerate(case["cams"].tolist()):
        frame = frames[name]
        np.testing.assert_allclose(
            world @ frame.camera_to_world, case["cam2global"][place], atol=FLOAT64
        )
        np.testing.assert_array_equal(frame.intrinsics, case["K"][place])
        pixels, depth = project_to_pixels(
            scene.points.double(), torch.linalg.inv(frame.camera_to_world), frame.intrinsics
        )
        seen = (depth > 1) & (pixels > 1).all(dim=1)
        seen &= (pixels[:, 0] < 1599) & (pixels[:, 1] < 899)
        # the devkit computes in float32 global coordinates: 0.1 mm at 4 m is 0.03 pixels
        if int(seen.sum()) == len(case[f"depth_{name}"]):
            np.testing.assert_allclose(pixels[seen], case[f"uv_{name}"], atol=0.1)
            np.testing.assert_allclose(depth[seen], case[f"depth_{name}"], atol=1e-3)
        assert abs(int(seen.sum()) - len(case[f"depth_{name}"])) <= 2  # on the border


def test_a_version_folder_is_not_taken_for_a_stored_scene(tmp_path):
    """One of the tables is called scene.json, as the file of a stored scene is."""
    root = drives.write_drive(tmp_path)
    assert find_scans(root / "v1.0-mini") == find_scans(root)
