"""Other ways to read the same files: what the numbers would mean if one assumption were another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcdistill.geometry import back_project
from pcdistill.scenes.consistency import POSE_CONVENTIONS
from pcdistill.scenes.fit.sights import Capture, Sight

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
_PLACES = 95  # cells along the longest side of the grid in which a surface is moved
_COARSE_PLACES = 31  # where many rotations are tried
_AS_WELL = (
    ", in the pictures as well unless these are right already (a camera whose focal length is "
    "negative in its own files has such images)"
)
_SAME_AXES = torch.eye(3, dtype=torch.float64)
_OPENGL_OF = {name: name.endswith("_opengl") for name in POSE_CONVENTIONS}


class Reading(NamedTuple):
    """One assumption changed."""

    code: str
    sentence: str
    """What is wrong if this is the right reading."""
    mend: str
    apply: Callable[[Capture], Capture]


class Assumptions(NamedTuple):
    """How a scan was read."""

    poses: str = "camera_to_world"
    """The convention of its poses, one of `POSE_CONVENTIONS`."""
    depth_scale: float = 1000.0
    """Counts per metre of its depth."""
    settable: frozenset[str] = frozenset()
    """Which of the two are settings of its layout."""


def assumptions_of(provenance: Mapping[str, Any]) -> Assumptions:
    """How a scene was read, by what its reader noted."""
    return Assumptions(
        str(provenance.get("poses") or "camera_to_world"),
        float(provenance.get("depth_scale") or 1000.0),
        frozenset({"poses", "depth_scale"} & provenance.keys()),
    )


def other_readings(capture: Capture, read: Assumptions) -> Iterator[Reading]:
    """Every assumption about a capture that is often wrong, changed one at a time.

    Args:
        capture: as it was opened.
        read: how.
    """
    yield from _poses(read)
    broken = list(_broken_poses(capture))
    yield from broken
    yield from _order(capture)
    yield from _cameras(capture)
    yield from _along_rays()
    yield from _depth_scales(capture, read)
    yield from _pose_units()
    if not any(reading.code == "poses_mirrored" for reading in broken):  # looks the same
        yield from _flipped("depth images")
    if read.poses == "camera_to_world":
        yield from _camera_axes()
    if capture.surface is not None:
        yield from _surface_units()
        yield from _surface_axes()
        yield from _surface_moved(capture)


def scaled_depth(capture: Capture, factor: float) -> Capture:
    """With all depth readings multiplied."""
    return capture.with_sights(
        lambda sight: sight if sight.depth is None else replace(sight, depth=sight.depth * factor)
    )


def camera_readings(capture: Capture, read: Assumptions) -> Iterator[Reading]:
    """The assumptions about poses and cameras alone, for frames without depth."""
    yield from _poses(read)
    yield from _flipped("pictures")
    yield from _cameras(capture)


def _poses(read: Assumptions) -> Iterator[Reading]:
    current = read.poses
    words = {
        "camera_to_world": "camera-to-world, cameras looking along +z",
        "world_to_camera": "world-to-camera",
        "camera_to_world_opengl": "camera-to-world with OpenGL axes (looking along -z, y up)",
        "world_to_camera_opengl": "world-to-camera with OpenGL axes (looking along -z, y up)",
    }
    for name in POSE_CONVENTIONS:
        if name == current:
            continue
        write, reread = POSE_CONVENTIONS[current].write, POSE_CONVENTIONS[name].read
        yield Reading(
            "poses_opengl" if _OPENGL_OF[name] != _OPENGL_OF[current] else "poses_inverted",
            f"The poses are {words[name]}, they were read as {words[current]}.",
            f"set `poses: {name}`" if "poses" in read.settable else _changed_poses(current, name),
            _with_pose(partial(_reread, write=write, read=reread)),
        )


def _changed_poses(current: str, name: str) -> str:
    """What to do to the files where no setting does it."""
    steps = []
    if ("world_to_camera" in current) != ("world_to_camera" in name):
        steps.append("invert every pose")
    if _OPENGL_OF[current] != _OPENGL_OF[name]:
        steps.append("negate the y and z axis of every camera")
    return " and ".join(steps)


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
    cx, cy = float(first.intrinsics[0, 2]), float(first.intrinsics[1, 2])
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
            "intrinsics_swapped",
            "The rows of the camera matrix are swapped, as after turning the images.",
            "exchange fx with fy and cx with cy",
            _with_camera(lambda k: k[[1, 0, 2]][:, [1, 0, 2]]),
        )
        yield Reading(
            "principal_point",
            f"The principal point is {off:.0%} of the image away from its middle.",
            "set cx and cy to half of the image's width and height",
            partial(Capture.with_sights, change=_centred),
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


def _centred(sight: Sight) -> Sight:
    intrinsics = sight.intrinsics.clone()
    height, width = sight.gray.shape
    intrinsics[0, 2], intrinsics[1, 2] = (width - 1) / 2, (height - 1) / 2
    return replace(sight, intrinsics=intrinsics)


def _flipped(images: str) -> Iterator[Reading]:
    for sides, words, mend in (
        ((0,), "upside down: their rows run from bottom to top", "write the bottom row last"),
        ((1,), "mirrored: their columns run from right to left", "write the left column first"),
        ((0, 1), "turned by 180 degrees", "turn them back"),
    ):
        yield Reading(
            "images_flipped",
            f"The {images} are {words}, seen from the cameras.",
            f"{mend}{_AS_WELL if images == 'depth images' else ''}",
            partial(Capture.with_sights, change=partial(_flip, sides=sides)),
        )


def _flip(sight: Sight, sides: tuple[int, ...]) -> Sight:
    """The images the other way round; the principal point stays, as it was given."""
    depth = None if sight.depth is None else sight.depth.flip(sides)
    return replace(sight, depth=depth, gray=sight.gray.flip(sides))


def _camera_axes() -> Iterator[Reading]:
    """Rotations of the camera that no convention has: axes that were exchanged."""
    for turn in _rotations():
        if torch.equal(turn.abs(), _SAME_AXES) and float(turn[0, 0]) > 0:
            continue  # the two conventions of `poses`
        whole = torch.eye(4, dtype=torch.float64)
        whole[:3, :3] = turn
        rows = ", ".join(str([int(value) for value in row]) for row in turn.tolist())
        yield Reading(
            "poses_axes",
            "The axes of the cameras are exchanged.",
            f"multiply the rotation of every pose, from the right, by [{rows}]",
            _with_pose(partial(torch.matmul, other=whole)),
        )


def _rotations() -> Iterator[Tensor]:
    """The 23 ways to exchange and negate axes that are rotations, (3, 3) float64."""
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            turn = torch.zeros(3, 3, dtype=torch.float64)
            for row, (column, sign) in enumerate(zip(order, signs, strict=True)):
                turn[row, column] = sign
            if float(torch.linalg.det(turn)) > 0 and not torch.equal(turn, _SAME_AXES):
                yield turn


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


def _depth_scales(capture: Capture, read: Assumptions) -> Iterator[Reading]:
    for scale in DEPTH_SCALES:
        factor = read.depth_scale / scale
        if abs(factor - 1) < 0.02:
            continue
        yield depth_reading(capture, read, factor)


def depth_reading(capture: Capture, read: Assumptions, factor: float) -> Reading:
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
    usual = usual_scale(read.depth_scale / factor)
    mend = (
        f"set `depth_scale: {usual:g}`"
        if usual is not None and "depth_scale" in read.settable
        else "write the depth in the unit of this layout"
        if "depth_scale" not in read.settable
        else "find the counts per metre in the camera's own files and set `depth_scale`; none of "
        f"the usual scales ({', '.join(f'{scale:g}' for scale in DEPTH_SCALES)}) fits"
    )
    return Reading(
        "depth_unit",
        f"The depth is in another unit: it is {factor:.3g} times what `depth_scale: "
        f"{read.depth_scale:g}` makes of it.",
        mend,
        partial(scaled_depth, factor=factor),
    )


def usual_scale(scale: float) -> float | None:
    """The scale that depth images are stored with next to one that was measured."""
    return next((usual for usual in DEPTH_SCALES if abs(usual / scale - 1) < 0.04), None)


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
            partial(_with_points, turn=_SAME_AXES * metres),
        )


def _surface_axes() -> Iterator[Reading]:
    for turn in _rotations():
        yield Reading(
            "surface_elsewhere",
            "The surface has other axes than the poses.",
            f"replace each of its points x, y, z by {_axes(turn)}, or export poses and surface "
            "from one program",
            partial(_with_points, turn=turn),
        )


def _surface_moved(capture: Capture) -> Iterator[Reading]:
    found = _best_shift(capture, _SAME_AXES, _PLACES)
    if found is None:
        return
    shift, _ = found
    yield Reading(
        "surface_elsewhere",
        f"The surface has another origin than the poses, {float(shift.norm()):.2f} m away.",
        f"add about ({_metres(shift)}) m to each of its points, or export poses and surface from "
        "one program",
        lambda capture: capture.with_surface(lambda points: points + shift),
    )


def double_readings(capture: Capture, read: Assumptions) -> Iterator[Reading]:
    """Two assumptions that are often wrong together, for where one does not explain it.

    Args:
        capture: as it was opened, with a surface of its own.
        read: how.
    """
    for reading in _poses(read):
        for turn in _rotations():
            yield _reread_and_turned(reading, turn)
    yield from _turned_and_moved(capture)


def _reread_and_turned(reading: Reading, turn: Tensor) -> Reading:
    return Reading(
        "surface_elsewhere",
        f"{reading.sentence.partition(', they')[0]}, and the surface has other axes than they.",
        f"{reading.mend} and replace each point x, y, z of the surface by {_axes(turn)}, or export "
        "poses and surface from one program",
        lambda capture: _with_points(reading.apply(capture), turn=turn),
    )


def _turned_and_moved(capture: Capture) -> Iterator[Reading]:
    """Readings under which the surface has both other axes and another origin than the poses.

    The two rotations whose grids match best, each with its translation.
    """
    found = []
    for turn in _rotations():
        match = _best_shift(capture, turn, _COARSE_PLACES)
        if match is not None:
            found.append((match[1], turn))
    found.sort(key=lambda pair: -pair[0])
    for _, turn in found[:2]:
        match = _best_shift(capture, turn, _PLACES)
        if match is not None:
            yield _placed(turn, match[0])


def _placed(turn: Tensor, shift: Tensor) -> Reading:
    return Reading(
        "surface_elsewhere",
        "The surface has other axes and another origin than the poses.",
        f"replace each of its points x, y, z by {_axes(turn)}, then add about ({_metres(shift)}) "
        "m, or export poses and surface from one program",
        lambda capture: capture.with_surface(lambda points: points @ turn.T + shift),
    )


def _metres(shift: Tensor) -> str:
    return ", ".join(f"{value:.2f}" for value in shift.tolist())


def _axes(turn: Tensor) -> str:
    return ", ".join(
        f"{'-' if float(row.sum()) < 0 else ''}{'xyz'[int(row.abs().argmax())]}" for row in turn
    )


def _best_shift(capture: Capture, turn: Tensor, places: int) -> tuple[Tensor, float] | None:
    """The translation that lays most of the turned surface onto the back-projected depth.

    Returns:
        It, (3,) float64 metres along the axes of the files, and how many cells of a grid then hold
        both.
    """
    views = capture.views(12)
    if not views or capture.surface is None or len(capture.surface) == 0:
        return None
    clouds = [
        back_project(v.depth[::4, ::4], _every(v.intrinsics, 4), v.camera_to_world) for v in views
    ]
    seen = torch.cat([points for points, _ in clouds])
    if len(seen) == 0:
        return None
    surface = _with_points(capture, turn).surface
    assert surface is not None
    starts, extents = zip(*(_robust_box(cloud) for cloud in (seen, surface)), strict=True)
    cell = float(torch.stack(extents).max()) / places
    if not 0 < cell < 10:
        return None
    size = 2 * places + 2
    grids = []
    for cloud, start in zip((seen, surface), starts, strict=True):
        cells = ((cloud - start) / cell).floor().long()
        cells = cells[((cells >= 0) & (cells <= places)).all(dim=1)]
        grid = torch.zeros(size, size, size)
        grid[cells[:, 0], cells[:, 1], cells[:, 2]] = 1
        grids.append(torch.fft.rfftn(grid))
    match = torch.fft.irfftn(grids[0] * grids[1].conj(), s=(size,) * 3)
    best = int(match.argmax())
    steps = torch.tensor([best // size**2, best // size % size, best % size])
    steps = torch.where(steps > size // 2, steps - size, steps)
    shift = (steps * cell + starts[0] - starts[1]).double()
    return shift @ capture.to_source[:3, :3].T, float(match.max())


def _robust_box(points: Tensor) -> tuple[Tensor, Tensor]:
    thinned = points[:: max(1, len(points) // 8_000)]
    low = torch.quantile(thinned, 0.002, dim=0)
    return low, torch.quantile(thinned, 0.998, dim=0) - low


def _every(intrinsics: Tensor, step: int) -> Tensor:
    scaled = intrinsics.clone()
    scaled[:2] /= step
    return scaled


def _with_points(capture: Capture, turn: Tensor) -> Capture:
    return capture.with_surface(lambda points: points @ turn.T)


def _with_pose(change: Callable[[Tensor], Tensor]) -> Callable[[Capture], Capture]:
    return lambda capture: capture.with_poses(change)


def _with_camera(change: Callable[[Tensor], Tensor]) -> Callable[[Capture], Capture]:
    return lambda capture: capture.with_sights(
        lambda sight: replace(sight, intrinsics=change(sight.intrinsics))
    )
