"""What does not fit is refused or named, on real frames; what is harmless is accepted."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree
from torch import Tensor

from pcdistill.doctor import examine
from pcdistill.errors import SceneError
from pcdistill.geometry import fuse_depth, resize_intrinsics, sample_surface
from pcdistill.scenes import MemoryFrame, Scene, open_scene, write_ply
from pcdistill.scenes.checks import (
    FUSED,
    Assumptions,
    check_geometry,
    require_fitting_frames,
    require_fitting_scene,
    sample_scene,
)
from tests.doctor.test_examine import write_home

SIZE = (240, 320)
WHERE = Path("capture")
READ = {"poses": "camera_to_world", "depth_scale": 1000.0}


@pytest.fixture(scope="module")
def capture(data_root) -> Scene:
    """Every third of the real frames, at half their size, with their mesh."""
    scene = open_scene(data_root / "rgbd_frames", frame_step=3)
    frames = []
    for frame in scene.frames:
        pixels, depth = frame.image(), frame.depth()
        assert depth is not None
        intrinsics = resize_intrinsics(frame.intrinsics, frame.image_size, SIZE)
        frames.append(
            MemoryFrame(
                frame.name,
                intrinsics,
                frame.camera_to_world,
                pixels[::2, ::2].contiguous(),
                depth[::2, ::2].contiguous(),
            )
        )
    return replace(scene, frames=tuple(frames), provenance={**READ, "surface": "mesh.ply"})


def changed(change: Callable[[MemoryFrame], MemoryFrame]) -> Callable[[Scene], Scene]:
    return lambda scene: replace(scene, frames=tuple(change(frame) for frame in scene.frames))


def flipped(side: int, images: str) -> Callable[[Scene], Scene]:
    def flip(frame: MemoryFrame) -> MemoryFrame:
        pixels, depth = frame.pixels, frame.depth_pixels
        if images in ("both", "colour"):
            pixels = pixels.flip(side)
        if images in ("both", "depth"):
            depth = depth.flip(side)
        return replace(frame, pixels=pixels, depth_pixels=depth)

    return changed(flip)


def posed(change: Callable[[Tensor], Tensor]) -> Callable[[Scene], Scene]:
    return changed(lambda frame: replace(frame, camera_to_world=change(frame.camera_to_world)))


def exchanged(axes: list[list[float]]) -> Tensor:
    whole = torch.eye(4, dtype=torch.float64)
    whole[:3, :3] = torch.tensor(axes, dtype=torch.float64)
    return whole


def shuffled(scene: Scene) -> Scene:
    order = torch.randperm(len(scene.frames), generator=torch.Generator().manual_seed(4)).tolist()
    poses = [scene.frames[place].camera_to_world for place in order]
    frames = [replace(f, camera_to_world=p) for f, p in zip(scene.frames, poses, strict=True)]
    return replace(scene, frames=tuple(frames))


def longer_lens(factor: float) -> Callable[[Scene], Scene]:
    def longer(frame: MemoryFrame) -> MemoryFrame:
        intrinsics = frame.intrinsics.clone()
        intrinsics[0, 0] *= factor
        intrinsics[1, 1] *= factor
        return replace(frame, intrinsics=intrinsics)

    return changed(longer)


def deeper(factor: float) -> Callable[[Scene], Scene]:
    return changed(lambda frame: replace(frame, depth_pixels=frame.depth_pixels * factor))


def moved(change: Callable[[Tensor], Tensor]) -> Callable[[Scene], Scene]:
    return lambda scene: replace(scene, points=change(scene.points.double()).float())


def turned(degrees: float) -> Callable[[Tensor], Tensor]:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)
    return lambda points: (points - points.mean(dim=0)) @ turn.T + points.mean(dim=0)


OPENGL = exchanged([[1, 0, 0], [0, -1, 0], [0, 0, -1]])
# name: what is done to the scan, what is said of it
FAULTS: dict[str, tuple[Callable[[Scene], Scene], str]] = {
    "rows flipped": (flipped(0, "both"), "depth images are upside down"),
    "columns mirrored": (flipped(1, "both"), "depth images are mirrored"),
    "depth rows flipped": (flipped(0, "depth"), "depth images are upside down"),
    "depth columns mirrored": (flipped(1, "depth"), "depth images are mirrored"),
    "camera axes exchanged": (
        posed(lambda pose: pose @ exchanged([[0, -1, 0], [1, 0, 0], [0, 0, 1]])),
        r"axes of the cameras are exchanged.*\[\[?0, 1, 0\], \[-1, 0, 0\], \[0, 0, 1\]",
    ),
    "cameras look along -z": (posed(lambda pose: pose @ OPENGL), "camera_to_world_opengl"),
    "poses inverted": (posed(torch.linalg.inv), "`pose_convention: world_to_camera`"),
    "poses shuffled": (shuffled, "contradict each other"),
    "focal length times 1.5": (longer_lens(1.5), r"about 0\.67 times as long"),
    "focal length over 1.5": (longer_lens(1 / 1.5), r"about 1\.5 times as long"),
    "depth times 1.1": (deeper(1.1), r"about 1\.1\d? times what the poses"),
    "depth times 0.9": (deeper(0.9), r"about 0\.\d+ times what the poses"),
    "depth times 5": (deeper(5), "set `depth_scale: 5000`"),
}
SURFACE_FAULTS: dict[str, tuple[Callable[[Scene], Scene], str]] = {
    "world axes exchanged": (
        posed(lambda pose: exchanged([[0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ pose),
        "surface has other axes.*x, y, z by -y, x, z",
    ),
    "mesh turned by 30 degrees": (moved(turned(30)), "surface"),
    "mesh moved by 0.5 m": (moved(lambda p: p + torch.tensor([0.5, 0, 0])), "surface"),
    "mesh lowered by 0.5 m": (moved(lambda p: p - torch.tensor([0, 0, 0.5])), "surface"),
}
PICTURE_FAULTS: dict[str, tuple[Callable[[Scene], Scene], str]] = {
    "picture rows flipped": (flipped(0, "colour"), "pictures are upside down.*bottom row last"),
    "picture columns mirrored": (flipped(1, "colour"), "pictures are mirrored"),
}
NAMED_ONLY = {"depth times 1.1", "depth times 0.9"}  # lifting works, less well


def said_of(scene: Scene, caplog, *, fused: bool) -> tuple[str, bool]:
    """What a run says of a scan as it is read, and whether it refuses it."""
    caplog.clear()
    try:
        with caplog.at_level(logging.WARNING):
            if fused:
                read = Assumptions(settable=frozenset(READ))
                require_fitting_frames(WHERE, scene.frames, read)
            else:
                require_fitting_scene(WHERE, scene)
    except SceneError as error:
        return str(error), True
    return " ".join(record.getMessage() for record in caplog.records), False


ALONE = ("rows flipped", "poses inverted", "focal length over 1.5", "depth times 0.9", "as it is")
"""What is judged by the frames alone too; the others so only where everything is run."""


def with_and_without_mesh(names: Iterable[str]) -> list:
    """Parameters `name` and `fused`: each with the mesh, and by the frames alone."""
    alone = [
        pytest.param(
            name,
            True,
            id=f"{name}-frames alone",
            marks=() if name in ALONE else pytest.mark.slow,
        )
        for name in names
    ]
    return [*(pytest.param(name, False, id=f"{name}-mesh") for name in names), *alone]


@pytest.mark.parametrize(("name", "fused"), with_and_without_mesh(FAULTS))
def test_what_does_not_fit_is_refused_or_named(capture, caplog, name, fused):
    plant, says = FAULTS[name]
    said, refused = said_of(plant(capture), caplog, fused=fused)
    assert re.search(says, said), said
    assert refused is (name not in NAMED_ONLY)
    assert said.startswith(f"{WHERE}")


@pytest.mark.parametrize("name", [*SURFACE_FAULTS, *PICTURE_FAULTS])
def test_a_surface_that_is_elsewhere_and_pictures_that_lie_otherwise_are_refused(
    capture, caplog, name
):
    plant, says = (SURFACE_FAULTS | PICTURE_FAULTS)[name]
    said, refused = said_of(plant(capture), caplog, fused=False)
    assert refused
    assert re.search(says, said), said


@pytest.mark.parametrize("name", PICTURE_FAULTS)
def test_pictures_that_lie_otherwise_are_refused_without_a_surface(capture, caplog, name):
    scene = fused_scene(PICTURE_FAULTS[name][0](capture))
    said, refused = said_of(scene, caplog, fused=False)
    assert refused
    assert re.search(PICTURE_FAULTS[name][1], said), said


def fused_scene(scene: Scene) -> Scene:
    """The frames with the surface that their own depth makes."""
    cloud = fuse_depth(
        ((f.depth(), f.image(), f.intrinsics, f.camera_to_world) for f in scene.frames),
        voxel_size=0.04,
    )
    return Scene(
        "fused",
        cloud.points,
        cloud.colors,
        frames=scene.frames,
        provenance={**READ, "surface": FUSED},
    )


@pytest.mark.parametrize("name", ["rows flipped", "poses inverted", "depth times 5"])
def test_a_mended_capture_without_a_surface_has_the_points_that_its_depth_makes(capture, name):
    """What the doctor draws and goes on with; what was fused from wrong frames is no place."""
    broken = sample_scene(fused_scene(FAULTS[name][0](capture)), 12)
    corrected = check_geometry(broken, Assumptions()).capture
    tree = KDTree(capture.points.numpy())
    near, far = (
        np.median(tree.query(points[::50].numpy())[0])
        for points in (corrected.points, broken.points)
    )
    assert near < 0.03 < far
    assert corrected.brightness is not None
    assert len(corrected.brightness) == len(corrected.points)
    assert all(
        sight.flipped == ((0,) if name == "rows flipped" else ()) for sight in corrected.sights
    )


# harmless


def noisy_depth(fraction: float) -> Callable[[Scene], Scene]:
    generator = torch.Generator().manual_seed(1)

    def noisy(frame: MemoryFrame) -> MemoryFrame:
        noise = 1 + fraction * torch.randn(frame.depth_pixels.shape, generator=generator)
        return replace(frame, depth_pixels=frame.depth_pixels * noise)

    return changed(noisy)


def with_holes(fraction: float, side: int) -> Callable[[Scene], Scene]:
    generator = torch.Generator().manual_seed(2)

    def holed(frame: MemoryFrame) -> MemoryFrame:
        height, width = frame.image_size
        coarse = torch.rand(height // side, width // side, generator=generator) < fraction
        hole = coarse.repeat_interleave(side, 0).repeat_interleave(side, 1)
        return replace(frame, depth_pixels=torch.where(hole, 0.0, frame.depth_pixels))

    return changed(holed)


def cropped(top: int, left: int, height: int, width: int) -> Callable[[Scene], Scene]:
    def crop(frame: MemoryFrame) -> MemoryFrame:
        intrinsics = frame.intrinsics.clone()
        intrinsics[0, 2] -= left
        intrinsics[1, 2] -= top
        rows, columns = slice(top, top + height), slice(left, left + width)
        return replace(
            frame,
            intrinsics=intrinsics,
            pixels=frame.pixels[rows, columns].contiguous(),
            depth_pixels=frame.depth_pixels[rows, columns].contiguous(),
        )

    return changed(crop)


def jittered(metres: float, degrees: float) -> Callable[[Scene], Scene]:
    generator = torch.Generator().manual_seed(3)

    def jitter(pose: Tensor) -> Tensor:
        angle = math.radians(degrees) * torch.randn(3, generator=generator, dtype=torch.float64)
        cross = torch.zeros(3, 3, dtype=torch.float64)
        cross[0, 1], cross[0, 2], cross[1, 2] = -angle[2], angle[1], -angle[0]
        small = torch.eye(4, dtype=torch.float64)
        small[:3, :3] = torch.linalg.matrix_exp(cross - cross.T)
        small[:3, 3] = metres * torch.randn(3, generator=generator, dtype=torch.float64)
        return pose @ small

    return posed(jitter)


def brighter(gain: float, offset: float) -> Callable[[Scene], Scene]:
    def shown(frame: MemoryFrame) -> MemoryFrame:
        pixels = (frame.pixels.float() * gain + offset).clamp(0, 255).to(torch.uint8)
        return replace(frame, pixels=pixels)

    return changed(shown)


def thinned(count: int) -> Callable[[Scene], Scene]:
    def thin(scene: Scene) -> Scene:
        chosen = torch.randperm(len(scene.points), generator=torch.Generator().manual_seed(5))
        chosen = chosen[:count]
        return Scene(
            scene.name,
            scene.points[chosen],
            scene.colors[chosen],
            frames=scene.frames,
            provenance=scene.provenance,
        )

    return thin


def cut(low: float, high: float, axis: int) -> Callable[[Scene], Scene]:
    """Only a part of the mesh."""

    def cut_one(scene: Scene) -> Scene:
        place = scene.points[:, axis]
        ends = torch.quantile(place, torch.tensor([low, high]))
        kept = (place >= ends[0]) & (place <= ends[1])
        number = kept.cumsum(0) - 1
        faces = scene.faces[kept[scene.faces].all(dim=1)]
        return replace(
            scene,
            points=scene.points[kept],
            colors=scene.colors[kept],
            normals=None if scene.normals is None else scene.normals[kept],
            faces=number[faces],
        )

    return cut_one


def few(step: int) -> Callable[[Scene], Scene]:
    return lambda scene: replace(scene, frames=scene.frames[::step])


def with_noisy_points(metres: float) -> Callable[[Scene], Scene]:
    def noisy(points: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(6)
        return points + metres * torch.randn(points.shape, generator=generator, dtype=points.dtype)

    return moved(noisy)


def everything_turned(scene: Scene) -> Scene:
    turn = exchanged([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    return moved(lambda p: p @ turn[:3, :3].T + 30)(
        posed(lambda pose: _with_translation(turn @ pose, 30.0))(scene)
    )


def _with_translation(pose: Tensor, metres: float) -> Tensor:
    pose = pose.clone()
    pose[:3, 3] += metres
    return pose


HARMLESS: dict[str, Callable[[Scene], Scene]] = {
    "as it is": lambda scene: scene,
    "depth with 1 % of noise": noisy_depth(0.01),
    "depth with 3 % of noise": noisy_depth(0.03),
    "small holes in a third of the depth": with_holes(0.33, 4),
    "large holes in half of the depth": with_holes(0.5, 40),
    "every second frame": few(2),
    "four frames": few(4),
    "pictures cropped": cropped(20, 30, 200, 260),
    "pictures cropped to one side": cropped(0, 80, 240, 240),
    "poses off by 1 cm and 0.3 degrees": jittered(0.01, 0.3),
    "poses off by 1.5 cm and 0.4 degrees": jittered(0.015, 0.4),
    "darker pictures": brighter(0.5, 0),
    "brighter pictures with less contrast": brighter(0.6, 90),
    "another origin and heading": everything_turned,
    "depth cut off at 3 m": changed(
        lambda f: replace(f, depth_pixels=torch.where(f.depth_pixels < 3, f.depth_pixels, 0.0))
    ),
    "depth in steps of 1 cm": changed(
        lambda f: replace(f, depth_pixels=(f.depth_pixels * 100).round() / 100)
    ),
    "depth 2 % too long": deeper(1.02),
    "a focal length 3 % too long": longer_lens(1.03),
}
HARMLESS_SURFACES: dict[str, Callable[[Scene], Scene]] = {
    "points alone": thinned(30_000),
    "a thin cloud": thinned(6_000),
    "points with 1 cm of noise": with_noisy_points(0.01),
    "the left half of the mesh": cut(0.0, 0.5, 0),
    "the lower two thirds of the mesh": cut(0.0, 0.66, 2),
    "the mesh moved by 2 cm": moved(lambda p: p + 0.02),
}


@pytest.mark.parametrize(("name", "fused"), with_and_without_mesh(HARMLESS))
def test_what_is_harmless_is_accepted(capture, caplog, name, fused):
    said, refused = said_of(HARMLESS[name](capture), caplog, fused=fused)
    assert not refused, said
    assert said == ""


@pytest.mark.parametrize("name", HARMLESS_SURFACES)
def test_another_surface_of_the_same_place_is_accepted(capture, caplog, name):
    said, refused = said_of(HARMLESS_SURFACES[name](capture), caplog, fused=False)
    assert not refused, said
    if "of the mesh" in name:
        assert said == "" or "of what the frames see is not in the surface" in said
    else:
        assert said == ""


# advice


ADVICE = (
    "13_polycam_axes",
    "14_depth_normalised",
    "11_icl_positive_fy",
    "19_portrait_landscape_k",
)


@pytest.mark.parametrize("name", ADVICE)
def test_reported_scans_are_refused_and_the_doctor_says_why(data_root, name):
    path = data_root / "reports" / name
    with pytest.raises(SceneError) as caught:
        open_scene(path)
    examination = examine(path)
    diagnosis = examination.diagnosis
    assert not diagnosis.healthy
    assert not diagnosis.lifting_works
    (finding,) = [f for f in diagnosis.findings if not f.lifting_works]
    expected = {
        "13_polycam_axes": ("surface_elsewhere", r"camera_to_world_opengl.* x, z, -y|x, -z, y"),
        "14_depth_normalised": ("depth_stretched", "not normalised"),
        "11_icl_positive_fy": ("images_flipped", "bottom row last"),
        "19_portrait_landscape_k": ("intrinsics_swapped", "exchange fx with fy and cx with cy"),
    }[name]
    assert finding.code == expected[0]
    assert re.search(expected[1], finding.fix)
    assert "depth_scale" not in finding.fix
    assert "depth_scale" not in str(caught.value)


def test_following_half_of_the_advice_does_not_end_in_lifting_will_work(data_root):
    path = data_root / "reports/13_polycam_axes"
    diagnosis = examine(path, pose_convention="camera_to_world_opengl").diagnosis
    assert not diagnosis.lifting_works
    with pytest.raises(SceneError, match="surface has other axes"):
        open_scene(path, pose_convention="camera_to_world_opengl")
    for scale in (14700.0, 16000.0):
        assert not examine(
            data_root / "reports/14_depth_normalised", depth_scale=scale
        ).diagnosis.lifting_works


@pytest.mark.parametrize("name", ["13_right", "19_portrait_right", "12_slow_0_scale_6553"])
def test_reported_scans_that_are_right_are_accepted(data_root, caplog, name):
    path = data_root / "reports" / name
    settings = {"depth_scale": 6553.5} if "6553" in name else {}
    with caplog.at_level(logging.WARNING):
        open_scene(path, **settings)
    assert not caplog.records
    assert examine(path, **settings).diagnosis.lifting_works


def test_advice_is_in_the_axes_of_the_files(tmp_path):
    """`up_axis: y` turns the scan after it was read, but not what is to be done to the files."""
    folder = write_home(tmp_path / "home", 1)
    to_y_up = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    mesh = open_scene(folder)
    write_ply(
        folder / "mesh.ply",
        points=mesh.points @ torch.from_numpy(to_y_up.T).float(),
        colors=mesh.colors,
        faces=mesh.faces,
    )
    with pytest.raises(SceneError, match="x, y, z by x, -z, y") as caught:
        open_scene(folder)
    assert "surface has other axes" in str(caught.value)
    whole = np.eye(4)
    whole[:3, :3] = to_y_up
    for file in (folder / "pose").iterdir():
        np.savetxt(file, whole @ np.loadtxt(file))
    open_scene(folder, up_axis="y")  # both are y up
    write_ply(folder / "mesh.ply", points=mesh.points, colors=mesh.colors, faces=mesh.faces)
    with pytest.raises(SceneError, match="x, y, z by x, z, -y"):
        open_scene(folder, up_axis="y")
    # about an axis that `up_axis` turns: in the scene's axes the advice would be another
    y_up = mesh.points @ torch.from_numpy(to_y_up.T).float()
    beside = torch.stack([-y_up[:, 1], y_up[:, 0], y_up[:, 2]], dim=1)
    write_ply(folder / "mesh.ply", points=beside, colors=mesh.colors, faces=mesh.faces)
    with pytest.raises(SceneError, match="x, y, z by y, -x, z"):
        open_scene(folder, up_axis="y")


def test_a_surface_is_sampled_evenly():
    """A large triangle beside a thousand small ones gets the share of its area."""
    corners = torch.rand(3000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    large = torch.tensor([[0.0, 0, 5], [10, 0, 5], [0, 10, 5]], dtype=torch.float64)
    faces = torch.arange(3003).view(-1, 3)
    vertices = torch.cat([corners, large])
    sides = vertices[faces]
    areas = torch.linalg.cross(sides[:, 1] - sides[:, 0], sides[:, 2] - sides[:, 0]).norm(dim=1) / 2
    sampled = sample_surface(vertices, faces, 20_000)
    fraction = float((sampled[:, 2] == 5).double().mean())
    assert fraction == pytest.approx(float(areas[-1] / areas.sum()), abs=1e-3)
    inside = sampled[sampled[:, 2] == 5]
    assert bool((inside[:, 0] + inside[:, 1] <= 10 + 1e-9).all())
    quarter = (inside[:, 0] + inside[:, 1] <= 5).double().mean()  # a quarter of its area
    assert float(quarter) == pytest.approx(0.25, abs=0.01)
    assert len(sample_surface(vertices[:3].expand(3, 3), faces[:1], 10)) == 10
    assert len(sample_surface(torch.zeros(3, 3), faces[:1], 10)) == 0
