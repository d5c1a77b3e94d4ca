"""The benchmark of long recordings writes scans that open, and counts the bytes it reads."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from pcdistill.scenes import open_scene
from tools.benchmarks import sens


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return sens.write_scan(tmp_path_factory.mktemp("sens") / "long", 100, sens.make_images())


def test_its_scan_opens_and_shows_the_room(scan):
    scene = open_scene(scan, frame_step=20)
    assert [frame.name for frame in scene.frames] == ["0", "20", "40", "60", "80"]
    _, truth, _ = sens.look_around(0.0)
    assert np.abs(np.median(scene.frames[2].depth().numpy() - truth)) < 0.002  # 40 repeats 0


def test_every_20th_frame_asks_for_few_of_the_bytes(scan):
    sens.read_frames(scan, 20)  # what is imported at first use is read here
    before = sens.bytes_read()
    assert sens.read_frames(scan, 20) == 5
    between = sens.bytes_read()
    assert sens.read_frames(scan, 1) == 100
    # five of a hundred frames, and up to twelve that are looked at as a scan is opened
    assert between - before < (sens.bytes_read() - between) / 8


def test_too_short_a_scan_is_refused():
    with pytest.raises(SystemExit, match="--frames is 39, expected at least 40"):
        sens.run(argparse.Namespace(frames=39, rounds=1))
