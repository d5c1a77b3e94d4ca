"""Damaged captures of many layouts: a scene, or one sentence; nothing else."""

from __future__ import annotations

import random
import shutil
import struct

import pytest
import torch

from pcdistill.errors import SceneError
from pcdistill.scenes import Scene, write_ply
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.arkitscenes import ARKITSCENES
from pcdistill.scenes.readers.base import Reader, Scan
from pcdistill.scenes.readers.cloud_file import CLOUD_FILE
from pcdistill.scenes.readers.colmap.reader import COLMAP
from pcdistill.scenes.readers.nerfstudio.reader import NERFSTUDIO
from pcdistill.scenes.readers.record3d import RECORD3D
from pcdistill.scenes.readers.scannetpp import SCANNETPP
from pcdistill.scenes.readers.tum import TUM
from tests.fixtures import box_room, scannetpp_arkitscenes, user_captures

CASES = 64  # of each capture


def write_bare(folder):
    folder.mkdir()
    for encoding in ("ascii", "binary", "binary_compressed"):
        content = user_captures.pcd(box_room.wall_points(0.5), encoding)
        (folder / f"{encoding}.pcd").write_bytes(content)
    write_ply(folder / "cloud.ply", torch.from_numpy(box_room.wall_points(0.5)))


CAPTURES = {
    "tum": (TUM, lambda folder: user_captures.write_tum(folder, 2), "walls.ply"),
    "record3d exr": (RECORD3D, lambda folder: user_captures.write_record3d(folder, 2), "walls.ply"),
    "record3d blob": (
        RECORD3D,
        lambda folder: user_captures.write_record3d(folder, 2, depth="blob"),
        "walls.ply",
    ),
    "nerfstudio": (NERFSTUDIO, lambda folder: user_captures.write_nerfstudio(folder, 2), None),
    "colmap binary": (COLMAP, lambda folder: user_captures.write_colmap(folder, 2), None),
    "colmap depth": (
        COLMAP,
        lambda folder: user_captures.write_colmap(folder, 2, depth=True),
        "walls.ply",
    ),
    "colmap text": (
        COLMAP,
        lambda folder: user_captures.write_colmap(folder, 2, binary=False),
        None,
    ),
    "bare": (CLOUD_FILE, write_bare, None),
    "scannetpp dslr": (
        SCANNETPP,
        lambda folder: scannetpp_arkitscenes.write_scannetpp(folder, 3, iphone=False),
        None,
    ),
    "scannetpp iphone": (
        SCANNETPP,
        lambda folder: scannetpp_arkitscenes.write_scannetpp(folder, 3, dslr=False),
        None,
    ),
    "arkitscenes": (
        ARKITSCENES,
        lambda folder: scannetpp_arkitscenes.write_arkitscenes(folder, 2),
        None,
    ),
}


def damage(content: bytes, rng: random.Random) -> bytes:
    """One way in which a file can break."""
    if not content:
        return b"\0"
    place = rng.randrange(min(len(content), 200) if rng.random() < 0.5 else len(content))
    kind = rng.randrange(6)
    if kind == 0:
        return content[:place]
    if kind == 1:
        broken = bytearray(content)
        for _ in range(rng.choice([1, 2, 20])):
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        return bytes(broken)
    if kind == 2:
        absurd = rng.choice([2**31 - 1, 2**32 - 1, 2**62, 2**64 - 1, 0])
        return content[:place] + struct.pack("<Q", absurd) + content[place + 8 :]
    if kind == 3:
        words = [b"nan", b"-1", b"1e999", b"99999999999999999999", b"\xff\xfe", b'"', b"[", b"\n"]
        return content[:place] + rng.choice(words) + content[place + rng.randrange(4) :]
    if kind == 4:
        return content[:place] + content[place + rng.randrange(1, 64) :]
    return content[:place] + content[: rng.randrange(1, 64)] + content[place:]


def examine(scene: Scene) -> None:
    assert torch.isfinite(scene.points).all()
    for frame in scene.frames:
        assert torch.isfinite(frame.camera_to_world).all()
        assert frame.image().shape == (*frame.image_size, 3)
        depth = frame.depth()
        assert depth is None or depth.shape == frame.image_size
        assert depth is None or bool((torch.isfinite(depth) & (depth >= 0)).all())


def outcome(reader: Reader, scan: Scan, settings: ReaderSettings) -> str:
    """Why the scan is refused; empty where it opens."""
    try:
        examine(reader.open(scan, settings))
    except SceneError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", CAPTURES)
def test_every_damage_gives_a_scene_or_one_sentence(name, tmp_path):
    reader, write, geometry = CAPTURES[name]
    folder = tmp_path / "scan"
    write(folder)
    settings = ReaderSettings(surface_file=geometry)
    if geometry is not None:
        turned = "record3d" in name
        turn = user_captures.Y_UP[:3, :3].T if turned else torch.eye(3).numpy()
        walls = box_room.wall_points(0.2) @ turn
        write_ply(folder / geometry, torch.from_numpy(walls))
    for scan in reader.find(folder):
        examine(reader.open(scan, settings))  # whole, it opens
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    small = [path for path in files if path.suffix not in (".jpg", ".ply")] or files
    refused = 0
    for seed in range(CASES):
        rng = random.Random(f"{name} {seed}")
        file = rng.choice(small if rng.random() < 0.85 else files)
        content = file.read_bytes()
        file.write_bytes(damage(content, rng))
        for scan in reader.find(folder):
            sentence = outcome(reader, scan, settings)
            refused += sentence != ""
            assert "\n" not in sentence
            assert sentence == "" or str(folder) in sentence or sentence.startswith("scene ")
        file.write_bytes(content)
    assert refused > CASES / 5


@pytest.mark.parametrize("name", CAPTURES)
def test_a_missing_file_gives_a_scene_or_one_sentence(name, tmp_path):
    reader, write, _ = CAPTURES[name]
    fuses = reader not in (CLOUD_FILE, SCANNETPP)
    settings = ReaderSettings(fuse_voxel_size=0.2) if fuses else ReaderSettings()
    write(tmp_path / "whole")
    files = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*"))
    for file in files:
        folder = tmp_path / "broken"
        shutil.copytree(tmp_path / "whole", folder)
        if (folder / file).is_dir():
            shutil.rmtree(folder / file)
        else:
            (folder / file).unlink()
        for scan in reader.find(folder):
            assert "\n" not in outcome(reader, scan, settings)
        shutil.rmtree(folder)
