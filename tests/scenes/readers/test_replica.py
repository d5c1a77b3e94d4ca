"""Replica scenes: what OpenScene's preprocessing writes, and how a scene may be damaged."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pcdistill.errors import ConfigError, SceneError
from pcdistill.scenes import Scene, load_label_set
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.detection import DetectedScan, open_scan
from pcdistill.scenes.readers.replica import find_replica, open_replica
from pcdistill.scenes.resampled_frames import resize_intrinsics_by_rule
from pcdistill.scenes.resampling import resize
from tests.conftest import DATA, golden_cases, load_npz
from tests.fixtures import box_room, matterport_replica
from tests.scenes.readers.matterport.test_region import damage, edit
from tests.tolerances import FLOAT32, FLOAT64

RAW = sorted(DATA.glob("*/Replica")) if DATA.is_dir() else []


def raw_scene(name):
    """The scan of the capture data that a fixture was made from."""
    for root in RAW:
        for scan in find_replica(root):
            if scan.name == name:
                return scan
    return pytest.skip(f"no capture data of {name} below {DATA} (set PCDISTILL_DATA)")


@pytest.fixture(scope="module")
def scene_folder(tmp_path_factory):
    return matterport_replica.write_replica(tmp_path_factory.mktemp("replica") / "Replica")


@pytest.fixture
def own_scene(scene_folder, tmp_path):
    """A copy to break."""
    shutil.copytree(scene_folder.parent, tmp_path / "Replica")
    return tmp_path / "Replica" / scene_folder.name


def opened(folder, **settings):
    (scan,) = find_replica(folder)
    return open_scan(DetectedScan("replica", scan), ReaderSettings(**{"frame_step": 1, **settings}))


def refused(folder, message, **settings):
    with pytest.raises(SceneError, match=message) as caught:
        opened(folder, **settings)
    assert "\n" not in str(caught.value)


# what the reference writes


@pytest.mark.parametrize("file", golden_cases("preprocess/replica_3d_*.npz"))
def test_points_and_colors_are_those_of_the_reference(file):
    scan, reference = raw_scene(file.stem.removeprefix("replica_3d_")), load_npz(file)
    scene = open_scan(DetectedScan("replica", scan), ReaderSettings())
    np.testing.assert_array_equal(scene.points, reference["coords"])
    np.testing.assert_allclose(scene.colors / 127.5 - 1, reference["colors"], atol=FLOAT32)
    assert (reference["labels"] == 255).all()
    assert scene.labels is None


@pytest.mark.parametrize("file", golden_cases("preprocess/replica_2d_*.npz"))
def test_frames_are_those_of_the_reference(file):
    scan, reference = raw_scene(file.stem.removeprefix("replica_2d_")), load_npz(file)
    scene = open_scan(DetectedScan("replica", scan), ReaderSettings(intrinsics="openscene"))
    assert [int(frame.name[5:]) // 10 for frame in scene.frames] == reference["ids"].tolist()
    for row, frame in enumerate(scene.frames):
        np.testing.assert_array_equal(frame.camera_to_world, reference["pose"][row])
        np.testing.assert_allclose(frame.intrinsics, reference["intrinsics"][:3, :3], atol=FLOAT64)
        colors = reference["color_before_jpeg"][row].astype(int)
        assert np.abs(frame.image().numpy() - colors).max() <= 2
        counts = np.rint(frame.depth().numpy() * 6553.5)
        different = np.abs(counts - reference["depth"][row])
        assert different.max() <= 1  # halves may be rounded either way
        assert (different > 0).mean() < 1e-3


# a scene written here


def test_a_scene_is_read_right(scene_folder):
    scene = opened(scene_folder, image_size=matterport_replica.FILE_SIZE)
    points, quads, _ = matterport_replica.box_quads()
    np.testing.assert_allclose(scene.points, points, atol=FLOAT32)
    assert scene.name == "attic3"
    assert scene.colors[0].tolist() == [200, 100, 50]
    assert scene.normals is None  # all zero in the file
    assert scene.labels is None
    assert scene.provenance["skipped_frames"] == 0
    # each quad is two triangles with the area of the quad
    assert len(scene.faces) == 2 * len(quads)
    corners = scene.points.double()[scene.faces]
    across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length, width, height = box_room.SIZE
    area = 2 * (length * width + length * height + width * height)
    assert float(across.norm(dim=1).sum()) / 2 == pytest.approx(area, rel=FLOAT32)
    for i, (frame, pose) in enumerate(zip(scene.frames, box_room.poses(6), strict=True)):
        assert frame.name == f"frame{i:06d}"
        np.testing.assert_allclose(frame.camera_to_world, pose, atol=FLOAT64)
        np.testing.assert_array_equal(frame.intrinsics, box_room.INTRINSICS)
        # depth steps of 0.15 millimetres: half of one, and float32
        np.testing.assert_allclose(frame.depth(), box_room.depth_of(pose), atol=1e-4)
        assert frame.image().shape == (60, 80, 3)


def test_every_tenth_image_at_640_x_360_unless_set(tmp_path):
    scene = open_replica(
        *find_replica(matterport_replica.write_replica(tmp_path, count=12)), ReaderSettings()
    )
    assert [frame.name for frame in scene.frames] == ["frame000000", "frame000010"]
    assert scene.frames[0].image().shape == (360, 640, 3)


def test_a_smaller_image_shows_the_same_rays(scene_folder):
    whole = opened(scene_folder, image_size=matterport_replica.FILE_SIZE).frames[2]
    frame = opened(scene_folder, image_size=(20, 40)).frames[2]
    depth, intrinsics = frame.depth().double(), frame.intrinsics
    v, u = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (20, 40)), indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1)
    places = pixels @ torch.linalg.inv(intrinsics).T * depth[..., None]
    in_whole = places @ whole.intrinsics.T / depth[..., None]
    # the centre of each small pixel is the centre of the pixels it is made of
    np.testing.assert_allclose(in_whole[..., 0], (u + 0.5) * 2 - 0.5)
    np.testing.assert_allclose(in_whole[..., 1], (v + 0.5) * 3 - 0.5)


def test_the_camera_of_openscene_is_an_option():
    camera = torch.tensor([[600, 0, 599.5], [0, 600, 339.5], [0, 0, 1]], dtype=torch.float64)
    own = resize_intrinsics_by_rule(camera, (680, 1200), (360, 640), "own")
    released = resize_intrinsics_by_rule(camera, (680, 1200), (360, 640), "openscene")
    np.testing.assert_allclose(own.diagonal(), [320, 600 * 360 / 680, 1])
    np.testing.assert_allclose(released.diagonal(), [317.5, 600 * 360 / 680, 1])
    np.testing.assert_allclose(own[:2, 2], [319.5, 179.5])


@given(seed=st.integers(0, 2**32 - 1), sizes=st.tuples(*[st.integers(1, 12)] * 4))
def test_linear_resizing_is_that_of_the_definition(seed, sizes):
    height, width, to_height, to_width = sizes
    pixels = np.random.default_rng(seed).integers(0, 65536, (height, width)).astype(np.float32)

    def weights(before, after):
        place = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
        return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(before)))

    expected = weights(height, to_height) @ pixels @ weights(width, to_width).T
    found = resize(torch.from_numpy(pixels), (to_height, to_width), "linear")
    # a hundredth of a gray level
    np.testing.assert_allclose(found, expected, rtol=FLOAT32, atol=0.01)
    nearest = resize(torch.from_numpy(pixels), (to_height, to_width), "nearest")
    rows = np.floor(np.arange(to_height) * height / to_height).astype(int)
    columns = np.floor(np.arange(to_width) * width / to_width).astype(int)
    np.testing.assert_array_equal(nearest, pixels[rows][:, columns])


def test_scenes_are_found_from_the_root_above_it_or_their_folder(tmp_path):
    root = tmp_path / "Replica"
    for name in ("room1", "office0"):
        matterport_replica.write_replica(root, name, count=2)
    for folder in (tmp_path, root):
        assert [scan.name for scan in find_replica(folder)] == ["office0", "room1"]
    (root / "room1" / "traj.txt").unlink()
    assert [scan.folder for scan in find_replica(root / "room1")] == [root / "room1"]
    assert find_replica(root / "room1" / "results") == ()
    assert find_replica(tmp_path / "nothing") == ()


def test_lost_frames_are_counted(own_scene):
    lines = (own_scene / "traj.txt").read_text().splitlines()
    lines[1] = " ".join(["nan"] * 16)
    (own_scene / "traj.txt").write_text("\n".join(lines))
    (own_scene / "results" / "depth000004.png").unlink()
    scene = opened(own_scene)
    assert [frame.name[-1] for frame in scene.frames] == ["0", "2", "3", "5"]
    assert scene.provenance["skipped_frames"] == 2


def test_images_keep_their_pose_where_others_are_missing(own_scene):
    (own_scene / "results" / "frame000002.jpg").unlink()
    frames = opened(own_scene).frames
    for frame in frames:
        pose = box_room.poses(6)[int(frame.name[-1])]
        np.testing.assert_allclose(frame.camera_to_world, pose, atol=FLOAT64)


def test_another_mesh_can_be_given(own_scene):
    shutil.move(own_scene.parent / "attic3_mesh.ply", own_scene / "other.ply")
    refused(own_scene, "attic3_mesh.ply: is missing")
    assert opened(own_scene, surface_file="other.ply").provenance["surface"] == "other.ply"
    refused(own_scene, "absent.ply: no such file; correct or remove", surface_file="absent.ply")


def test_the_label_set_holds_the_classes_of_the_eight_scenes():
    label_set = load_label_set("replica")
    assert len(label_set.names) == 51
    assert {"indoor plant", "tv screen", "wall", "nightstand"} <= set(label_set.names)
    assert label_set.released_names[label_set.names.index("indoor plant")] == "indoor-plant"


# what can be wrong


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"fx": 60.0', '"fx": -60.0', r"camera.fx is -60.0, expected a number above 0"),
        ('"fy": 60.0', '"fz": 60.0', r"camera.fy is None"),
        ('"w": 80', '"w": true', r"camera.w is True"),
        ('"w": 80', '"w": 80.5', r"the images are 80.5 x 60 pixels, expected whole pixels"),
        ('"scale": 6553.5', '"scale": Infinity', r"camera.scale is inf"),
        ('"camera"', '"lens"', r"camera.w is None"),
        ("{", "", r"is no readable JSON"),
    ],
)
def test_a_damaged_camera_file_is_named(own_scene, old, new, message):
    edit(own_scene.parent / "cam_params.json", old, new)
    refused(own_scene, rf"cam_params.json: {message}")


def test_images_of_another_size_than_the_camera_are_named(own_scene):
    edit(own_scene.parent / "cam_params.json", '"w": 80', '"w": 160')
    refused(own_scene, r"frame000000.jpg: is 80 x 60 pixels, cam_params.json is for 160 x 60")
    image = own_scene / "results" / "depth000003.png"
    Image.fromarray(np.ones((30, 40), dtype=np.uint16)).save(image)
    edit(own_scene.parent / "cam_params.json", '"w": 160', '"w": 80')
    refused(own_scene, r"depth000003.png: is 40 x 30 pixels, expected 80 x 60 like the colour")


def test_damaged_poses_are_named(own_scene):
    traj = own_scene / "traj.txt"
    whole = traj.read_text().splitlines()
    traj.write_text("\n".join(whole[:4]))
    refused(own_scene, r"traj.txt: has 4 poses, frame000005.jpg needs 6")
    traj.write_text("\n".join([*whole[:5], whole[5][:-15]]))
    refused(own_scene, r"traj.txt: line 6: has 15 numbers, expected 16")
    traj.write_text("\n".join(whole).replace("0.0", "zero", 1))
    refused(own_scene, r"traj.txt: line \d: has a word that is no number")
    scaled = [" ".join(str(2 * float(word)) for word in whole[0].split()), *whole[1:]]
    traj.write_text("\n".join(scaled))
    refused(own_scene, r"traj.txt: line 1: the pose is not rigid")
    traj.write_text("")
    refused(own_scene, r"traj.txt: has no poses")
    traj.unlink()
    refused(own_scene, r"traj.txt: cannot be read \(No such file")


def test_missing_parts_are_named(own_scene):
    for depth in (own_scene / "results").glob("depth*.png"):
        depth.unlink()
    refused(own_scene, r"attic3: none of 6 images has both a depth image and a finite pose")
    for color in (own_scene / "results").glob("frame*.jpg"):
        color.unlink()
    refused(own_scene, r"results: has no frame<i>.jpg")
    (own_scene / "results").rmdir()
    refused(own_scene, r"results: no such folder")
    (own_scene.parent / "attic3_mesh.ply").unlink()
    refused(own_scene, r"attic3_mesh.ply: is missing")


def test_a_wrong_depth_scale_or_pose_convention_is_noticed(own_scene):
    refused(
        own_scene,
        r"attic3_mesh\.ply: the depth is in another unit.*set `depth_scale: 6553\.5`",
        depth_scale=1000.0,
    )
    traj = own_scene / "traj.txt"
    inverse = [np.linalg.inv(np.array(line.split(), dtype=float).reshape(4, 4)).reshape(-1)
               for line in traj.read_text().splitlines()]  # fmt: skip
    np.savetxt(traj, inverse)
    refused(own_scene, r"attic3_mesh\.ply: the poses are world-to-camera.*; invert every pose")


def test_settings_that_mean_nothing_here_are_refused(scene_folder):
    with pytest.raises(ConfigError, match="`up_axis` is 'y', Replica says this itself"):
        opened(scene_folder, up_axis="y")


# damage at random places: a valid scene or one sentence, nothing else


@pytest.mark.parametrize("name", ["attic3_mesh.ply", "attic3/traj.txt", "cam_params.json"])
def test_any_damage_gives_a_scene_or_a_sentence(tmp_path, name):
    folder = matterport_replica.write_replica(tmp_path / "Replica", count=3)
    path = folder.parent / name
    whole = path.read_bytes()
    generator = np.random.default_rng(21)
    (scan,) = find_replica(folder)
    refusals = []
    for _ in range(300):
        path.write_bytes(damage(whole, generator))
        try:
            scene = open_replica(scan, ReaderSettings(image_size=(30, 40), frame_step=1))
        except SceneError as error:
            refusals.append(str(error))
            continue
        assert isinstance(scene, Scene)
        assert 0 < len(scene.frames) <= 3
    assert len(refusals) > 20
    for message in refusals:
        assert "\n" not in message
        assert str(tmp_path) in message or scan.name in message
