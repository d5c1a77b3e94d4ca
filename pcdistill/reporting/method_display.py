"""Names and colours of methods on the report page."""

from __future__ import annotations

from collections.abc import Iterable

from pcdistill.inference import ENSEMBLE

TEACHER_COLORS = ("#a3adbd", "#76839a", "#c1b4cf", "#8f7fa3", "#b9c0a4")
"""Muted: what the others are compared with."""
METHOD_COLORS = {
    "average": "#93c9cf",
    "linear": "#4ea3ae",
    "binary": "#c9d3a0",
    "shuffled": "#a9b873",
    "fused": "#0f7285",
    "oracle": "#d9a9c2",
    "fused+voxels": "#0d5f70",
    "fused+superpoints": "#0a4d5a",
    "student:point": "#f2bd88",
    "student:superpoint": "#e58f3d",
    "student:superpoint+ensemble": "#bf5212",
    "student:pretrained": "#bf5212",
}
ENSEMBLE_COLOR = "#6b5b95"
OTHER_COLOR = "#7d8590"
METHOD_WORDS = {
    "average": "Plain average of the teachers",
    "linear": "Teachers weighted by their own similarity",
    "binary": "Teachers fused by who finds which class at all",
    "shuffled": "Teachers fused by the measured strengths in a random order (mean of 5)",
    "fused": "Teachers fused by measured capability",
    "oracle": "Teachers fused by their true IoU on these scenes: what perfect knowledge would give",
    "fused+voxels": "Fused, averaged over the voxels and cuts that a student answers from",
    "fused+superpoints": "Fused, averaged over superpoints (the students' targets)",
    "student:point": "Student, distilled point by point",
    "student:superpoint": "Student, distilled by superpoints",
    "student:superpoint+ensemble": "Student, superpoints + temporal ensemble",
    "student:pretrained": "Student, trained before",
}


def method_words(name: str) -> str:
    """Describe a method in words; a name that is not known is shown as it is."""
    if name.startswith("teacher:"):
        return f"Teacher {name.removeprefix('teacher:')}, carried onto the points"
    if name.startswith(f"{ENSEMBLE}:"):
        student = name.removeprefix(f"{ENSEMBLE}:")
        return f"2D-3D ensemble: of each point fused or student {student}, whichever fits better"
    return METHOD_WORDS.get(name, name)


def method_colors(names: Iterable[str]) -> tuple[str, ...]:
    """Choose a CSS colour for each method; teachers take theirs in turn."""
    colors, teachers = [], 0
    for name in names:
        if name.startswith("teacher:"):
            colors.append(TEACHER_COLORS[teachers % len(TEACHER_COLORS)])
            teachers += 1
        elif name.startswith(f"{ENSEMBLE}:"):
            colors.append(ENSEMBLE_COLOR)
        else:
            colors.append(METHOD_COLORS.get(name, OTHER_COLOR))
    return tuple(colors)
