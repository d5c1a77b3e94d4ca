"""Examination of one scan, whatever its layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pcdistill.doctor.cloud_checks import check_cloud
from pcdistill.doctor.coverage_check import check_coverage
from pcdistill.doctor.image_checks import check_depth_images, check_pictures
from pcdistill.doctor.trajectory_checks import check_motion, check_poses
from pcdistill.errors import SceneError
from pcdistill.scenes import Scene, SceneIssue, collect_issues, find_scans, open_scene
from pcdistill.scenes.checks import (
    Diagnosis,
    Finding,
    SceneSample,
    assumptions_of,
    check_axis,
    check_colors,
    check_geometry,
    check_registration,
    is_refused,
    refusal_of,
    sample_scene,
)

_ORDER = ("sure", "likely", "possible")
_EXPLAIN_COLORS = {
    "colour_displaced",
    "pictures_flipped",
    "pictures_stuck",
    "poses_mirrored",
    "poses_not_rigid",
}
_EXPLAIN_DISAGREEMENT = {"trajectory_frozen", "trajectory_jumps", "frames_misplaced"}
_VAGUE = {"poses_inaccurate", "surface_incomplete"}
_UNITS = {"depth_unit", "scale", "poses_unit", "surface_unit"}
_CAMERA_OFF = 0.2  # of the image's side, between principal point and middle


@dataclass(frozen=True, eq=False)
class Examination:
    """A diagnosis, and what it was made from."""

    diagnosis: Diagnosis
    capture: SceneSample | None
    """As opened; None where it cannot be."""
    corrected: SceneSample | None
    """With the geometry as the diagnosis says that it is meant."""


def examine(path: str | Path, part: str = "", **settings: Any) -> Examination:
    """Examine a scan before the work.

    What is found wrong with the geometry is put right in memory before the rest is looked at, so
    that one fault is not reported as five.

    Args:
        path: as in `open_scene`.
        part: as in `open_scene`.
        settings: as in `open_scene`.

    Raises:
        ConfigError: a setting is unknown or has no possible value.
        SceneError: there is nothing at `path`, no reader recognises it, or it holds several scans
            and `part` names none. Whatever else is wrong is a finding.
    """
    scans = find_scans(path)
    if len(scans) != 1 and not part:
        open_scene(path, part, **settings)  # says why not
    with collect_issues() as refusals:
        try:
            scene = open_scene(path, part, **settings)
        except SceneError as error:
            name = part or Path(path).resolve().name
            return Examination(_unopened(name, path, refusals, str(error)), None, None)
        capture = sample_scene(scene)
        found, refused, corrected, numbers = _examined(scene, capture, tuple(refusals))
    found += _unexplained(refusals, found)
    diagnosis = Diagnosis(
        scan=scene.name,
        path=str(path),
        findings=tuple(sorted(found, key=lambda finding: _ORDER.index(finding.certainty))),
        refusals=(
            *(refusal.message for refusal in refusals),
            *(refusal_of(str(path), finding) for finding in refused),
        ),
        looked_at={
            "points": len(scene.points),
            "frames": len(scene.frames),
            "frames_decoded": len(capture.sights),
            **numbers,
        },
    )
    return Examination(diagnosis, capture, corrected)


def _examined(
    scene: Scene, capture: SceneSample, refusals: tuple[SceneIssue, ...]
) -> tuple[list[Finding], list[Finding], SceneSample, dict[str, Any]]:
    """What was found; what of it a run refuses; the mended capture; numbers for the record."""
    known = scene.provenance
    missing = known.get("frames_without_pose")
    found = check_poses(
        capture, [str(name) for name in missing] if isinstance(missing, list) else []
    )
    found += check_pictures(capture)
    depth = check_depth_images(capture)
    found += depth
    fit = check_geometry(capture, assumptions_of(known))
    geometry = fit.findings
    if any(finding.code in ("depth_coarse", "depth_saturated") for finding in depth):
        geometry = []  # that is why
    if {refusal.code for refusal in refusals} - {"geometry_disagrees"}:
        geometry = [f for f in geometry if f.code != "geometry_disagrees"]  # reading knows better
    found = _merged(found, geometry)
    if fit.agreement is None:
        found += _camera(capture)
    motion = check_motion(capture, fit.capture)
    if {finding.code for finding in motion} & _EXPLAIN_DISAGREEMENT:
        geometry = [finding for finding in geometry if finding.code not in _VAGUE]
        found = [finding for finding in found if finding.code not in _VAGUE]
    found += motion
    pictures = check_registration(capture)
    if not geometry and not {f.code for f in found + pictures} & _EXPLAIN_COLORS:
        pictures += check_colors(capture, assumptions_of(known))
    found += pictures
    refused = [f for f in geometry + pictures if f in found and is_refused(f)]
    found += check_cloud(scene, capture, scale_is_explained=any(f.code in _UNITS for f in found))
    numbers: dict[str, Any] = {}
    if fit.capture is not capture or not (refusals or geometry):
        found += check_axis(fit.capture, str(known.get("up", "z")))
        if not any(finding.code == "depth_empty" for finding in depth):
            missing = {name for finding in found for name in finding.frames}
            unseen, numbers = check_coverage(fit.capture, missing)
            found += unseen
    if fit.agreement is not None:
        numbers["agreement"] = round(fit.agreement.fraction, 4)
    return found, refused, fit.capture, numbers


def _merged(found: list[Finding], geometry: list[Finding]) -> list[Finding]:
    """A finding with a tested mend takes the place of one of the same name without."""
    codes = {finding.code for finding in geometry}
    mirrored = {"poses_mirrored", "poses_not_rigid"} & {finding.code for finding in found}
    if mirrored and not codes & mirrored:
        return found  # whatever else does not fit follows from it
    return [finding for finding in found if finding.code not in codes] + geometry


def _camera(capture: SceneSample) -> list[Finding]:
    """A principal point far from the middle, where depth cannot tell."""
    if not capture.sights:
        return []
    sight = capture.sights[0]
    height, width = sight.gray.shape
    off = torch.stack([sight.intrinsics[0, 2] / width, sight.intrinsics[1, 2] / height]) - 0.5
    worst = float(off.abs().max())
    if worst < _CAMERA_OFF:
        return []
    return [
        Finding(
            "intrinsics_size",
            "The camera matrix is for images of another size.",
            "likely",
            f"its principal point is {worst:.0%} of the image away from the middle",
            "scale the camera matrix to the images",
            lifting_works=False,
        )
    ]


def _unexplained(refusals: list[SceneIssue], found: list[Finding]) -> list[Finding]:
    """What reading refuses and no check has found."""
    codes = {finding.code for finding in found}
    blocking = any(not f.lifting_works and f.certainty != "possible" for f in found)
    vague = {"geometry_disagrees", "intrinsics", "depth_unit"}
    if len({refusal.code for refusal in refusals}) > 1:  # contradictions follow from the others
        refusals = [refusal for refusal in refusals if refusal.code != "geometry_disagrees"]
    return [
        _refused(refusal)
        for refusal in {refusal.code: refusal for refusal in refusals}.values()
        if refusal.code not in codes and not (blocking and refusal.code in vague)
    ]


def _refused(refusal: SceneIssue) -> Finding:
    what, _, fix = refusal.message.rpartition("; ")
    return Finding(
        refusal.code,
        f"{what}.",
        "sure",
        "the scan is refused when it is read",
        fix,
        lifting_works=False,
    )


def _unopened(name: str, path: str | Path, refusals: list[SceneIssue], reason: str) -> Diagnosis:
    last = _refused(SceneIssue("cannot_open", reason))
    return Diagnosis(
        scan=name,
        path=str(path),
        findings=(*(_refused(refusal) for refusal in refusals), last),
        refusals=(*(refusal.message for refusal in refusals), reason),
        looked_at={},
    )
