"""Checks of single pictures and depth images: damaged, empty, blurred, saturated."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import cast

import torch
from skimage.measure import blur_effect

from pcdistill.scenes.checks import Certainty, Finding, FrameSample, SceneSample, join_names

_blur = cast(Callable[..., float], blur_effect)

FLAT = 3.0
"""Standard deviation of brightness, of 255, below which a picture shows nothing."""
_BLURRED = 0.66  # of skimage's blur_effect, 0 sharp to 1; sharp pictures have 0.2 to 0.5
_HARDLY_ANY = 0.03  # of the pixels with a depth reading
_AT_LIMIT = 0.1  # of the readings at one and the same largest value
_EIGHT_BITS = 256
_NEAREST = 0.05  # metres; a smaller median is a wrong unit, and its steps mean nothing


def check_pictures(capture: SceneSample) -> list[Finding]:
    """Check for pictures that are damaged, show nothing, or are blurred."""
    findings = []
    if capture.damaged:
        names = [name for name, _ in capture.damaged]
        findings.append(
            Finding(
                "frames_damaged",
                f"{len(names)} frames cannot be read ({join_names(names)}).",
                "sure",
                capture.damaged[0][1],
                "restore these files or remove the frames",
                lifting_works=False,
                frames=tuple(names),
            )
        )
    sights = capture.sights
    if not sights:
        return findings
    flat = [s for s in sights if float(s.gray.std()) < FLAT]
    if flat:
        findings.append(
            _some(
                "pictures_empty",
                flat,
                sights,
                "show one flat colour: the camera was covered, or the export failed",
                f"their brightness varies by less than {FLAT:g} of 255",
                "export these pictures again or remove the frames",
            )
        )
    blur = {s.index: float(_blur(s.gray.numpy() / 255.0)) for s in sights if s not in flat}
    blurred = [s for s in sights if blur.get(s.index, 0.0) > _BLURRED]
    if blurred:
        findings.append(
            Finding(
                "pictures_blurred",
                f"{len(blurred)} of {len(sights)} pictures looked at are blurred "
                f"({join_names([s.name for s in blurred])}): teachers see little in them.",
                "likely" if len(blurred) > len(sights) / 4 else "possible",
                f"their blur is {median(blur[s.index] for s in blurred):.2f}, sharp pictures have "
                "0.2 to 0.6",
                "remove these frames, or move the camera more slowly",
                lifting_works=True,
                frames=tuple(s.name for s in blurred),
            )
        )
    return findings


def check_depth_images(capture: SceneSample) -> list[Finding]:
    """Check for depth images without readings, cut off at a limit, or reduced to 8 bits."""
    sights = [s for s in capture.sights if s.facts is not None]
    if not sights:
        return []
    findings = []
    empty = [s for s in sights if s.facts is not None and s.facts.known < _HARDLY_ANY]
    if empty:
        findings.append(
            _some(
                "depth_empty",
                empty,
                sights,
                "have depth images with no reading, or hardly any",
                f"less than {_HARDLY_ANY:.0%} of their pixels have one",
                "export the depth again; frames without depth see no point",
            )
        )
    rest = [
        s for s in sights if s not in empty and s.facts is not None and s.facts.median > _NEAREST
    ]
    cut = [s for s in rest if s.facts is not None and s.facts.at_largest > _AT_LIMIT]
    if cut:
        shares = [s.facts.at_largest for s in cut if s.facts is not None]
        findings.append(
            _some(
                "depth_saturated",
                cut,
                sights,
                "have depth that is cut off: many pixels hold one and the same largest value",
                f"{median(shares):.0%} of their readings are the largest one",
                "write 0 where the sensor saw nothing, and do not clip what is far",
            )
        )
    values = [s.facts.values for s in rest if s.facts is not None]
    different = len(torch.unique(torch.cat(values))) if values else 0
    if not cut and 0 < different <= _EIGHT_BITS and rest[0].gray.numel() > 4096:
        findings.append(
            Finding(
                "depth_coarse",
                "The depth images have few different values: they were reduced to 8 bits, or are "
                "pictures of depth made for looking at.",
                "likely",
                f"{different} different readings in all images looked at",
                "give the raw depth with 16 bits",
                lifting_works=False,
            )
        )
    return findings


def _some(
    code: str,
    found: list[FrameSample],
    sights: tuple[FrameSample, ...] | list[FrameSample],
    what: str,
    evidence: str,
    fix: str,
) -> Finding:
    """A finding about some frames, the surer the more of them there are."""
    fraction = len(found) / len(sights)
    certainty: Certainty = "sure" if fraction > 0.5 else "likely" if fraction > 0.1 else "possible"
    names = [sight.name for sight in found]
    return Finding(
        code,
        f"{len(found)} of {len(sights)} frames looked at {what} ({join_names(names)}).",
        certainty,
        evidence,
        fix,
        lifting_works=fraction <= 0.5,
        frames=tuple(names),
    )
