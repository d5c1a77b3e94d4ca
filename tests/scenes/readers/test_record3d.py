"""Record3D exports: ARKit poses, small depth, a matrix by columns."""

from __future__ import annotations

import json
import shutil
import struct
import sys
import types

import numpy as np
import pytest
import torch

from pcdistill.errors import MissingExtraError, SceneError
from pcdistill.scenes import write_ply
from pcdistill.scenes.formats.exr import read_exr_depth, read_exr_size
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers import record3d
from pcdistill.scenes.readers.detection import DetectedScan, open_scan
from pcdistill.scenes.readers.record3d import find_record3d
from tests.fixtures import box_room, user_captures


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return user_captures.write_record3d(tmp_path_factory.mktemp("r3d") / "room")


@pytest.fixture
def capture(written, tmp_path):
    shutil.copytree(written, tmp_path / "room")
    return tmp_path / "room"


def read(folder, **settings):
    (scan,) = find_record3d(folder)
    settings = {"fuse_voxel_size": 0.1} | settings
    return open_scan(DetectedScan("record3d", scan), ReaderSettings(**settings))


def refused(folder, message, **settings):
    with pytest.raises(SceneError, match=message) as caught:
        read(folder, **settings)
    assert "\n" not in str(caught.value)


def edit(folder, **changes):
    file = folder / "metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("depth", ["exr", "png", "blob"])
def test_poses_depth_and_camera_are_those_that_were_written(tmp_path, depth):
    scene = read(user_captures.write_record3d(tmp_path / "room", depth=depth), fuse_voxel_size=0.1)
    assert [frame.name for frame in scene.frames] == [str(i) for i in range(8)]
    for frame, pose in zip(scene.frames, box_room.poses(8), strict=True):
        # float64 of JSON numbers with all their digits
        np.testing.assert_allclose(frame.camera_to_world, pose, atol=1e-9)
        np.testing.assert_array_equal(frame.intrinsics, box_room.INTRINSICS)
        error = np.abs(frame.depth().numpy() / box_room.depth_of(pose) - 1)
        assert np.quantile(error, 0.95) < 0.03  # half a depth pixel on a slanted wall
        assert float((frame.depth() > 0).float().mean()) > 0.95
    walls = np.stack([scene.points, torch.from_numpy(box_room.SIZE).float() - scene.points])
    assert np.quantile(np.abs(walls).min(axis=(0, 2)), 0.9) < 0.05


def test_focus_that_changes(capture):
    each = [[60.0 + i, 60.0 + i, 39.5, 29.5] for i in range(8)]
    edit(capture, perFrameIntrinsicCoeffs=each)
    write_ply(
        capture / "walls.ply",
        torch.from_numpy(box_room.wall_points() @ user_captures.Y_UP[:3, :3].T),
    )
    scene = read(capture, surface_file="walls.ply")
    assert [float(frame.intrinsics[0, 0]) for frame in scene.frames] == [60.0 + i for i in range(8)]
    assert len(scene.points) == len(box_room.wall_points())
    # float32 at a few metres
    np.testing.assert_allclose(scene.points, box_room.wall_points(), atol=1e-6)


def test_a_cloud_of_another_size_is_refused(capture):
    walls = 0.5 * box_room.wall_points() @ user_captures.Y_UP[:3, :3].T
    write_ply(capture / "walls.ply", torch.from_numpy(walls))
    refused(capture, r"with walls\.ply: .* the surface", surface_file="walls.ply")


def test_frames_without_depth_or_pose_are_left_out(capture):
    (capture / "depth/3.exr").unlink()
    edit(capture, poses=json.loads((capture / "metadata.json").read_text())["poses"][:7])
    scene = read(capture)
    assert [frame.name for frame in scene.frames] == ["0", "1", "2", "4", "5", "6"]
    assert scene.provenance["skipped_frames"] == 2


@pytest.fixture
def packed(tmp_path):
    """A capture whose first depth is compressed, the depth, and its file."""
    lzfse = pytest.importorskip("lzfse", reason="lzfse is not installed (extra record3d)")
    folder = user_captures.write_record3d(tmp_path / "room", depth="blob")
    file = folder / "rgbd/0.depth"
    raw = file.read_bytes()
    file.write_bytes(lzfse.compress(raw))
    assert len(file.read_bytes()) != len(raw)
    return folder, raw, file


def test_compressed_depth_is_that_which_was_compressed(packed):
    folder, raw, _ = packed
    frame = read(folder).frames[0]
    expected = np.frombuffer(raw, "<f4").reshape(30, 40)
    stored = record3d._read_blob(frame.depth_path, (30, 40))
    np.testing.assert_array_equal(stored, np.where(expected > 0, expected, 0))
    assert float(frame.depth().max()) == expected.max()


def test_compressed_depth_names_what_to_install(packed, monkeypatch):
    monkeypatch.setitem(sys.modules, "lzfse", None)
    with pytest.raises(MissingExtraError, match=r"pcdistill\[record3d\].*EXR \+ RGB"):
        read(packed[0])


def test_compressed_depth_that_is_damaged(packed):
    folder, _, file = packed
    content = file.read_bytes()
    file.write_bytes(content[:-50])
    refused(folder, r"0\.depth: (has a block of|ends within a block)")
    file.write_bytes(content[:60] + bytes(40) + content[100:])
    refused(folder, r"0\.depth: .*it is damaged, export the capture again")
    file.write_bytes(b"garbage")
    refused(folder, r"holds 7 bytes, expected 4800 of raw depth \(40 x 30 float32\), or LZFSE")


def test_compressed_depth_of_another_size_is_not_expanded(packed, monkeypatch):
    folder, raw, file = packed
    package = types.ModuleType("lzfse")
    package.decompress = lambda content: pytest.fail("expanded")
    monkeypatch.setitem(sys.modules, "lzfse", package)
    stored = b"bvx-" + struct.pack("<I", len(raw) - 4) + raw[:-4] + b"bvx$"
    file.write_bytes(stored)
    refused(folder, r"0\.depth: holds 4796 bytes, expected 40 x 30 float32")
    bomb = b"bvxn" + struct.pack("<II", 4_000_000_000, 4) + b"\x06\0\0\0" + b"bvx$"
    file.write_bytes(bomb)
    refused(folder, r"0\.depth: holds 4000000000 bytes")
    for broken in (b"bvx2" + bytes(100), b"bvx9" + bytes(100), b"bvx-", b"bvxn" + b"\xff" * 20):
        file.write_bytes(broken)
        refused(folder, r"0\.depth: (has a block of|ends within a block)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poses": []}, "has no list 'poses'"),
        ({"poses": [[0, 0, 0, 1, 0, 0, 0]] * 8}, "as from the selfie camera"),
        ({"poses": [[0, 0, 0, 1, 0, 0]] * 8}, "pose 0 is .*expected 7 numbers"),
        ({"poses": [[0, 0, 0, 0, 0, 0, 0]] * 8}, "none of the 8 frames"),
        ({"poses": [[10**400, 0, 0, 1, 0, 0, 0]]}, "a number too large"),
        ({"K": [1, 2]}, "K is .*expected 9 numbers"),
        ({"K": [60, 0, 39.5, 0, 60, 29.5, 0, 0, 1]}, "is no camera matrix"),
        (
            {"K": [60, 0, 0, 0, 60, 0, 320, 240, 1]},
            "principal point is that of images of about 640",
        ),
        ({"w": "80"}, "'w' is 80"),
        ({"w": 60, "h": 80}, r"0\.jpg: is 80 x 60 pixels, metadata\.json has a camera for 60 x 80"),
    ],
)
def test_bad_metadata(capture, changes, message):
    edit(capture, **changes)
    refused(capture, message)


def test_metadata_for_larger_images_is_scaled(capture):
    edit(capture, w=160, h=120, K=[120, 0, 0, 0, 120, 0, 79.5, 59.5, 1])
    expected = box_room.INTRINSICS.copy()
    expected[:2, 2] = 39.5, 29.5
    np.testing.assert_allclose(read(capture).frames[0].intrinsics, expected)


@pytest.mark.parametrize("compression", ["none", "RLE", "ZIPS", "ZIP"])
@pytest.mark.parametrize("kind", ["<f2", "<f4"])
def test_depth_of_exr_images(tmp_path, compression, kind):
    depth = box_room.depth_of(box_room.poses(3)[1])[:37, :53]
    depth[3:20, 5:30] = 1.5
    depth[5, 5], depth[6, 6] = np.nan, -1
    (tmp_path / "a.exr").write_bytes(user_captures.exr(depth, compression, kind=kind))
    expected = depth.astype(kind).astype(np.float32)
    expected[5, 5] = expected[6, 6] = 0
    assert read_exr_size(tmp_path / "a.exr") == (37, 53)
    np.testing.assert_array_equal(read_exr_depth(tmp_path / "a.exr"), expected)


def test_exr_images_that_are_not_read(tmp_path):
    content = user_captures.exr(np.ones((4, 4)), "none")
    for change, message in [
        (content[:6], "does not begin like an OpenEXR image"),
        (content[:40], "ends within its header|header without end|an attribute"),
        (content[:-1], "has a block of 16 bytes"),
        (content[:4] + b"\x02\x02" + content[6:], "is a tiled, deep or multi-part"),
    ]:
        (tmp_path / "a.exr").write_bytes(change)
        with pytest.raises(SceneError, match=message):
            read_exr_depth(tmp_path / "a.exr")
