"""Folders of posed RGB-D frames: read right, or refused with the setting that mends them."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial import cKDTree

from pcdistill.errors import ConfigError, SceneError
from pcdistill.scenes import is_scene_folder, open_scene, read_ply, write_ply, write_scene
from pcdistill.scenes.checks.depth_agreement import DepthView, measure_agreement
from pcdistill.scenes.checks.pose_conventions import POSE_CONVENTIONS
from tests.fixtures import box_room
from tests.tolerances import FLOAT64, FLOAT64_EXACT, MILLIMETRE

# world axes of a scan whose y, or -y, points up, seen from ours
FROM_Z_UP = {
    "y": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "-y": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
}


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return box_room.write_scan(tmp_path_factory.mktemp("scan") / "room")


@pytest.fixture
def own_scan(scan, tmp_path):
    """A copy to break."""
    shutil.copytree(scan, tmp_path / "room")
    return tmp_path / "room"


def refused(folder, message, **settings):
    with pytest.raises(SceneError, match=message) as caught:
        open_scene(folder, **settings)
    assert "\n" not in str(caught.value)


def test_frames_come_in_the_order_of_their_numbers(scan):
    scene = open_scene(scan)
    assert [frame.name for frame in scene.frames] == [str(7 * i) for i in range(10)]
    assert scene.name == "room"
    assert scene.provenance["skipped_frames"] == 0
    for frame, pose in zip(scene.frames, box_room.poses(10), strict=True):
        assert frame.image_size == box_room.IMAGE_SIZE
        assert frame.image().shape == (*box_room.IMAGE_SIZE, 3)
        np.testing.assert_allclose(frame.camera_to_world, pose, atol=FLOAT64_EXACT)
        np.testing.assert_array_equal(frame.intrinsics, box_room.INTRINSICS)
        np.testing.assert_allclose(frame.depth(), box_room.depth_of(pose), atol=MILLIMETRE)


def test_every_second_frame(scan):
    scene = open_scene(scan, frame_step=2)
    assert [frame.name for frame in scene.frames] == ["0", "14", "28", "42", "56"]


def test_a_scan_without_a_surface_is_fused(tmp_path):
    folder = box_room.write_scan(tmp_path / "room", 16, surface=False)
    scene = open_scene(folder, fuse_voxel_size=0.05)
    assert scene.provenance["surface"] == "fused depth"
    walls = np.stack([scene.points, torch.from_numpy(box_room.SIZE).float() - scene.points])
    distance = np.abs(walls).min(axis=(0, 2))
    assert len(scene.points) > 2000
    assert np.quantile(distance, 0.95) < 0.02
    # normals point into the room
    inside = torch.from_numpy(box_room.SIZE / 2).float() - scene.points
    assert float(((inside * scene.normals).sum(dim=1) > 0).float().mean()) > 0.98


@pytest.mark.parametrize("up", ["y", "-y"])
@pytest.mark.parametrize("surface", [True, False])
def test_other_axes_are_turned_up(tmp_path, up, surface):
    turned = box_room.write_scan(tmp_path / "turned", world=FROM_Z_UP[up], surface=surface)
    straight = open_scene(box_room.write_scan(tmp_path / "straight", surface=surface))
    scene = open_scene(turned, up_axis=up)
    for frame, same in zip(scene.frames, straight.frames, strict=True):
        torch.testing.assert_close(frame.camera_to_world, same.camera_to_world)
    if surface:
        torch.testing.assert_close(scene.points, straight.points)
        return
    for corner, same in zip(scene.bounds, straight.bounds, strict=True):
        torch.testing.assert_close(corner, same, rtol=0, atol=0.05)  # voxels of another grid
    nearest, index = cKDTree(straight.points).query(scene.points)
    assert np.quantile(nearest, 0.9) < 0.05
    alike = (scene.normals * straight.normals[index]).sum(dim=1)
    assert float(alike.median()) > 0.95


@pytest.mark.parametrize("poses", POSE_CONVENTIONS)
def test_poses_of_other_conventions_are_read_by_setting_and_named_otherwise(own_scan, poses):
    for file in (own_scan / "pose").iterdir():
        ours = torch.from_numpy(np.loadtxt(file))
        np.savetxt(file, POSE_CONVENTIONS[poses].write(ours).numpy())
    scene = open_scene(own_scan, pose_convention=poses)
    for frame, pose in zip(scene.frames, box_room.poses(10), strict=True):
        np.testing.assert_allclose(frame.camera_to_world, pose, atol=FLOAT64)
    for other in POSE_CONVENTIONS:
        if other != poses:
            refused(
                own_scan,
                rf"room with cloud.ply: .* they were read as .*; set `pose_convention: {poses}`",
                pose_convention=other,
            )


def test_wrong_poses_are_found_without_a_surface(own_scan):
    (own_scan / "cloud.ply").unlink()
    for other in ("world_to_camera", "camera_to_world_opengl"):
        refused(
            own_scan,
            "they were read as .*; set `pose_convention: camera_to_world`",
            pose_convention=other,
        )


def test_depth_in_millimetres_taken_for_metres(scan):
    refused(
        scan,
        r"room/depth: the median depth is .* m with `depth_scale: 1`, .*`depth_scale: 1000`",
        depth_scale=1.0,
    )
    refused(scan, r"room/depth: the median depth is .*`depth_scale: 1000`", depth_scale=1e6)


def test_metres_taken_for_millimetres(tmp_path):
    folder = box_room.write_scan(tmp_path / "room", depth_scale=1.0)
    refused(folder, r"room/depth: the median depth is 0\.00.*set `depth_scale: 1`")


@pytest.mark.parametrize("wrong", [100.0, 256.0, 5000.0])
@pytest.mark.parametrize("surface", [True, False])
def test_another_depth_scale_contradicts_the_poses(own_scan, wrong, surface):
    if not surface:
        (own_scan / "cloud.ply").unlink()
    refused(
        own_scan,
        r"the depth is in another unit.*would\); set `depth_scale: 1000`",
        depth_scale=wrong,
    )


def test_a_surface_in_millimetres(own_scan):
    write_ply(own_scan / "cloud.ply", read_ply(own_scan / "cloud.ply").points * 1000)
    refused(own_scan, r"with cloud\.ply: the surface is in millimetres .* write it in metres")


def test_a_surface_of_another_scan(own_scan):
    moved = read_ply(own_scan / "cloud.ply").points + torch.tensor([40.0, 0, 0])
    write_ply(own_scan / "cloud.ply", moved)
    refused(
        own_scan,
        r"with cloud\.ply: the surface has another origin .*40\.00 m away .*\(-40\.00,",
    )


def test_other_rooms_behind_the_walls_do_not_matter(own_scan):
    points = read_ply(own_scan / "cloud.ply").points
    offsets = torch.tensor([[6.0, 0, 0], [-6, 0, 0], [0, 5, 0], [0, -5, 0]])
    house = torch.cat([points, (points + offsets[:, None]).reshape(-1, 3)])
    write_ply(own_scan / "cloud.ply", house)
    assert len(open_scene(own_scan).points) == 5 * len(points)


def test_a_few_frames_may_disagree(own_scan):
    for name in ("0", "21"):
        depth = np.asarray(Image.open(own_scan / f"depth/{name}.png")) // 3
        Image.fromarray(depth).save(own_scan / f"depth/{name}.png")
    assert len(open_scene(own_scan).frames) == 10


def test_agreement_is_one_where_all_is_right_and_follows_the_scale():
    views = [
        DepthView(
            torch.from_numpy(box_room.depth_of(p)).float(),
            torch.from_numpy(box_room.INTRINSICS),
            torch.from_numpy(p),
        )
        for p in box_room.poses(6)
    ]
    points = torch.from_numpy(box_room.wall_points(0.05))
    right = measure_agreement(views, points)
    assert right.fraction > 0.99
    assert right.coverage > 0.95
    # far below 1.1, the mildest wrong scale that has to be told apart
    assert right.ratio == pytest.approx(1, abs=0.03)
    double = measure_agreement(
        [DepthView(v.depth / 2, v.intrinsics, v.camera_to_world) for v in views], points
    )
    assert double.fraction < 0.05
    # a tenth of the mildest wrong scale
    assert double.ratio == pytest.approx(2 * right.ratio, rel=0.01)
    alone = measure_agreement(views[:1], None)
    assert (alone.compared, alone.fraction, alone.coverage) == (0, 0, 0)


def test_poses_that_are_not_finite_are_left_out_and_counted(own_scan, caplog):
    np.savetxt(own_scan / "pose/14.txt", np.full((4, 4), np.nan))
    np.savetxt(own_scan / "pose/28.txt", np.full((4, 4), -np.inf))
    with caplog.at_level(logging.WARNING):
        scene = open_scene(own_scan)
    assert len(scene.frames) == 8
    assert scene.provenance["skipped_frames"] == 2
    assert scene.provenance["frames_without_pose"] == ["14", "28"]
    assert "2 of 10 frames left out, their pose is not finite" in caplog.text


def test_no_finite_pose_at_all(own_scan):
    for file in (own_scan / "pose").iterdir():
        np.savetxt(file, np.full((4, 4), np.nan))
    refused(own_scan, r"room/pose: none of the 10 poses is finite")


def test_frames_that_lack_a_file_are_left_out_and_counted(own_scan, caplog):
    (own_scan / "depth/7.png").unlink()
    (own_scan / "pose/63.txt").unlink()
    with caplog.at_level(logging.WARNING):
        scene = open_scene(own_scan)
    assert len(scene.frames) == 8
    assert scene.provenance["frames_without_file"] == ["7", "63"]
    assert "2 frames left out, they lack a file" in caplog.text


@pytest.mark.parametrize("kind", ["color", "depth", "pose"])
def test_a_missing_or_empty_folder(own_scan, kind):
    shutil.rmtree(own_scan / kind)
    refused(
        own_scan, rf"room/{kind}: no such folder, expected one file per frame in each of color/"
    )
    (own_scan / kind).mkdir()
    refused(own_scan, rf"room/{kind}: has no .* file, expected one per frame")


def test_names_that_do_not_match(own_scan):
    for file in list((own_scan / "pose").iterdir()):
        file.rename(file.with_name(f"pose{file.name}"))
    refused(own_scan, r"no frame has colour, depth and pose under one name .*color/0, .*pose/pose0")


def test_two_images_of_one_name(own_scan):
    Image.open(own_scan / "color/0.jpg").save(own_scan / "color/0.png")
    refused(own_scan, r"has both 0\.jpg and 0\.png, expected one file per frame")


def test_image_and_depth_of_different_size(own_scan):
    depth = Image.open(own_scan / "depth/21.png").resize((40, 30), Image.Resampling.NEAREST)
    depth.save(own_scan / "depth/21.png")
    refused(
        own_scan, r"depth/21\.png: is 40 x 30 pixels but its image 80 x 60.*intrinsics_depth\.txt"
    )


def test_depth_of_another_size_with_its_own_camera(own_scan):
    small = np.array([[30.0, 0, 19.5], [0, 30.0, 14.5], [0, 0, 1]])
    for file, pose in zip(
        sorted((own_scan / "depth").iterdir(), key=lambda f: int(f.stem)),
        box_room.poses(10),
        strict=True,
    ):
        depth = box_room.depth_of(pose, small, (30, 40))
        Image.fromarray(np.rint(depth * 1000).astype(np.uint16)).save(file)
    np.savetxt(own_scan / "intrinsics_depth.txt", small)
    frame = open_scene(own_scan).frames[4]
    expected = box_room.depth_of(box_room.poses(10)[4])
    assert frame.depth().shape == expected.shape
    error = np.abs(frame.depth().numpy() / expected - 1)[2:-2, 2:-2]
    assert np.quantile(error, 0.95) < 0.04  # half a depth pixel on a slanted wall


def test_images_of_different_sizes(own_scan):
    Image.new("RGB", (100, 60)).save(own_scan / "color/35.jpg")
    refused(own_scan, r"color/35\.jpg: is 100 x 60 pixels, 0\.jpg is 80 x 60")


def test_intrinsics_of_another_resolution(own_scan):
    np.savetxt(own_scan / "intrinsics.txt", box_room.INTRINSICS * [[2], [2], [1]])
    refused(own_scan, r"principal point is that of images of about 158 x 118 .* are 80 x 60")
    np.savetxt(own_scan / "intrinsics.txt", box_room.INTRINSICS * [[0.5], [0.5], [1]])
    refused(own_scan, r"principal point is that of images of about 40 x 30")


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ("", r"intrinsics\.txt: has 0 numbers, expected a 3 x 3 or 4 x 4 matrix"),
        ("1 2 3 4", "has 4 numbers"),
        ("a b c d e f g h i", "is not a matrix of numbers"),
        ("1 0 0 0 1 0 nan 0 1", "expected finite numbers with positive focal lengths"),
        ("0 0 1 0 1 1 0 0 1", "positive focal lengths"),
        ("60 0 0 0 60 0 40 30 1", "is no camera matrix"),
        ("\xe4", "is not a matrix of numbers"),
    ],
)
def test_broken_intrinsics(own_scan, matrix, message):
    (own_scan / "intrinsics.txt").write_text(matrix)
    refused(own_scan, message)


def test_missing_intrinsics(own_scan):
    (own_scan / "intrinsics.txt").unlink()
    refused(own_scan, r"intrinsics\.txt: is missing, expected the 3 x 3 camera matrix")


def test_intrinsics_as_four_by_four_with_commas(own_scan):
    matrix = np.eye(4)
    matrix[:3, :3] = box_room.INTRINSICS
    np.savetxt(own_scan / "intrinsics.txt", matrix, delimiter=",")
    np.testing.assert_array_equal(open_scene(own_scan).frames[0].intrinsics, box_room.INTRINSICS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pose: pose @ np.diag([1.5, 1.5, 1.5, 1]), r"pose/21\.txt: the pose is not rigid"),
        (lambda pose: pose @ np.diag([1, -1, 1, 1]), r"pose/21\.txt: the pose mirrors"),
        (lambda pose: pose.T, r"pose/21\.txt: the pose is not rigid"),
        (lambda pose: pose[:3], r"pose/21\.txt: has 12 numbers, expected a 4 x 4 matrix"),
    ],
)
def test_poses_that_are_no_poses(own_scan, change, message):
    file = own_scan / "pose/21.txt"
    np.savetxt(file, change(np.loadtxt(file)))
    refused(own_scan, message)


@pytest.mark.parametrize("kind", ["color/21.jpg", "depth/21.png"])
@pytest.mark.parametrize("fraction", [0, 0.3, 0.95])
def test_truncated_images_are_named_and_never_stored(own_scan, tmp_path, kind, fraction):
    file = own_scan / kind
    content = file.read_bytes()
    file.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(SceneError, match=rf"{kind}: cannot be decoded as an image") as caught:
        write_scene(open_scene(own_scan), tmp_path / "stored")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "stored").exists()


def test_a_flipped_bit_in_a_depth_image_is_noticed(own_scan):
    """PNG has checksums, decoding alone does not look at them."""
    file = own_scan / "depth/21.png"
    content = bytearray(file.read_bytes())
    frame = open_scene(own_scan).frames[3]
    for place in range(60, len(content) - 20, max(len(content) // 40, 1)):
        file.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        with pytest.raises(SceneError, match=r"depth/21\.png: cannot be decoded"):
            frame.depth()


def test_an_absurd_image_header_is_refused_before_allocating(own_scan):
    content = bytearray((own_scan / "depth/0.png").read_bytes())
    content[16:24] = (10**6).to_bytes(4, "big") * 2
    (own_scan / "depth/0.png").write_bytes(content)
    refused(own_scan, r"depth/0\.png: ")


def test_depth_without_a_single_reading(own_scan):
    for file in (own_scan / "depth").iterdir():
        Image.fromarray(np.zeros(box_room.IMAGE_SIZE, dtype=np.uint16)).save(file)
    refused(own_scan, r"room/depth: none of the 10 depth images looked at has a reading")


def test_depth_arrays_in_metres(own_scan):
    for file in list((own_scan / "depth").iterdir()):
        np.save(file.with_suffix(".npy"), np.asarray(Image.open(file)) / 1000)
        file.unlink()
    scene = open_scene(own_scan)
    np.testing.assert_allclose(
        # stored in whole millimetres
        scene.frames[2].depth(),
        box_room.depth_of(box_room.poses(10)[2]),
        atol=1e-3,
    )


def test_an_empty_or_broken_surface(own_scan):
    write_ply(own_scan / "cloud.ply", torch.zeros(0, 3))
    refused(own_scan, r"cloud\.ply: has no points, expected a mesh or cloud")
    (own_scan / "cloud.ply").write_bytes(b"ply\nformat ascii 1.0\n")
    refused(own_scan, r"cloud\.ply: its header has no 'end_header' line")
    write_ply(own_scan / "cloud.ply", torch.full((5, 3), float("nan")))
    refused(own_scan, "5 of 5 points are not finite")


def test_a_surface_given_by_name_is_taken(own_scan):
    points = read_ply(own_scan / "cloud.ply").points
    normals = torch.nn.functional.normalize(points + 1, dim=1)
    write_ply(own_scan / "fine.ply", points[::2], normals=normals[::2])
    scene = open_scene(own_scan, surface_file="fine.ply")
    assert torch.equal(scene.points, points[::2])
    torch.testing.assert_close(scene.normals, normals[::2])
    refused(
        own_scan,
        r"none\.ply: no such file; correct or remove the setting `surface_file`",
        surface_file="none.ply",
    )


def test_a_folder_that_is_no_scan(tmp_path):
    refused(tmp_path / "none", r"none: no such folder; check the path")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "is a file, expected the folder of a scan")
    refused(tmp_path, r"looked for .*scene\.json .*; color/ depth/ pose/ .*; found file; arrange")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "found nothing")
    assert not is_scene_folder(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depthscale": 1.0}, "unknown scene setting 'depthscale', did you mean 'depth_scale'"),
        ({"depth_scale": 0.0}, "depth_scale is 0.0, expected counts per metre"),
        ({"up_axis": "x"}, "up_axis is 'x', expected one of z, y, -y"),
        ({"frame_step": 0}, "frame_step is 0"),
        (
            {"pose_convention": "world2cam"},
            "unknown pose_convention 'world2cam', did you mean 'world_to_camera'",
        ),
        ({"fuse_voxel_size": -1.0}, "fuse_voxel_size is -1.0"),
    ],
)
def test_settings_are_checked(scan, settings, message):
    with pytest.raises(ConfigError, match=message):
        open_scene(scan, **settings)


def test_stored_and_opened_again_a_scan_is_the_same(scan, tmp_path):
    scene = open_scene(scan)
    write_scene(scene, tmp_path / "stored")
    assert is_scene_folder(scan)
    assert is_scene_folder(tmp_path / "stored")
    back = open_scene(tmp_path / "stored")
    assert torch.equal(back.points, scene.points)
    assert back.provenance == scene.provenance
    for before, after in zip(scene.frames, back.frames, strict=True):
        assert torch.equal(before.image(), after.image())
        assert torch.equal(before.depth(), after.depth())


@pytest.fixture
def capture(data_root):
    folder = data_root / "rgbd_frames"
    if not (folder / "mesh.ply").is_file():
        pytest.skip(f"no real capture with a mesh at {folder}")
    return folder


def test_a_real_capture_opens_and_its_mesh_lies_on_its_depth(capture):
    scene = open_scene(capture)
    names = [frame.name for frame in scene.frames]
    assert len(names) == len(list((capture / "color").iterdir()))
    assert names == sorted(names, key=int)
    assert scene.faces is not None
    assert scene.colors is not None
    views = [DepthView(f.depth(), f.intrinsics, f.camera_to_world) for f in scene.frames[::8]]
    found = measure_agreement(views, scene.points)
    assert found.fraction > 0.95
    assert found.coverage > 0.9
    # far below 1.1, the mildest wrong scale that has to be told apart
    assert found.ratio == pytest.approx(1, abs=0.03)


def test_a_real_capture_without_its_mesh_gives_a_cloud_near_the_mesh(capture, tmp_path):
    folder = tmp_path / "capture"
    folder.mkdir()
    for part in capture.iterdir():
        if part.suffix != ".ply":
            (folder / part.name).symlink_to(part)
    scene = open_scene(folder, frame_step=2)
    mesh = read_ply(capture / "mesh.ply").points
    to_mesh, _ = cKDTree(mesh).query(scene.points)
    to_cloud, _ = cKDTree(scene.points).query(mesh)
    assert np.median(to_mesh) < 0.03  # metres; the mesh has 2 to 3 cm between vertices
    assert np.mean(to_mesh < 0.1) > 0.9
    assert np.mean(to_cloud < 0.1) > 0.85


@pytest.mark.parametrize("poses", [name for name in POSE_CONVENTIONS if name != "camera_to_world"])
def test_a_real_capture_read_with_wrong_poses_is_refused(capture, poses):
    refused(capture, "; set `pose_convention: camera_to_world`", pose_convention=poses)
