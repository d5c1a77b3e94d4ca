"""Teachers: frozen 2D models with open vocabulary, and the text encoders of their spaces."""

from __future__ import annotations

from collections.abc import Callable

from pcdistill.suggest import look_up
from pcdistill.teachers.base import (
    BatchTeacher,
    FeatureMap,
    LabelledMasks,
    TaughtTeacher,
    Teacher,
    TextEncoder,
    WordReader,
    predict_batch,
    read_words,
    taught_words,
)
from pcdistill.teachers.demo.teachers import DemoDenseTeacher, DemoMaskTeacher
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
    "LabelledMasks",
    "StaticTextEncoder",
    "TaughtTeacher",
    "Teacher",
    "TextEncoder",
    "WordReader",
    "Words",
    "build_teacher",
    "build_text_encoder",
    "no_known_word",
    "predict_batch",
    "read_words",
    "taught_words",
]

TEACHERS: dict[str, Callable[[], Teacher]] = {
    "demo-dense": DemoDenseTeacher,
    "demo-masks": DemoMaskTeacher,
}
"""Every teacher by name: a new one is one file and one line here."""


def build_teacher(name: str) -> Teacher:
    """Load the teacher of that name.

    Raises:
        ConfigError: no teacher has this name; the text suggests the closest one.
    """
    return look_up("teacher", name, TEACHERS)()
