"""Checks of the trajectory: rigid poses, frozen or jumping cameras, misplaced frames."""

from __future__ import annotations

import torch
from torch import Tensor

from pcdistill.doctor.image_checks import FLAT
from pcdistill.errors import SceneError
from pcdistill.geometry import RIGID_TOLERANCE, rotation_error
from pcdistill.scenes.checks import (
    MISPLACED,
    TOLERANCE,
    Finding,
    SceneSample,
    evenly_spaced,
    join_names,
    measure_agreement,
    sample_frame,
    to_grayscale,
)

SAME_PICTURE = 0.75
"""Mean difference of brightness, of 255; two exposures of one view differ by more."""
_OTHER_PICTURE = 4.0
_STILL = 1e-4  # metres and radians; hands are not that steady
_MOVED = 0.05  # metres or radians
_MAX_PAIRS = 48
_MAX_SUSPECTS = 12


def check_poses(capture: SceneSample, missing: list[str]) -> list[Finding]:
    """Check for poses that are not finite, not rigid, or mirror the scene.

    Args:
        capture: as opened.
        missing: names of the frames that were left out, for their pose is not finite.
    """
    findings = []
    frames = capture.frames
    if missing:
        fraction = len(missing) / (len(missing) + len(frames))
        many = fraction > 0.1 and len(missing) > 2
        findings.append(
            Finding(
                "poses_not_finite",
                f"{len(missing)} frames have no pose: tracking was lost, their matrices are not "
                "finite.",
                "sure" if fraction > 0.5 else "likely" if many else "possible",
                f"{fraction:.0%} of the frames are left out",
                "nothing, they are skipped; run the tracking again if much of the scan is unseen",
                lifting_works=True,
                frames=tuple(missing),
            )
        )
    if not frames:
        return findings
    rotations = capture.poses[:, :3, :3]
    bent = rotation_error(rotations)
    broken = [
        frame.name for frame, error in zip(frames, bent, strict=True) if error > RIGID_TOLERANCE
    ]
    if broken:
        sizes = torch.linalg.svdvals(rotations)
        even = float((sizes.amax(dim=1) / sizes.amin(dim=1).clamp(min=1e-9)).max()) < 1.02
        scale = float(sizes.mean())
        findings.append(
            Finding(
                "poses_not_rigid",
                f"{len(broken)} of {len(frames)} poses are not rigid: "
                + (f"they carry a scale of {scale:.4g}." if even else "they are sheared."),
                "sure",
                f"R times its transpose is off the identity by up to {float(bent.max()):.2g}",
                "divide each rotation by its scale, so that its columns have length 1",
                lifting_works=False,
                frames=() if len(broken) == len(frames) else tuple(broken),
            )
        )
    turned = torch.linalg.det(rotations) < 0
    if turned.any():
        mirrored = [frame.name for frame, bad in zip(frames, turned, strict=True) if bad]
        findings.append(
            Finding(
                "poses_mirrored",
                f"{len(mirrored)} of {len(frames)} poses mirror the scene: their axes are "
                "left-handed.",
                "sure",
                "the determinant of their rotation is -1",
                "negate one camera axis (a column of the rotation)",
                lifting_works=False,
                frames=() if len(mirrored) == len(frames) else tuple(mirrored),
            )
        )
    return findings


def check_motion(capture: SceneSample, corrected: SceneSample) -> list[Finding]:
    """Check for frozen or jumping trajectories, and pictures that repeat.

    Args:
        capture: as opened.
        corrected: with what was found so far put right, to judge single frames by.
    """
    still = _frozen(capture)
    named_already = {name for finding in still for name in finding.frames}
    return [*still, *_misplaced(capture, corrected, named_already)]


def _frozen(capture: SceneSample) -> list[Finding]:
    frames = capture.frames
    if len(frames) < 3:
        return []
    poses = capture.poses
    moved = _motion(poses)
    still = torch.nonzero(moved < _STILL)[:, 0].tolist()
    pairs = sorted(
        {still[i] for i in evenly_spaced(len(still), _MAX_PAIRS // 2)}
        | set(evenly_spaced(len(frames) - 1, _MAX_PAIRS))
    )
    stuck: list[str] = []
    frozen: list[str] = []
    repeated: list[str] = []
    looked = 0
    for first in pairs:
        difference = _difference(capture, first, first + 1)
        if difference is None:
            continue
        looked += 1
        name = frames[first + 1].name
        if difference < SAME_PICTURE:
            (stuck if moved[first] > _MOVED else repeated).append(name)
        elif moved[first] < _STILL and difference > _OTHER_PICTURE:
            frozen.append(name)
    findings = []
    if frozen:
        findings.append(
            Finding(
                "trajectory_frozen",
                f"The pose stands still while the pictures change, in {len(still)} of "
                f"{len(frames) - 1} steps: tracking stopped, or poses were repeated.",
                "sure" if len(frozen) >= 2 else "likely",
                f"{len(frozen)} of {looked} neighbouring frames looked at have the same pose and "
                "other pictures",
                "run the tracking again, or remove these frames",
                lifting_works=len(still) < len(frames) / 4,
                frames=tuple(frozen),
            )
        )
    if stuck:
        findings.append(
            Finding(
                "pictures_stuck",
                f"The camera moves but its picture does not change ({join_names(stuck)}): pictures "
                "were repeated or wrongly paired with poses.",
                "sure",
                f"{len(stuck)} of {looked} neighbouring frames looked at show the same picture",
                "pair every pose with its own picture, or remove these frames",
                lifting_works=len(stuck) < looked / 4,
                frames=tuple(stuck),
            )
        )
    if repeated:
        fraction = len(repeated) / looked
        findings.append(
            Finding(
                "duplicate_frames",
                f"Frames repeat the one before them ({join_names(repeated)}), they cost time "
                "and add "
                "nothing.",
                "likely" if fraction > 0.2 else "possible",
                f"{fraction:.0%} of the neighbouring frames looked at show the same picture",
                "remove them, or set `frame_step`",
                lifting_works=True,
                frames=tuple(repeated),
            )
        )
    return findings


def _misplaced(capture: SceneSample, corrected: SceneSample, explained: set[str]) -> list[Finding]:
    """Single frames that contradict what the rest agrees on."""
    if corrected.surface is None:
        return []
    steps = _steps(capture.poses)
    looked = list(corrected.sights)
    if corrected is capture:
        known = {sight.index for sight in looked}
        for index in _suspects(steps):
            if index not in known:
                try:
                    looked.append(sample_frame(capture.frames, index))
                except SceneError:
                    continue
    shares = {}
    for sight in looked:
        view = sight.view()
        if view is None or sight.facts is None or sight.facts.known < 0.05:
            continue
        if sight.name in explained:
            continue
        found = measure_agreement([view], corrected.surface, tolerance=TOLERANCE)
        # a frame out of the surface's view agrees with nothing
        shares[sight.index] = found.fraction * (found.coverage if found.coverage < 0.3 else 1.0)
    if len(shares) < 4:
        return []
    missing = sorted(index for index, fraction in shares.items() if fraction < MISPLACED)
    middle = float(torch.tensor(list(shares.values())).median())
    if not missing or middle < 0.6 or len(missing) > len(shares) / 2:
        return []
    frames = capture.frames
    usual = float(steps.median())
    far = [i for i in missing if _leap(steps, i) > max(1.0, 4 * usual)]
    names = [frames[i].name for i in missing]
    jumps = len(far) * 2 >= len(missing)
    sentence = (
        f"The trajectory jumps: {len(missing)} frames ({join_names(names)}) are up to "
        f"{max(_leap(steps, i) for i in missing):.1f} m from their neighbours and do not see what "
        "is there."
        if jumps
        else f"{len(missing)} frames ({join_names(names)}) do not see what is at their pose, "
        "the others do."
    )
    return [
        Finding(
            "trajectory_jumps" if jumps else "frames_misplaced",
            sentence,
            "sure" if all(shares[i] < MISPLACED / 2 for i in missing) else "likely",
            f"{max(shares[i] for i in missing):.0%} of their depth agrees with the surface at "
            "most, "
            f"{middle:.0%} of the middle frame's",
            "remove these frames, or run the tracking again",
            lifting_works=len(missing) <= len(shares) / 4,
            frames=tuple(names),
        )
    ]


def _suspects(steps: Tensor) -> list[int]:
    """Frames on both sides of the longest steps."""
    if len(steps) == 0:
        return []
    longest = torch.topk(steps, min(_MAX_SUSPECTS // 2, len(steps)))
    far = longest.indices[longest.values > max(1.0, 4 * float(steps.median()))].tolist()
    return sorted({index for step in far for index in (step, step + 1)})


def _leap(steps: Tensor, index: int) -> float:
    around = [float(steps[i]) for i in (index - 1, index) if 0 <= i < len(steps)]
    return max(around, default=0.0)


def _steps(poses: Tensor) -> Tensor:
    """(F - 1,) metres between neighbouring cameras."""
    steps: Tensor = (poses[1:, :3, 3] - poses[:-1, :3, 3]).norm(dim=1)
    return steps


def _motion(poses: Tensor) -> Tensor:
    """(F - 1,) metres or radians between neighbouring cameras, whichever is more."""
    turn = (poses[1:, :3, :3] - poses[:-1, :3, :3]).flatten(1).norm(dim=1) / 2**0.5
    moved: Tensor = torch.maximum(_steps(poses), turn)
    return moved


def _difference(capture: SceneSample, first: int, second: int) -> float | None:
    """Mean difference of two pictures' brightness, of 255; None where one shows nothing."""
    known = {sight.index: sight.gray for sight in capture.sights}
    grays = []
    for index in (first, second):
        if index not in known:
            try:
                known[index] = to_grayscale(capture.frames[index])[0]
            except SceneError:
                return None
        grays.append(known[index])
        if float(known[index].std()) < FLAT:
            return None  # shows nothing
    if grays[0].shape != grays[1].shape:
        return None
    return float((grays[0] - grays[1]).abs().mean())
