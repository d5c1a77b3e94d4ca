"""Other ways to read the same files: what the numbers would mean if one assumption were another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.geometry import back_project
from pcdistill.scenes.consistency import POSE_CONVENTIONS
from pcdistill.scenes.doctor.capture import Capture, Sight

UNITS: Mapping[str, float] = {
    "millimetres": 0.001,
    "centimetres": 0.01,
    "feet": 0.3048,
    "inches": 0.0254,
}
DEPTH_SCALES = (1.0, 10.0, 100.0, 256.0, 1000.0, 2000.0, 4000.0, 5000.0, 6553.5, 10000.0)
"""Counts per metre that depth images are stored with."""
_FOCAL_FACTORS = (0.4, 0.5, 0.6, 0.67, 0.75, 0.82, 0.9, 1.1, 1.22, 1.33, 1.5, 1.67, 2.0, 2.5)
_OFF_CENTRE = 0.06  # of the image's side; real lenses are nearer to the centre
_PLACES = 96  # cells along the longest side of the grid in which a surface is moved
_OPENGL_OF = {name: name.endswith("_opengl") for name in POSE_CONVENTIONS}


class Reading(NamedTuple):
    """One assumption changed."""

    code: str
    sentence: str
    """What is wrong if this is the right reading."""
    mend: str
    apply: Callable[[Capture], Capture]


def other_readings(capture: Capture, poses: str, depth_scale: float) -> Iterator[Reading]:
    """Every assumption about a capture that is often wrong, changed one at a time.

    Args:
        capture: as it was opened.
        poses: the convention its poses were read with.
        depth_scale: counts per metre its depth was read with.
    """
    yield from _poses(poses)
    yield from _broken_poses(capture)
    yield from _order(capture)
    yield from _cameras(capture)
    yield from _along_rays()
    yield from _depth_scales(capture, depth_scale)
    yield from _pose_units()
    if capture.surface_is_independent:
        yield from _surface_units()
        yield from _surface_axes()
        yield from _surface_moved(capture)


def scaled_depth(capture: Capture, factor: float) -> Capture:
    """With all depth readings multiplied."""
    return capture.with_sights(
        lambda sight: sight if sight.depth is None else replace(sight, depth=sight.depth * factor)
    )


def _poses(current: str) -> Iterator[Reading]:
    words = {
        "camera_to_world": "camera-to-world, cameras looking along +z",
        "world_to_camera": "world-to-camera",
        "camera_to_world_opengl": "camera-to-world with OpenGL axes (looking along -z, y up)",
        "world_to_camera_opengl": "world-to-camera with OpenGL axes (looking along -z, y up)",
    }
    for name in POSE_CONVENTIONS:
        if name == current:
            continue
        write, read = POSE_CONVENTIONS[current].write, POSE_CONVENTIONS[name].read
        yield Reading(
            "poses_opengl" if _OPENGL_OF[name] != _OPENGL_OF[current] else "poses_inverted",
            f"The poses are {words[name]}, they were read as {words[current]}.",
            f"set `poses: {name}`",
            _with_pose(partial(_reread, write=write, read=read)),
        )


def _broken_poses(capture: Capture) -> Iterator[Reading]:
    poses = capture.poses[:, :3, :3]
    if len(poses) == 0:
        return
    if float((torch.linalg.det(poses) < 0).double().mean()) > 0.5:
        for axis, name in enumerate("xyz"):
            flip = torch.eye(4, dtype=torch.float64)
            flip[axis, axis] = -1
            yield Reading(
                "poses_mirrored",
                f"The poses mirror the scene: the camera's {name} axis points the wrong way.",
                f"negate column {axis + 1} of the rotation in every pose",
                _with_pose(partial(torch.matmul, other=flip)),
            )
    if float((poses @ poses.mT - torch.eye(3, dtype=torch.float64)).abs().amax()) > 1e-2:
        yield Reading(
            "poses_not_rigid",
            "The rotations of the poses carry a scale or a shear.",
            "divide each rotation by its scale, so that its columns have length 1",
            _with_pose(_rigid),
        )


def _reread(
    pose: Tensor, write: Callable[[Tensor], Tensor], read: Callable[[Tensor], Tensor]
) -> Tensor:
    return read(write(pose))


def _rigid(pose: Tensor) -> Tensor:
    u, _, vh = torch.linalg.svd(pose[:3, :3])
    mended = pose.clone()
    mended[:3, :3] = u @ vh
    mended[3] = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=pose.dtype)
    return mended


def _order(capture: Capture) -> Iterator[Reading]:
    poses = capture.poses
    if len(poses) < 4:
        return
    for shift in (-2, -1, 1, 2):

        def moved(sight: Sight, shift: int = shift) -> Sight:
            return replace(sight, camera_to_world=poses[(sight.index + shift) % len(poses)])

        yield Reading(
            "poses_shifted",
            f"Poses and images are out of step: frame i has the pose of frame i{-shift:+d}.",
            f"pair every image with the pose {abs(shift)} "
            f"{'later' if shift > 0 else 'earlier'}, by time stamp",
            partial(Capture.with_sights, change=moved),
        )


def _cameras(capture: Capture) -> Iterator[Reading]:
    if not capture.sights:
        return
    first = capture.sights[0]
    height, width = first.gray.shape
    fx, fy, cx, cy = (float(first.intrinsics[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    off = max(abs(cx / width - 0.5), abs(cy / height - 0.5))
    if off > _OFF_CENTRE and cx > 0 and cy > 0:
        factor = (width / (2 * cx), height / (2 * cy))
        real = first.frame.image_size
        guess = f"{real[1] / factor[0]:.0f} x {real[0] / factor[1]:.0f}"
        yield Reading(
            "intrinsics_size",
            f"The camera matrix is for images of about {guess} pixels, these are "
            f"{real[1]} x {real[0]}.",
            f"multiply its first row by {factor[0]:.3g} and its second by {factor[1]:.3g}",
            _with_camera(
                lambda k: k * torch.tensor([[factor[0]], [factor[1]], [1.0]], dtype=k.dtype)
            ),
        )
        yield Reading(
            "principal_point",
            f"The principal point is {off:.0%} of the image away from its middle.",
            "set cx and cy to half of the image's width and height",
            _with_camera(lambda k: _set(k, fx, fy, (width - 1) / 2, (height - 1) / 2)),
        )
        yield Reading(
            "intrinsics_swapped",
            "The rows of the camera matrix are swapped, as after turning the images.",
            "exchange fx with fy and cx with cy",
            _with_camera(lambda k: _set(k, fy, fx, cy, cx)),
        )
    for factor_of_focal in _FOCAL_FACTORS:
        yield Reading(
            "focal_length",
            f"The focal length is wrong: about {factor_of_focal:.3g} times as long would fit.",
            "give the camera matrix of this camera at this image size (fx and fy about "
            f"{factor_of_focal:.3g} times as large)",
            _with_camera(partial(_longer, factor=factor_of_focal)),
        )


def _longer(intrinsics: Tensor, factor: float) -> Tensor:
    changed = intrinsics.clone()
    changed[0, 0] *= factor
    changed[1, 1] *= factor
    return changed


def _set(intrinsics: Tensor, fx: float, fy: float, cx: float, cy: float) -> Tensor:
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=intrinsics.dtype)


def _along_rays() -> Iterator[Reading]:
    def shortened(sight: Sight) -> Sight:
        if sight.depth is None:
            return sight
        depth = sight.depth / _ray_lengths(sight.intrinsics, sight.depth)
        return replace(sight, depth=depth.float())

    yield Reading(
        "depth_along_rays",
        "The depth images hold the distance from the camera along each ray, not along the "
        "optical axis.",
        "divide each reading by the length of its ray, sqrt(1 + x^2 + y^2)",
        partial(Capture.with_sights, change=shortened),
    )


def _ray_lengths(intrinsics: Tensor, depth: Tensor) -> Tensor:
    rows = torch.arange(depth.shape[0], dtype=torch.float64)[:, None]
    columns = torch.arange(depth.shape[1], dtype=torch.float64)[None]
    x = (columns - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (rows - intrinsics[1, 2]) / intrinsics[1, 1]
    return torch.sqrt(1 + x * x + y * y)


def _depth_scales(capture: Capture, depth_scale: float) -> Iterator[Reading]:
    for scale in DEPTH_SCALES:
        factor = depth_scale / scale
        if abs(factor - 1) < 0.02:
            continue
        yield depth_reading(capture, depth_scale, factor)


def depth_reading(capture: Capture, depth_scale: float, factor: float) -> Reading:
    """The reading under which depth is `factor` times what it was taken for."""
    medians = torch.tensor([s.facts.median for s in capture.sights if s.facts and s.facts.known])
    median = float(medians.median()) if len(medians) else 0.0
    if not 0.02 <= factor <= 50 and 0.2 <= median <= 20:
        units = [(name, 1 / m) for name, m in UNITS.items() if abs(m * factor - 1) < 0.1]
        unit, factor = units[0] if units else ("", factor)
        return Reading(
            "scale",
            f"Poses and surface are {factor:.3g} times as large as the depth says"
            + (f": they are in {unit}." if unit else "."),
            f"multiply the translations of the poses and the surface by {1 / factor:.3g}",
            partial(scaled_depth, factor=factor),
        )
    scale = depth_scale / factor
    usual = [value for value in DEPTH_SCALES if abs(value / scale - 1) < 0.04]
    setting = usual[0] if usual else float(f"{scale:.3g}")
    return Reading(
        "depth_unit",
        f"The depth is in another unit: it is {factor:.3g} times what `depth_scale: "
        f"{depth_scale:g}` makes of it.",
        f"set `depth_scale: {setting:g}`",
        partial(scaled_depth, factor=factor),
    )


def _pose_units() -> Iterator[Reading]:
    for unit, metres in UNITS.items():

        def shrunk(pose: Tensor, metres: float = metres) -> Tensor:
            mended = pose.clone()
            mended[:3, 3] *= metres
            return mended

        yield Reading(
            "poses_unit",
            f"The translations of the poses are in {unit}.",
            f"multiply them by {metres:g}, poses are in metres",
            _with_pose(shrunk),
        )


def _surface_units() -> Iterator[Reading]:
    for unit, metres in UNITS.items():
        yield Reading(
            "surface_unit",
            f"The surface is in {unit}.",
            f"multiply its points by {metres:g} and write it in metres",
            partial(_with_points, turn=torch.eye(3) * metres),
        )


def _surface_axes() -> Iterator[Reading]:
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            turn = torch.zeros(3, 3)
            for row, (column, sign) in enumerate(zip(order, signs, strict=True)):
                turn[row, column] = sign
            if float(torch.linalg.det(turn)) < 0 or torch.equal(turn, torch.eye(3)):
                continue
            axes = ", ".join(
                f"{'-' if sign < 0 else ''}{'xyz'[column]}"
                for column, sign in zip(order, signs, strict=True)
            )
            yield Reading(
                "surface_elsewhere",
                "The surface has other axes than the poses.",
                f"replace each of its points x, y, z by {axes}, or export poses and surface from "
                "one program",
                partial(_with_points, turn=turn),
            )


def _surface_moved(capture: Capture) -> Iterator[Reading]:
    shift = _best_shift(capture)
    if shift is None:
        return
    words = ", ".join(f"{value:.2f}" for value in shift.tolist())
    yield Reading(
        "surface_elsewhere",
        f"The surface has another origin than the poses, {float(shift.norm()):.2f} m away.",
        f"add about ({words}) m to each of its points, or export poses and surface from one "
        "program",
        lambda capture: replace(capture, points=capture.points + shift),
    )


def _best_shift(capture: Capture) -> Tensor | None:
    """The translation that lays most of the surface onto the back-projected depth."""
    views = capture.views(12)
    if not views or len(capture.points) == 0:
        return None
    clouds = [
        back_project(v.depth[::4, ::4], _every(v.intrinsics, 4), v.camera_to_world) for v in views
    ]
    seen = torch.cat([points for points, _ in clouds])
    if len(seen) == 0:
        return None
    starts, extents = zip(*(_robust_box(cloud) for cloud in (seen, capture.points)), strict=True)
    cell = float(torch.stack(extents).max()) / _PLACES
    if not 0 < cell < 10:
        return None
    size = 2 * _PLACES + 2
    grids = []
    for cloud, start in zip((seen, capture.points), starts, strict=True):
        places = ((cloud - start) / cell).floor().long()
        places = places[((places >= 0) & (places <= _PLACES)).all(dim=1)]
        grid = torch.zeros(size, size, size)
        grid[places[:, 0], places[:, 1], places[:, 2]] = 1
        grids.append(torch.fft.rfftn(grid))
    match = torch.fft.irfftn(grids[0] * grids[1].conj(), s=(size,) * 3)
    best = int(match.argmax())
    steps = torch.tensor([best // size**2, best // size % size, best % size])
    steps = torch.where(steps > size // 2, steps - size, steps)
    shift: Tensor = steps * cell + starts[0] - starts[1]
    return shift


def _robust_box(points: Tensor) -> tuple[Tensor, Tensor]:
    thinned = points[:: max(1, len(points) // 50_000)]
    low = torch.quantile(thinned, 0.002, dim=0)
    return low, torch.quantile(thinned, 0.998, dim=0) - low


def _every(intrinsics: Tensor, step: int) -> Tensor:
    scaled = intrinsics.clone()
    scaled[:2] /= step
    return scaled


def _with_points(capture: Capture, turn: Tensor) -> Capture:
    return replace(capture, points=capture.points @ turn.T)


def _with_pose(change: Callable[[Tensor], Tensor]) -> Callable[[Capture], Capture]:
    return lambda capture: capture.with_sights(
        lambda sight: replace(sight, camera_to_world=change(sight.camera_to_world))
    )


def _with_camera(change: Callable[[Tensor], Tensor]) -> Callable[[Capture], Capture]:
    return lambda capture: capture.with_sights(
        lambda sight: replace(sight, intrinsics=change(sight.intrinsics))
    )
