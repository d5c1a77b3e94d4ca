"""Checks of the points of a scan: number, size, duplicates, colours."""

from __future__ import annotations

import torch

from pcdistill.scenes import Scene
from pcdistill.scenes.checks import Certainty, Finding, SceneSample

_FEW = 2000
_DUPLICATED = 0.1  # share of points that lie exactly on another one
_MAX_INDOORS, _SMALLEST = 150.0, 0.3  # metres
_LARGEST = 3000.0  # metres
_STRAY = 4.0  # times larger with the last thousandth of the points than without


def check_cloud(scene: Scene, capture: SceneSample, *, scale_is_explained: bool) -> list[Finding]:
    """Check points and colours: too few, broken or repeated ones, and sizes no room has.

    Args:
        scene: as opened.
        capture: what was looked at of it.
        scale_is_explained: a wrong unit was found already.
    """
    findings = []
    count, finite = len(scene.points), len(capture.points)
    if finite < count:
        findings.append(
            Finding(
                "points_not_finite",
                f"{count - finite} of {count} points are not finite numbers.",
                "sure",
                f"{(count - finite) / count:.2%} of the points",
                "remove them from the mesh or cloud",
                lifting_works=False,
            )
        )
    if finite < _FEW:
        findings.append(
            Finding(
                "points_few",
                f"The scan has {finite} points only.",
                "sure" if finite < _FEW / 10 else "likely",
                f"{finite} points; a room has 20,000 and more at 5 cm",
                "give the full mesh or cloud, or leave it out to fuse the depth instead",
                lifting_works=finite > 0,
            )
        )
    if finite == 0:
        return findings
    repeated = 1 - len(torch.unique(capture.points, dim=0)) / finite
    lidar = bool(capture.sights) and all(sight.depth is None for sight in capture.sights)
    if repeated > (3 * _DUPLICATED if lidar else _DUPLICATED):  # a car's own returns repeat
        findings.append(
            Finding(
                "points_duplicated",
                "Points lie exactly on each other: the cloud was merged twice, or the mesh stores "
                "the corners of each face by themselves.",
                "sure" if repeated > 0.3 else "likely",
                f"{repeated:.0%} of the points repeat another one",
                "merge equal vertices and write the surface again",
                lifting_works=True,
            )
        )
    findings += _colors(scene, capture)
    if not scale_is_explained:
        findings += _size(capture)
    return findings


def _colors(scene: Scene, capture: SceneSample) -> list[Finding]:
    colors = scene.colors
    certainty: Certainty = "possible"
    if colors is None:
        has_depth = any(sight.depth is not None for sight in capture.sights)
        if capture.sights and not has_depth:  # a LiDAR's points have none
            return []
        what, number = "have no colours", "no colours in the surface"
    elif float(colors.float().std(dim=0).amax() if len(colors) > 1 else 0) < 1.0:
        what, number = "all have one colour", "the colours vary by less than 1 of 255"
        certainty = "likely"
    else:
        return []
    return [
        Finding(
            "colours_missing",
            f"The points {what}; {_without_colors(capture)}.",
            certainty,
            number,
            "export the surface with vertex colours",
            lifting_works=True,
        )
    ]


def _without_colors(capture: SceneSample) -> str:
    if capture.sights:
        return "only pictures suffer, features come from the images"
    return "a student that sees colour cannot label them"


def _size(capture: SceneSample) -> list[Finding]:
    points = capture.points[:: max(1, len(capture.points) // 100_000)]
    ordered = points.sort(dim=0).values
    cut = len(points) // 1000 + 1
    whole = float((ordered[-1] - ordered[0]).max())
    inner = ordered[cut:-cut] if len(points) > 2 * cut else ordered
    limit = float((inner[-1] - inner[0]).max())
    indoors = any(sight.depth is not None for sight in capture.sights)
    largest = _MAX_INDOORS if indoors else _LARGEST
    findings = []
    if limit > largest or limit < _SMALLEST:
        findings.append(
            Finding(
                "scale",
                f"The scan is {limit:.3g} m long, its unit is hardly the metre.",
                "sure" if limit > 4 * largest or limit < _SMALLEST / 4 else "likely",
                f"all but a few of its points lie within {limit:.3g} m",
                f"multiply {'poses, depth and surface' if capture.sights else 'the points'} by "
                f"{_factor(limit):g}",
                lifting_works=False,
            )
        )
    elif limit > 0 and whole > _STRAY * limit:
        findings.append(
            Finding(
                "points_stray",
                f"A few points lie far away: the scan is {whole:.3g} m long with them, "
                f"{limit:.3g} m without.",
                "likely",
                f"the last thousandth of the points makes it {whole / limit:.1f} times as long",
                "remove them; they make every grid over the scan larger",
                lifting_works=True,
            )
        )
    return findings


def _factor(size: float) -> float:
    """The power of ten, or of a thousand, that brings a size to that of rooms."""
    factors = (0.001, 0.01, 0.1, 10.0, 100.0, 1000.0)
    return min(factors, key=lambda factor: abs(torch.tensor(size * factor / 8.0).log().item()))
