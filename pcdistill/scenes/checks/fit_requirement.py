"""Refusal of scans whose parts surely contradict each other, and warnings of those that may."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pcdistill.errors import SceneError
from pcdistill.scenes.checks.axis_check import check_axis
from pcdistill.scenes.checks.color_check import check_colors
from pcdistill.scenes.checks.findings import Finding
from pcdistill.scenes.checks.geometry_check import check_geometry
from pcdistill.scenes.checks.hypothesis import Assumptions, assumptions_of
from pcdistill.scenes.checks.registration_check import check_registration
from pcdistill.scenes.checks.samples import sample_frames, sample_scene
from pcdistill.scenes.frames import Frame
from pcdistill.scenes.issues import is_examination
from pcdistill.scenes.scene import Scene

_LOG = logging.getLogger(__name__)
_LOOKED_AT = 12  # frames


def require_fitting_scene(where: Path, scene: Scene) -> None:
    """Refuse a scene in which depth, poses, cameras, pictures and surface surely do not fit.

    What is likely or possible is logged as a warning.

    Args:
        where: the scan, for the messages.
        scene: its provenance says how it was read.

    Raises:
        SceneError: what is wrong, the number that shows it, and what mends it.
    """
    if not scene.frames or is_examination():
        return
    capture = sample_scene(scene, _LOOKED_AT)
    read = assumptions_of(scene.provenance)
    place, findings = str(where), []
    if capture.surface is not None:
        place = f"{where} with {scene.provenance.get('surface', 'its surface')}"
        findings = check_geometry(capture, read).findings
    if not findings:
        findings = check_registration(capture) or check_colors(capture, read)
        findings += check_axis(capture, str(scene.provenance.get("up", "z")))
    _say(place, findings)


def require_fitting_frames(where: Path, frames: Sequence[Frame], read: Assumptions) -> None:
    """Refuse frames whose depth surely contradicts their poses, before it is fused.

    Args:
        where: the scan, for the messages.
        frames: those of it, near the origin.
        read: how.

    Raises:
        SceneError: as `require_fitting_scene`.
    """
    if not is_examination():
        _say(str(where), check_geometry(sample_frames(frames, _LOOKED_AT), read).findings)


def is_refused(finding: Finding) -> bool:
    """Whether a scan is refused for what was found of how its parts fit."""
    return finding.certainty == "sure" and not finding.lifting_works


def refusal_of(where: str, finding: Finding) -> str:
    """The sentence by which a scan is refused for a finding."""
    what = finding.message[0].lower() + finding.message[1:].rstrip(".")
    return f"{where}: {what} ({finding.evidence}); {finding.fix}"


def _say(where: str, findings: Sequence[Finding]) -> None:
    for finding in findings:
        sentence = refusal_of(where, finding)
        if is_refused(finding):
            raise SceneError(sentence)
        _LOG.warning("%s, `pcdistill doctor` shows it", sentence)
