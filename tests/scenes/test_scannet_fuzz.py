"""Damaged ScanNet files: whatever the damage, a sound scene or one sentence."""

from __future__ import annotations

import resource
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdistill.errors import SceneError
from pcdistill.labels import IGNORE_LABEL
from pcdistill.scenes import write_ply
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Scan
from pcdistill.scenes.readers.scannet.openscene import (
    find_scannet_extracted,
    open_scannet_extracted,
)
from pcdistill.scenes.readers.scannet.scan import open_scannet
from tests.fixtures import box_room, scannet
from tests.scenes.readers.scannet.test_openscene import write_extracted

NAME = scannet.NAME
SIZE = (30, 40)
MOST_MEMORY = 512 << 20  # bytes that a damaged file may make the process grow by
ABSURD = [0, 1, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]

CASES = {
    ".sens": 220,
    "_vh_clean_2.ply": 50,
    "_vh_clean_2.labels.ply": 60,
    "_vh_clean_2.0.010000.segs.json": 90,
    ".aggregation.json": 100,
    ".txt": 60,
    "scannetv2-labels.combined.tsv": 50,
}
EXTRACTED_CASES = {
    f"scannet_3d/val/{NAME}_vh_clean_2.pth": 70,
    f"scannet_2d/{NAME}/pose/60.txt": 40,
    f"scannet_2d/{NAME}/depth/60.png": 30,
    "scannet_2d/intrinsics.txt": 30,
}


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """One of the ways in which a file comes out wrong."""
    data = bytearray(content)
    # headers are small and matter most: half of the damage is near the beginning
    length = len(data) if random.random() < 0.5 else min(len(data), 600)
    place = int(random.integers(length))
    kind = int(random.integers(7))
    if kind == 0:
        return bytes(data[:place])
    if kind == 1:
        for spot in random.integers(length, size=int(random.integers(1, 4))):
            data[spot] ^= 1 << int(random.integers(8))
    elif kind == 2:
        data[place : place + 8] = struct.pack("<Q", ABSURD[int(random.integers(len(ABSURD)))])
    elif kind == 3:
        data[place : place + 4] = struct.pack(
            "<I", ABSURD[int(random.integers(len(ABSURD)))] % 2**32
        )
    elif kind == 4:
        data[place:place] = random.bytes(int(random.integers(1, 40)))
    elif kind == 5:
        del data[place : place + int(random.integers(1, 40))]
    else:
        words = (b"-1", b"1e999", b"nan", b"null", b"[]", b'"x"', b"9" * 400, b"\0", b"\xff\xfe")
        word = words[int(random.integers(len(words)))]
        data[place : place + len(word)] = word
    return bytes(data)


def outcome(folder: Path, opener) -> str:
    """`scene` where everything of it can be used, else the sentence."""
    try:
        scene = opener(folder)
        for frame in scene.frames:
            image, depth = frame.image(), frame.depth()
            assert image.dtype == torch.uint8
            assert image.shape == (*frame.image_size, 3)
            assert depth.shape == frame.image_size
            assert bool((torch.isfinite(depth) & (depth >= 0)).all())
    except SceneError as error:
        return str(error)
    assert bool(torch.isfinite(scene.points).all())
    if scene.labels is not None:
        assert bool(((scene.labels < 200) & (scene.labels >= IGNORE_LABEL)).all())
    return "scene"


def fuzz(file: Path, count: int, opener, seed: int = 0) -> Counter[bool]:
    """How many cases were accepted and refused; anything else raises with the case's number."""
    content = file.read_bytes()
    outcomes: Counter[bool] = Counter()
    try:
        for case in range(count):
            file.write_bytes(damaged(content, np.random.default_rng((seed, case))))
            try:
                result = outcome(file, opener)
            except Exception as error:
                raise AssertionError(f"case {case} of {file.name}, seed {seed}") from error
            assert "\n" not in result, f"case {case} of {file.name}"
            outcomes[result == "scene"] += 1
    finally:
        file.write_bytes(content)
    return outcomes


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = scannet.write_scannet(tmp_path_factory.mktemp("fuzz"))
    points = torch.from_numpy(box_room.wall_points(0.25))
    write_ply(folder / f"{NAME}_vh_clean_2.ply", points)
    scannet.write_labels(folder, NAME, points)
    sens = scannet.sens_bytes(scannet.room_frames(4, missing=(2,)))
    (folder / f"{NAME}.sens").write_bytes(sens)
    return folder


@pytest.mark.parametrize("suffix", CASES)
def test_damaged_files_of_a_scan(scan, suffix):
    by_table = suffix.endswith((".tsv", ".aggregation.json"))
    settings = ReaderSettings(
        frame_step=1,
        image_size=SIZE,
        align_axes=suffix == ".txt",
        label_set="scannet200" if by_table else None,
    )
    file = scan.parents[1] / suffix if suffix.endswith(".tsv") else scan / f"{NAME}{suffix}"
    before = peak()
    outcomes = fuzz(file, CASES[suffix], lambda _: open_scannet(Scan(NAME, scan), settings))
    assert peak() - before < MOST_MEMORY
    assert outcomes[False] > 0.1 * CASES[suffix]  # the damage is damage
    assert outcome(scan, lambda _: open_scannet(Scan(NAME, scan), settings)) == "scene"


@pytest.mark.parametrize("place", EXTRACTED_CASES)
def test_damaged_files_of_an_extracted_scan(tmp_path, place):
    root = write_extracted(tmp_path / "data")
    (found,) = find_scannet_extracted(root)
    before = peak()
    count = EXTRACTED_CASES[place]
    outcomes = fuzz(root / place, count, lambda _: open_scannet_extracted(found, ReaderSettings()))
    assert peak() - before < MOST_MEMORY
    assert outcomes[False] > 0.1 * count


def test_enough_is_tried():
    assert sum(CASES.values()) + sum(EXTRACTED_CASES.values()) >= 700
