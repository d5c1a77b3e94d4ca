"""The .sens container: any frame without the others, and no byte too many."""

from __future__ import annotations

import hashlib
import re
import zlib

import numpy as np
import pytest
import torch

from pcdistill.errors import SceneError
from pcdistill.scenes.formats import sens
from pcdistill.scenes.formats.sens import open_sens
from tests.conftest import DATA, golden_cases, load_npz
from tests.fixtures import box_room, scannet
from tests.tolerances import FLOAT32

POSE = box_room.poses(1)[0]
SMALL = (6, 8)


def small_sens(path, frames, **changes):
    path.write_bytes(
        scannet.sens_bytes(
            frames,
            **{
                "color_kind": 0,
                "color_size": SMALL,
                "depth_size": SMALL,
                "color_camera": np.array([[8.0, 0, 3.5], [0, 8, 2.5], [0, 0, 1]]),
                "depth_camera": np.array([[8.0, 0, 3.5], [0, 8, 2.5], [0, 0, 1]]),
                **changes,
            },
        )
    )
    return path


def pixels(number):
    generator = np.random.default_rng(number)
    return (
        generator.integers(0, 256, (*SMALL, 3), dtype=np.uint8),
        generator.integers(0, 60_000, SMALL, dtype=np.uint16),
    )


def refused(path, message, number=None):
    with pytest.raises(SceneError, match=message) as caught:
        file = open_sens(path)
        if number is not None:
            file.color(file.records[number])
            file.depth_counts(file.records[number])
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("color_kind", "encode"), [(0, np.ndarray.tobytes), (1, scannet.png)])
@pytest.mark.parametrize(("depth_kind", "pack"), [(0, bytes), (1, zlib.compress)])
def test_lossless_images_come_back_as_written(tmp_path, color_kind, encode, depth_kind, pack):
    frames = [(POSE, encode(pixels(i)[0]), pack(pixels(i)[1].tobytes())) for i in range(5)]
    path = small_sens(tmp_path / "a.sens", frames, color_kind=color_kind, depth_kind=depth_kind)
    file = open_sens(path)
    assert file.frame_count == len(file.records) == 5
    for number in (4, 0, 2):  # in any order
        color, depth = pixels(number)
        np.testing.assert_array_equal(file.color(file.records[number]), color)
        np.testing.assert_array_equal(file.depth_counts(file.records[number]), depth)


def test_the_header_and_each_record(tmp_path):
    path = tmp_path / "a.sens"
    path.write_bytes(scannet.sens_bytes(scannet.room_frames(), depth_scale=2000))
    file = open_sens(path, frame_step=2)
    header = file.header
    assert header.sensor == "StructureSensor"
    assert (header.color_size, header.depth_size) == ((97, 131), (60, 80))
    assert (header.color_compression, header.depth_compression) == ("jpeg", "zlib_ushort")
    assert header.depth_scale == 2000
    # stored in float32
    np.testing.assert_allclose(header.color_intrinsics, scannet.COLOR_CAMERA, rtol=1e-7)
    assert file.frame_count == 6
    assert [record.number for record in file.records] == [0, 2, 4]
    assert file.records[1].times == (66_666, 66_673)
    np.testing.assert_allclose(file.records[2].camera_to_world, box_room.poses(6)[4], atol=FLOAT32)
    color = file.color(file.records[2]).numpy().astype(int)
    assert np.abs(color - scannet.color_pixels(4)).mean() < 3  # JPEG


def test_every_twentieth_of_5000_frames_reads_a_tenth(tmp_path, monkeypatch):
    """Bytes and decoded images are counted; one late frame alone decodes nothing else."""
    depth = zlib.compress(pixels(0)[1].tobytes())
    noise = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    frames = [(POSE, noise[i % 2].tobytes(), depth) for i in range(5000)]
    path = small_sens(
        tmp_path / "long.sens",
        frames,
        color_size=(40, 50),
        color_camera=np.array([[50.0, 0, 25], [0, 50, 20], [0, 0, 1]]),
    )
    counted = {"bytes": 0, "blobs": 0}

    def counting(stream, start, size):
        part = original(stream, start, size)
        counted["bytes"] += len(part)
        return part

    original = sens._read_at
    monkeypatch.setattr(sens, "_read_at", counting)

    def read(frame_step):
        counted["bytes"] = counted["blobs"] = 0
        file = open_sens(path, frame_step)
        for record in file.records:
            file.color(record)
            file.depth_counts(record)
            counted["blobs"] += 1
        return dict(counted)

    every, thinned = read(1), read(20)
    assert every["bytes"] > 0.99 * path.stat().st_size - 1000
    assert thinned["blobs"] == every["blobs"] / 20
    assert thinned["bytes"] <= every["bytes"] / 10
    file = open_sens(path)
    counted["bytes"] = 0
    assert torch.equal(file.color(file.records[1900]), torch.from_numpy(noise[0]))
    assert counted["bytes"] == noise[0].nbytes


def test_what_a_frame_reads_from_the_disk_is_what_was_counted(tmp_path):
    """The system's own count: no read-ahead of a buffer hides behind the seeks."""
    try:
        with open("/proc/self/io") as stream:
            stream.read()
    except OSError:
        pytest.skip("this system does not count what a process reads")

    def read_so_far():
        with open("/proc/self/io") as stream:
            return int(re.search(r"rchar: (\d+)", stream.read())[1])

    color = bytes(6 * 8 * 3)
    depth = zlib.compress(bytes(6 * 8 * 2))
    path = small_sens(tmp_path / "a.sens", [(POSE, color, depth)] * 2000)
    before = read_so_far()
    open_sens(path, 20)
    index_only = read_so_far() - before
    assert index_only < 2000 * 96 + 20_000 < path.stat().st_size


def test_occi_depth_is_refused_by_name(tmp_path):
    path = small_sens(tmp_path / "a.sens", [(POSE, b"", b"")], depth_kind=2)
    refused(path, "its depth is compressed as 'occi'.*expected zlib or raw; write it again")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 3}, "is version 3 of the .sens format"),
        ({"color_kind": 9}, r"declares colour compression 9, expected one of 0 \(raw\), 1 \(png\)"),
        ({"depth_kind": -1}, "declares depth compression -1"),
        ({"color_size": (0, 8)}, "declares colour images of 8 x 0 pixels"),
        ({"depth_size": (1 << 31, 1 << 31)}, "declares depth images of 2147483648 x 2147483648"),
        ({"depth_scale": 0.0}, "declares 0.0 depth units per metre"),
        ({"depth_scale": float("nan")}, "declares nan depth units per metre"),
        ({"count": 1 << 60}, "declares 1152921504606846976 frames, its .* bytes cannot hold them"),
        ({"count": 4}, "bytes after its 4 frames, expected the motion records"),
        ({"count": 2}, "bytes after its 2 frames, expected the motion records"),
        ({"color_camera": np.zeros((3, 3))}, "the colour camera matrix in its header is 0, 0"),
        (
            {"depth_to_color": np.zeros((4, 4))},
            "the depth extrinsics in its header are no rotation",
        ),
    ],
)
def test_a_wrong_header_is_named(tmp_path, changes, message):
    color, depth = pixels(0)
    frames = [(POSE, color.tobytes(), zlib.compress(depth.tobytes()))] * 3
    refused(small_sens(tmp_path / "a.sens", frames, **changes), message)


@pytest.mark.parametrize(
    ("color", "depth", "message"),
    [
        (b"\xff\xd8 no jpeg", None, "colour image of frame 1 cannot be decoded as JPEG"),
        (None, b"no stream", "depth image of frame 1 cannot be decompressed"),
        (None, zlib.compress(bytes(95)), "depth image of frame 1 has 95 bytes, expected 96"),
        (None, zlib.compress(bytes(10**6)), "depth image of frame 1 has more bytes, expected 96"),
        (None, zlib.compress(bytes(96))[:-2], "does not end with its checksum"),
        (scannet.jpeg(np.zeros((5, 8, 3), np.uint8)), None, "is 8 x 5 pixels, its header"),
        (scannet.png(np.zeros((6, 8, 3), np.uint8)), None, "cannot be decoded as JPEG"),
        (bytes(1 << 20), None, "frame 1 declares 1048576 bytes of colour"),
    ],
)
def test_a_damaged_image_is_named_with_its_frame(tmp_path, color, depth, message):
    good = (scannet.jpeg(pixels(0)[0]), zlib.compress(bytes(96)))
    bad = (good[0] if color is None else color, good[1] if depth is None else depth)
    path = small_sens(tmp_path / "a.sens", [(POSE, *good), (POSE, *bad)], color_kind=2)
    refused(path, message, number=1)


@pytest.mark.parametrize("kept", [0, 5, 12, 20, 300])
def test_a_file_cut_in_its_header(tmp_path, kept):
    path = small_sens(tmp_path / "a.sens", [(POSE, bytes(144), bytes(96))], depth_kind=0)
    path.write_bytes(path.read_bytes()[:kept])
    refused(path, "too few for a .sens file|ends inside its header")


def test_a_file_cut_in_a_frame(tmp_path):
    frames = [(POSE, bytes(144), bytes(96))] * 5
    path = small_sens(tmp_path / "a.sens", frames, depth_kind=0)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 400])
    refused(path, "ends inside frame 4 of the 5 its header declares")
    path.write_bytes(whole + b"more")
    refused(path, "bytes after its 5 frames")


def test_a_file_that_shrinks_after_it_was_opened(tmp_path):
    path = small_sens(tmp_path / "a.sens", [(POSE, bytes(144), bytes(96))] * 5, depth_kind=0)
    file = open_sens(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(SceneError, match="ends inside frame 4, it was whole when it was opened"):
        file.color(file.records[4])
    path.unlink()
    with pytest.raises(SceneError, match="a.sens: is missing"):
        file.color(file.records[0])


@pytest.mark.parametrize("case", golden_cases("preprocess/scannet_2d_*.npz"))
def test_every_frame_is_the_one_the_reference_read(case):
    name = case.stem.removeprefix("scannet_2d_")
    path = next(DATA.glob(f"*/scans/{name}/{name}.sens"), None)
    if path is None:
        pytest.skip(f"no {name}.sens below {DATA}")
    golden = load_npz(case)
    file = open_sens(path)
    header = file.header
    width, height, depth_width, depth_height = golden["sens_dims_wh_color_depth"].tolist()
    assert (header.color_size, header.depth_size) == ((height, width), (depth_height, depth_width))
    assert header.depth_scale == golden["sens_depth_shift"]
    for kind, found in (("color", header.color_intrinsics), ("depth", header.depth_intrinsics)):
        np.testing.assert_array_equal(found, golden[f"sens_intrinsic_{kind}"][:3, :3])
    np.testing.assert_array_equal(header.depth_to_rig, golden["sens_extrinsic_depth"])
    poses = np.stack([record.camera_to_world for record in file.records])
    np.testing.assert_array_equal(poses, golden["sens_pose_all"])
    sizes = [(record.color_bytes, record.depth_bytes) for record in file.records]
    np.testing.assert_array_equal(sizes, golden["sens_sizes"])
    times = [record.times for record in file.records]
    np.testing.assert_array_equal(times, golden["sens_timestamps"])
    for record, checksum in zip(file.records, golden["sens_depth_sha256"], strict=True):
        depth = file.depth_counts(record).astype("<u2").tobytes()
        assert hashlib.sha256(depth).hexdigest() == checksum
