"""Alternative hypotheses about poses, camera matrices and the order of the frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from pcdistill.geometry import RIGID_TOLERANCE, rotation_error
from pcdistill.scenes.checks.hypothesis import (
    OTHER_WAYS_ROUND,
    SAME_AXES,
    Assumptions,
    Hypothesis,
    rotations,
)
from pcdistill.scenes.checks.pose_conventions import POSE_CONVENTIONS
from pcdistill.scenes.checks.samples import FrameSample, SceneSample
from pcdistill.scenes.units import MISTAKEN_UNITS

_FOCAL_FACTORS = (0.4, 0.5, 0.6, 0.67, 0.75, 0.82, 0.9, 1.1, 1.22, 1.33, 1.5, 1.67, 2.0, 2.5)
_OFF_CENTER = 0.06  # of the image's side; real lenses are nearer to the centre
_AS_WELL = (
    ", in the pictures as well unless these are right already (a camera whose focal length is "
    "negative in its own files has such images)"
)
_OPENGL_OF = {name: name.endswith("_opengl") for name in POSE_CONVENTIONS}


def camera_readings(capture: SceneSample, read: Assumptions) -> Iterator[Hypothesis]:
    """Yield the hypotheses about poses and cameras alone, for frames without depth."""
    yield from convention_readings(read)
    yield from flipped_readings("pictures")
    yield from matrix_readings(capture)


def convention_readings(read: Assumptions) -> Iterator[Hypothesis]:
    """Yield a hypothesis for each other pose convention."""
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
        yield Hypothesis(
            "poses_opengl" if _OPENGL_OF[name] != _OPENGL_OF[current] else "poses_inverted",
            f"The poses are {words[name]}, they were read as {words[current]}.",
            f"set `pose_convention: {name}`"
            if "poses" in read.settable
            else _changed_poses(current, name),
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


def broken_pose_readings(capture: SceneSample) -> Iterator[Hypothesis]:
    """Yield hypotheses for poses that mirror the scene, or carry a scale."""
    poses = capture.poses[:, :3, :3]
    if len(poses) == 0:
        return
    if float((torch.linalg.det(poses) < 0).double().mean()) > 0.5:
        for axis, name in enumerate("xyz"):
            flip = torch.eye(4, dtype=torch.float64)
            flip[axis, axis] = -1
            yield Hypothesis(
                "poses_mirrored",
                f"The poses mirror the scene: the camera's {name} axis points the wrong way.",
                f"negate column {axis + 1} of the rotation in every pose",
                _with_pose(partial(torch.matmul, other=flip)),
            )
    if float(rotation_error(poses).amax()) > RIGID_TOLERANCE:
        yield Hypothesis(
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
    corrected = pose.clone()
    corrected[:3, :3] = u @ vh
    corrected[3] = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=pose.dtype)
    return corrected


def order_readings(capture: SceneSample) -> Iterator[Hypothesis]:
    """Yield hypotheses under which images have the pose of a neighbour."""
    poses = capture.poses
    if len(poses) < 4:
        return
    for shift in (-2, -1, 1, 2):

        def moved(sight: FrameSample, shift: int = shift) -> FrameSample:
            return replace(sight, camera_to_world=poses[(sight.index + shift) % len(poses)])

        yield Hypothesis(
            "poses_shifted",
            f"Poses and images are out of step: frame i has the pose of frame i{-shift:+d}.",
            f"pair every image with the pose {abs(shift)} "
            f"{'later' if shift > 0 else 'earlier'}, by time stamp",
            partial(SceneSample.with_sights, change=moved),
        )


def matrix_readings(capture: SceneSample) -> Iterator[Hypothesis]:
    """Yield hypotheses of camera matrices for other sizes, turned images, or other lenses."""
    if not capture.sights:
        return
    first = capture.sights[0]
    height, width = first.gray.shape
    cx, cy = float(first.intrinsics[0, 2]), float(first.intrinsics[1, 2])
    off = max(abs(cx / width - 0.5), abs(cy / height - 0.5))
    if off > _OFF_CENTER and cx > 0 and cy > 0:
        factor = (width / (2 * cx), height / (2 * cy))
        real = first.frame.image_size
        guess = f"{real[1] / factor[0]:.0f} x {real[0] / factor[1]:.0f}"
        yield Hypothesis(
            "intrinsics_size",
            f"The camera matrix is for images of about {guess} pixels, these are "
            f"{real[1]} x {real[0]}.",
            f"multiply its first row by {factor[0]:.3g} and its second by {factor[1]:.3g}",
            _with_camera(
                lambda k: k * torch.tensor([[factor[0]], [factor[1]], [1.0]], dtype=k.dtype)
            ),
        )
        yield Hypothesis(
            "intrinsics_swapped",
            "The rows of the camera matrix are swapped, as after turning the images.",
            "exchange fx with fy and cx with cy",
            _with_camera(lambda k: k[[1, 0, 2]][:, [1, 0, 2]]),
        )
        yield Hypothesis(
            "principal_point",
            f"The principal point is {off:.0%} of the image away from its middle.",
            "set cx and cy to half of the image's width and height",
            partial(SceneSample.with_sights, change=_centered),
        )
    for factor_of_focal in _FOCAL_FACTORS:
        yield Hypothesis(
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


def _centered(sight: FrameSample) -> FrameSample:
    intrinsics = sight.intrinsics.clone()
    height, width = sight.gray.shape
    intrinsics[0, 2], intrinsics[1, 2] = (width - 1) / 2, (height - 1) / 2
    return replace(sight, intrinsics=intrinsics)


def flipped_readings(images: str) -> Iterator[Hypothesis]:
    """Yield hypotheses of flipped depth and pictures; `images` says which are named."""
    for sides, (words, fix) in OTHER_WAYS_ROUND.items():
        yield Hypothesis(
            "images_flipped",
            f"The {images} are {words}, seen from the cameras.",
            f"{fix}{_AS_WELL if images == 'depth images' else ''}",
            partial(
                SceneSample.with_sights,
                change=partial(FrameSample.turned_round, sides=sides, depth=True),
            ),
        )


def axes_readings() -> Iterator[Hypothesis]:
    """Yield hypotheses of exchanged camera axes, rotations that no convention has."""
    for turn in rotations():
        if torch.equal(turn.abs(), SAME_AXES) and float(turn[0, 0]) > 0:
            continue  # the two conventions of `pose_convention`
        whole = torch.eye(4, dtype=torch.float64)
        whole[:3, :3] = turn
        rows = ", ".join(str([int(value) for value in row]) for row in turn.tolist())
        yield Hypothesis(
            "poses_axes",
            "The axes of the cameras are exchanged.",
            f"multiply the rotation of every pose, from the right, by [{rows}]",
            _with_pose(partial(torch.matmul, other=whole)),
        )


def pose_unit_readings() -> Iterator[Hypothesis]:
    """Yield hypotheses of camera positions in other units."""
    for unit, metres in MISTAKEN_UNITS.items():

        def shrunk(pose: Tensor, metres: float = metres) -> Tensor:
            corrected = pose.clone()
            corrected[:3, 3] *= metres
            return corrected

        yield Hypothesis(
            "poses_unit",
            f"The translations of the poses are in {unit}.",
            f"multiply them by {metres:g}, poses are in metres",
            _with_pose(shrunk),
        )


def _with_pose(change: Callable[[Tensor], Tensor]) -> Callable[[SceneSample], SceneSample]:
    return lambda capture: capture.with_poses(change)


def _with_camera(change: Callable[[Tensor], Tensor]) -> Callable[[SceneSample], SceneSample]:
    return lambda capture: capture.with_sights(
        lambda sight: replace(sight, intrinsics=change(sight.intrinsics))
    )
