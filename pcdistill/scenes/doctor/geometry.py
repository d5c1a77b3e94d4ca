"""Whether depth, poses, cameras and surface fit together; if not, under which reading they do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from pcdistill.scenes.consistency import Agreement, measure_agreement
from pcdistill.scenes.doctor.capture import Capture, halved, spread
from pcdistill.scenes.doctor.finding import Certainty, Finding
from pcdistill.scenes.doctor.readings import Reading, depth_reading, other_readings

TOLERANCE = 0.05
"""Of the measured depth; tight enough to notice a focal length that is 15 % off."""
_FITS = 0.8  # share of tiles; captures that are right have 0.93 and more
_BARELY = 0.6  # below, and no reading is better: poses that are inaccurate, perhaps
_FRAMES_FIT = 0.4  # of frames with each other; wrong ones have at most 0.25
_LEAST_TILES = 50
_DENSE = 5000  # points; with fewer one looks through walls
_ROUGH_VIEWS, _VIEWS = 5, 12
_ROUGH_POINTS, _POINTS = 30_000, 120_000


class Fit(NamedTuple):
    """What came out, and the capture as it would be if mended."""

    findings: list[Finding]
    capture: Capture
    agreement: Agreement | None
    """Of the mended capture; None where nothing can be compared."""


def check_geometry(capture: Capture, poses: str, depth_scale: float) -> Fit:
    """Compare depth images with the surface, or with each other where there is no other surface.

    Args:
        capture: as opened.
        poses: the convention its poses were read with.
        depth_scale: counts per metre its depth was read with.
    """
    if not any(facts.known for facts in (s.facts for s in capture.sights) if facts):
        return Fit([], capture, None)
    found = agreement(capture)
    fits = found.share >= _FITS and found.compared >= _LEAST_TILES
    if fits or (not capture.surface_is_independent and len(capture.views()) < 3):
        return Fit([], capture, found)
    best = _best_reading(capture, found, other_readings(capture, poses, depth_scale))
    if found.ratio > 0:  # a unit nobody thought of
        free = depth_reading(capture, depth_scale, found.ratio)
        candidates = [free] if best is None else [best[0], free]
        best = _best_reading(capture, found, candidates) or best
    if best is not None:
        reading, other = best
        finding = Finding(
            reading.code,
            reading.sentence,
            _certainty(found, other),
            f"{found.share:.0%} of the compared depth agrees within {TOLERANCE:.0%} as it is, "
            f"{other.share:.0%} would",
            reading.mend,
            lifting_works=False,
        )
        return Fit([finding], reading.apply(capture), other)
    return Fit(_unexplained(capture, found), capture, found)


def agreement(capture: Capture, tolerance: float = TOLERANCE) -> Agreement:
    """How well depth and surface of a capture agree, over up to 12 of its frames."""
    return _agreement(capture, _VIEWS, _POINTS, tolerance)


def _agreement(capture: Capture, views: int, points: int, tolerance: float) -> Agreement:
    surface = None
    if capture.surface_is_independent:
        surface = capture.points[:: max(1, len(capture.points) // points)]
    return measure_agreement(capture.views(views), surface, tolerance=tolerance)


def _best_reading(
    capture: Capture, found: Agreement, readings: Iterable[Reading]
) -> tuple[Reading, Agreement] | None:
    """The reading that explains most, judged on few frames first; None where none is far better."""
    few = _few(capture)
    rough = sorted(
        (
            (_explained(_agreement(r.apply(few), 99, _ROUGH_POINTS, TOLERANCE)), i, r)
            for i, r in enumerate(readings)
        ),
        reverse=True,
    )
    best: tuple[Reading, Agreement] | None = None
    for _, _, reading in rough[:4]:
        other = agreement(reading.apply(capture))
        if _is_far_better(other, found) and (
            best is None or _explained(other) > _explained(best[1]) + 0.005
        ):
            best = reading, other
    return best


def _few(capture: Capture) -> Capture:
    """A few frames decide which readings deserve a closer look; frames alone need neighbours."""
    with_depth = [s for s in capture.sights if s.facts is not None and s.facts.known > 0]
    most = _ROUGH_VIEWS if capture.surface_is_independent else _VIEWS
    few = replace(capture, sights=tuple(with_depth[i] for i in spread(len(with_depth), most)))
    return few if capture.surface_is_independent else few.with_sights(halved)


def _explained(agreement: Agreement) -> float:
    return agreement.share * agreement.coverage


def _is_far_better(other: Agreement, found: Agreement) -> bool:
    """Half of what is unexplained, or less; and not by looking away."""
    seen = max(other.coverage, found.coverage)
    return (
        other.compared >= _LEAST_TILES
        and other.share >= 0.35
        and seen - _explained(other) <= 0.5 * (seen - _explained(found))
    )


def _certainty(found: Agreement, other: Agreement) -> Certainty:
    if other.share >= 0.75 and other.share - found.share >= 0.3:
        return "sure"
    return "likely" if other.share - found.share >= 0.2 else "possible"


def _unexplained(capture: Capture, found: Agreement) -> list[Finding]:
    if not capture.surface_is_independent:
        return []  # frames may simply not overlap
    numbers = (
        f"{found.share:.0%} of the compared depth agrees with the surface within {TOLERANCE:.0%}"
        if found.compared
        else "the surface is in no frame's view"
    )
    alone = measure_agreement(capture.views(_VIEWS), None, tolerance=TOLERANCE)
    if alone.compared >= _LEAST_TILES and alone.share >= max(_FRAMES_FIT, found.share + 0.3):
        return [
            Finding(
                "surface_elsewhere",
                "The frames agree with each other but not with the surface, which is in another "
                "frame of reference or of another scan.",
                "sure" if alone.share >= 0.75 else "likely",
                f"{numbers}; {alone.share:.0%} agrees among the frames",
                "export poses and surface from one program, or leave the surface out (move it "
                "away) to fuse the depth instead",
                lifting_works=False,
            )
        ]
    loose = agreement(capture, 0.25)
    if loose.share >= 0.5 and loose.compared >= _LEAST_TILES:
        if found.share >= _BARELY or len(capture.points) < _DENSE:
            return []
        return [
            Finding(
                "poses_inaccurate",
                "Depth and surface agree only roughly: poses drift, or the surface is coarse.",
                "possible",
                numbers,
                "look at the overlays; run the tracking again if the colours are displaced",
                lifting_works=True,
            )
        ]
    return [
        Finding(
            "geometry_disagrees",
            "Poses, depth and surface contradict each other, and no other reading of one of them "
            "mends it.",
            "sure",
            numbers,
            "check that poses, depth and surface are of the same scan, and the order of the frames",
            lifting_works=False,
        )
    ]
