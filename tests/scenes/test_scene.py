"""What a scene and its frames accept, and how they refuse the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pcdistill.errors import SceneError
from pcdistill.scenes import Frame, MemoryFrame, Scene, StoredFrame
from pcdistill.scenes.frames import register_depth
from tests.fixtures import box_room

EYE3 = torch.eye(3, dtype=torch.float64)
EYE4 = torch.eye(4, dtype=torch.float64)


def frame(name="a", **changes):
    fields = {
        "intrinsics": EYE3,
        "camera_to_world": EYE4,
        "pixels": torch.zeros(2, 3, 3, dtype=torch.uint8),
    }
    return MemoryFrame(name, **(fields | changes))


def test_a_scene_knows_its_bounds_and_frames():
    scene = Scene("s", torch.tensor([[0.0, 1, 2], [3, -1, 5]]), frames=(frame(),))
    low, high = scene.bounds
    assert low.tolist() == [0, -1, 2]
    assert high.tolist() == [3, 1, 5]
    assert isinstance(scene.frames[0], Frame)
    assert scene.frames[0].image_size == (2, 3)
    assert scene.frames[0].depth() is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": torch.zeros(3, 2)}, r"points are \(3, 2\) float32, expected \(3, 3\)"),
        ({"points": torch.zeros(3, 3).double()}, "float64, expected .* float32"),
        ({"colors": torch.zeros(2, 3, dtype=torch.uint8)}, r"colors are \(2, 3\)"),
        ({"normals": torch.zeros(3, 3, dtype=torch.int64)}, "normals are"),
        ({"labels": torch.zeros(3, dtype=torch.int32)}, "labels are .* expected .* int64"),
        ({"instances": torch.zeros(3)}, "instances are"),
        ({"faces": torch.zeros(1, 4, dtype=torch.int64)}, r"faces are \(1, 4\)"),
        ({"frames": [frame()]}, "not a tuple"),
        ({"name": ""}, "needs a name"),
    ],
)
def test_shapes_and_dtypes_are_a_contract(changes, message):
    fields = {"name": "s", "points": torch.zeros(3, 3)} | changes
    with pytest.raises(ValueError, match=message):
        Scene(**fields)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": torch.zeros(0, 3)}, "scene s: has no points, expected at least one"),
        ({"frames": (frame(), frame())}, "2 frames are named a, expected a name of its own"),
        (
            {"points": torch.tensor([[0.0, 0, float("nan")], [0, 0, 0]])},
            "1 of 2 points are not finite",
        ),
        ({"faces": torch.tensor([[0, 1, 3]])}, "faces use points 0 to 3, the scene has .* 0 to 2"),
        ({"faces": torch.tensor([[0, 1, -1]])}, "faces use points -1 to 1"),
        ({"labels": torch.tensor([0, -2, 2])}, "a label is -2"),
    ],
)
def test_senseless_values_are_the_scenes_fault(changes, message):
    fields = {"name": "s", "points": torch.zeros(3, 3)} | changes
    with pytest.raises(SceneError, match=message):
        Scene(**fields)


@pytest.mark.parametrize(
    ("pose", "message"),
    [
        (torch.diag(torch.tensor([2.0, 2, 2, 1])), "the pose is not rigid"),
        (torch.diag(torch.tensor([1.0, 1, -1, 1])), "determinant -1"),
        (torch.full((4, 4), float("nan")), "numbers that are not finite"),
        (torch.eye(4).index_fill(0, torch.tensor([3]), 0.5), "the pose is not rigid"),
    ],
)
def test_poses_must_be_rigid(pose, message):
    with pytest.raises(SceneError, match=message):
        frame(camera_to_world=pose.double())


def test_rounded_poses_are_rigid_enough():
    pose = torch.from_numpy(box_room.poses(5)[1]).round(decimals=3)
    assert frame(camera_to_world=pose).camera_to_world is pose


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"intrinsics": torch.eye(4).double()}, ValueError, r"intrinsics is \(4, 4\)"),
        ({"camera_to_world": torch.eye(4)}, ValueError, "float32, expected .* float64"),
        ({"intrinsics": -EYE3}, SceneError, "positive focal lengths"),
        ({"pixels": torch.zeros(2, 3, 3)}, ValueError, r"expected \(H, W, 3\) uint8"),
        ({"depth_pixels": torch.zeros(3, 2)}, ValueError, r"expected \(2, 3\) float32"),
    ],
)
def test_memory_frames_check_what_they_hold(changes, error, message):
    with pytest.raises(error, match=message):
        frame(**changes)


def test_stored_frames_read_when_asked(tmp_path):
    color = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    depth = np.array([[0, 1500, 65535, 1, 2]] * 4, dtype=np.uint16)
    stored = StoredFrame(
        "x", (4, 5), EYE3, EYE4, tmp_path / "x.png", tmp_path / "d.png", depth_scale=500
    )
    with pytest.raises(SceneError, match=r"x\.png: cannot be read .*No such file"):
        stored.image()
    Image.fromarray(color).save(tmp_path / "x.png")
    Image.fromarray(depth).save(tmp_path / "d.png")
    assert np.array_equal(stored.image(), color)
    depth[:, 2] = 0  # the largest number is no reading
    torch.testing.assert_close(stored.depth(), torch.from_numpy(depth / 500).float())
    Image.fromarray(color[:3]).save(tmp_path / "x.png")
    with pytest.raises(SceneError, match=r"is 5 x 3 pixels, the camera matrix is for 5 x 4"):
        stored.image()
    Image.fromarray(color).save(tmp_path / "d.png")
    with pytest.raises(SceneError, match=r"d\.png: is a 'RGB' image.* one channel of 16 bits"):
        stored.depth()


def test_depth_arrays_are_metres_and_unknown_is_zero(tmp_path):
    values = np.array([[1.5, np.nan], [-1, np.inf]])
    stored = StoredFrame("x", (2, 2), EYE3, EYE4, tmp_path / "x.png", tmp_path / "d.npy")
    np.save(tmp_path / "d.npy", values)
    assert stored.depth().tolist() == [[1.5, 0], [0, 0]]
    np.save(tmp_path / "d.npy", np.array([[1500, 0], [0, 250]]))  # integers are counts
    assert stored.depth().tolist() == [[1.5, 0], [0, 0.25]]
    np.save(tmp_path / "d.npy", values[0])
    with pytest.raises(SceneError, match=r"d\.npy: holds float64 \(2,\), a depth array"):
        stored.depth()
    np.save(tmp_path / "d.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(SceneError, match=r"d\.npy: cannot be decoded"):
        stored.depth()


def test_depth_of_another_camera_is_looked_up_along_the_rays():
    """The same wall seen by a depth camera of other size and focal length."""
    pose = box_room.poses(7)[3]
    own = np.array([[45.0, 0, 30.0], [0, 47.0, 20.0], [0, 0, 1]])
    seen = torch.from_numpy(box_room.depth_of(pose, own, (41, 61))).float()
    registered = register_depth(
        seen, torch.from_numpy(own), torch.from_numpy(box_room.INTRINSICS), box_room.IMAGE_SIZE
    )
    expected = torch.from_numpy(box_room.depth_of(pose)).float()
    known = registered > 0
    assert 0.7 < float(known.float().mean()) < 1  # the depth camera sees less to the sides
    # half a depth pixel, 1/90 of the depth, on walls seen at up to 70 degrees
    torch.testing.assert_close(registered[known], expected[known], rtol=0.04, atol=0)
