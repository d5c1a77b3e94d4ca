"""Description of a run in words: how it was made, and what must not be read into its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pcdistill.artifacts import SceneSplit

EMBEDDED_TEACHERS = {"demo-dense", "demo-masks"}
PHOTO_TEACHER = "detector"
NO_CLAIM = (
    "The embedded teachers were trained on rendered homes; on this real capture no accuracy is "
    "claimed, and what can be judged is the geometry: projection, occlusion and superpoints."
)
NO_CLAIM_OF_STUDENT = (
    "The student learned from teachers that were trained on rendered homes; on this real scan no "
    "accuracy is claimed."
)
OF_PHOTOGRAPHS = (
    "The teacher detector was trained on photographs (the 80 kinds of things of COCO), though not "
    "on this scan, and its accuracy here is not known but where true labels tell it. It is silent "
    "about all else, such as walls and floors: where only it looked, a student takes these for one "
    "of its things, and words that it does not know have no right answer."
)
OF_HOMES = (
    "The homes are rendered, with less clutter than real ones, walls along the axes and few kinds "
    "of each thing. Their scans are like those of a hand-held depth camera, but coarser, and fewer "
    "frames see each point.",
    "The teachers are small networks that were trained on rendered homes too, though with other "
    "furniture, finishes and lights. The numbers compare methods with each other; they are no "
    "accuracy on real scans.",
)
OF_DEVELOPMENT = (
    "These are development homes: settings were chosen by looking at such homes. What is reported "
    "of test homes stands in docs/results.md."
)
_SEEN = {
    "constant": "where they are, and nothing else",
    "geometry": "where they are, their normals and heights",
    "color": "where they are, their colours, normals and heights",
}


class StudentFacts(NamedTuple):
    """A student, trained by the run or given to it."""

    architecture: str
    input: str
    """What it sees of a voxel, as `distill.input`."""
    given: str = ""
    """Its file, checksum and needs in one line; empty for a student that the run trained."""
    taught_by: tuple[str, ...] = ()
    """Teachers of a given student."""


class ReportSettings(NamedTuple):
    """What the report shows, beside the results."""

    title: str
    scenes: tuple[str, ...]
    """Those that are drawn; by default one validation scene."""
    queries: tuple[str, ...]
    expected_classes: tuple[str, ...]
    """The class that answers each question."""
    heat_maps: tuple[str, ...]
    """Questions drawn as heat maps."""
    example_classes: int
    """Words whose generated images are shown, at most."""
    student: StudentFacts
    homes: str | None
    """Which generated homes, development or test; None for scans."""


def notes(teachers: Sequence[str], settings: ReportSettings) -> tuple[str, ...]:
    """Write the sentences that the reader must not miss."""
    taught_by = set(settings.student.taught_by)
    photographs = (OF_PHOTOGRAPHS,) if PHOTO_TEACHER in {*teachers, *taught_by} else ()
    if settings.homes is not None:
        chosen = settings.homes == "development"
        return (*OF_HOMES, *((OF_DEVELOPMENT,) if chosen else ()), *photographs)
    if EMBEDDED_TEACHERS & set(teachers):
        return (NO_CLAIM, *photographs)
    return (*photographs, *((NO_CLAIM_OF_STUDENT,) if EMBEDDED_TEACHERS & taught_by else ()))


def summary(
    teachers: Sequence[str], settings: ReportSettings, split: SceneSplit, scenes: Sequence[str]
) -> tuple[str, ...]:
    """Write two paragraphs: how the labels came about, and what was measured.

    Args:
        teachers: their names.
        settings: of the report.
        split: scenes of the run.
        scenes: names of the measured ones.
    """
    student, joined = settings.student, " and ".join(teachers)
    kind = "teacher" if len(teachers) == 1 else "teachers"
    looked = (
        f"The {kind} {joined} looked at the images; what they saw was carried onto the points, "
        "fused by how well each finds each class on synthesised images"
    )
    if student.given:
        first = (
            f"A {student.architecture} that was trained before labels the points; it sees nothing "
            "else."
        )
        first = f"{looked}. {first}" if teachers else first
    else:
        seen = _SEEN[student.input]
        first = (
            f"{looked}, and distilled into a {student.architecture} that sees only the points: "
            f"{seen}."
        )
    if settings.homes is None:
        return first, f"Scans: {', '.join(scenes)}."
    if student.given:
        return first, f"Measured on {len(scenes)} generated homes."
    return first, (
        f"Everything is measured on {len(scenes)} generated homes on which no teacher and no "
        f"student was trained; the students learned from {len(split.training)} other homes "
        "without a label. Numbers on generated homes say how the methods compare, not how "
        "well they would do on real scans."
    )
