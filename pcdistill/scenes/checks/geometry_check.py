"""Check that depth, poses, cameras and surface fit, and the hypothesis under which they would."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from pcdistill.scenes.checks.depth_agreement import DepthAgreement, measure_agreement
from pcdistill.scenes.checks.depth_factor import depth_factor
from pcdistill.scenes.checks.depth_hypotheses import depth_reading, scaled_depth
from pcdistill.scenes.checks.findings import Certainty, Finding
from pcdistill.scenes.checks.fit_thresholds import (
    DENSE_POINTS,
    FACTOR_NOTICED,
    HALF,
    LOOSE_TOLERANCE,
    MAX_FACTOR,
    MENDED,
    MIN_COVERAGE,
    MIN_OVERLAP,
    MIN_TILES,
    ROUGHLY,
    TOLERANCE,
    WELL,
)
from pcdistill.scenes.checks.hypotheses import alternative_hypotheses, double_readings
from pcdistill.scenes.checks.hypothesis import Assumptions, Hypothesis
from pcdistill.scenes.checks.per_frame_agreement import stretched_frames
from pcdistill.scenes.checks.samples import (
    SceneSample,
    downsample_half,
    evenly_spaced,
    with_depth_as_points,
)

_ROUGH_VIEWS, _VIEWS = 5, 12
_ROUGH_POINTS = 15_000


class GeometryResult(NamedTuple):
    """What came out, and the capture as it would be if mended."""

    findings: list[Finding]
    capture: SceneSample
    agreement: DepthAgreement | None
    """Of the mended capture; None where nothing can be compared."""


def check_geometry(capture: SceneSample, read: Assumptions) -> GeometryResult:
    """Compare depth images with the surface, or with each other where there is no other surface.

    A finding that is sure breaks lifting; `Finding.lifting_works` says so for each.

    Args:
        capture: as opened.
        read: how.
    """
    if not any(facts.known for facts in (s.facts for s in capture.sights) if facts):
        return GeometryResult([], capture, None)
    found = agreement(capture)
    if capture.surface is None and (len(capture.views()) < 3 or found.compared < MIN_TILES):
        return GeometryResult([], capture, found)
    factor = _factor(capture, found)
    if factor is not None:
        corrected = with_depth_as_points(scaled_depth(capture, factor))
        return GeometryResult([_wrong_factor(factor, capture)], corrected, found)
    fits = _fits(found, capture)
    if fits and (capture.surface is None or _covers(found, capture)):
        return GeometryResult([], capture, found)
    best = _best_reading(capture, found, alternative_hypotheses(capture, read))
    if best is None and capture.surface is not None:
        best = _best_reading(capture, found, double_readings(capture, read))
    if found.ratio > 0:  # a unit nobody thought of
        free = depth_reading(capture, read, found.ratio)
        candidates = [free] if best is None else [best[0], free]
        best = _best_reading(capture, found, candidates) or best
    if best is None:
        findings = _uncovered(found) if fits else _unexplained(capture, found)
        return GeometryResult(findings, capture, found)
    reading, other = best
    certainty = _certainty(found, other)
    finding = Finding(
        reading.code,
        reading.sentence,
        certainty,
        _as_it_is(found, other),
        reading.fix,
        lifting_works=certainty != "sure",
    )
    return GeometryResult([finding], with_depth_as_points(reading.apply(capture)), other)


def agreement(capture: SceneSample, tolerance: float = TOLERANCE) -> DepthAgreement:
    """Measure how well depth and surface of a capture agree, over up to 12 of its frames."""
    return measure_agreement(capture.views(_VIEWS), capture.surface, tolerance=tolerance)


def _share(found: DepthAgreement, capture: SceneSample) -> float:
    """What agrees, of what should; a part of the surface may be hidden by the rest."""
    return found.not_contradicted if capture.surface_is_part else found.fraction


def _fits(found: DepthAgreement, capture: SceneSample) -> bool:
    return _share(found, capture) >= WELL and found.compared >= MIN_TILES


def _covers(found: DepthAgreement, capture: SceneSample) -> bool:
    """Whether the surface is all over what the frames see: one that is elsewhere is not."""
    if capture.surface is None or capture.surface_is_part:
        return found.coverage >= MIN_OVERLAP
    return found.coverage >= MIN_COVERAGE


def _best_reading(
    capture: SceneSample, found: DepthAgreement, readings: Iterable[Hypothesis]
) -> tuple[Hypothesis, DepthAgreement] | None:
    """The reading that explains most, judged on few frames first; None where none is far better."""
    few = _few(capture)
    rough = sorted(
        (
            (agreement(reading.apply(few)).explained, -i, reading)
            for i, reading in enumerate(readings)
        ),
        reverse=True,
    )
    best: tuple[Hypothesis, DepthAgreement] | None = None
    for _, _, reading in rough[:4]:
        other = agreement(reading.apply(capture))
        if _mends(other, found, capture) and (
            best is None or other.explained > best[1].explained + 0.005
        ):
            best = reading, other
    return best


def _few(capture: SceneSample) -> SceneSample:
    """A few frames decide which readings deserve a closer look; frames alone need neighbours."""
    with_depth = [s for s in capture.sights if s.facts is not None and s.facts.known > 0]
    limit = _VIEWS if capture.surface is None else _ROUGH_VIEWS
    few = replace(
        capture, sights=tuple(with_depth[i] for i in evenly_spaced(len(with_depth), limit))
    )
    surface = few.surface
    if surface is not None:
        surface = surface[:: max(1, len(surface) // _ROUGH_POINTS)]
    return replace(few, points=few.points[:0], surface=surface).with_sights(downsample_half)


def _mends(other: DepthAgreement, found: DepthAgreement, capture: SceneSample) -> bool:
    """Whether following the advice ends in a capture that fits: it is not given otherwise.

    Half of what is unexplained, or less; and not by looking away.
    """
    seen = max(other.coverage, found.coverage)
    return (
        other.compared >= MIN_TILES
        and _share(other, capture) >= MENDED
        and _covers(other, capture)
        and seen - other.explained <= 0.5 * (seen - found.explained)
    )


def _certainty(found: DepthAgreement, other: DepthAgreement) -> Certainty:
    gain = other.explained - found.explained
    return "sure" if gain >= 0.2 else "likely" if gain >= 0.1 else "possible"


def _as_it_is(found: DepthAgreement, other: DepthAgreement) -> str:
    if other.coverage - found.coverage > other.fraction - found.fraction:
        return (
            f"there is surface in {found.coverage:.0%} of the parts of the images that have depth "
            f"as it is, in {other.coverage:.0%} if it were not so"
        )
    return (
        f"{found.fraction:.0%} of the compared depth agrees within {TOLERANCE:.0%} as it is, "
        f"{other.fraction:.0%} would"
    )


def _factor(capture: SceneSample, found: DepthAgreement) -> float | None:
    """By how much the depth should be longer, where that is some per cent and nothing else."""
    if capture.surface is not None:
        factor = found.ratio if found.compared >= MIN_TILES else 1.0
    else:
        factor = (depth_factor(capture.views(_VIEWS)) or 1.0) if found.fraction > HALF else 1.0
    if not FACTOR_NOTICED <= abs(factor - 1) <= MAX_FACTOR:
        return None
    scaled = agreement(scaled_depth(capture, factor))
    return factor if _fits(scaled, capture) and scaled.fraction >= found.fraction else None


def _wrong_factor(factor: float, capture: SceneSample) -> Finding:
    others = "the poses say" if capture.surface is None else "the poses and the surface say"
    return Finding(
        "depth_factor",
        f"The depth is about {1 / factor:.2f} times what {others}.",
        "likely",
        f"it fits best if it is multiplied by {factor:.2f}",
        "check the depth camera's scale at a known distance, and the scale of the poses",
        lifting_works=True,
    )


def _uncovered(found: DepthAgreement) -> list[Finding]:
    """Frames that see much where the surface is not."""
    return [
        Finding(
            "surface_small",
            f"{1 - found.coverage:.0%} of what the frames see is not in the surface.",
            "likely" if found.coverage < HALF else "possible",
            f"there is surface in {found.coverage:.0%} of the parts of the images that have depth",
            "look at the overlays: the surface was cut to a part of what was filmed, or is of "
            "another place; leave it out (move it away) to fuse the depth instead",
            lifting_works=True,
        )
    ]


def _unexplained(capture: SceneSample, found: DepthAgreement) -> list[Finding]:
    numbers = _numbers(capture, found)
    stretched = stretched_frames(capture, TOLERANCE)
    if stretched is not None:
        return [
            Finding(
                "depth_stretched",
                "The depth images are stretched, each in its own way, as pictures for looking at "
                "are: no one scale fits them.",
                "sure",
                f"{numbers}; it fits {stretched.before:.0%} with one scale for all, "
                f"{stretched.after:.0%} with one for each image",
                "export the depth as 16-bit counts of one unit, not normalised",
                lifting_works=False,
            )
        ]
    loose = agreement(capture, LOOSE_TOLERANCE)
    roughly = _share(loose, capture) >= ROUGHLY and loose.compared >= MIN_TILES
    if capture.surface is not None:
        elsewhere = _elsewhere(capture, found, numbers)
        if elsewhere is not None:
            return [elsewhere]
        whole = found._replace(fraction=found.not_contradicted)
        if _fits(whole, capture) and loose.fraction >= HALF:
            if len(capture.points) < DENSE_POINTS:
                return []
            return [
                Finding(
                    "surface_incomplete",
                    "The surface has holes: through them the frames see less than it shows behind.",
                    "possible",
                    numbers,
                    "look at the overlays; points that are hidden in truth take features from what "
                    "hides them",
                    lifting_works=True,
                )
            ]
    elif found.coverage < MIN_OVERLAP:
        return []  # frames that hardly overlap cannot judge each other
    if roughly:
        if capture.surface is not None and len(capture.points) < DENSE_POINTS:
            return []
        return [
            Finding(
                "poses_inaccurate",
                "Depth and surface agree only roughly: poses drift, or the surface is coarse.",
                "likely",
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


def _numbers(capture: SceneSample, found: DepthAgreement) -> str:
    other = "what other frames see" if capture.surface is None else "the surface"
    if not found.compared:
        return "the surface is in no frame's view"
    return f"{found.fraction:.0%} of the compared depth agrees with {other} within {TOLERANCE:.0%}"


def _elsewhere(capture: SceneSample, found: DepthAgreement, numbers: str) -> Finding | None:
    """Frames that fit each other but not the surface."""
    alone = measure_agreement(capture.views(_VIEWS), None, tolerance=TOLERANCE)
    gap = alone.fraction - _share(found, capture)
    if alone.compared < MIN_TILES or alone.fraction < MENDED or gap < 0.15:
        return None
    if found.compared >= MIN_TILES and found.not_contradicted >= WELL:
        return None  # holes, through which one looks at what is behind
    return Finding(
        "surface_elsewhere",
        "The frames agree with each other but not with the surface, which is in another "
        "frame of reference or of another scan.",
        "sure" if gap >= 0.25 else "likely",
        f"{numbers}; {alone.fraction:.0%} agrees among the frames",
        "export poses and surface from one program, or leave the surface out (move it "
        "away) to fuse the depth instead",
        lifting_works=gap < 0.25,
    )
