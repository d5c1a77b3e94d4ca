"""Teachers by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pcdistill.suggest import look_up
from pcdistill.teachers.base import Teacher, TeacherSetup
from pcdistill.teachers.captions import build_captioner
from pcdistill.teachers.demo.teachers import DemoDenseTeacher, DemoMaskTeacher
from pcdistill.teachers.detector import PhotoDetector
from pcdistill.teachers.hub_text_models import SIGLIP2, TIPSV2
from pcdistill.teachers.lseg import LSEG_VIEWS, LSegTeacher
from pcdistill.teachers.openseg import OpenSegTeacher
from pcdistill.teachers.patches import MASKCLIP, PatchTeacher
from pcdistill.teachers.sam3 import Sam3Teacher
from pcdistill.teachers.seem import SeemTeacher

TEACHERS: dict[str, Callable[[TeacherSetup], Teacher]] = {
    "demo-dense": lambda _: DemoDenseTeacher(),
    "demo-masks": lambda _: DemoMaskTeacher(),
    "openseg": OpenSegTeacher,
    "detector": lambda setup: PhotoDetector(setup.text_encoder, build_captioner(setup)),
    **{name: partial(LSegTeacher, name) for name in LSEG_VIEWS},
    MASKCLIP: partial(PatchTeacher, MASKCLIP, "clip-vit-b-32"),
    SIGLIP2: partial(PatchTeacher, SIGLIP2, "siglip2-base-patch16-naflex"),
    TIPSV2: partial(PatchTeacher, TIPSV2, "tipsv2-b14"),
    "seem": SeemTeacher,
    "seem-v1": lambda setup: SeemTeacher(setup, weights="seem-v1"),
    "seem-released": lambda setup: SeemTeacher(setup, style="released"),
    "sam3": Sam3Teacher,
}
"""Every teacher by name: a new one is one file and one line here. It is built for the text encoder,
the weights and the device of a run, and reads large weights when it first sees an image."""


def build_teacher(name: str, setup: TeacherSetup) -> Teacher:
    """Build the teacher of that name.

    Raises:
        ConfigError: no teacher has this name, and the text suggests the closest one; it lives in
            another text space than the encoder; or its weights are not on this machine.
        ArtifactError: its weights are damaged.
        MissingExtraError: a package that it needs is not installed.
    """
    teacher = look_up("teacher", name, TEACHERS)(setup)
    setup.require_text_space(name, teacher.text_space)
    return teacher
