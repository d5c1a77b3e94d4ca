"""Clips of nuScenes as OpenScene's scripts read them, or one sentence that says what is wrong."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest
import torch

from pcdistill.errors import ConfigError, SceneError
from pcdistill.labels import IGNORE_LABEL
from pcdistill.scenes import write_ply
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Scan
from pcdistill.scenes.readers.detection import DetectedScan, open_scan
from pcdistill.scenes.readers.nuscenes.keyframe import find_nuscenes, open_nuscenes
from pcdistill.scenes.readers.nuscenes.openscene import (
    CLIP_CAMERAS,
    find_nuscenes_clips,
    open_nuscenes_clips,
)
from tests.conftest import DATA, golden_cases, labels_in_memory, load_npz
from tests.fixtures import nuscenes
from tests.tolerances import FLOAT32_SUMS, FLOAT64, FLOAT64_EXACT

TIMES = (1000, 3000)  # of cameras; points are of 2000, too
POINTS = 30
IDS = np.array([-1, 0, 2, 9, 17, 31])
LABELS = np.array([IGNORE_LABEL, IGNORE_LABEL, 6, 0, 3, IGNORE_LABEL])
FULL_SIZE = ReaderSettings(image_size=nuscenes.FILE_SIZE)


def write_clip(folder):
    rng = np.random.default_rng(5)
    points = torch.from_numpy(rng.uniform(-50, 50, (POINTS, 3))).float()
    write_ply(folder / "scene.ply", points, labels=torch.from_numpy(np.resize(IDS, POINTS)))
    times = np.repeat([2000, TIMES[-1]], POINTS // 2)[:, None]
    np.save(folder / "scene-timestamps.npy", times)
    for time in TIMES:
        for place, camera in enumerate(CLIP_CAMERAS):
            place_of = folder / "frames" / str(time) / camera
            place_of.mkdir(parents=True)
            (place_of / "color_image.jpg").write_bytes(nuscenes.image_bytes(time + place))
            np.savetxt(place_of / "K.txt", nuscenes.INTRINSICS)
            pose = nuscenes.matrix(nuscenes.mount(nuscenes.CAMERAS[place]))
            pose[0, 3] += time / 1000
            np.savetxt(place_of / "cam2scene.txt", pose)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clips") / "val" / "scene-0001")


@pytest.fixture
def own_clip(clip, tmp_path):
    """A copy to break."""
    return shutil.copytree(clip, tmp_path / "val" / "scene-0001")


def opened(folder, settings=FULL_SIZE):
    return open_nuscenes_clips(Scan(folder.name, folder), settings)


def refused(folder, message, settings=FULL_SIZE):
    with pytest.raises(SceneError, match=message) as caught:
        opened(folder, settings)
    assert "\n" not in str(caught.value)


def test_clips_are_found_from_any_floor(own_clip, tmp_path):
    write_clip(tmp_path / "train" / "scene-0001")
    write_clip(tmp_path / "train" / "scene-0002")
    names = [scan.name for scan in find_nuscenes_clips(tmp_path)]
    assert names == ["train_scene-0001", "scene-0002", "val_scene-0001"]
    assert [scan.name for scan in find_nuscenes_clips(own_clip.parent)] == ["scene-0001"]
    assert [scan.name for scan in find_nuscenes_clips(own_clip)] == ["scene-0001"]
    assert find_nuscenes_clips(own_clip / "frames" / "1000") == ()
    assert find_nuscenes_clips(own_clip / "scene.ply") == ()


@pytest.mark.parametrize("missing", ["scene.ply", "scene-timestamps.npy", "frames"])
def test_a_damaged_clip_is_found_and_refused(own_clip, missing):
    path = own_clip / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert [scan.name for scan in find_nuscenes_clips(own_clip.parent)] == ["scene-0001"]
    refused(own_clip, missing)


def test_a_scene_is_the_keyframe_of_the_clip(clip):
    scene = opened(clip)
    half = POINTS // 2
    assert len(scene.points) == half
    assert scene.label_set == "nuscenes16"
    np.testing.assert_array_equal(scene.labels, np.resize(LABELS, POINTS)[half:])
    assert [frame.name for frame in scene.frames] == list(CLIP_CAMERAS)
    for place, frame in enumerate(scene.frames):
        expected = nuscenes.matrix(nuscenes.mount(nuscenes.CAMERAS[place]))
        expected[0, 3] += TIMES[-1] / 1000
        np.testing.assert_allclose(frame.camera_to_world, expected, atol=FLOAT64_EXACT)
        np.testing.assert_array_equal(frame.intrinsics, nuscenes.INTRINSICS)
        assert tuple(frame.image().shape) == (*nuscenes.FILE_SIZE, 3)
        assert frame.depth() is None


def test_sweeps_are_the_whole_clip(clip):
    scene = opened(clip, ReaderSettings(sweeps=True))
    assert len(scene.points) == POINTS
    assert scene.provenance["sweep_points"] == POINTS // 2
    np.testing.assert_array_equal(scene.labels, np.resize(LABELS, POINTS))
    torch.testing.assert_close(scene.points[POINTS // 2 :], opened(clip).points)


def test_a_camera_without_file_or_pose_is_left_out(own_clip, caplog):
    frames = own_clip / "frames" / "3000"
    (frames / "back" / "K.txt").unlink()
    (frames / "front" / "cam2scene.txt").write_text("nan " * 16)
    with caplog.at_level(logging.WARNING):
        scene = opened(own_clip)
    assert [frame.name for frame in scene.frames] == [
        name for name in CLIP_CAMERAS if name not in ("back", "front")
    ]
    assert scene.provenance["skipped_frames"] == 2
    assert "back" in caplog.text


def test_a_clip_without_labels(own_clip):
    write_ply(own_clip / "scene.ply", torch.ones(POINTS, 3))
    scene = opened(own_clip)
    assert (scene.labels, scene.label_set) == (None, None)


def pose(value):
    return "\n".join(" ".join(map(str, row)) for row in value)


BROKEN_FILES = {
    "words": ("frames/3000/front/K.txt", b"a b c", "K.txt: is not a matrix of numbers"),
    "short": ("frames/3000/front/K.txt", b"1 2 3", "K.txt: has 3 numbers, expected a 3 x 3"),
    "binary": ("frames/3000/front/cam2scene.txt", b"\xff\x00", "scene.txt: is not a matrix"),
    "scaled": (
        "frames/3000/front/cam2scene.txt",
        pose(np.diag([2, 2, 2, 1])).encode(),
        "the pose is not rigid",
    ),
    "on the map": (
        "frames/3000/front/cam2scene.txt",
        b"1 0 0 1180 0 1 0 411 0 0 1 0 0 0 0 1",
        "farther than 500 m from the cloud's origin",
    ),
    "image": ("frames/3000/front/color_image.jpg", b"x", "color_image.jpg: cannot be decoded"),
    "half size": (
        "frames/3000/front/K.txt",
        b"1266 0 816 0 1266 491 0 0 1",
        "its camera matrix is 1266 0 816 .* an image of 64 x 36",
    ),
    "times": ("scene-timestamps.npy", b"\x93NUMPY", "timestamps.npy: cannot be read"),
    "pickle": ("scene-timestamps.npy", b"\x80\x04N.", "timestamps.npy: cannot be read"),
    "cloud": ("scene.ply", b"ply\n", "scene.ply: its header has no 'end_header'"),
}


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_broken_files_are_named(own_clip, case):
    name, content, message = BROKEN_FILES[case]
    (own_clip / name).write_bytes(content)
    refused(own_clip, message)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.full(POINTS - 1, 3000), "holds int64 .29,., the cloud has 30 points"),
        (np.full(POINTS, 3000.0), "holds float64"),
        (np.full((POINTS, 2), 3000), "holds int64 .30, 2."),
        (np.full(POINTS, 2500), "no point is of the time 3000 .* .they are of 2500 to 2500."),
    ],
)
def test_times_must_fit_the_points(own_clip, times, message):
    np.save(own_clip / "scene-timestamps.npy", times)
    refused(own_clip, message)


@pytest.mark.parametrize("label", [-2, 32, 255, 1 << 20])
def test_labels_must_be_known(own_clip, label):
    ids = torch.zeros(POINTS, dtype=torch.int64)
    ids[4] = label
    write_ply(own_clip / "scene.ply", torch.ones(POINTS, 3), labels=ids)
    refused(own_clip, f"scene.ply: 1 labels such as {label} are no ids of nuScenes-lidarseg")


def test_points_must_be_around_the_car(own_clip):
    write_ply(own_clip / "scene.ply", torch.full((POINTS, 3), 1180.0))
    refused(own_clip, "30 of 30 points are farther than 500 m")


def test_an_empty_cloud_is_refused(own_clip):
    write_ply(own_clip / "scene.ply", torch.ones(0, 3))
    np.save(own_clip / "scene-timestamps.npy", np.zeros((0, 1), dtype=np.int64))
    refused(own_clip, "no point is of the time 3000 .* .they are of none at all")


def test_a_header_that_lies_about_its_size_allocates_nothing(own_clip):
    head = b"{'descr': '<i8', 'fortran_order': False, 'shape': (%d, 1), }" % 10**15
    content = b"\x93NUMPY\x01\x00" + (128 - 10).to_bytes(2, "little") + head.ljust(117) + b"\n"
    (own_clip / "scene-timestamps.npy").write_bytes(content + bytes(80))
    refused(own_clip, "timestamps.npy: cannot be read")


def test_settings_without_effect_are_refused(clip):
    scan = DetectedScan("nuscenes_clips", Scan(clip.name, clip))
    with pytest.raises(ConfigError, match="`frame_step` is 2, but in nuScenes the frames of"):
        open_scan(scan, ReaderSettings(frame_step=2))


@pytest.mark.parametrize("seed", range(6))
def test_damage_ends_in_a_scene_or_in_a_sentence(own_clip, seed):
    rng = np.random.default_rng(seed)
    files = [own_clip / "scene.ply", own_clip / "scene-timestamps.npy"] * 2
    files += sorted((own_clip / "frames/3000/front").iterdir())
    outcomes = []
    for case in range(105):
        path = files[case % len(files)]
        whole = path.read_bytes()
        content = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            content[int(rng.integers(len(content)))] = int(rng.integers(256))
        if rng.integers(3) == 0:
            content = content[: int(rng.integers(len(content)))]
        path.write_bytes(bytes(content))
        try:
            scene = opened(own_clip, ReaderSettings(image_size=(18, 32), sweeps=bool(case % 2)))
            assert torch.isfinite(scene.points).all()
            for frame in scene.frames:
                assert frame.image().shape == (18, 32, 3)
            outcomes.append("")
        except SceneError as error:
            outcomes.append(str(error))
        path.write_bytes(whole)
    assert 20 < sum(map(bool, outcomes)) < 105
    assert "\n" not in "".join(outcomes)
    assert len(opened(own_clip).points) == POINTS // 2


# --- parity -------------------------------------------------------------------------------------


def clip_of(file):
    name = file.stem.split("_", 2)[2]
    for root in sorted(DATA.glob("nuscenes_openscene*")):
        for scan in find_nuscenes_clips(root):
            if scan.name == name:
                return scan
    pytest.skip(f"no clip {name} below {DATA}")


@pytest.mark.parametrize("file", golden_cases("preprocess/nuscenes_3d_*.npz"))
def test_a_clip_is_that_of_openscene(file, data_root):
    case, scan = load_npz(file), clip_of(file)
    for sweeps, part in ((True, ""), (False, "_keyframe")):
        scene = open_nuscenes_clips(scan, ReaderSettings(sweeps=sweeps))
        np.testing.assert_array_equal(scene.points, case[f"coords{part}"])
        np.testing.assert_array_equal(scene.labels, labels_in_memory(case[f"labels{part}"]))


@pytest.mark.parametrize("file", golden_cases("preprocess/nuscenes_2d_*.npz"))
def test_its_cameras_are_those_of_openscene(file, data_root):
    case, scan = load_npz(file), clip_of(file)
    scene = open_nuscenes_clips(scan, ReaderSettings(intrinsics="openscene"))
    assert [frame.name for frame in scene.frames] == case["cams"].tolist()
    for place, frame in enumerate(scene.frames):
        np.testing.assert_allclose(frame.camera_to_world, case["pose"][place], atol=FLOAT64)
        np.testing.assert_allclose(frame.intrinsics, case["K"][place], atol=FLOAT64)
        image = frame.image().double()
        assert np.abs(image.mean(dim=(0, 1)) - case["color_mean"][place]).max() < 2
        if frame.name in case["sample_cams"].tolist():
            sample = case["sample_cams"].tolist().index(frame.name)
            before = case["sample_color_before_jpeg"][sample].astype(float)
            assert np.abs(image - before).max() <= 2  # another JPEG decoder


@pytest.mark.parametrize("file", golden_cases("preprocess/nuscenes_3d_*.npz"))
def test_the_released_layout_gives_the_same_keyframe(file, data_root):
    """The last keyframe of the scene in `nuscenes_raw` is that of the clip."""
    case, clip = load_npz(file), clip_of(file)
    raw = [
        scan
        for root in sorted(DATA.glob("nuscenes_raw*"))
        for scan in find_nuscenes(root)
        if scan.name.startswith(f"{clip.name}_")
    ]
    if not raw:
        pytest.skip(f"no raw capture of {clip.name} below {DATA}")
    scene = open_nuscenes(raw[-1], ReaderSettings(intrinsics="openscene"))
    np.testing.assert_allclose(scene.points, case["coords_keyframe"], atol=FLOAT32_SUMS)
    np.testing.assert_array_equal(scene.labels, labels_in_memory(case["labels_keyframe"]))
    cameras = {frame.name: frame for frame in scene.frames}
    for other in open_nuscenes_clips(clip, ReaderSettings(intrinsics="openscene")).frames:
        frame = cameras[f"CAM_{other.name.upper()}"]
        # a hundredth of a micrometre
        np.testing.assert_allclose(frame.camera_to_world, other.camera_to_world, atol=1e-8)
        np.testing.assert_allclose(frame.intrinsics, other.intrinsics, atol=1e-7)
        assert torch.equal(frame.image(), other.image())
