"""Stage ingest: each setting of it changes the stored scene as it should."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import pcdistill.homes
from pcdistill.artifacts import split_scenes
from pcdistill.errors import SceneError
from pcdistill.lifting.frame_colors import average_frame_colors
from pcdistill.lifting.projector import ProjectionRules
from pcdistill.pipeline.config_loading import config_from_dict
from pcdistill.pipeline.context import RunContext
from pcdistill.scenes import MemoryFrame, Scene, open_scene, read_ply, write_ply, write_scene
from pcdistill.scenes.checks.pose_conventions import POSE_CONVENTIONS
from pcdistill.stages.ingest import IngestStage
from tests.fixtures import box_room, nuscenes
from tests.fixtures import scannet as scannet_scans
from tests.scenes.readers.test_rgbd import FROM_Z_UP
from tests.stages.followed import Outcomes, alike, follows
from tests.stages.toy import work
from tests.tolerances import MILLIMETRE

TINY = {"train": 1, "validation": 1, "frames": 2, "image_size": [24, 32]}

RULES = ProjectionRules(0.25, 10)


def ingest(folder: Path, settings: dict, unit: str | None = None, **run_settings) -> Scene:
    """The scene that is stored of the only scan, or of the one named."""
    run = run_of(folder, settings, **run_settings)
    unit = unit or split_scenes(run).all[0]
    work(IngestStage, run, unit)
    return open_scene(run.workspace.scene(unit))


def run_of(folder: Path, settings: dict, **run_settings) -> RunContext:
    sections = {"run": {"workspace": str(folder), **run_settings}, "ingest": settings}
    return RunContext(config_from_dict(sections, "test"))


def of_scan(path: Path, **settings) -> dict:
    return {"source": "scan", "path": str(path), **settings}


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return box_room.write_scan(tmp_path_factory.mktemp("scan") / "room", 6)


def names(scene: Scene) -> list[str]:
    return [frame.name for frame in scene.frames]


@follows("ingest.source")
def test_source(tmp_path, room) -> Outcomes:
    for value, right in (
        ("homes", ("home-train-0", "home-validation-0")),
        ("scan", ("room",)),
    ):
        run = run_of(tmp_path, {**TINY, "image_size": None, "source": value, "path": str(room)})
        yield split_scenes(run).all, right


@follows("ingest.path")
def test_path(tmp_path, room) -> Outcomes:
    other = box_room.write_scan(tmp_path / "attic", 3)
    for value, right in ((room, ("room", 6)), (other, ("attic", 3))):
        scene = ingest(tmp_path / "run", of_scan(value))
        yield (scene.name, len(scene.frames)), right


@follows("ingest.train")
def test_train(tmp_path) -> Outcomes:
    for value in (1, 3):
        run = run_of(tmp_path, {**TINY, "train": value})
        yield split_scenes(run).training, tuple(f"home-train-{number}" for number in range(value))


@pytest.fixture
def quick_homes(monkeypatch):
    """Homes of a few points whose frames are as many and as large as was asked for."""

    def home_scene(seed: int, split: str, *, frames: int = 28, image_size=(240, 320)) -> Scene:
        matrix, pose = torch.eye(3, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
        image = torch.zeros(*image_size, 3, dtype=torch.uint8)
        taken = tuple(MemoryFrame(str(n), matrix, pose, image) for n in range(frames))
        points = torch.full((5, 3), float(seed))
        return Scene(f"{split}-{seed}", points, colors=torch.zeros(5, 3).byte(), frames=taken)

    monkeypatch.setattr("pcdistill.homes.home_scene", home_scene)


@follows("ingest.homes")
def test_homes(tmp_path, quick_homes) -> Outcomes:
    """Scenes keep their names; the homes behind them are of another set."""
    for value, right in (
        ("development", [[0.0] * 3, "train"]),
        ("test", [[0.0] * 3, "test-train"]),
    ):
        folder = tmp_path / value
        scene = ingest(folder, {**TINY, "homes": value})
        run = run_of(folder, {**TINY, "homes": value})
        split = IngestStage(run).settings("home-train-0")["split"]
        yield [scene.points[0].tolist(), split], right


def test_homes_that_come_out_differently_are_made_anew(tmp_path, monkeypatch):
    run = run_of(tmp_path, TINY)
    before = IngestStage(run).settings("home-train-0")
    monkeypatch.setattr(pcdistill.homes, "GENERATION", pcdistill.homes.GENERATION + 1)
    assert IngestStage(run).settings("home-train-0") != before


@follows("ingest.frames")
def test_frames(tmp_path, quick_homes) -> Outcomes:
    for value in (2, 3):
        scene = ingest(tmp_path / str(value), {**TINY, "frames": value})
        yield len(scene.frames), value


@follows("ingest.image_size")
def test_image_size(tmp_path, room, quick_homes) -> Outcomes:
    """Of a home, and of a scan, whose camera is that of the smaller picture."""
    for value in ([24, 32], [30, 40]):
        home = ingest(tmp_path / str(value), {**TINY, "image_size": value}).frames[0]
        scan = ingest(tmp_path / str(value), of_scan(room, image_size=value)).frames[0]
        focal = box_room.INTRINSICS[0, 0] * value[1] / box_room.IMAGE_SIZE[1]
        yield (
            (tuple(home.image().shape), tuple(scan.image().shape), float(scan.intrinsics[0, 0])),
            ((*value, 3), (*value, 3), focal),
        )


@follows("ingest.frame_step")
def test_frame_step(tmp_path, room) -> Outcomes:
    for value in (1, 2, 3):
        scene = ingest(tmp_path / str(value), of_scan(room, frame_step=value))
        yield names(scene), [str(7 * number) for number in range(0, 6, value)]


@follows("ingest.depth_scale")
def test_depth_scale(tmp_path) -> Outcomes:
    """The room is itself in the scale that it was written in, and refused in another."""
    scales = (1000.0, 5000.0)
    folders = {
        scale: box_room.write_scan(tmp_path / str(scale) / "room", 3, depth_scale=scale)
        for scale in scales
    }
    truth = torch.from_numpy(box_room.depth_of(box_room.poses(3)[0]))
    for value in scales:
        found = {}
        for written, folder in folders.items():
            try:
                scene = ingest(folder.parent / str(value), of_scan(folder, depth_scale=value))
                off = (scene.frames[0].depth().double() - truth).abs().max()
                found[written] = float(off) < 2 * MILLIMETRE
            except SceneError:
                found[written] = False
        yield found, {scale: scale == value for scale in scales}


@follows("ingest.up_axis")
def test_up(tmp_path, room) -> Outcomes:
    """Whichever axis pointed up, the room that is stored stands on its floor."""
    straight = ingest(tmp_path / "z", of_scan(room))
    for value, world in FROM_Z_UP.items():
        folder = box_room.write_scan(tmp_path / value / "room", 6, world=world)
        scene = ingest(tmp_path / value / "run", of_scan(folder, up_axis=value))
        torch.testing.assert_close(scene.points, straight.points)
        raw = ingest(tmp_path / value / "raw", of_scan(folder))
        yield raw.points, straight.points @ torch.from_numpy(world).float().T


@follows("ingest.pose_convention")
def test_poses(tmp_path, room) -> Outcomes:
    """Written in a convention and read in it, cameras are where they were."""
    for value, convention in POSE_CONVENTIONS.items():
        folder = tmp_path / value / "room"
        shutil.copytree(room, folder)
        for file in (folder / "pose").iterdir():
            ours = torch.from_numpy(np.loadtxt(file))
            np.savetxt(file, convention.write(ours).numpy())
        scene = ingest(tmp_path / value / "run", of_scan(folder, pose_convention=value))
        for frame, pose in zip(scene.frames, box_room.poses(6), strict=True):
            assert alike(frame.camera_to_world, torch.from_numpy(pose))
        written = torch.from_numpy(np.loadtxt(folder / "pose" / "7.txt"))
        yield convention.write(scene.frames[1].camera_to_world), written


def test_a_surface_without_colors_has_those_of_its_frames(tmp_path, room):
    """The frames are the greyer the farther a wall is."""
    assert read_ply(room / "cloud.ply").colors is None
    stored = ingest(tmp_path, of_scan(room))
    assert torch.equal(stored.colors, average_frame_colors(open_scene(room), RULES))
    assert len(stored.colors.unique()) > 10


@follows("ingest.surface_file")
def test_geometry(tmp_path, room) -> Outcomes:
    folder = tmp_path / "room"
    shutil.copytree(room, folder)
    half = torch.from_numpy(box_room.wall_points(0.2)).float()
    write_ply(folder / "half.ply", half)
    for value, right in ((None, len(box_room.wall_points())), ("half.ply", len(half))):
        yield len(ingest(tmp_path / "run", of_scan(folder, surface_file=value)).points), right


@follows("ingest.fuse_voxel_size")
def test_fuse_voxel_size(tmp_path) -> Outcomes:
    """Larger voxels make fewer points of the same walls."""
    folder = box_room.write_scan(tmp_path / "room", 6, surface=False)
    counts = []
    for value in (0.1, 0.2):
        scene = ingest(tmp_path / str(value), of_scan(folder, fuse_voxel_size=value))
        assert scene.provenance["surface"] == "fused depth"
        counts.append(len(scene.points))
        yield scene.points, open_scene(folder, fuse_voxel_size=value).points
    assert counts[0] > 2 * counts[1]


@follows("ingest.align_axes")
def test_align_axes(tmp_path) -> Outcomes:
    """The alignment of the written scan turns by thirty degrees and lifts by half a metre."""
    scan = scannet_scans.write_scannet(tmp_path / "scannet")
    lowest = {}
    for value in (False, True):
        scene = ingest(tmp_path / str(value), of_scan(scan, align_axes=value))
        lowest[value] = float(scene.points[:, 2].min())
        yield lowest[value] - lowest[False], 0.5 * value


@follows("ingest.intrinsics")
def test_intrinsics(tmp_path) -> Outcomes:
    """OpenScene's preprocessing takes one camera for all scans, as big as the pictures."""
    scan = scannet_scans.write_scannet(tmp_path / "scannet")
    own = float(scannet_scans.COLOR_CAMERA[0, 0]) * 64 / scannet_scans.COLOR_SIZE[1]
    for value, right in (("own", own), ("openscene", 577.870605 / 10)):
        settings = of_scan(scan, intrinsics=value, image_size=[48, 64])
        yield float(ingest(tmp_path / value, settings).frames[0].intrinsics[0, 0]), right


@follows("ingest.sweeps")
def test_sweeps(tmp_path) -> Outcomes:
    """Three turns of the LiDAR come before a second keyframe."""
    root = nuscenes.write_drive(tmp_path / "drive")
    for value, right in ((False, nuscenes.POINTS), (True, 4 * nuscenes.POINTS)):
        settings = of_scan(root, sweeps=value, image_size=list(nuscenes.FILE_SIZE))
        unit = "scene-0000_01"
        scene = ingest(tmp_path / str(value), settings, unit, label_set="nuscenes16")
        yield len(scene.points), right


@pytest.fixture
def three(tmp_path) -> Path:
    for name in ("a", "b", "c"):
        write_scene(Scene(name, torch.rand(30, 3)), tmp_path / "scans" / name)
    return tmp_path / "scans"


def listed(tmp_path, three, **lists) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Scenes that are learned from, and those that are measured."""
    given = {}
    for key, scenes in lists.items():
        given[key] = str(tmp_path / f"{key}.txt")
        Path(given[key]).write_text("\n".join(scenes))
    run = run_of(tmp_path / "run", of_scan(three, **given))
    return split_scenes(run).training, split_scenes(run).validation


@follows("ingest.train_list")
def test_train_list(tmp_path, three) -> Outcomes:
    yield listed(tmp_path, three, train_list=["a"]), (("a",), ("b", "c"))
    yield listed(tmp_path, three, train_list=["c", "b"]), (("c", "b"), ("a",))


@follows("ingest.validation_list")
def test_validation_list(tmp_path, three) -> Outcomes:
    yield listed(tmp_path, three, validation_list=["a"]), (("b", "c"), ("a",))
    yield listed(tmp_path, three, validation_list=["b", "c"]), (("a",), ("b", "c"))
    both = {"train_list": ["a"], "validation_list": ["c"]}
    yield listed(tmp_path, three, **both), (("a",), ("c",))
