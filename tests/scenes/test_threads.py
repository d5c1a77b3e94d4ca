"""Frames read by many threads at once are those read one after the other, in every layout."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pcdistill.scenes import find_scans, open_scene, write_scene
from tests.fixtures import box_room, matterport_replica, scannetpp_arkitscenes, user_captures
from tests.fixtures import nuscenes as drives
from tests.fixtures import scannet as scannet_scans

THREADS = 8
ROUNDS = 6
SENS_ROUNDS = 60  # all frames lie in one file; were its handle shared, this would show it


def write_stored(folder):
    write_scene(open_scene(box_room.write_scan(folder / "raw", 6)), folder / "stored")
    return folder / "stored"


def write_drive(folder):
    drives.write_drive(folder)
    return folder


LAYOUTS = {
    "scannet": (lambda f: scannet_scans.write_scannet(f), {"frame_step": 1}),
    "scannetpp iphone": (lambda f: scannetpp_arkitscenes.write_scannetpp(f / "0a") / "iphone", {}),
    "arkitscenes": (lambda f: scannetpp_arkitscenes.write_arkitscenes(f / "410"), {}),
    "nuscenes": (write_drive, {}),
    "matterport": (lambda f: matterport_replica.write_house(f) and f, {}),
    "replica": (lambda f: matterport_replica.write_replica(f), {"frame_step": 1}),
    "tum": (lambda f: user_captures.write_tum(f / "scan", 6), {}),
    "record3d exr": (lambda f: user_captures.write_record3d(f / "scan", 6), {}),
    "record3d blob": (lambda f: user_captures.write_record3d(f / "scan", 6, depth="blob"), {}),
    "nerfstudio": (lambda f: user_captures.write_nerfstudio(f / "scan", 6), {}),
    "colmap": (lambda f: user_captures.write_colmap(f / "scan", 6, depth=True), {}),
    "rgbd": (lambda f: box_room.write_scan(f / "scan", 6), {}),
    "stored": (write_stored, {}),
}


@pytest.fixture
def busy_switching():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_threads_read_what_one_reads(layout, tmp_path, busy_switching):
    write, settings = LAYOUTS[layout]
    path = write(tmp_path)
    if layout.startswith("record3d"):
        settings = settings | {"fuse_voxel_size": 0.2}
    scene = first_scene(path, settings)
    alone = [(frame.image(), frame.depth()) for frame in scene.frames]
    assert len(alone) >= 2
    rounds = SENS_ROUNDS if layout == "scannet" else ROUNDS
    order = [*range(len(alone))] * rounds
    frames = first_scene(path, settings).frames
    with ThreadPoolExecutor(THREADS) as threads:
        together = list(threads.map(lambda i: (frames[i].image(), frames[i].depth()), order))
    for place, (image, depth) in zip(order, together, strict=True):
        assert torch.equal(image, alone[place][0])
        assert depth is None if alone[place][1] is None else torch.equal(depth, alone[place][1])


def first_scene(path, settings):
    scans = find_scans(path)
    return open_scene(path, part=scans[0].name if len(scans) > 1 else "", **settings)
