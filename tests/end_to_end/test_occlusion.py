"""Without depth images, a capture's mesh or points hide what measured depth would hide."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pcdistill.cli import run_command
from pcdistill.geometry import project_points
from pcdistill.homes import (
    ScannerSettings,
    build_home,
    home_scene,
    intrinsics_from_fov,
    plan_camera_path,
    render,
    scan_mesh,
)
from pcdistill.pipeline.artifact_files import read_tensors
from pcdistill.scenes import Scene, write_ply
from tests.end_to_end.test_datasets import TINY
from tests.fixtures.user_captures import OPENGL, quaternion
from tests.homes.visible import visible_vertices

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "own_scan.yaml"
SEED = 2
SIZE = (120, 160)
TOLERANCE, BORDER = 0.05, 2
LIFTED = (*TINY, f"lift.depth_tolerance={TOLERANCE}", f"lift.border={BORDER}")
SPARSE = 4  # every fourth vertex is a sparse point


@pytest.fixture(scope="module")
def home() -> Scene:
    """The frames of a home, with so much of its exact mesh as is in sight from somewhere."""
    steady = ScannerSettings(drift=0.0, turn=0.0)
    scan = home_scene(SEED, "validation", frames=6, image_size=SIZE, scanner=steady)
    furnished = build_home(SEED, "validation")
    mesh, matrix = scan_mesh(furnished.surface), intrinsics_from_fov(SIZE, 70.0)
    seen = torch.zeros(len(mesh.points), dtype=torch.bool)
    for pose in [*plan_camera_path(furnished, 40, 0), *(f.camera_to_world for f in scan.frames)]:
        view = render(furnished.surface, pose, matrix, SIZE, shadows=False)
        seen |= visible_vertices(mesh.points, pose, matrix, view)
    faces = mesh.faces[seen[mesh.faces].all(dim=1)]
    used, numbers = faces.unique(return_inverse=True)
    return replace(
        scan,
        points=mesh.points[used],
        faces=numbers,
        colors=mesh.colors[used],
        normals=mesh.normals[used],
        labels=None,
        instances=None,
    )


@pytest.fixture(scope="module")
def truth(home) -> Tensor:
    """(F, N) bool: which points each frame sees by the exact depth of the whole home."""
    surface = build_home(SEED, "validation").surface
    seen = []
    for frame in home.frames:
        camera = (frame.camera_to_world, frame.intrinsics, frame.image_size)
        depth = render(surface, *camera, seed=0).depth
        found = project_points(
            home.points, *camera, depth, depth_tolerance=TOLERANCE, border=BORDER
        )
        seen.append(found.visible)
    return torch.stack(seen)


def write_images(home: Scene, folder: Path) -> list[str]:
    (folder / "images").mkdir(parents=True)
    names = [f"images/{frame.name}.png" for frame in home.frames]
    for frame, name in zip(home.frames, names, strict=True):
        Image.fromarray(frame.image().numpy()).save(folder / name)
    return names


def write_nerfstudio(home: Scene, folder: Path, *, mesh: bool) -> Path:
    """Images, transforms.json, and the vertices with or without the faces between them."""
    matrix = home.frames[0].intrinsics
    frames = [
        {"file_path": name, "transform_matrix": (frame.camera_to_world.numpy() @ OPENGL).tolist()}
        for name, frame in zip(write_images(home, folder), home.frames, strict=True)
    ]
    content = {
        "fl_x": float(matrix[0, 0]),
        "fl_y": float(matrix[1, 1]),
        "cx": float(matrix[0, 2]) + 0.5,
        "cy": float(matrix[1, 2]) + 0.5,
        "w": SIZE[1],
        "h": SIZE[0],
        "ply_file_path": "surface.ply",
        "frames": frames,
    }
    faces = home.faces if mesh else None
    write_ply(folder / "surface.ply", home.points, colors=home.colors, faces=faces)
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


def write_colmap(home: Scene, folder: Path) -> Path:
    """Images and a text model whose sparse points are some of the vertices."""
    matrix = home.frames[0].intrinsics.numpy()
    model = folder / "sparse/0"
    model.mkdir(parents=True)
    camera = (matrix[0, 0], matrix[1, 1], matrix[0, 2] + 0.5, matrix[1, 2] + 0.5)
    numbers = " ".join(map(str, camera))
    (model / "cameras.txt").write_text(f"1 PINHOLE {SIZE[1]} {SIZE[0]} {numbers}\n")
    images = []
    for number, name in enumerate(write_images(home, folder), start=1):
        pose = np.linalg.inv(home.frames[number - 1].camera_to_world.numpy())
        x, y, z, w = quaternion(pose)
        values = " ".join(map(str, (w, x, y, z, *pose[:3, 3])))
        images.append(f"{number} {values} 1 {Path(name).name}\n\n")
    (model / "images.txt").write_text("".join(images))
    points = home.points[::SPARSE].tolist()
    lines = [f"{i} {x} {y} {z} 90 90 90 0.5 1 0 2 0 3 0\n" for i, (x, y, z) in enumerate(points)]
    (model / "points3D.txt").write_text("".join(lines))
    return folder


class Capture(NamedTuple):
    """A capture without depth, and what its run is to reach."""

    write: Callable[[Scene, Path], Path]
    step: int
    """Every how many vertices of the home are its points."""
    least_agreement: float
    """Share of what the frames or the truth see that both see."""


CAPTURES = {
    "mesh": Capture(lambda home, folder: write_nerfstudio(home, folder, mesh=True), 1, 0.96),
    "points": Capture(lambda home, folder: write_nerfstudio(home, folder, mesh=False), 1, 0.88),
    "sparse": Capture(write_colmap, SPARSE, 0.85),
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """One for all, so that images and scores of the teachers are made once."""
    return tmp_path_factory.mktemp("occlusion") / "run"


@pytest.fixture
def run(workspace, capsys):
    """Runs the command on a capture; gives how many frames see each point, (N,)."""

    def command(capture: Path, *settings: str, only: tuple[str, ...] = ()) -> Tensor:
        arguments = ["run", CONFIG, "--scan", capture, "--workspace", workspace, "--jobs", 1]
        stages = ["--only", *only] if only else []
        status = run_command([*map(str, arguments), *stages, "--set", *LIFTED, *settings])
        output = capsys.readouterr()
        assert status == 0, output.out + output.err
        lifted = workspace / "features" / "demo-dense" / f"{capture.name}.safetensors"
        return read_tensors(lifted)["views"]

    return command


def cloud_of(scene: Scene, kept: Tensor) -> Scene:
    """Some points (N,) bool of a scene, without faces."""
    return replace(
        scene,
        points=scene.points[kept],
        colors=scene.colors[kept],
        normals=scene.normals[kept],
        faces=None,
    )


def agreement(views: Tensor, expected: Tensor) -> float:
    """Intersection over union of counted views, 1 if every point is seen as often as expected."""
    return float(torch.minimum(views, expected).sum() / torch.maximum(views, expected).sum())


@pytest.mark.parametrize("name", CAPTURES)
def test_points_are_hidden_as_by_real_depth(name, home, truth, tmp_path, run):
    case = CAPTURES[name]
    if name != "mesh":  # a cloud is what its own frames saw
        kept = truth.any(dim=0)
        home, truth = cloud_of(home, kept), truth[:, kept]
    capture = case.write(home, tmp_path / name)
    expected = truth[:, :: case.step].sum(dim=0)

    views = run(capture, only=("ingest", "lift"))
    assert agreement(views, expected) > case.least_agreement
    assert float(((views - expected).abs() <= 1).float().mean()) > 0.98

    through_walls = run(capture, "lift.occlusion=none", only=("ingest", "lift"))
    assert agreement(through_walls, expected) < 0.7
    assert float((through_walls > expected).float().mean()) > 0.25


@pytest.mark.slow
def test_a_capture_without_depth_is_labelled_and_answers(home, tmp_path, run, workspace, capsys):
    run(write_nerfstudio(home, tmp_path / "flat", mesh=False))
    assert run_command(["query", str(workspace), "a place to sit", "--scene", "flat"]) == 0
    assert re.search(r"0\.\d\d", capsys.readouterr().out)
    assert (workspace / "report" / "index.html").exists()
