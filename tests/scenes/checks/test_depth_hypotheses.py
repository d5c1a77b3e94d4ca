"""Numbers in depth files that are no readings: largest numbers, sentinels, the end of a range."""

from __future__ import annotations

import json
import logging
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from pcdistill.scenes import open_scene
from pcdistill.scenes.checks.depth_limits import within_limit
from pcdistill.scenes.formats.exr import read_exr_depth
from pcdistill.scenes.formats.images import read_depth
from pcdistill.scenes.frames import StoredFrame
from pcdistill.scenes.readers.colmap.model import read_depth_map
from tests.fixtures import (
    box_room,
    matterport_replica,
    scannet,
    scannetpp_arkitscenes,
    user_captures,
)
from tests.tolerances import FLOAT32, MILLIMETRE

METRES = np.array([[1.5, 2.0, 2.5], [3.0, 3.5, 4.0]])
HOLES = (slice(0, 1), slice(1, 3))  # of METRES


EXPECTED = METRES.copy()
EXPECTED[HOLES] = 0


@pytest.mark.parametrize(
    ("dtype", "largest"),
    [
        ("uint8", 255),
        ("uint16", 65535),
        ("int16", 32767),
        ("int32", 2**31 - 1),
        ("uint32", 2**32 - 1),
    ],
)
def test_the_largest_integer_is_no_reading(tmp_path, dtype, largest):
    scale = 50.0
    counts = (METRES * scale).astype(dtype)
    counts[HOLES] = largest
    np.save(tmp_path / "d.npy", counts)
    depth = read_depth(tmp_path / "d.npy", depth_scale=scale)
    np.testing.assert_allclose(depth, EXPECTED, atol=FLOAT32)
    if dtype in ("uint8", "uint16"):
        Image.fromarray(counts).save(tmp_path / "d.png")
        depth = read_depth(tmp_path / "d.png", depth_scale=scale)
        np.testing.assert_allclose(depth, EXPECTED, atol=FLOAT32)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
@pytest.mark.parametrize(
    "sentinel", [np.nan, np.inf, -np.inf, -1, 0, 1e4, 65504, 65535, "largest", 1e10, 3.4e38]
)
def test_sentinels_of_floating_point_depth(tmp_path, dtype, sentinel):
    values = METRES.astype(dtype)
    with np.errstate(over="ignore"):
        values[HOLES] = np.finfo(dtype).max if sentinel == "largest" else sentinel
    np.save(tmp_path / "d.npy", values)
    np.testing.assert_allclose(
        read_depth(tmp_path / "d.npy", depth_scale=1), EXPECTED, atol=FLOAT32
    )
    if dtype != "<f8":
        (tmp_path / "d.exr").write_bytes(user_captures.exr(values, "ZIP", kind=dtype))
        np.testing.assert_allclose(read_exr_depth(tmp_path / "d.exr"), EXPECTED, atol=FLOAT32)
    with np.errstate(over="ignore"):
        single = values.astype("<f4")
    (tmp_path / "d.bin").write_bytes(b"3&2&1&" + single.tobytes())
    np.testing.assert_allclose(read_depth_map(tmp_path / "d.bin"), EXPECTED, atol=FLOAT32)


@pytest.mark.parametrize("value", [65504, 1e10])
def test_an_image_without_any_reading(tmp_path, value):
    np.save(tmp_path / "d.npy", np.full((2, 3), value, dtype="<f4"))
    assert not read_depth(tmp_path / "d.npy", depth_scale=1).any()


@pytest.mark.parametrize("metres", [0.2, 3.0, 80.0, 900.0])
def test_ordinary_distances_stay(tmp_path, metres):
    far = np.full((4, 5), metres, dtype="<f4")
    np.save(tmp_path / "wall.npy", far)
    assert torch.equal(read_depth(tmp_path / "wall.npy", depth_scale=1), torch.from_numpy(far))
    far[:3] = 1.0  # through a door
    np.save(tmp_path / "door.npy", far)
    assert torch.equal(read_depth(tmp_path / "door.npy", depth_scale=1), torch.from_numpy(far))


def spoiled(files, value, fraction=4):
    """Every so many pixels say that nothing was seen."""
    for file in files:
        counts = np.array(Image.open(file))
        counts.ravel()[::fraction] = value
        Image.fromarray(counts).save(file)


CAPTURES = {
    "rgbd": (box_room.write_scan, "depth/*.png"),
    "tum": (user_captures.write_tum, "depth/*.png"),
    "nerfstudio": (user_captures.write_nerfstudio, "depths/*.png"),
    "record3d": (lambda folder: user_captures.write_record3d(folder, depth="png"), "depth/*.png"),
    "scannetpp": (
        lambda folder: scannetpp_arkitscenes.write_scannetpp(folder, dslr=False),
        "iphone/depth/*.png",
    ),
    "arkitscenes": (
        lambda folder: scannetpp_arkitscenes.write_arkitscenes(
            folder / scannetpp_arkitscenes.VIDEO
        ),
        "*/lowres_depth/*.png",
    ),
    "matterport": (matterport_replica.write_house, "scans/*/undistorted_depth_images/*.png"),
}


@pytest.mark.parametrize("name", CAPTURES)
def test_every_reader_takes_65535_like_0(tmp_path, name):
    write, files = CAPTURES[name]
    depth = []
    for value in (0, 65535):
        folder = tmp_path / str(value) / "room"
        write(folder)
        spoiled(folder.glob(files), value)
        settings = {"fuse_voxel_size": 0.1} if name in ("rgbd", "tum", "record3d") else {}
        depth.append([frame.depth() for frame in open_scene(folder, **settings).frames])
    for zero, largest in zip(*depth, strict=True):
        assert torch.equal(zero, largest)
        assert float(zero.max()) < 8


def test_scannets_own_files_take_65535_like_0(tmp_path):
    depth = []
    for value in (0, 65535):
        frames = []
        for pose, color, packed in scannet.room_frames():
            counts = np.frombuffer(zlib.decompress(packed), "<u2").copy()
            counts[::4] = value
            frames.append((pose, color, zlib.compress(counts.tobytes())))
        scan = scannet.write_scannet(tmp_path / str(value))
        (scan / f"{scan.name}.sens").write_bytes(scannet.sens_bytes(frames))
        depth.append([frame.depth() for frame in open_scene(scan).frames])
    for zero, largest in zip(*depth, strict=True):
        assert torch.equal(zero, largest)


def clipped(folder, limit, step=None):
    """A capture whose depth ends at a limit (mm); every so many pixels too."""
    for file in (folder / "depth").iterdir():
        counts = np.array(Image.open(file))
        counts[counts > limit] = limit
        if step:
            counts.ravel()[::step] = limit
        Image.fromarray(counts).save(file)


@pytest.mark.parametrize(("limit", "step"), [(2500, None), (10000, 20), (65534, 20), (8191, 7)])
def test_the_end_of_a_sensors_range_is_no_reading(tmp_path, caplog, limit, step):
    folder = box_room.write_scan(tmp_path / "room")
    clipped(folder, limit, step)
    with caplog.at_level(logging.WARNING):
        scene = open_scene(folder)
    assert f"ends at exactly {limit / 1000:.5g} m" in caplog.text
    for frame, pose in zip(scene.frames, box_room.poses(10), strict=True):
        depth, truth = frame.depth().numpy(), box_room.depth_of(pose)
        known = depth > 0
        assert known.any()
        np.testing.assert_allclose(depth[known], truth[known], atol=MILLIMETRE)
        assert (~known)[truth >= limit / 1000].all()


def test_an_end_in_the_floats_of_a_renderer(tmp_path):
    folder = user_captures.write_nerfstudio(tmp_path / "room")
    content = json.loads((folder / "transforms.json").read_text())
    for i, entry in enumerate(content["frames"]):
        metres = box_room.depth_of(box_room.poses(8)[i])
        metres.ravel()[::9] = 100.0
        np.save(folder / f"depths/{i}.npy", metres)
        entry["depth_file_path"] = f"depths/{i}.npy"
    (folder / "transforms.json").write_text(json.dumps(content))
    assert all(float(frame.depth().max()) < 8 for frame in open_scene(folder).frames)


def frames_of(tmp_path, depths, poses):
    frames = []
    for i, (depth, pose) in enumerate(zip(depths, poses, strict=True)):
        np.save(tmp_path / f"{i}.npy", depth)
        frames.append(
            StoredFrame(
                str(i),
                depth.shape,
                torch.from_numpy(box_room.INTRINSICS),
                torch.from_numpy(pose),
                tmp_path / "x.png",
                tmp_path / f"{i}.npy",
            )
        )
    return frames


def test_real_walls_are_no_end(tmp_path):
    ahead = box_room.look(np.array([2.0, 2.0, 1.2]), np.array([5.0, 2.0, 1.2]))
    beside = [ahead.copy() for _ in range(4)]
    for step, pose in enumerate(beside):
        pose[1, 3] += 0.1 * step
    along = [box_room.depth_of(pose) for pose in beside]  # one wall, ever as far away
    whole = [
        np.full(box_room.IMAGE_SIZE, 2.0) for _ in range(4)
    ]  # the middle of a cube, all around
    around = [box_room.look(np.zeros(3), np.array([np.cos(a), np.sin(a), 0])) for a in range(4)]
    turning = box_room.poses(8)
    for depths, poses in (
        (along, beside),
        (whole, around),
        ([box_room.depth_of(pose) for pose in turning], turning),
    ):
        frames = frames_of(tmp_path, depths, poses)
        assert all(frame.farthest == np.inf for frame in within_limit(tmp_path, frames))
