"""The doctor names every planted fault, and is silent about captures that are right."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from pcdistill.cli import run_command
from pcdistill.doctor import examine
from pcdistill.doctor.cloud_checks import check_cloud
from pcdistill.errors import ConfigError, SceneError
from pcdistill.homes import ScannerSettings, camera_path, home_scene
from pcdistill.scenes import MemoryFrame, Scene, open_scene, read_ply, write_ply
from pcdistill.scenes.checks.pose_conventions import POSE_CONVENTIONS
from pcdistill.scenes.checks.samples import sample_scene
from pcdistill.scenes.formats.images import encode_color, encode_depth
from pcdistill.scenes.issues import collect_issues

FRAMES = 14
IMAGE_SIZE = (120, 160)


def write_home(folder: Path, seed: int) -> Path:
    """A rendered home as a folder of posed RGB-D frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(camera_path, "_PER_ROOM", 24)  # a camera_path that is planned quickly
        steady = ScannerSettings(drift=0.0, turn=0.0)  # drift is a fault that is planted
        scene = home_scene(seed, "validation", frames=FRAMES, image_size=IMAGE_SIZE, scanner=steady)
    for kind in ("color", "depth", "pose"):
        (folder / kind).mkdir(parents=True)
    for frame in scene.frames:
        (folder / f"color/{frame.name}.jpg").write_bytes(encode_color(frame.image()))
        (folder / f"depth/{frame.name}.png").write_bytes(encode_depth(frame.depth(), 1000.0))
        np.savetxt(folder / f"pose/{frame.name}.txt", frame.camera_to_world.numpy())
    np.savetxt(folder / "intrinsics.txt", scene.frames[0].intrinsics.numpy())
    write_ply(folder / "mesh.ply", points=scene.points, colors=scene.colors, faces=scene.faces)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return write_home(tmp_path_factory.mktemp("homes") / "home", 0)


@pytest.fixture
def broken(home, tmp_path):
    """A copy to plant faults in."""
    return Path(shutil.copytree(home, tmp_path / "home"))


def poses_of(folder: Path) -> list[Path]:
    return sorted((folder / "pose").iterdir())


def change_poses(change: Callable[[np.ndarray], np.ndarray], only: slice = slice(None)):
    def plant(folder: Path) -> None:
        for file in poses_of(folder)[only]:
            np.savetxt(file, change(np.loadtxt(file)))

    return plant


def convention(name: str):
    return change_poses(lambda pose: POSE_CONVENTIONS[name].write(torch.from_numpy(pose)).numpy())


def scaled_poses(factor: float):
    def change(pose: np.ndarray) -> np.ndarray:
        changed = pose.copy()
        changed[:3, 3] *= factor
        return changed

    return change_poses(change)


def change_depth(change: Callable[[np.ndarray], np.ndarray], only: slice = slice(None)):
    """Change depth counts, float64 millimetres."""

    def plant(folder: Path) -> None:
        for file in sorted((folder / "depth").iterdir())[only]:
            counts = change(np.asarray(Image.open(file)).astype(np.float64))
            Image.fromarray(np.clip(np.rint(counts), 0, 65535).astype(np.uint16)).save(file)

    return plant


def change_images(change: Callable[[Image.Image], Image.Image], only: slice = slice(None)):
    def plant(folder: Path) -> None:
        for file in sorted((folder / "color").iterdir())[only]:
            change(Image.open(file)).save(file, quality=92)

    return plant


def change_camera(change: Callable[[np.ndarray], np.ndarray]):
    def plant(folder: Path) -> None:
        np.savetxt(folder / "intrinsics.txt", change(np.loadtxt(folder / "intrinsics.txt")))

    return plant


def change_points(change: Callable[[torch.Tensor], torch.Tensor]):
    def plant(folder: Path) -> None:
        mesh = read_ply(folder / "mesh.ply")
        write_ply(
            folder / "mesh.ply", points=change(mesh.points), colors=mesh.colors, faces=mesh.faces
        )

    return plant


def turn_world(turn: np.ndarray):
    """Poses and mesh in a world with other axes."""
    whole = np.eye(4)
    whole[:3, :3] = turn

    def plant(folder: Path) -> None:
        change_poses(lambda pose: whole @ pose)(folder)
        change_points(lambda points: points @ torch.from_numpy(turn.T).float())(folder)

    return plant


def about_x(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def both(*plants: Callable[[Path], None]):
    def plant(folder: Path) -> None:
        for one in plants:
            one(folder)

    return plant


def copy_files(kinds: tuple[str, ...], pairs: dict[int, int]):
    """Frames (by place) that take the files of others."""

    def plant(folder: Path) -> None:
        for kind in kinds:
            files = sorted((folder / kind).iterdir())
            contents = [file.read_bytes() for file in files]
            for target, source in pairs.items():
                files[target].write_bytes(contents[source])

    return plant


def remove_frames(only: slice):
    def plant(folder: Path) -> None:
        for kind in ("color", "depth", "pose"):
            for file in sorted((folder / kind).iterdir())[only]:
                file.unlink()

    return plant


def shifted(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.roll(np.asarray(image), 9, axis=1))


def eight_bits(counts: np.ndarray) -> np.ndarray:
    return np.rint(counts / 20) * 20


def along_rays(counts: np.ndarray) -> np.ndarray:
    focal = IMAGE_SIZE[1] / 2 / np.tan(np.radians(35))  # of the first home
    v, u = np.mgrid[: IMAGE_SIZE[0], : IMAGE_SIZE[1]]
    x, y = (u - (IMAGE_SIZE[1] - 1) / 2) / focal, (v - (IMAGE_SIZE[0] - 1) / 2) / focal
    return counts * np.sqrt(1 + x * x + y * y)


def no_colors(folder: Path) -> None:
    mesh = read_ply(folder / "mesh.ply")
    write_ply(folder / "mesh.ply", points=mesh.points, faces=mesh.faces)


def few_points(folder: Path) -> None:
    mesh = read_ply(folder / "mesh.ply")
    chosen = torch.randperm(len(mesh.points), generator=torch.Generator().manual_seed(0))[:1500]
    write_ply(folder / "mesh.ply", points=mesh.points[chosen], colors=mesh.colors[chosen])


def repeated_points(folder: Path) -> None:
    mesh = read_ply(folder / "mesh.ply")
    write_ply(
        folder / "mesh.ply",
        points=torch.cat([mesh.points, mesh.points]),
        colors=torch.cat([mesh.colors, mesh.colors]),
    )


def no_points(folder: Path) -> None:
    write_ply(folder / "mesh.ply", points=torch.empty((0, 3)))


def some_nan(points: torch.Tensor) -> torch.Tensor:
    changed = points.clone()
    changed[::100] = torch.nan
    return changed


def some_stray(points: torch.Tensor) -> torch.Tensor:
    changed = points.clone()
    changed[:3] += torch.tensor([400.0, 0, 0])
    return changed


def cut_file(folder: Path) -> None:
    file = sorted((folder / "color").iterdir())[5]
    file.write_bytes(file.read_bytes()[:700])


class Fault(NamedTuple):
    code: str
    plant: Callable[[Path], None]
    says: str
    """What its sentence and mend must hold, as a regular expression."""
    certainty: str = "sure|likely"


FAULTS = {
    "world to camera": Fault(
        "poses_inverted", convention("world_to_camera"), "pose_convention: world_to_camera", "sure"
    ),
    "opengl": Fault(
        "poses_opengl",
        convention("camera_to_world_opengl"),
        "pose_convention: camera_to_world_opengl",
        "sure",
    ),
    "both": Fault(
        "poses_opengl",
        convention("world_to_camera_opengl"),
        "pose_convention: world_to_camera_opengl",
    ),
    "mirrored": Fault(
        "poses_mirrored",
        change_poses(lambda pose: pose @ np.diag([1.0, -1, 1, 1])),
        "camera's y axis points the wrong way.*column 2",
        "sure",
    ),
    "not rigid": Fault(
        "poses_not_rigid",
        change_poses(lambda pose: pose @ np.diag([1.3, 1.3, 1.3, 1])),
        "scale",
        "sure",
    ),
    "lost": Fault(
        "poses_not_finite",
        change_poses(lambda pose: np.full((4, 4), -np.inf), slice(2, 5)),
        "3 frames have no pose",
    ),
    "frozen": Fault(
        "trajectory_frozen", copy_files(("pose",), dict.fromkeys(range(5, 8), 4)), "stands still"
    ),
    "jumping": Fault(
        "trajectory_jumps",
        change_poses(lambda pose: pose + 12.0 * np.eye(4)[:, :1] * np.eye(4)[3], slice(6, 8)),
        "2 frames .*000006, 000007",
        "sure",
    ),
    "out of step": Fault(
        "poses_shifted",
        copy_files(("pose",), {i: (i + 1) % FRAMES for i in range(FRAMES)}),
        "1 earlier",
    ),
    "depth at 5000": Fault(
        "depth_unit", change_depth(lambda counts: counts * 5), "depth_scale: 5000", "sure"
    ),
    "depth in centimetres": Fault(
        "depth_unit", change_depth(lambda counts: counts / 10), "depth_scale: 100`", "sure"
    ),
    "depth in metres": Fault(
        "depth_unit", change_depth(lambda counts: counts / 1000), "depth_scale: 1`"
    ),
    "depth along rays": Fault("depth_along_rays", change_depth(along_rays), "along each ray"),
    "poses in millimetres": Fault("poses_unit", scaled_poses(1000), "millimetres", "sure"),
    "mesh in millimetres": Fault(
        "surface_unit", change_points(lambda points: points * 1000), "millimetres", "sure"
    ),
    "both in millimetres": Fault(
        "scale",
        both(scaled_poses(1000), change_points(lambda points: points * 1000)),
        "Poses and surface are 1e.03 times .* in millimetres",
        "sure",
    ),
    "camera of larger images": Fault(
        "intrinsics_size",
        change_camera(lambda k: np.diag([2.0, 2.0, 1.0]) @ k),
        "for images of about 3(18|19|20) x 2(38|39|40) pixels, these are 160 x 120",
        "sure",
    ),
    "focal length": Fault(
        "focal_length",
        change_camera(lambda k: k * np.array([[1.5, 1, 1], [1, 1.5, 1], [1, 1, 1]])),
        r"about 0\.67 times",
    ),
    "principal point": Fault(
        "principal_point",
        change_camera(lambda k: k + np.array([[0, 0, 20.0], [0, 0, 0], [0, 0, 0]])),
        "cx and cy",
    ),
    "registration": Fault(
        "colour_displaced", change_images(shifted), r"\+9 pixels to the right and [+-]0 down"
    ),
    "y up": Fault("axis_up", turn_world(about_x(-90)), "y points up.*`up_axis: y`", "sure"),
    "-y up": Fault("axis_up", turn_world(about_x(90)), "-y points up.*`up_axis: -y`", "sure"),
    "upside down": Fault("axis_up", turn_world(about_x(180)), "upside down", "sure"),
    "tilted": Fault("axis_tilted", turn_world(about_x(20)), "20 degrees"),
    "one frame": Fault("coverage", remove_frames(slice(1, None)), "% of the points"),
    "blurred": Fault(
        "pictures_blurred", change_images(lambda i: i.filter(ImageFilter.GaussianBlur(4))), "blur"
    ),
    "black": Fault(
        "pictures_empty",
        change_images(lambda i: Image.new("RGB", i.size), slice(0, 9)),
        "9 of 14",
        "sure",
    ),
    "repeated": Fault(
        "duplicate_frames",
        copy_files(("color", "depth", "pose"), {4: 3, 8: 7, 11: 10}),
        "000004, 000008, 000011",
        "likely|possible",
    ),
    "pictures stuck": Fault(
        "pictures_stuck", copy_files(("color",), {6: 5, 7: 5}), "000006, 000007", "sure"
    ),
    "no depth": Fault(
        "depth_empty", change_depth(lambda counts: counts * 0), "14 of 14 frames", "sure"
    ),
    "little depth": Fault(
        "depth_empty", change_depth(lambda counts: counts * 0, slice(0, 5)), "5 of 14 frames"
    ),
    "clipped depth": Fault(
        "depth_saturated", change_depth(lambda counts: np.minimum(counts, 1800)), "cut off"
    ),
    "8 bits": Fault("depth_coarse", change_depth(eight_bits), "8 bits"),
    "mesh moved": Fault(
        "surface_elsewhere",
        change_points(lambda points: points - points.mean(dim=0)),
        "another origin",
    ),
    "mesh turned": Fault(
        "surface_elsewhere",
        change_points(lambda points: points @ torch.from_numpy(about_x(-90).T).float()),
        "x, -z, y",
    ),
    # what is fused from so few frames in the mesh's place is coarse, which may be said, too
    "no points": Fault("no_points|poses_inaccurate", no_points, "has no points"),
    "few points": Fault("points_few", few_points, "1500 points"),
    "broken points": Fault("points_not_finite", change_points(some_nan), "not finite", "sure"),
    "stray points": Fault("points_stray", change_points(some_stray), "far away"),
    "points twice": Fault("points_duplicated", repeated_points, "exactly on each other"),
    "no colours": Fault("colours_missing", no_colors, "have no colours", "possible"),
    "cut image": Fault("frames_damaged|cannot_open", cut_file, "000005", "sure"),
}


# the first of each kind of sentence; those of the same kind where everything is run
CODES = [fault.code for fault in FAULTS.values()]
EACH_KIND = [
    pytest.param(name, marks=pytest.mark.slow if code in CODES[:place] else ())
    for place, (name, code) in enumerate(zip(FAULTS, CODES, strict=True))
]


@pytest.mark.parametrize("name", EACH_KIND)
def test_a_planted_fault_is_named_and_nothing_else(broken, name):
    fault = FAULTS[name]
    fault.plant(broken)
    findings = examine(broken).diagnosis.findings
    assert findings
    assert re.fullmatch(fault.code.partition("|")[0], findings[0].code), findings
    for finding in findings:
        assert re.fullmatch(fault.code, finding.code), findings
    for finding in findings:
        assert finding.certainty in fault.certainty.split("|"), finding
    text = " ".join(f"{finding.message} {finding.fix}" for finding in findings)
    assert re.search(fault.says, text), text


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_healthy_home_has_no_findings(home, tmp_path, seed):
    folder = home if seed == 0 else write_home(tmp_path / "home", seed)
    diagnosis = examine(folder).diagnosis
    assert diagnosis.findings == ()
    assert diagnosis.healthy
    assert diagnosis.lifting_works
    assert diagnosis.looked_at["agreement"] > 0.9


def test_a_real_capture_has_no_findings(data_root):
    captures = [folder.parent for folder in sorted(data_root.glob("rgbd*/pose"))]
    assert captures
    for capture in captures:
        assert examine(capture).diagnosis.findings == ()


def test_a_real_capture_without_a_mesh_is_compared_with_itself(data_root, tmp_path):
    copy = Path(shutil.copytree(data_root / "rgbd_frames", tmp_path / "copy"))
    (copy / "mesh.ply").unlink()
    remove_frames(slice(0, None, 3))(copy)
    convention("world_to_camera")(copy)
    findings = examine(copy, fuse_voxel_size=0.08).diagnosis.findings
    first = next(finding for finding in findings if finding.code == "poses_inverted")
    assert "pose_convention: world_to_camera" in first.fix


def test_two_faults_are_both_named(broken):
    convention("world_to_camera")(broken)
    change_images(shifted)(broken)
    codes = [finding.code for finding in examine(broken).diagnosis.findings]
    assert sorted(codes) == ["colour_displaced", "poses_inverted"]


def test_a_setting_that_mends_makes_it_healthy(broken):
    both(convention("camera_to_world_opengl"), change_depth(lambda counts: counts * 5))(broken)
    diagnosis = examine(
        broken, pose_convention="camera_to_world_opengl", depth_scale=5000.0
    ).diagnosis
    assert diagnosis.findings == ()


def test_the_command_prints_draws_and_writes(broken, tmp_path, capsys, monkeypatch):
    convention("camera_to_world_opengl")(broken)
    monkeypatch.setenv("COLUMNS", "100")
    out = tmp_path / "out"
    assert run_command(["doctor", str(broken), "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert "poses_opengl" in printed
    assert "lifting will not work as it is" in printed
    written = json.loads((out / "doctor.json").read_text())
    assert not written["healthy"]
    assert not written["lifting_works"]
    assert [finding["code"] for finding in written["findings"]] == ["poses_opengl"]
    assert len(written["refusals"]) == 1
    assert len(written["pictures"]) == 4
    for name in written["pictures"]:
        with Image.open(out / name) as picture:
            colors = np.asarray(picture).reshape(-1, 3).astype(int)
            assert picture.width == 3 * 320
            assert picture.height == 2 * (240 + 22)  # as it is, and as it would be if mended
        green = (np.abs(colors - (60, 190, 90)).max(axis=1) < 3).sum()
        assert green > 500


def test_a_healthy_scan_ends_with_status_0(home, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(["doctor", str(home), "--set", "depth_scale=1000"]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    assert (tmp_path / "doctor-home" / "doctor.json").is_file()


def test_mistakes_of_the_user_are_sentences(home, tmp_path, capsys):
    assert run_command(["doctor", str(tmp_path / "nothing")]) == 2
    assert "nothing" in capsys.readouterr().err
    assert run_command(["doctor", str(home), "--set", "depth_skale=1"]) == 2
    assert "depth_scale" in capsys.readouterr().err
    assert run_command(["doctor", str(home), "--set", "up_axis"]) == 2
    assert "KEY=VALUE" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="depth_skale"):
        examine(home, depth_skale=1.0)


def test_a_cloud_alone_is_examined(tmp_path):
    points = torch.rand(9000, 3, generator=torch.Generator().manual_seed(0)) * 0.003
    write_ply(tmp_path / "tiny.ply", points=points)
    found = {f.code: f for f in examine(tmp_path / "tiny.ply").diagnosis.findings}
    assert set(found) == {"scale", "no_frames", "colours_missing"}
    assert found["scale"].fix == "multiply the points by 1000"
    assert "a student that sees colour cannot label them" in found["colours_missing"].message


def test_refusals_are_raised_outside_of_an_examination(broken):
    convention("world_to_camera")(broken)
    with pytest.raises(SceneError, match="pose_convention: world_to_camera") as caught:
        open_scene(broken)
    with collect_issues():
        open_scene(broken)
    (sentence,) = examine(broken).diagnosis.refusals
    assert "pose_convention: world_to_camera" in sentence
    assert sentence.partition(": ")[2].partition(" (")[0] in str(caught.value)


def test_a_scan_of_300_m_is_named():
    generator = torch.Generator().manual_seed(1)
    frame = MemoryFrame(
        "0",
        torch.tensor([[80.0, 0, 39.5], [0, 80, 29.5], [0, 0, 1]], dtype=torch.float64),
        torch.eye(4, dtype=torch.float64),
        torch.randint(0, 255, (60, 80, 3), generator=generator, dtype=torch.uint8),
        torch.full((60, 80), 2.0),
    )
    points = torch.rand(9000, 3, generator=generator) * 300
    colors = torch.randint(0, 255, points.shape, generator=generator, dtype=torch.uint8)
    scene = Scene("hall", points, colors, frames=(frame,))
    capture = sample_scene(scene)
    (finding,) = check_cloud(scene, capture, scale_is_explained=False)
    assert finding.code == "scale"
    assert "300 m long" in finding.message
    assert "0.01" in finding.fix or "0.1" in finding.fix
    assert check_cloud(scene, capture, scale_is_explained=True) == []
