"""What is stored is found again, and damage is never taken for a scene."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pcdistill.errors import ConfigError, PcdistillError, SceneError
from pcdistill.labels import IGNORE_LABEL
from pcdistill.processes import machine_mark
from pcdistill.scenes import MemoryFrame, Scene, StoredFrame, open_scene, write_scene
from pcdistill.scenes.formats.images import encode_depth
from tests.fixtures import box_room
from tests.tolerances import FLOAT32


def random_scene(seed: int, points: int, faces: int, frames: int, full: bool) -> Scene:
    rng = np.random.default_rng(seed)
    poses = box_room.poses(max(frames, 1))
    shots = []
    for i in range(frames):
        smooth = np.linspace(0, 200, 24 * 32 * 3).reshape(24, 32, 3) + rng.integers(0, 50)
        depth = rng.uniform(0, 12, (24, 32)) * (rng.random((24, 32)) > 0.2)
        shots.append(
            MemoryFrame(
                f"frame-{i}",
                torch.tensor([[30.0, 0, 15.5], [0, 31.0, 11.5], [0, 0, 1]], dtype=torch.float64),
                torch.from_numpy(poses[i]),
                torch.from_numpy(smooth.astype(np.uint8)),
                torch.from_numpy(depth.astype(np.float32)) if full or i % 2 else None,
            )
        )
    return Scene(
        name=f"scene {seed}",
        points=torch.from_numpy(rng.normal(size=(points, 3)).astype(np.float32)),
        colors=torch.from_numpy(rng.integers(0, 256, (points, 3), dtype=np.uint8))
        if full
        else None,
        normals=torch.from_numpy(rng.normal(size=(points, 3)).astype(np.float32)) if full else None,
        labels=torch.from_numpy(rng.integers(IGNORE_LABEL, 1000, points)) if full else None,
        instances=torch.from_numpy(rng.integers(-1, 9, points).astype(np.int32)) if full else None,
        faces=torch.from_numpy(rng.integers(0, points, (faces, 3))) if faces else None,
        frames=tuple(shots),
        label_set="scannet20" if full else None,
        provenance={"seed": seed, "size": (1, 2), "note": "ä"},
    )


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    points=st.integers(1, 50),
    faces=st.integers(0, 20),
    frames=st.integers(0, 3),
    full=st.booleans(),
)
def test_every_scene_survives_the_disk(tmp_path_factory, seed, points, faces, frames, full):
    scene = random_scene(seed, points, faces, frames, full)
    folder = tmp_path_factory.mktemp("store") / "scene"
    write_scene(scene, folder)
    back = open_scene(folder)
    assert (back.name, back.label_set) == (scene.name, scene.label_set)
    assert back.provenance == {"seed": seed, "size": [1, 2], "note": "ä"}
    for field in ("points", "colors", "normals", "labels", "instances", "faces"):
        before, after = getattr(scene, field), getattr(back, field)
        assert (before is None) == (after is None)
        if before is not None:
            assert before.dtype == after.dtype
            assert torch.equal(before, after)
    assert [f.name for f in back.frames] == [f.name for f in scene.frames]
    for before, after in zip(scene.frames, back.frames, strict=True):
        assert torch.equal(before.intrinsics, after.intrinsics)
        assert torch.equal(before.camera_to_world, after.camera_to_world)
        assert before.image_size == after.image_size
        error = (before.image().int() - after.image().int()).abs().float()
        assert float(error.mean()) < 3  # JPEG
        if before.depth() is None:
            assert after.depth() is None
        else:
            # half a millimetre, and float32 of the count
            torch.testing.assert_close(after.depth(), before.depth(), rtol=FLOAT32, atol=0.501e-3)


def test_far_depth_is_stored_coarser_instead_of_being_lost(tmp_path):
    scene = random_scene(0, 3, 0, 1, True)
    frame = scene.frames[0]
    depth = torch.full(frame.image_size, 80.0)
    depth[0, 0], depth[0, 1], depth[0, 2] = 0.5, float("nan"), -3
    far = MemoryFrame("far", frame.intrinsics, frame.camera_to_world, frame.image(), depth)
    write_scene(Scene("s", scene.points, frames=(far,)), tmp_path / "s")
    after = open_scene(tmp_path / "s").frames[0].depth()
    # 80 metres in 16 bits: steps of 1.2 millimetres, half of one
    assert after[1, 1] == pytest.approx(80, abs=1e-3)
    assert after[0, 0] == pytest.approx(0.5, abs=1e-3)
    assert after[0, 1] == after[0, 2] == 0


def test_files_that_are_jpeg_are_not_compressed_again(tmp_path):
    write_scene(random_scene(1, 3, 0, 2, True), tmp_path / "a")
    first = open_scene(tmp_path / "a")
    write_scene(first, tmp_path / "b")
    again = open_scene(tmp_path / "b")
    for before, after in zip(first.frames, again.frames, strict=True):
        assert torch.equal(before.image(), after.image())
        assert torch.equal(before.depth(), after.depth())


def test_a_scene_replaces_an_older_one_whole(tmp_path):
    folder = tmp_path / "s"
    write_scene(random_scene(1, 9, 4, 3, True), folder)
    write_scene(random_scene(2, 5, 0, 1, False), folder)
    assert open_scene(folder).name == "scene 2"
    assert sorted(p.name for p in (folder / "frames").iterdir()) == ["frame-0.jpg"]
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_failed_write_leaves_the_older_scene_and_nothing_else(tmp_path):
    folder = tmp_path / "s"
    write_scene(random_scene(1, 9, 4, 1, True), folder)
    scene = random_scene(2, 5, 0, 1, False)
    frame = scene.frames[0]
    gone = StoredFrame(
        "gone", (2, 2), frame.intrinsics, frame.camera_to_world, tmp_path / "gone.jpg"
    )
    with pytest.raises(SceneError, match=r"gone\.jpg: cannot be read"):
        write_scene(Scene("new", scene.points, frames=(frame, gone)), folder)
    assert open_scene(folder).name == "scene 1"
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_an_exchange_that_fails_restores_the_older_scene(tmp_path, monkeypatch):
    folder = tmp_path / "s"
    write_scene(random_scene(1, 9, 4, 1, True), folder)
    rename = Path.rename

    def no_new_folder(self, target):
        if self.name.endswith(".partial"):
            raise OSError("no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", no_new_folder)
    with pytest.raises(OSError, match="no space left"):
        write_scene(random_scene(2, 5, 0, 1, False), folder)
    assert open_scene(folder).name == "scene 1"
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_depth_beyond_sixteen_bits_is_unknown_rather_than_near():
    content = encode_depth(torch.tensor([[70.0, 65.535, 65.5361]]), 1000.0)
    with Image.open(io.BytesIO(content)) as image:
        assert np.asarray(image).tolist() == [[0, 65535, 0]]


def test_what_a_killed_writer_left_is_removed(tmp_path):
    host = f"{os.uname().nodename}.{machine_mark()}"
    dead, alive = 2**22 + 1, os.getppid()  # above the largest process id of Linux
    for left in (f".s.{host}.{dead}.partial", f".s.{host}.{alive}.partial", ".s.other.7.partial"):
        (tmp_path / left).mkdir()
    write_scene(random_scene(1, 9, 4, 0, True), tmp_path / "s")
    assert {p.name for p in tmp_path.iterdir()} == {
        "s",
        f".s.{host}.{alive}.partial",
        ".s.other.7.partial",
    }


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored") / "s"
    write_scene(random_scene(5, 30, 10, 2, True), folder)
    return folder


def read_all(folder):
    scene = open_scene(folder)
    for frame in scene.frames:
        frame.image()
        frame.depth()
    return scene


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_damage_is_taken_for_a_scene(stored, tmp_path_factory, data):
    file = data.draw(st.sampled_from(sorted(p for p in stored.rglob("*") if p.is_file())))
    whole = file.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    how = data.draw(st.sampled_from(["truncate", "flip", "insert", "remove"]))
    bit = data.draw(st.integers(0, 7))
    broken = {
        "truncate": whole[:place],
        "flip": whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :],
        "insert": whole[:place] + b"0" + whole[place:],
        "remove": None,
    }[how]
    try:
        if broken is None:
            file.unlink()
        else:
            file.write_bytes(broken)
        if says_the_same(file.name, broken, whole):
            read_all(stored)
            return
        with pytest.raises(PcdistillError) as caught:
            read_all(stored)
        assert "\n" not in str(caught.value)
        assert file.name in str(caught.value)
    finally:
        file.write_bytes(whole)


def says_the_same(name, broken, whole):
    """Blanks and zeros at the end of a number may change in JSON, nothing may anywhere else."""
    try:
        return name == "scene.json" and json.loads(broken) == json.loads(whole)
    except (TypeError, ValueError):
        return False


def test_an_edited_scene_file_is_refused(stored):
    file = stored / "scene.json"
    text = file.read_text()
    try:
        file.write_text(text.replace('"scene 5"', '"scene 6"'))
        with pytest.raises(SceneError, match=r"scene\.json: does not match its checksum"):
            open_scene(stored)
        file.write_text(text.replace('"version": 2', '"version": 99'))
        with pytest.raises(SceneError, match="has version 99, this release reads 2"):
            open_scene(stored)
        file.write_text("[]")
        with pytest.raises(SceneError, match="is not a 'pcdistill scene' file"):
            open_scene(stored)
    finally:
        file.write_text(text)


def test_frame_names_cannot_leave_the_folder(tmp_path):
    scene = random_scene(0, 3, 0, 1, True)
    frame = scene.frames[0]
    for name in ("../x", "a/b", "", ".hidden"):
        bad = MemoryFrame(name, frame.intrinsics, frame.camera_to_world, frame.image())
        with pytest.raises(ValueError, match="cannot name a file"):
            write_scene(Scene("s", scene.points, frames=(bad,)), tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_labels_beyond_the_format_are_refused(tmp_path):
    scene = Scene("s", torch.zeros(2, 3), labels=torch.tensor([0, 1 << 31]))
    with pytest.raises(SceneError, match="labels go up to 2147483648"):
        write_scene(scene, tmp_path / "s")


def test_raw_settings_do_not_fit_a_stored_scene(stored):
    assert open_scene(stored, up_axis="z").name == "scene 5"
    with pytest.raises(ConfigError, match="is a stored scene, `up_axis` was decided"):
        open_scene(stored, up_axis="y")
