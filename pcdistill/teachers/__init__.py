"""Teachers: frozen 2D models with open vocabulary, and the text encoders of their spaces."""

from __future__ import annotations

from collections.abc import Callable

from pcdistill.suggest import look_up
from pcdistill.teachers.base import (
    BatchTeacher,
    FeatureMap,
    GeometryTeacher,
    LabelledMasks,
    SelectiveTeacher,
    TaughtTeacher,
    Teacher,
    TextEncoder,
    ViewGeometry,
    WordReader,
    predict_batch,
    read_words,
    taught_words,
    teacher_revision,
)
from pcdistill.teachers.demo.teachers import DemoDenseTeacher, DemoMaskTeacher
from pcdistill.teachers.detector import PhotoDetector
from pcdistill.teachers.known_words import Words
from pcdistill.teachers.text_encoders import (
    TEXT_ENCODERS,
    StaticTextEncoder,
    build_text_encoder,
    no_known_word,
)

__all__ = [
    "TEACHERS",
    "TEXT_ENCODERS",
    "BatchTeacher",
    "DemoDenseTeacher",
    "DemoMaskTeacher",
    "FeatureMap",
    "GeometryTeacher",
    "LabelledMasks",
    "PhotoDetector",
    "SelectiveTeacher",
    "StaticTextEncoder",
    "TaughtTeacher",
    "Teacher",
    "TextEncoder",
    "ViewGeometry",
    "WordReader",
    "Words",
    "build_teacher",
    "build_text_encoder",
    "no_known_word",
    "predict_batch",
    "read_words",
    "taught_words",
    "teacher_revision",
]

TEACHERS: dict[str, Callable[[TextEncoder], Teacher]] = {
    "demo-dense": lambda _: DemoDenseTeacher(),
    "demo-masks": lambda _: DemoMaskTeacher(),
    "detector": PhotoDetector,
}
"""Every teacher by name, built for the text encoder of a run: a new one is one file and one line
here. One that was trained in a text space of its own does not look at the encoder."""


def build_teacher(name: str, encoder: TextEncoder) -> Teacher:
    """Load the teacher of that name.

    Args:
        name: one of `TEACHERS`.
        encoder: of the run; a teacher that describes what it finds in words embeds them by it.

    Raises:
        ConfigError: no teacher has this name; the text suggests the closest one.
    """
    return look_up("teacher", name, TEACHERS)(encoder)
