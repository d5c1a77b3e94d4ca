"""Matterport3D regions: what OpenScene's preprocessing writes, and how a house may be damaged."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pcdistill.errors import ConfigError, SceneError
from pcdistill.labels import IGNORE_LABEL
from pcdistill.scenes import Scene, load_label_set
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Scan
from pcdistill.scenes.readers.detection import DetectedScan, open_scan
from pcdistill.scenes.readers.matterport.labels import (
    MATTERPORT_LABEL_SETS,
    label_points,
    read_category_labels,
    vote_of_faces,
)
from pcdistill.scenes.readers.matterport.region import MATTERPORT, find_matterport, open_matterport
from tests.conftest import DATA, golden_cases, labels_in_memory, load_npz
from tests.fixtures import box_room, matterport_replica
from tests.tolerances import FLOAT32, FLOAT64, FLOAT64_EXACT

RAW = sorted(DATA.glob("*/scans/*/region_segmentations")) if DATA.is_dir() else []
CLASSES = {"labels": "matterport21"} | {f"labels_{k}": f"matterport{k}" for k in (40, 80, 160)}


def raw_region(name):
    """The scan of the capture data that a fixture was made from."""
    for place in RAW:
        for scan in find_matterport(place.parent):
            if scan.name == name:
                return scan
    return pytest.skip(f"no capture data of {name} below {DATA} (set PCDISTILL_DATA)")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    return matterport_replica.write_house(tmp_path_factory.mktemp("matterport"))


@pytest.fixture
def own_house(house, tmp_path):
    """A copy to break."""
    shutil.copytree(house.parents[1], tmp_path / "data")
    return tmp_path / "data" / "scans" / house.name


def opened(folder, **settings):
    (scan, *_) = find_matterport(folder)
    return open_scan(DetectedScan("matterport", scan), ReaderSettings(**settings))


def refused(folder, message, **settings):
    with pytest.raises(SceneError, match=message) as caught:
        opened(folder, **settings)
    assert "\n" not in str(caught.value)


# what the reference writes


@pytest.mark.parametrize("file", golden_cases("preprocess/matterport_3d_*.npz"))
@pytest.mark.parametrize("key", CLASSES)
def test_points_colors_and_labels_are_those_of_the_reference(file, key):
    scan, reference = raw_region(file.stem.removeprefix("matterport_3d_")), load_npz(file)
    if key not in reference:
        pytest.skip(f"{file.name} has no {key}")
    scene = open_scan(DetectedScan("matterport", scan), ReaderSettings(label_set=CLASSES[key]))
    np.testing.assert_array_equal(scene.points, reference["coords"])
    np.testing.assert_allclose(scene.colors / 127.5 - 1, reference["colors"], atol=FLOAT32)
    np.testing.assert_array_equal(scene.labels, labels_in_memory(reference[key]))
    assert scene.label_set == CLASSES[key]


@pytest.mark.parametrize("file", golden_cases("preprocess/matterport_2d_*.npz"))
def test_frames_are_those_of_the_reference(file):
    reference = load_npz(file)
    scan = raw_region(file.stem.removeprefix("matterport_2d_") + "_region0")
    names = reference["names"].tolist()
    samples = reference["sample_names"].tolist()
    scene = open_scan(DetectedScan("matterport", scan), ReaderSettings(intrinsics="openscene"))
    own = open_scan(DetectedScan("matterport", scan), ReaderSettings()).frames
    assert [frame.name for frame in scene.frames] == sorted(frame.name for frame in scene.frames)
    for frame, alone in zip(scene.frames, own, strict=True):
        row = names.index(frame.name)
        np.testing.assert_allclose(
            frame.camera_to_world, reference["pose"][row], atol=FLOAT64_EXACT
        )
        np.testing.assert_allclose(frame.intrinsics, reference["intrinsic"][row], atol=FLOAT64)
        # a hundredth of a pixel moves no sample
        np.testing.assert_allclose(alone.intrinsics, reference["intrinsic"][row], atol=0.01)
        counts = np.rint(frame.depth().numpy() * 4000).astype(np.uint16)
        assert hashlib.sha256(counts.tobytes()).hexdigest() == reference["depth_sha256"][row]
        mean = frame.image().double().mean(dim=(0, 1))
        # two decoders of one JPEG file, of 255
        np.testing.assert_allclose(mean, reference["color_mean"][row], atol=2)
    for frame in [*scene.frames, *own]:
        if frame.name not in samples:
            continue
        row = samples.index(frame.name)
        colors = reference["sample_color_before_jpeg"][row].astype(int)
        assert np.abs(frame.image().numpy() - colors).max() <= 2
        counts = reference["sample_depth"][row]
        np.testing.assert_array_equal(np.rint(frame.depth().numpy() * 4000), counts)


@pytest.mark.parametrize("file", golden_cases("preprocess/matterport_3d_*.npz"))
def test_frames_are_the_images_taken_inside(file):
    scene = open_matterport(raw_region(file.stem.removeprefix("matterport_3d_")), ReaderSettings())
    low, high = scene.bounds
    centers = torch.stack([frame.camera_to_world[:3, 3] for frame in scene.frames])
    inside = ((centers > low) & (centers < high)).all(dim=1)
    assert len(scene.frames) > 0
    if scene.provenance["frames_chosen"] == "inside":
        assert bool(inside.all())
    else:
        assert not bool(inside.any())


@pytest.mark.parametrize("file", golden_cases("label_mapping/matterport.npz"))
def test_categories_and_votes_are_those_of_the_reference(file, tmp_path):
    reference = load_npz(file)
    tables = sorted(DATA.glob("*/category_mapping.tsv"))
    if not tables:
        pytest.skip(f"no category_mapping.tsv below {DATA} (set PCDISTILL_DATA)")
    for classes in (21, 40, 80, 160):
        table = read_category_labels(tables[0], f"matterport{classes}")
        np.testing.assert_array_equal(
            table, labels_in_memory(reference[f"label_of_category_{classes}"])
        )
        voted = label_points(
            tmp_path,
            torch.from_numpy(reference["face_category_id"]).long(),
            torch.from_numpy(reference["faces"]).long(),
            len(reference["vertices"]),
            table,
        )
        np.testing.assert_array_equal(
            voted, labels_in_memory(reference[f"vertex_labels_{classes}"])
        )
        if classes > 21:
            released = load_label_set(f"matterport{classes}").released_names
            assert released == tuple(reference[f"names_{classes}"])


# a house written here


def test_a_region_is_read_right(house):
    scene = opened(house)
    points, quads, _ = matterport_replica.box_quads()
    assert scene.name == f"{matterport_replica.HOUSE}_region0"
    np.testing.assert_allclose(scene.points, points, atol=FLOAT32)
    assert len(scene.faces) == 2 * len(quads)
    assert scene.colors[0].tolist() == [10, 20, 30]
    np.testing.assert_allclose(scene.normals[0], [0, 0, 1])
    names = load_label_set("matterport21").names
    floor = (points[:, 2] == 0) & (points[:, :2] > 0).all(axis=1)
    floor &= (points[:, :2] < box_room.SIZE[:2]).all(axis=1)
    assert {names[i] for i in scene.labels[torch.from_numpy(floor)]} == {"floor"}
    assert {names[i] for i in scene.labels.unique()} == {"floor", "ceiling", "wall"}
    assert scene.instances.unique().tolist() == [-1, 7, 8]  # the ceiling is none of the objects
    assert scene.provenance["skipped_frames"] == 0
    assert scene.provenance["frames_chosen"] == "inside"


def test_cameras_are_turned_to_look_forward(house):
    scene = opened(house, image_size=matterport_replica.FILE_SIZE)
    by_name = {frame.name: frame for frame in scene.frames}
    assert len(by_name) == 12
    for i, pose in enumerate(box_room.poses(12)):
        frame = by_name[f"{matterport_replica.PANORAMAS[0]}_i{i // 6}_{i % 6}"]
        # a tenth of a micrometre
        np.testing.assert_allclose(frame.camera_to_world, pose, atol=1e-7)
        np.testing.assert_array_equal(frame.intrinsics, box_room.INTRINSICS)
        # depth steps of a quarter millimetre: half of one
        np.testing.assert_allclose(frame.depth(), box_room.depth_of(pose), atol=1.3e-4)


def test_frames_are_made_smaller_with_their_camera(house):
    frame = opened(house, image_size=(30, 40)).frames[0]
    whole = opened(house, image_size=matterport_replica.FILE_SIZE).frames[0]
    assert frame.image().shape == (30, 40, 3)
    np.testing.assert_array_equal(frame.image(), whole.image()[::2, ::2])
    np.testing.assert_array_equal(frame.depth(), whole.depth()[::2, ::2])
    # a border of the image stays its border: pixel -0.5 is seen along the same ray
    expected = [[30, 0, (39.5 + 0.5) / 2 - 0.5], [0, 30, (29.5 + 0.5) / 2 - 0.5], [0, 0, 1]]
    np.testing.assert_allclose(frame.intrinsics, expected)
    assert opened(house).frames[0].image().shape == (512, 640, 3)


def test_every_second_frame(house):
    assert len(opened(house, frame_step=2).frames) == 6


@pytest.mark.parametrize("label_set", MATTERPORT_LABEL_SETS)
def test_labels_are_of_the_set_asked_for(house, label_set):
    scene = opened(house, label_set=label_set)
    load_label_set(label_set).require_labels("house", scene.labels)
    names = load_label_set(label_set).names
    known = {names[i] for i in scene.labels.unique() if i != IGNORE_LABEL}
    assert {"wall", "floor"} <= known
    assert ("ceiling" in known) == (label_set != "scannet20")


def test_regions_come_by_number_from_root_scans_or_house(tmp_path):
    house = matterport_replica.write_house(tmp_path / "data", count=6)
    for i in (2, 10):
        matterport_replica.write_region(house / "region_segmentations" / f"region{i}.ply")
    names = [f"{matterport_replica.HOUSE}_region{i}" for i in (0, 2, 10)]
    for folder in (tmp_path / "data", tmp_path / "data" / "scans", house):
        assert [scan.name for scan in find_matterport(folder)] == names
        assert {scan.folder for scan in find_matterport(folder)} == {house}
    assert find_matterport(tmp_path) == ()
    assert find_matterport(tmp_path / "nothing") == ()


def test_a_house_unpacked_twice_as_deep_is_found(house, tmp_path):
    shutil.copytree(house, tmp_path / "scans" / house.name / house.name)
    (scan,) = find_matterport(tmp_path)
    assert scan.name == f"{matterport_replica.HOUSE}_region0"
    assert scan.folder == tmp_path / "scans" / house.name / house.name


def test_what_the_download_script_leaves_is_found(house, tmp_path):
    shutil.copy(house.parents[1] / "category_mapping.tsv", tmp_path)
    shutil.copytree(house, tmp_path / "v1" / "scans" / house.name / house.name)
    (scan,) = find_matterport(tmp_path)
    assert scan.folder == tmp_path / "v1" / "scans" / house.name / house.name
    assert len(open_scan(DetectedScan("matterport", scan), ReaderSettings()).frames) > 0


def test_a_region_without_a_view_inside_gets_those_that_may_see_it(own_house):
    mesh = own_house / "region_segmentations" / "region1.ply"
    points = np.array([[0.1, 0.1, 0.1], [0.2, 0.1, 0.1], [0.1, 0.2, 0.2], [0.2, 0.2, 0.1]])
    faces = np.array([[0, 1, 2], [1, 3, 2]])
    matterport_replica.write_region_mesh(mesh, points, faces, np.array([1, 1]), np.array([3, 3]))
    scene = open_matterport(find_matterport(own_house)[1], ReaderSettings())
    assert scene.provenance["frames_chosen"] == "nearest with points in view"
    assert 0 < len(scene.frames) < 12
    assert scene.instances.tolist() == [3, 3, 3, 3]
    for frame in scene.frames:  # the corner is in front of each
        towards = scene.points.double().mean(dim=0) - frame.camera_to_world[:3, 3]
        assert float(towards @ frame.camera_to_world[:3, 2]) > 0


def test_lost_cameras_and_missing_files_are_counted(own_house):
    conf = own_house / "undistorted_camera_parameters" / f"{matterport_replica.HOUSE}.conf"
    lines = conf.read_text().splitlines()
    lines[5] = " ".join([*lines[5].split()[:3], *["-inf"] * 16])
    conf.write_text("\n".join(lines))
    sorted((own_house / "undistorted_depth_images").iterdir())[5].unlink()
    scene = opened(own_house)
    assert len(scene.frames) == 10
    assert scene.provenance["skipped_frames"] == 2
    assert len(scene.provenance["frames_without_pose"]) == 1
    assert len(scene.provenance["frames_without_file"]) == 1


def test_a_region_that_nobody_looks_at_is_a_scene_without_frames(own_house):
    mesh = own_house / "region_segmentations" / "region1.ply"
    points = np.array([[50.0, 50, 90], [51, 50, 90], [50, 51, 90]])  # far above the house
    matterport_replica.write_region_mesh(
        mesh, points, np.array([[0, 1, 2]]), np.array([1]), np.array([3])
    )
    scene = open_matterport(find_matterport(own_house)[1], ReaderSettings())
    assert scene.frames == ()
    assert scene.labels.tolist() == [0, 0, 0]


def test_a_region_depends_on_its_own_files_and_those_of_the_house(own_house):
    matterport_replica.write_region(own_house / "region_segmentations" / "region4.ply")
    first, second = (set(MATTERPORT.files(scan)) for scan in find_matterport(own_house))
    assert {path.name for path in first - second} == {
        f"region0{suffix}" for suffix in (".ply", ".fsegs.json", ".semseg.json")
    }
    assert {path.name for path in first & second} == {
        "undistorted_camera_parameters",
        "undistorted_color_images",
        "undistorted_depth_images",
        "category_mapping.tsv",
    }


# votes


def test_the_most_frequent_value_wins_and_none_wins_ties():
    faces = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 2, 3]])
    assert vote_of_faces(torch.tensor([4, 4, 2]), faces, 5).tolist() == [4, 4, 2, 2, -1]
    assert vote_of_faces(torch.tensor([-1, 3, 3]), faces, 4).tolist() == [3, -1, -1, 3]
    assert vote_of_faces(torch.empty(0).long(), torch.empty(0, 3).long(), 2).tolist() == [-1, -1]


@given(seed=st.integers(0, 2**32 - 1), faces=st.integers(0, 40))
def test_votes_are_those_of_a_count_table(seed, faces):
    generator = np.random.default_rng(seed)
    corners = generator.integers(0, 12, (faces, 3))
    values = generator.integers(-1, 5, faces)
    table = np.zeros((12, 6), dtype=int)
    for corner, value in zip(corners, values, strict=True):
        for point in corner:
            table[point, value + 1] += 1
    voted = vote_of_faces(torch.from_numpy(values), torch.from_numpy(corners), 12)
    np.testing.assert_array_equal(voted, table.argmax(axis=1) - 1)


# what can be wrong


def edit(path, old, new, count=1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


@pytest.fixture
def conf(own_house):
    return own_house / "undistorted_camera_parameters" / f"{matterport_replica.HOUSE}.conf"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_images 12", "n_images 13", r"lists 12 images, expected the 13 it declares"),
        ("n_images 12", "n_images twelve", r"line 2: is not 'n_images NUMBER'"),
        ("intrinsics_matrix", "intrinsic", r"line 4: begins with 'intrinsic'"),
        ("intrinsics_matrix 60", "intrinsics_matrix -60", r"line 4: intrinsics are .* positive"),
        ("39.5", "39.5 1", r"line 4: has 10 numbers, expected 9"),
        ("0 0 1 \n", "0 1 1 \n", r"line 4: is no camera matrix"),
        ("intrinsics_matrix", "dataset", r"line 5: a 'scan' stands before"),
        (" 0 0 0 1\n", " 0 0 0\n", r"line 5: has 15 numbers, expected 16"),
        (" 0 0 0 1\n", " 0 0 0 2\n", r"line 5: the pose is not rigid"),
        (".png", ".pgm", r"line 5: '5e1f_d0_0.pgm' is no .png file name"),
        ("scan 5e1f", "scan ../5e1f", r"line 5: '../5e1f_d0_0.png' is no .png file name"),
        ("_i0_1.jpg", "_i0_0.jpg", r"line 6: lists 5e1f_i0_0.jpg a second time"),
        ("39.5", "390.5", r"principal point is that of images of about 781 x 59 pixels"),
    ],
)
def test_a_damaged_camera_file_is_named(own_house, conf, old, new, message):
    edit(conf, old, new)
    refused(own_house, rf"{conf.name}: .*{message}|{conf.name}: {message}")


def test_missing_parts_are_named(own_house, conf):
    shutil.rmtree(own_house / "undistorted_color_images")
    refused(own_house, "undistorted_color_images: no such folder")
    conf.unlink()
    refused(own_house, rf"{conf.name}: is missing .* download undistorted_camera_parameters")
    (own_house.parents[1] / "category_mapping.tsv").unlink()
    refused(own_house, r"category_mapping.tsv: is missing, expected the category table")
    (own_house / "region_segmentations" / "region0.ply").unlink()
    refused(own_house, r"region0.ply: is missing, only other files of the region are there")
    shutil.rmtree(own_house / "region_segmentations")
    assert [scan.name for scan in find_matterport(own_house)] == [matterport_replica.HOUSE]
    refused(own_house, r"region_segmentations: has no region<N>.ply")


def test_a_house_of_several_regions_needs_one_named(own_house):
    matterport_replica.write_region(own_house / "region_segmentations" / "region4.ply")
    for part, asked in (("", "none is named"), ("region9", "'region9' is none of them")):
        with pytest.raises(SceneError, match=rf"2 regions \(region0, region4\), {asked}"):
            open_matterport(Scan("house", own_house, part), ReaderSettings())


def test_an_unusable_mesh_is_named(own_house):
    mesh = own_house / "region_segmentations" / "region0.ply"
    whole = mesh.read_bytes()
    mesh.write_bytes(whole.replace(b"category_id", b"category_no"))
    refused(own_house, "region0.ply: its faces have no 'category_id'")
    mesh.write_bytes(whole.replace(b"int category_id", b"float category_id"))
    refused(own_house, "region0.ply: 'category_id' of its faces is no integer")
    matterport_replica.write_region(mesh, (1, 1, 1, 1, 4, 99))
    refused(own_house, r"region0.ply: a face has the category 99, the category table has 1 to 7")
    points, quads, sides = matterport_replica.box_quads()
    points[7, 1] = 1e9
    matterport_replica.write_region_mesh(mesh, points, quads[:, :3], sides, sides)
    refused(own_house, r"region0.ply: a point has the coordinate 1e\+09, expected metres")
    mesh.write_bytes(whole[:-40])
    refused(own_house, "region0.ply: its header declares .* truncated")


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        ("fsegs", {"segIndices": [1, 2]}, r"has segments of 2 faces, the mesh has 2720"),
        (
            "fsegs",
            {"segIndices": [1.5] * 2720},
            r"'segIndices' is no list of integers \(it has '1.5'",
        ),
        ("fsegs", {}, r"'segIndices' is no list of integers \(it is a NoneType\)"),
        ("semseg", [], r"holds a list, expected an object"),
        ("semseg", {"segGroups": [{"id": -3, "segments": [1]}]}, r"an object has the number -3"),
        ("semseg", {"segGroups": [3]}, r"'segments' is no list of integers \(it is a NoneType"),
        ("semseg", {"segGroups": [{"id": 2, "segments": ["x"]}]}, r"'segments' is no list of int"),
        *(
            ("semseg", {"segGroups": [{"id": 2, "segments": [empty]}]}, r"'segments' is no list of")
            for empty in ("", None, 0.0, [], False)
        ),
        ("semseg", {"segGroups": [{"id": 2, "segments": [2**70]}]}, r"'segments' is no list of"),
        ("semseg", {}, r"has no list 'segGroups'"),
    ],
)
def test_damaged_objects_are_named(own_house, suffix, content, message):
    path = own_house / "region_segmentations" / f"region0.{suffix}.json"
    path.write_text(json.dumps(content))
    refused(own_house, rf"{path.name}: {message}")
    path.write_text('{"segIndices": [1, 2')
    refused(own_house, rf"{path.name}: is no readable JSON")
    path.write_text("[" * 100_000)
    refused(own_house, rf"{path.name}: ")


def test_without_objects_there_are_none_or_those_of_the_mesh(own_house, caplog):
    mesh = own_house / "region_segmentations" / "region0.ply"
    mesh.with_name("region0.semseg.json").unlink()
    scene = opened(own_house)
    assert scene.provenance["instances"] == "segment_id in region0.ply"
    assert scene.instances.unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert "region0.semseg.json" in caplog.text
    mesh.write_bytes(mesh.read_bytes().replace(b"segment_id", b"segment_no"))
    assert opened(own_house).instances is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("nyu40id", "nyuid", "its first line has no column 'nyu40id'"),
        ("\tchair\n", "\n", "line 7 has 5 columns, expected 6"),
        ("3\tceiling", "2\tceiling", "line 4 has the index '2'"),
        ("\t22\t", "\tx2\t", "line 4 has the nyu40id 'x2'"),
    ],
)
def test_a_damaged_table_is_named(own_house, old, new, message):
    table = own_house.parents[1] / "category_mapping.tsv"
    edit(table, old, new)
    refused(own_house, f"category_mapping.tsv: {message}")


def test_images_of_another_size_are_named(own_house):
    image = sorted((own_house / "undistorted_depth_images").iterdir())[3]
    Image.fromarray(np.ones((30, 40), dtype=np.uint16)).save(image)
    refused(own_house, rf"{image.name}: is 40 x 30 pixels, expected 80 x 60 like the colour")


def test_a_wrong_depth_scale_is_noticed(own_house):
    refused(
        own_house,
        r"with region0\.ply: the depth is in another unit.*set `depth_scale: 4000`",
        depth_scale=1000.0,
    )


def test_settings_that_mean_nothing_here_are_refused(house):
    with pytest.raises(ConfigError, match="`align_axes` is True, Matterport3D says this itself"):
        opened(house, align_axes=True)
    with pytest.raises(ConfigError, match=r"cannot be mapped to label set 'matterport12', did you"):
        opened(house, label_set="matterport12")


# damage at random places: a valid scene or one sentence, nothing else


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    return matterport_replica.write_coarse_house(root, count=6)


def damage(content: bytes, generator: np.random.Generator) -> bytes:
    """One of: cut, a few bits flipped, digits exchanged, a stretch repeated or dropped."""
    kind = generator.integers(5)
    data = bytearray(content)
    place = int(generator.integers(len(data)))
    if kind == 0:
        return bytes(data[:place])
    if kind == 1:
        for at in generator.integers(0, len(data), generator.integers(1, 6)):
            data[at] ^= 1 << int(generator.integers(8))
        return bytes(data)
    if kind == 2:
        digits = [i for i, byte in enumerate(data[:400]) if 48 <= byte <= 57]
        at = int(generator.choice(digits or [0]))
        return bytes(data[:at] + b"9" * int(generator.integers(1, 25)) + data[at:])
    if kind == 3:
        return bytes(data[:place] + data[place // 2 : place] + data[place:])
    return bytes(data[:place] + data[place + int(generator.integers(1, 60)) :])


@pytest.mark.parametrize(
    "name",
    [
        "undistorted_camera_parameters/*.conf",
        "region_segmentations/region0.ply",
        "region_segmentations/region0.fsegs.json",
        "region_segmentations/region0.semseg.json",
        "../../category_mapping.tsv",
    ],
)
def test_any_damage_gives_a_scene_or_a_sentence(fuzzed, name):
    (path,) = fuzzed.glob(name) if "*" in name else [fuzzed / name]
    whole = path.read_bytes()
    generator = np.random.default_rng(20)
    (scan,) = find_matterport(fuzzed)
    refusals = []
    try:
        for _ in range(300):
            path.write_bytes(damage(whole, generator))
            try:
                scene = open_matterport(scan, ReaderSettings(image_size=(30, 40)))
            except SceneError as error:
                refusals.append(str(error))
                continue
            assert isinstance(scene, Scene)
            assert set(scene.labels.tolist()) <= {*range(21), IGNORE_LABEL}
            assert int(scene.instances.min()) >= -1
    finally:
        path.write_bytes(whole)
    assert len(refusals) > 20
    for message in refusals:
        assert "\n" not in message
        assert str(fuzzed.parents[1]) in message or scan.name in message
