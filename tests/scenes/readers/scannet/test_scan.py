"""Scans of ScanNet v2: read right, or refused in one sentence."""

from __future__ import annotations

import json
import logging
import pickle
import shutil

import numpy as np
import pytest
import torch

from pcdistill.errors import ConfigError, SceneError
from pcdistill.geometry import project_points
from pcdistill.labels import IGNORE_LABEL
from pcdistill.scenes import load_label_set, read_ply, write_ply, write_scene
from pcdistill.scenes.frames import Frame
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Scan
from pcdistill.scenes.readers.detection import DetectedScan, open_scan
from pcdistill.scenes.readers.scannet.frames import reproject_depth, subsampled_intrinsics
from pcdistill.scenes.readers.scannet.scan import find_scannet, open_scannet, scannet_files
from tests.conftest import DATA, golden_cases, labels_in_memory, load_npz
from tests.fixtures import box_room
from tests.fixtures import scannet as scannet_scans
from tests.tolerances import FLOAT32, FLOAT32_SUMS, FLOAT64

NAME = scannet_scans.NAME


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return scannet_scans.write_scannet(tmp_path_factory.mktemp("scannet"))


@pytest.fixture
def own_scan(scan, tmp_path):
    """A copy to break."""
    shutil.copytree(scan.parents[1], tmp_path / "scannet")
    return tmp_path / "scannet/scans" / NAME


def read(folder, **settings):
    (found,) = find_scannet(folder)
    settings = {"frame_step": 1, "image_size": (48, 64), **settings}
    return open_scan(DetectedScan("scannet", found), ReaderSettings(**settings))


def refused(folder, message, **settings):
    with pytest.raises(SceneError, match=message) as caught:
        read(folder, **settings)
    assert "\n" not in str(caught.value)


def test_a_scan_with_everything(scan):
    scene = read(scan)
    mesh = read_ply(scan / f"{NAME}_vh_clean_2.ply")
    assert scene.name == NAME
    assert torch.equal(scene.points, mesh.points)
    assert torch.equal(scene.colors, mesh.colors)
    assert torch.equal(scene.faces, mesh.faces)
    assert [frame.name for frame in scene.frames] == ["0", "1", "2", "4", "5"]
    assert all(isinstance(frame, Frame) for frame in scene.frames)
    assert scene.provenance["skipped_frames"] == 1
    assert scene.provenance["frames_without_pose"] == ["3"]
    assert scene.label_set == "scannet20"
    owner = scannet_scans.objects_of(len(scene.points))
    # NYU's 40 is no category of the twenty, 0 is no label at all
    np.testing.assert_array_equal(scene.labels, np.array([0, 2, IGNORE_LABEL, IGNORE_LABEL])[owner])
    np.testing.assert_array_equal(scene.instances, np.array([7, 8, 9, -1])[owner])
    json.dumps(scene.provenance)


def test_labels_of_the_two_hundred_categories_come_from_the_objects(scan):
    scene = read(scan, label_set="scannet200")
    names = load_label_set("scannet200").names
    wall, counter = names.index("wall"), names.index("shelf")  # number 8 of the table
    owner = scannet_scans.objects_of(len(scene.points))
    expected = np.array([wall, counter, IGNORE_LABEL, IGNORE_LABEL])
    np.testing.assert_array_equal(scene.labels, expected[owner])
    assert scene.label_set == "scannet200"
    assert scene.provenance["raw_categories_without_number"] == ["flux compensator"]


def test_a_segment_of_two_objects_goes_to_the_later_one(own_scan):
    file = own_scan / f"{NAME}.aggregation.json"
    content = json.loads(file.read_text())
    content["segGroups"].append({"id": 9, "objectId": 90, "label": "floor", "segments": [1000]})
    file.write_text(json.dumps(content))
    scene = read(own_scan, label_set="scannet200")
    second = scannet_scans.objects_of(len(scene.points)) == 1
    floor = scene.labels[second] == load_label_set("scannet200").names.index("floor")
    assert torch.equal(floor, scene.instances[second] == 90)
    assert 0.3 < float(floor.float().mean()) < 0.36


def test_a_scan_of_the_test_split_has_no_labels(tmp_path):
    scene = read(scannet_scans.write_scannet(tmp_path, labels=False))
    assert (scene.labels, scene.instances, scene.label_set) == (None, None, None)
    assert len(scene.frames) == 5


def test_every_twentieth_frame_at_240_by_320_where_nothing_is_set(scan):
    scene = open_scannet(Scan(NAME, scan), ReaderSettings())
    assert [frame.name for frame in scene.frames] == ["0"]
    assert scene.provenance["frame_step"] == 20
    assert scene.frames[0].image().shape == (240, 320, 3)
    assert scene.frames[0].depth().shape == (240, 320)
    assert scene.frames[0].image_size == (240, 320)


@pytest.mark.parametrize("image_size", [(48, 64), (97, 131), (30, 77), (120, 160)])
def test_depth_is_registered_to_color(scan, image_size):
    """The two cameras differ; depth must be that of the room along the colour camera's rays."""
    scene = read(scan, image_size=image_size)
    for frame in scene.frames:
        exact = box_room.depth_of(
            frame.camera_to_world.numpy(), frame.intrinsics.numpy(), image_size
        )
        depth = frame.depth().numpy()
        seen = depth > 0
        assert seen.mean() > 0.9
        error = np.abs(depth - exact)[seen]
        assert np.median(error) < 0.01
        assert np.quantile(error, 0.95) < 0.08  # metres; walls at a grazing angle


@pytest.mark.parametrize("image_size", [(48, 64), (97, 131), (30, 77), (12, 16), (194, 262)])
def test_the_camera_is_that_of_the_pixels_that_were_picked(tmp_path, image_size):
    """Colour encodes its own column and row, so that what a pixel shows says where it is from."""
    folder = scannet_scans.write_scannet(tmp_path, color_kind=1)
    frame = read(folder, image_size=image_size).frames[1]
    picked = frame.image().double().numpy()[..., :2]  # (u, v) in the original image
    v, u = np.mgrid[: image_size[0], : image_size[1]]
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(frame.intrinsics.numpy()).T
    expected = (rays @ scannet_scans.COLOR_CAMERA.T)[..., :2]
    step = np.array(scannet_scans.COLOR_SIZE[::-1]) / np.array(image_size[::-1])
    away = (picked - expected) / step  # in pixels of the new image
    assert np.abs(away.mean(axis=(0, 1))).max() < 1e-4
    assert np.abs(away * step).max() < 0.5 + 1e-4  # of an original pixel


def test_picking_every_second_pixel_halves_the_camera():
    camera = torch.tensor([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]], dtype=torch.float64)
    halved = subsampled_intrinsics(camera, (480, 640), (240, 320))
    assert halved.tolist() == [[292.5, 0, 160], [0, 292.5, 120], [0, 0, 1]]
    assert torch.equal(subsampled_intrinsics(camera, (480, 640), (480, 640)), camera)


def beside() -> np.ndarray:
    """Depth to colour camera: 4 cm to the side, turned by a degree."""
    angle = np.deg2rad(1.0)
    transform = np.eye(4)
    transform[:3, :3] = [
        [np.cos(angle), 0, np.sin(angle)],
        [0, 1, 0],
        [-np.sin(angle), 0, np.cos(angle)],
    ]
    transform[:3, 3] = -0.04, 0.003, 0.01
    return transform


@pytest.mark.parametrize("image_size", [(48, 64), (97, 131)])
def test_a_color_camera_beside_the_depth_camera(tmp_path, image_size):
    folder = scannet_scans.write_scannet(tmp_path, depth_to_color=beside())
    scene = read(folder, image_size=image_size)
    poses = [pose for i, pose in enumerate(box_room.poses(6)) if i != scannet_scans.LOST]
    for frame, pose in zip(scene.frames, poses, strict=True):
        expected = pose @ np.linalg.inv(beside())
        np.testing.assert_allclose(frame.camera_to_world, expected, atol=FLOAT32)
        exact = box_room.depth_of(
            frame.camera_to_world.numpy(), frame.intrinsics.numpy(), image_size
        )
        depth = frame.depth().numpy()
        seen = depth > 0
        assert seen.mean() > 0.8
        assert np.median(np.abs(depth - exact)[seen]) < 0.03


def test_moved_depth_keeps_what_is_in_front():
    camera = torch.tensor([[10.0, 0, 4], [0, 10, 4], [0, 0, 1]], dtype=torch.float64)
    depth = torch.zeros(9, 9)
    depth[4, 4], depth[4, 2] = 2.0, 1.0
    sideways = torch.eye(4, dtype=torch.float64)
    sideways[0, 3] = 0.4  # two pixels at 2 m, four at 1 m: both fall on column 6
    moved = reproject_depth(depth, camera, sideways, camera, (9, 9))
    assert moved[4, 6] == 1.0
    assert float(moved.sum()) == 1.0


def test_the_settings_of_openscene_stretch_depth_over_color(scan):
    scene = read(scan, image_size=(48, 64), intrinsics="openscene")
    frame = scene.frames[1]
    fixed = [[577.870605 / 10, 0, 319.5 * 63 / 639], [0, 577.870605 / 10, 239.5 * 47 / 479]]
    np.testing.assert_allclose(frame.intrinsics[:2], fixed)
    pose = box_room.poses(6)[1]
    rows, columns = np.arange(48) * 60 // 48, np.arange(64) * 80 // 64
    counts = scannet_scans.depth_counts(pose)[rows][:, columns]
    np.testing.assert_array_equal(frame.depth(), counts.astype(np.float32) / np.float32(1000))
    np.testing.assert_array_equal(
        frame.camera_to_world, np.round(pose.astype(np.float32).astype(float), 6)
    )


def test_axes_are_aligned_on_request(scan):
    plain, aligned = read(scan), read(scan, align_axes=True)
    angle = np.deg2rad(30)
    x = np.cos(angle) * plain.points[:, 0] - np.sin(angle) * plain.points[:, 1] + 1
    np.testing.assert_allclose(aligned.points[:, 0], x, atol=FLOAT32_SUMS)
    np.testing.assert_allclose(aligned.points[:, 2], plain.points[:, 2] + 0.5, atol=FLOAT32)
    assert (plain.provenance["axes_aligned"], aligned.provenance["axes_aligned"]) == (False, True)
    for one, other in zip(plain.frames, aligned.frames, strict=True):
        seen = [
            project_points(s.points, f.camera_to_world, f.intrinsics, f.image_size, f.depth())
            for s, f in ((plain, one), (aligned, other))
        ]
        differing = (seen[0].visible != seen[1].visible).float().mean()
        assert float(differing) < 0.01


def test_a_scan_without_alignment_stays_as_it_is_and_says_so(own_scan, caplog):
    (own_scan / f"{NAME}.txt").write_text("sceneType = Office\n")
    with caplog.at_level(logging.WARNING):
        scene = read(own_scan, align_axes=True)
    assert torch.equal(scene.points, read(own_scan).points)
    assert scene.provenance["axes_aligned"] is False
    assert "has no axisAlignment" in caplog.text


def test_scans_are_found_from_the_root_from_scans_and_one_by_one(scan, own_scan):
    root = own_scan.parents[1]
    shutil.copytree(scan, root / "scans_test/scene0707_00")
    (root / "scans/scene0043_00").mkdir()
    (root / "scans/notes").mkdir()
    names = [NAME, "scene0043_00"]
    assert [found.name for found in find_scannet(root)] == [*names, "scene0707_00"]
    assert [found.name for found in find_scannet(root / "scans")] == names
    assert find_scannet(own_scan) == (Scan(NAME, own_scan),)
    assert [found.name for found in find_scannet(root / "scans/scene0043_00")] == names[1:]
    assert find_scannet(root / "scans/notes") == ()
    assert find_scannet(root / "absent") == ()
    assert set(scannet_files(find_scannet(root)[0])) == {
        own_scan,
        (root / "scannetv2-labels.combined.tsv").resolve(),
    }


def test_frames_can_be_sent_to_other_processes_and_stored(scan, tmp_path):
    scene = read(scan, image_size=(48, 64))
    again = pickle.loads(pickle.dumps(scene.frames[2]))
    assert torch.equal(again.image(), scene.frames[2].image())
    assert torch.equal(again.depth(), scene.frames[2].depth())
    write_scene(scene, tmp_path / "stored")
    assert len(list((tmp_path / "stored/frames").iterdir())) == 10


def test_another_mesh_of_the_scan_has_no_labels(own_scan):
    write_ply(own_scan / "fine.ply", torch.from_numpy(box_room.wall_points(0.05)))
    scene = read(own_scan, surface_file="fine.ply")
    assert len(scene.points) > 30_000
    assert scene.labels is None
    refused(own_scan, "none.ply: no such file; correct or remove", surface_file="none.ply")


def remove(suffix):
    return lambda folder: (folder / f"{NAME}{suffix}").unlink()


def rewrite(suffix, content):
    return lambda folder: (folder / f"{NAME}{suffix}").write_text(content)


def other_mesh(folder):
    points = torch.from_numpy(box_room.wall_points()) + 0.1
    write_ply(
        folder / f"{NAME}_vh_clean_2.labels.ply", points, labels=torch.zeros(len(points)).long()
    )


def labels_of(value, points=None):
    points = torch.from_numpy(box_room.wall_points()) if points is None else points

    def write(folder):
        labels = torch.full((len(points),), value)
        write_ply(folder / f"{NAME}_vh_clean_2.labels.ply", points, labels=labels)

    return write


def moved_mesh(folder):
    file = folder / f"{NAME}_vh_clean_2.ply"
    points = read_ply(file).points * 3 + 50
    write_ply(file, points)
    labels_of(0, points)(folder)


def all_lost(folder):
    frames = scannet_scans.room_frames(4, missing=range(4))
    (folder / f"{NAME}.sens").write_bytes(scannet_scans.sens_bytes(frames))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove(".sens"), f"has no {NAME}.sens, expected the frames"),
        (remove("_vh_clean_2.ply"), f"has no {NAME}_vh_clean_2.ply, expected the frames"),
        (remove("_vh_clean_2.labels.ply"), f"has .*json but no {NAME}_vh_clean_2.labels.ply"),
        (remove("_vh_clean_2.0.010000.segs.json"), "but no .*segs.json, expected both"),
        (other_mesh, "labels.ply: its vertices lie elsewhere"),
        (labels_of(151), "has labels from 151 to 151, expected NYU's category numbers 0 to 40"),
        (labels_of(-1), "has labels from -1 to -1"),
        (
            lambda folder: shutil.copy(
                folder / f"{NAME}_vh_clean_2.ply", folder / f"{NAME}_vh_clean_2.labels.ply"
            ),
            "have no integer 'label'",
        ),
        (rewrite(".aggregation.json", '{"segGroups": [{"ob'), "is no readable JSON"),
        (rewrite(".aggregation.json", "[]"), "holds a list, expected an object"),
        (rewrite(".aggregation.json", "{}"), "segGroups is None, expected a list of objects"),
        (
            rewrite(".aggregation.json", '{"segGroups": [{"label": 3}]}'),
            "the label of an object is 3, expected a category in words",
        ),
        (
            rewrite(".aggregation.json", '{"segGroups": [{"label": "a", "objectId": -1}]}'),
            "an objectId is -1, expected a number from 0",
        ),
        (
            rewrite(
                ".aggregation.json",
                '{"segGroups": [{"label": "a", "objectId": 1, "segments": [1.5]}]}',
            ),
            "an entry of the segments of object 1 is 1.5, expected a whole number",
        ),
        (
            rewrite(
                ".aggregation.json",
                '{"segGroups": [{"label": "a", "objectId": 1, "segments": [77777]}]}',
            ),
            "1 of the 1 segments it names are not in .*segs.json",
        ),
        (
            rewrite("_vh_clean_2.0.010000.segs.json", '{"segIndices": [1, 2]}'),
            "has segments of 2 vertices, the mesh has",
        ),
        (moved_mesh, r"with scene0042_00_vh_clean_2\.ply: "),
        (all_lost, "none of the 4 frames taken of 4 has a pose"),
    ],
)
def test_a_damaged_scan_is_refused_in_one_sentence(own_scan, damage, message):
    damage(own_scan)
    refused(own_scan, message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axisAlignment = 1 0 0\n", "axisAlignment is '1 0 0', expected the 16 numbers"),
        ("axisAlignment = " + "nan " * 16, "axisAlignment is 'nan"),
        ("axisAlignment = " + "2 " * 16, "axisAlignment is '2 2"),
        ("axisAlignment = a b c", "axisAlignment is 'a b c'"),
    ],
)
def test_a_damaged_alignment(own_scan, text, message):
    (own_scan / f"{NAME}.txt").write_text(text)
    refused(own_scan, message, align_axes=True)
    read(own_scan)  # not needed, not looked at


def test_the_two_hundred_categories_need_the_table_and_the_objects(own_scan):
    table = own_scan.parents[1] / "scannetv2-labels.combined.tsv"
    table.write_text("id\tcategory\n1\twall\n")
    refused(own_scan, "line 2 has no raw_category with an id", label_set="scannet200")
    table.write_text("id\traw_category\n")
    refused(own_scan, "has no rows", label_set="scannet200")
    table.unlink()
    refused(
        own_scan,
        "has no scannetv2-labels.combined.tsv in the folders above",
        label_set="scannet200",
    )
    (own_scan / f"{NAME}.aggregation.json").unlink()
    assert read(own_scan).instances is None
    refused(own_scan, f"but no {NAME}.aggregation.json", label_set="scannet200")


def test_settings_that_cannot_be(scan):
    with pytest.raises(ConfigError, match="label_set is 'matterport21'.*scannet20 or scannet200"):
        read(scan, label_set="matterport21")
    with pytest.raises(ConfigError, match="image_size is .*expected"):
        read(scan, image_size=(100_000, 100_000))


def test_a_wrong_depth_scale_or_pose_convention_is_named(scan):
    refused(scan, "median depth is .*`depth_scale: 1`", depth_scale=1.0)
    refused(
        scan, r"would\); set `pose_convention: camera_to_world`", pose_convention="world_to_camera"
    )


def golden_scan(case):
    name = case.stem.split("_", 2)[2]
    folder = next(DATA.glob(f"*/scans/{name}"), None)
    if folder is None:
        pytest.skip(f"no scan {name} below {DATA}")
    return folder


@pytest.mark.parametrize("case", golden_cases("preprocess/scannet_2d_*.npz"))
def test_frames_are_those_of_the_reference(case):
    golden = load_npz(case)
    folder = golden_scan(case)
    step = int(np.gcd.reduce(golden["frame_ids"]))
    height, width = golden["depth"].shape[1:]
    size = (height, width)
    scene = read(folder, frame_step=step, intrinsics="openscene", image_size=size)
    own = read(folder, frame_step=step, image_size=size)
    tracked = np.isfinite(golden["pose"]).all(axis=(1, 2))
    names = [str(number) for number in golden["frame_ids"][tracked]]
    assert [frame.name for frame in scene.frames] == names
    assert scene.provenance["skipped_frames"] == int((~tracked).sum())
    default = open_scannet(Scan(folder.name, folder), ReaderSettings())
    listed = {int(frame.name) for frame in default.frames}
    listed |= {int(name) for name in default.provenance["frames_without_pose"]}
    assert sorted(listed) == golden["frame_ids_default_skip20"].tolist()
    for place, frame, ours in zip(np.flatnonzero(tracked), scene.frames, own.frames, strict=True):
        np.testing.assert_allclose(frame.intrinsics, golden["intrinsics"][:3, :3], atol=FLOAT64)
        np.testing.assert_allclose(frame.camera_to_world, golden["pose"][place], atol=FLOAT64)
        counts = np.rint(frame.depth().numpy() * 1000)
        np.testing.assert_array_equal(counts, golden["depth"][place])
        for image in (frame.image(), ours.image()):
            difference = np.abs(image.numpy().astype(int) - golden["color_before_jpeg"][place])
            assert difference.max() <= 2  # another JPEG decoder
        # with the scan's own cameras the registered depth is that of a neighbouring pixel at most
        np.testing.assert_allclose(ours.camera_to_world, golden["pose"][place], atol=FLOAT32_SUMS)
        assert (np.rint(ours.depth().numpy() * 1000) == golden["depth"][place]).mean() > 0.5


@pytest.mark.parametrize("case", golden_cases("preprocess/scannet_3d_*.npz"))
def test_points_colors_and_labels_are_those_of_the_reference(case):
    golden = load_npz(case)
    scene = read(golden_scan(case))
    np.testing.assert_array_equal(scene.points, golden["coords"])
    np.testing.assert_allclose(scene.colors.numpy() / 127.5 - 1, golden["colors"], atol=FLOAT32)
    np.testing.assert_array_equal(scene.labels, labels_in_memory(golden["labels"]))
    assert scene.label_set == "scannet20"


def opened_or_named(scan, **settings):
    """The scene; None where it is refused in one sentence that names the scan."""
    try:
        return open_scannet(scan, ReaderSettings(**settings))
    except SceneError as error:
        sentence = str(error)
    assert "\n" not in sentence
    assert scan.name in sentence
    return None


def test_real_scans_open_or_say_what_is_damaged(data_root):
    folders = [folder for root in sorted(data_root.glob("*/scans")) for folder in root.iterdir()]
    scans = [scan for folder in folders for scan in find_scannet(folder)]
    if not scans:
        pytest.skip(f"no ScanNet scans below {data_root}")
    for scan in scans:
        scene = opened_or_named(scan, label_set="scannet200", align_axes=True)
        if scene is None:
            continue
        assert int((scene.labels != IGNORE_LABEL).sum()) > 0.3 * len(scene.points)
        assert int(scene.instances.max()) + 1 <= scene.provenance["objects"]
        twenty = open_scannet(scan, ReaderSettings()).labels
        names = load_label_set("scannet200").names, load_label_set("scannet20").names
        for word in ("wall", "floor", "table", "window"):
            fine, coarse = (s.index(word) for s in names)
            where = scene.labels == fine
            if bool(where.any()):  # whatever is a wall among 200 is one among 20
                assert float((twenty[where] == coarse).float().mean()) > 0.95


def test_a_scan_cut_short_is_named_and_the_others_go_on(own_scan):
    other = own_scan.with_name("scene0044_00")
    shutil.copytree(own_scan, other)
    for file in sorted(other.iterdir()):
        file.rename(other / file.name.replace(NAME, other.name))
    cut = other / f"{other.name}.sens"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    scans = find_scannet(own_scan.parents[1])
    assert [scan.name for scan in scans] == [NAME, other.name]
    open_scannet(scans[0], ReaderSettings())
    with pytest.raises(SceneError, match=rf"{other.name}.sens: ends inside frame \d of the 6"):
        open_scannet(scans[1], ReaderSettings())
