"""Check of the coverage: how much of the points the frames see."""

from __future__ import annotations

from typing import Any

import torch

from pcdistill.geometry import project_points
from pcdistill.scenes.checks import Certainty, Finding, SceneSample, join_names

_MAX_POINTS = 60_000
_BORDER = 0.015  # of the image's width
_NOTHING = 1e-4  # of the points


def check_coverage(
    capture: SceneSample, explained: set[str]
) -> tuple[list[Finding], dict[str, Any]]:
    """Check that frames see the points: points in no frame, and frames without a point.

    Args:
        capture: with its geometry mended.
        explained: names of frames that something is wrong with already.

    Returns:
        findings: what is wrong.
        numbers: the share seen, for the record.
    """
    sights = capture.sights
    if not capture.frames:
        return [
            Finding(
                "no_frames",
                "The scan has points but no posed images.",
                "possible",
                "0 frames",
                "add images with poses; without them a trained student can still label the points",
                lifting_works=False,
            )
        ], {}
    if not sights or len(capture.points) == 0:
        return [], {}
    points = capture.points[:: max(1, len(capture.points) // _MAX_POINTS)]
    seen = torch.zeros(len(points), dtype=torch.bool)
    blind = []
    for sight in sights:
        height, width = sight.gray.shape
        visible = project_points(
            points,
            sight.camera_to_world,
            sight.intrinsics,
            (height, width),
            sight.depth,
            border=round(_BORDER * width),
        ).visible
        seen |= visible
        if float(visible.double().mean()) < _NOTHING and sight.name not in explained:
            blind.append(sight.name)
    fraction = float(seen.double().mean())
    every = len(sights) == len(capture.frames)
    numbers = {"points_seen": round(fraction, 4), "by_frames": len(sights)}
    findings = []
    possible, likely, sure = (0.4, 0.15, 0.02) if every else (0.15, 0.05, 0.005)
    if fraction < possible:
        certainty: Certainty = (
            "sure" if fraction < sure else "likely" if fraction < likely else "possible"
        )
        findings.append(
            Finding(
                "coverage",
                f"The frames see {fraction:.1%} of the points only; the rest gets no features of "
                "teachers.",
                certainty,
                f"{fraction:.1%} of the points are seen by {len(sights)} frames"
                + ("" if every else f" of {len(capture.frames)}, spread over the scan"),
                "use more frames (a smaller `frame_step`), or cut the surface to what was filmed",
                lifting_works=fraction >= sure,
            )
        )
    elif len(blind) > len(sights) / 10:
        findings.append(
            Finding(
                "frames_blind",
                f"{len(blind)} of {len(sights)} frames looked at see no point "
                f"({join_names(blind)}).",
                "likely" if len(blind) > len(sights) / 3 else "possible",
                f"{len(blind) / len(sights):.0%} of the frames",
                "remove them, or look at their poses and depth",
                lifting_works=True,
                frames=tuple(blind),
            )
        )
    return findings, numbers
