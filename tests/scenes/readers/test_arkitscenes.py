import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation, Slerp

from pcdistill.errors import ConfigError, SceneError
from pcdistill.scenes import find_scans, open_scene
from tests.fixtures import box_room, scannetpp_arkitscenes, user_captures
from tests.tolerances import FLOAT32_SUMS, FLOAT64, FLOAT64_EXACT


@pytest.fixture
def scan(tmp_path):
    return scannetpp_arkitscenes.write_arkitscenes(
        tmp_path / "raw/Training" / scannetpp_arkitscenes.VIDEO
    )


def rewrite(file, change):
    file.write_text("\n".join(change(line) for line in file.read_text().splitlines()))


def test_a_scan_has_its_mesh_and_posed_frames_with_depth(scan):
    scene = open_scene(scan)
    assert scene.name == scannetpp_arkitscenes.VIDEO
    assert torch.equal(scene.points, torch.from_numpy(box_room.wall_points()).float())
    assert scene.faces is not None
    assert scene.provenance["reader"] == "arkitscenes"
    for frame, pose in zip(scene.frames, box_room.poses(6), strict=True):
        torch.testing.assert_close(
            frame.camera_to_world, torch.from_numpy(pose), rtol=0, atol=FLOAT64
        )
        torch.testing.assert_close(
            frame.intrinsics,
            torch.from_numpy(scannetpp_arkitscenes.HALF),
            rtol=0,
            atol=FLOAT64_EXACT,
        )
        assert frame.image_size == scannetpp_arkitscenes.SMALL
        truth = box_room.depth_of(pose, scannetpp_arkitscenes.HALF, scannetpp_arkitscenes.SMALL)
        assert np.abs(frame.depth().numpy() - truth).max() <= 0.0005 + 1e-6


def test_sharper_images_are_taken_and_depth_is_looked_up_for_them(tmp_path):
    scannetpp_arkitscenes.write_arkitscenes(tmp_path / "47", colors="vga_wide")
    (tmp_path / "47/lowres_wide").mkdir()
    scene = open_scene(tmp_path / "47")
    assert scene.provenance["images"] == "vga_wide"
    frame = scene.frames[2]
    assert frame.image_size == box_room.IMAGE_SIZE
    truth = box_room.depth_of(box_room.poses(6)[2])
    assert np.median(np.abs(frame.depth().numpy() - truth)) < 0.02


@pytest.mark.parametrize(
    "place", ["raw", "raw/Training", f"raw/Training/{scannetpp_arkitscenes.VIDEO}"]
)
def test_scans_are_found_from_any_height(scan, tmp_path, place):
    (found,) = find_scans(tmp_path / place)
    assert (found.name, found.folder) == (scannetpp_arkitscenes.VIDEO, scan)


def test_the_layout_of_3dod_is_read_too(scan, tmp_path):
    folder = tmp_path / "3dod/Validation/48"
    frames = folder / "48_frames"
    folder.mkdir(parents=True)
    scan.rename(frames)
    (frames / f"{scannetpp_arkitscenes.VIDEO}_3dod_mesh.ply").rename(folder / "48_3dod_mesh.ply")
    for place in (folder, frames, tmp_path / "3dod"):
        scene = open_scene(place)
        assert (scene.name, len(scene.frames)) == ("48", 6)
        assert scene.provenance["surface"] == "48_3dod_mesh.ply"


def test_a_pose_lies_between_its_neighbors_in_time(scan):
    """Against SciPy's spherical interpolation."""
    first, last = box_room.poses(90)[:2]
    lines = []
    for time, pose in ((305.3, first), (305.5, last)):
        inverse = np.linalg.inv(pose)
        turn = Rotation.from_matrix(inverse[:3, :3]).as_rotvec()
        lines.append(f"{time} " + " ".join(repr(float(n)) for n in [*turn, *inverse[:3, 3]]))
    (scan / "lowres_wide.traj").write_text("\n".join(lines))
    (scan / f"{scannetpp_arkitscenes.VIDEO}_3dod_mesh.ply").unlink()
    scannetpp_arkitscenes.write_mesh(scan / "walls.ply")
    (frame,) = open_scene(scan, surface_file="walls.ply").frames
    fraction = (305.377 - 305.3) / 0.2
    turns = Rotation.from_matrix(np.stack([first[:3, :3], last[:3, :3]]))
    pose = frame.camera_to_world.numpy()
    np.testing.assert_allclose(
        pose[:3, :3], Slerp([0, 1], turns)(fraction).as_matrix(), atol=FLOAT32_SUMS
    )
    center = first[:3, 3] * (1 - fraction) + last[:3, 3] * fraction
    np.testing.assert_allclose(pose[:3, 3], center, atol=FLOAT64)


def test_images_without_pose_camera_or_depth_are_left_out_and_counted(scan):
    lines = (scan / "lowres_wide.traj").read_text().splitlines()
    lines[0] = lines[0].split()[0] + " nan nan nan 0 0 0"  # before the first image
    (scan / "lowres_wide.traj").write_text("\n".join(lines[:10]))  # none around the last image
    sorted((scan / "lowres_wide_intrinsics").iterdir())[2].unlink()
    sorted((scan / "lowres_depth").iterdir())[3].unlink()
    scene = open_scene(scan)
    assert len(scene.frames) == 2
    assert scene.provenance["skipped_frames"] == 4
    assert scene.provenance["frames_without_pose"] == 2
    assert scene.provenance["frames_without_file"] == 2


def test_without_a_mesh_depth_is_fused(tmp_path):
    folder = scannetpp_arkitscenes.write_arkitscenes(tmp_path / "49", count=24, mesh=False)
    scene = open_scene(folder, fuse_voxel_size=0.1)
    assert scene.provenance["surface"] == "fused depth"
    away = torch.minimum(scene.points.abs(), (scene.points - torch.from_numpy(box_room.SIZE)).abs())
    assert away.amin(dim=1).median() < 0.03


def break_camera(scan):
    file = sorted((scan / "lowres_wide_intrinsics").iterdir())[0]
    file.write_text("40 30 30 30 19.5")


def break_trajectory(scan):
    rewrite(scan / "lowres_wide.traj", lambda line: " ".join(line.split()[:6]))


def take_camera_to_world(scan):
    poses = [np.linalg.inv(pose) for pose in box_room.poses(6)]
    lines = []
    for i, pose in enumerate(poses):
        inverse = np.linalg.inv(pose)
        turn = Rotation.from_matrix(inverse[:3, :3]).as_rotvec()
        motion = " ".join(f"{n:.9f}" for n in [*turn, *inverse[:3, 3]])
        lines += [f"{305.377 + i} {motion}"]
    (scan / "lowres_wide.traj").write_text("\n".join(lines))


def resize_images(scan):
    for file in (scan / "lowres_wide").iterdir():
        Image.open(file).resize((80, 60)).save(file)


def empty_depth(scan):
    for file in (scan / "lowres_depth").iterdir():
        Image.fromarray(np.zeros(scannetpp_arkitscenes.SMALL, np.uint16)).save(file)


def rename_image(scan):
    file = sorted((scan / "lowres_wide").iterdir())[0]
    file.rename(file.with_name("picture.png"))


def remove_depth(scan):
    for file in (scan / "lowres_depth").iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (break_camera, r"\.pincam: has 5 numbers, expected 6"),
        (break_trajectory, r"lowres_wide\.traj:1: has 6 numbers|traj:1: has 5 numbers"),
        (take_camera_to_world, r"3dod_mesh\.ply: the poses are world-to-camera"),
        (resize_images, r"is 80 x 60 pixels, .*pincam has a camera for 40 x 30"),
        (empty_depth, r"lowres_depth: none of the 6 depth images looked at has a reading"),
        (rename_image, r"picture\.png: has no time in its name, expected files VIDEO_TIME\.png"),
        (remove_depth, r"lowres_depth: has no \*\.png file"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(scan, harm, words):
    harm(scan)
    with pytest.raises(SceneError, match=words) as raised:
        open_scene(scan)
    assert "\n" not in str(raised.value)


def test_a_setting_without_meaning_is_refused(scan):
    with pytest.raises(ConfigError, match="`pose_convention` has no meaning"):
        open_scene(scan, pose_convention="world_to_camera")


def test_a_picture_is_the_files(scan):
    scene = open_scene(scan)
    expected = user_captures.picture(box_room.poses(6)[1]).resize((40, 30))
    assert np.array_equal(scene.frames[1].image().numpy(), np.asarray(expected))
