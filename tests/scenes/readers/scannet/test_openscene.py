"""ScanNet as OpenScene distributes it: the folders it unpacks to, or one sentence."""

from __future__ import annotations

import logging
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from pcdistill.errors import ConfigError, SceneError
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Scan
from pcdistill.scenes.readers.detection import DetectedScan, open_scan
from pcdistill.scenes.readers.scannet.openscene import find_scannet_extracted, openscene_files
from pcdistill.scenes.readers.scannet.scan import open_scannet
from tests.conftest import DATA, golden_cases, labels_in_memory, load_npz
from tests.fixtures import box_room
from tests.tolerances import FLOAT32, MILLIMETRE

NAME = "scene0042_00"


def arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As the preprocessing saves them: labels are float64."""
    coords = box_room.wall_points().astype(np.float32)
    colors = np.random.default_rng(0).integers(0, 256, coords.shape) / 127.5 - 1
    labels = np.where(np.arange(len(coords)) % 3, np.arange(len(coords)) % 20, 255.0)
    return coords, colors.astype(np.float32), labels


def write_extracted(root, name=NAME, count=6):
    for split in ("train", "val"):
        (root / "scannet_3d" / split).mkdir(parents=True, exist_ok=True)
    torch.save(arrays(), root / f"scannet_3d/val/{name}_vh_clean_2.pth")
    folder = root / "scannet_2d" / name
    for kind in ("color", "depth", "pose"):
        (folder / kind).mkdir(parents=True)
    for i, pose in enumerate(box_room.poses(count)):
        number = 20 * i
        depth = box_room.depth_of(pose)
        shade = np.full((*box_room.IMAGE_SIZE, 3), 10 * i, np.uint8)
        Image.fromarray(shade).save(folder / f"color/{number}.jpg")
        counts = np.rint(depth * 1000).astype(np.uint16)
        Image.fromarray(counts).save(folder / f"depth/{number}.png")
        kept = np.full((4, 4), -np.inf) if i == 2 else pose
        np.savetxt(folder / f"pose/{number}.txt", kept, fmt="%f")
    matrix = np.eye(4)
    matrix[:3, :3] = box_room.INTRINSICS
    np.savetxt(root / "scannet_2d/intrinsics.txt", matrix)
    return root


@pytest.fixture
def root(tmp_path):
    return write_extracted(tmp_path / "data")


def points_file(root):
    return root / f"scannet_3d/val/{NAME}_vh_clean_2.pth"


def read(path, **settings):
    (found,) = find_scannet_extracted(path)
    return open_scan(DetectedScan("scannet_extracted", found), ReaderSettings(**settings))


def refused(path, message, **settings):
    with pytest.raises(SceneError, match=message) as caught:
        read(path, **settings)
    assert "\n" not in str(caught.value)


def test_points_labels_and_frames(root):
    scene = read(root)
    coords, colors, labels = arrays()
    np.testing.assert_array_equal(scene.points, coords)
    np.testing.assert_allclose(scene.colors.numpy() / 127.5 - 1, colors, atol=FLOAT32)
    np.testing.assert_array_equal(scene.labels, labels_in_memory(labels))
    assert scene.label_set == "scannet20"
    assert [frame.name for frame in scene.frames] == ["0", "20", "60", "80", "100"]
    assert scene.provenance["frames_without_pose"] == ["40"]
    assert scene.provenance["skipped_frames"] == 1
    for i, frame in zip((0, 1, 3, 4, 5), scene.frames, strict=True):
        np.testing.assert_allclose(frame.camera_to_world, box_room.poses(6)[i], atol=FLOAT32)
        np.testing.assert_array_equal(frame.intrinsics, box_room.INTRINSICS)
        np.testing.assert_allclose(
            frame.depth(), box_room.depth_of(box_room.poses(6)[i]), atol=MILLIMETRE
        )
        assert abs(int(frame.image()[0, 0, 0]) - 10 * i) < 3


def test_what_the_loaders_of_openscene_ignore_too_is_no_category(root):
    file = root / "scannet_3d" / "val" / f"{NAME}_vh_clean_2.pth"
    whole = file.read_bytes()
    coords, colors, labels = arrays()
    try:
        torch.save((coords, colors, np.where(labels == 255, -100, labels)), file)
        np.testing.assert_array_equal(read(root).labels, labels_in_memory(labels))
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize(
    "below", ["", "scannet_3d", "scannet_2d", "scannet_3d/val", f"scannet_2d/{NAME}", "file"]
)
def test_a_scan_is_found_from_everywhere(root, below):
    place = points_file(root) if below == "file" else root / below
    (found,) = find_scannet_extracted(place)
    assert (found.name, found.part) == (NAME, f"val/{NAME}")
    assert found.folder.resolve() == root.resolve()
    assert [path.exists() for path in openscene_files(found)] == [True] * 3


def test_splits_and_strangers(root):
    write_extracted(root, "scene0001_01")
    shutil.move(root / "scannet_3d/val/scene0001_01_vh_clean_2.pth", root / "scannet_3d/train")
    parts = [scan.part for scan in find_scannet_extracted(root)]
    assert parts == ["train/scene0001_01", f"val/{NAME}"]
    assert [s.name for s in find_scannet_extracted(root / "scannet_3d/train")] == ["scene0001_01"]
    assert find_scannet_extracted(root.parent) == ()
    assert find_scannet_extracted(root / "absent") == ()


def test_points_alone_and_frames_alone(root, caplog):
    shutil.move(root / "scannet_2d", root / "elsewhere")
    with caplog.at_level(logging.WARNING):
        assert read(root).frames == ()
    assert "has no frames" in caplog.text
    shutil.move(root / "elsewhere", root / "scannet_2d")
    shutil.rmtree(root / "scannet_3d")
    refused(root, rf"scannet_3d: has no SPLIT/{NAME}_vh_clean_2.pth, expected the points")


def test_tensors_are_as_good_as_arrays(root):
    coords, colors, labels = (torch.from_numpy(array) for array in arrays())
    torch.save((coords, colors, labels.long()), points_file(root))
    assert torch.equal(read(root).points, coords)


def test_the_camera_of_openscene(root):
    assert (
        abs(float(read(root, intrinsics="openscene").frames[0].intrinsics[0, 0]) - 72.2338) < 1e-3
    )
    (root / "scannet_2d/intrinsics.txt").unlink()
    assert len(read(root, intrinsics="openscene").frames) == 5
    refused(root, "intrinsics.txt: is missing.*`intrinsics: openscene`")


def test_a_scan_with_cameras_of_its_own(root):
    own = root / f"scannet_2d/{NAME}/intrinsic"
    own.mkdir()
    color = box_room.INTRINSICS * np.array([[1.1], [1.1], [1]])
    np.savetxt(own / "intrinsic_color.txt", color)
    np.savetxt(own / "intrinsic_depth.txt", box_room.INTRINSICS)
    frame = read(root).frames[0]
    np.testing.assert_allclose(frame.intrinsics, color)
    exact = box_room.depth_of(box_room.poses(6)[0], color)
    depth = frame.depth().numpy()
    assert np.median(np.abs(depth - exact)[depth > 0]) < 0.02


def test_every_second_frame(root):
    assert [frame.name for frame in read(root, frame_step=3).frames] == ["0", "60"]


def save(content):
    return lambda root: torch.save(content, points_file(root))


def replaced(place, value):
    content = list(arrays())
    content[place] = value(content[place])
    return save(tuple(content))


class Stranger:
    """Not an array."""


def legacy_pickle(root):
    points_file(root).write_bytes(pickle.dumps((Stranger(), 1, 2)))


def bomb(root):
    with (
        zipfile.ZipFile(points_file(root), "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("data/0", "w", force_zip64=True) as stream,
    ):
        for _ in range(70):
            stream.write(bytes(1 << 23))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (save((1, 2)), "holds a tuple of 2, expected the three arrays"),
        (save({"coords": 1}), "holds a dict of 1, expected the three arrays"),
        (save(("a", 1, 2)), "its coords are a str, expected an array of numbers"),
        (replaced(0, lambda a: a[:, :2]), r"its coords have the shape \(\d+, 2\), expected"),
        (replaced(1, lambda a: a[:-1]), r"its colors have the shape"),
        (replaced(2, lambda a: a[:, None]), r"its labels have the shape"),
        (replaced(1, lambda a: a * 255), "its colours are not between -1 and 1"),
        (replaced(1, lambda a: a * np.nan), "its colours are not between -1 and 1"),
        (replaced(2, lambda a: a + 20), "has the label .*, expected categories of scannet20"),
        (replaced(2, lambda a: a * np.nan), "has the label .nan., expected categories"),
        (replaced(2, lambda a: np.where(a < 5, 0.5, a)), "has the label"),
        (replaced(0, lambda a: a + np.inf), "are not finite numbers"),
        (replaced(0, lambda a: a * 7 + 50), r"with scannet_3d/val/.*: .* the surface"),
        (replaced(0, lambda a: a.astype(object)), r"cannot be read|are a object array"),
        (save((Stranger(), 1, 2)), r"it holds a tests\.scenes\.\S*Stranger"),
        (legacy_pickle, "cannot be read"),
        (bomb, "unpacks to 587202560 bytes"),
        (lambda root: points_file(root).write_bytes(b"PK\x03\x04 no"), "cannot be read"),
        (lambda root: points_file(root).write_bytes(b""), "cannot be read"),
    ],
)
def test_a_damaged_file_of_points(root, damage, message):
    damage(root)
    refused(root, message)


def frame_file(kind_and_name, content):
    return lambda root: (root / f"scannet_2d/{NAME}" / kind_and_name).write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (frame_file("pose/0.txt", b"1 2 3"), "pose/0.txt: has 3 numbers, expected 16"),
        (
            frame_file("pose/0.txt", b"1 0 0 0 0 1 0 0 0 0 1 0 0 0 x 1"),
            "pose/0.txt: has .* no number|has the word .x",
        ),
        (frame_file("pose/0.txt", b"\xff" * 9), "pose/0.txt: is no text"),
        (frame_file("pose/0.txt", b"2 " * 16), "the pose is not rigid"),
        (frame_file("depth/0.png", b"no"), "depth/0.png: cannot be decoded"),
        (frame_file("pose/7.txt", b""), "frame 7 has no file in color and depth/"),
        (lambda root: shutil.rmtree(root / f"scannet_2d/{NAME}/depth"), "depth: has no frames"),
        (
            lambda root: np.savetxt(root / "scannet_2d/intrinsics.txt", np.eye(4) * 9),
            "is no camera matrix, expected fx 0 cx",
        ),
        (
            lambda root: np.savetxt(
                root / "scannet_2d/intrinsics.txt",
                box_room.INTRINSICS * np.array([[4], [4], [1]]),
            ),
            "is 80 x 60 pixels, its camera is for images of about 316 x 236",
        ),
    ],
)
def test_damaged_frames(root, damage, message):
    damage(root)
    refused(root, message)


def test_settings_that_were_decided_when_it_was_extracted(root):
    for settings, message in (
        ({"label_set": "scannet200"}, "label_set is 'scannet200', extracted"),
        ({"align_axes": True}, "align_axes is set, extracted"),
        ({"surface_file": "a.ply"}, "surface_file is 'a.ply', the points of extracted"),
        (
            {"image_size": (30, 40)},
            r"image_size is \(30, 40\), the extracted frames are \(60, 80\)",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            read(root, **settings)


@pytest.mark.parametrize("case", golden_cases("preprocess/scannet_3d_*.npz"))
def test_the_written_reference_reads_as_the_scan_it_was_made_from(case, tmp_path):
    name = case.stem.split("_", 2)[2]
    golden, frames = load_npz(case), case.with_name(f"scannet_2d_{name}.npz")
    folder = next(DATA.glob(f"*/scans/{name}"), None)
    if folder is None or not frames.is_file():
        pytest.skip(f"no scan {name} below {DATA}, or no {frames.name}")
    images = load_npz(frames)
    (tmp_path / "scannet_3d/val").mkdir(parents=True)
    torch.save(
        tuple(golden[key] for key in ("coords", "colors", "labels")),
        tmp_path / f"scannet_3d/val/{name}_vh_clean_2.pth",
    )
    for kind in ("color", "depth", "pose"):
        (tmp_path / "scannet_2d" / name / kind).mkdir(parents=True)
    for place, number in enumerate(images["frame_ids"]):
        below = tmp_path / "scannet_2d" / name
        Image.fromarray(images["color_before_jpeg"][place]).save(below / f"color/{number}.png")
        Image.fromarray(images["depth"][place]).save(below / f"depth/{number}.png")
        np.savetxt(below / f"pose/{number}.txt", images["pose"][place], fmt="%f")
    np.savetxt(tmp_path / "scannet_2d/intrinsics.txt", images["intrinsics"])
    scene = read(tmp_path)
    step = int(np.gcd.reduce(images["frame_ids"]))
    settings = ReaderSettings(
        frame_step=step, intrinsics="openscene", image_size=images["depth"].shape[1:]
    )
    original = open_scannet(Scan(name, folder), settings)
    assert torch.equal(scene.points, original.points)
    assert torch.equal(scene.colors, original.colors)
    assert torch.equal(scene.labels, original.labels)
    for one, other in zip(scene.frames, original.frames, strict=True):
        assert one.name == other.name
        assert torch.equal(one.depth(), other.depth())
        torch.testing.assert_close(one.camera_to_world, other.camera_to_world)
        torch.testing.assert_close(one.intrinsics, other.intrinsics)
        assert int((one.image().int() - other.image().int()).abs().max()) <= 2
