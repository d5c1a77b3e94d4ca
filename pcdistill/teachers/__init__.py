"""Teachers: frozen 2D models with open vocabulary, and the text encoders of their spaces."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pcdistill.suggest import look_up
from pcdistill.teachers.base import (
    BatchTeacher,
    FeatureMap,
    GeometryTeacher,
    LabelledMasks,
    SelectiveTeacher,
    TaughtTeacher,
    Teacher,
    TeacherSetup,
    TextEncoder,
    ViewGeometry,
    WordReader,
    encoder_revision,
    predict_batch,
    read_words,
    taught_words,
    teacher_revision,
)
from pcdistill.teachers.captions import build_captioner
from pcdistill.teachers.demo.teachers import DemoDenseTeacher, DemoMaskTeacher
from pcdistill.teachers.detector import PhotoDetector
from pcdistill.teachers.embed_prompts import embed_names
from pcdistill.teachers.hub_models import HubFolder
from pcdistill.teachers.hub_parts import read_part_names
from pcdistill.teachers.hub_text_models import SIGLIP2, TIPSV2
from pcdistill.teachers.known_words import Words
from pcdistill.teachers.lseg import LSEG_VIEWS, LSegTeacher
from pcdistill.teachers.openseg import OpenSegTeacher
from pcdistill.teachers.patches import MASKCLIP, PatchTeacher
from pcdistill.teachers.sam3 import Sam3Teacher
from pcdistill.teachers.seem import SeemTeacher
from pcdistill.teachers.text_encoders import (
    TEXT_ENCODERS,
    StaticTextEncoder,
    build_text_encoder,
    no_known_word,
)
from pcdistill.teachers.transformers_package import import_transformers, require_transformers
from pcdistill.teachers.weight_download import fetch_weights, require_published
from pcdistill.teachers.weight_files import (
    WEIGHT_FILES,
    WeightFile,
    WeightProbe,
    WeightStore,
    files_revision,
    find_weight_entry,
    how_to_get,
    how_to_get_all,
    is_folder,
    load_state_dict,
    missing_parts,
)

__all__ = [
    "TEACHERS",
    "TEXT_ENCODERS",
    "WEIGHT_FILES",
    "BatchTeacher",
    "DemoDenseTeacher",
    "DemoMaskTeacher",
    "FeatureMap",
    "GeometryTeacher",
    "HubFolder",
    "LSegTeacher",
    "LabelledMasks",
    "PhotoDetector",
    "Sam3Teacher",
    "SeemTeacher",
    "SelectiveTeacher",
    "StaticTextEncoder",
    "TaughtTeacher",
    "Teacher",
    "TeacherSetup",
    "TextEncoder",
    "ViewGeometry",
    "WeightFile",
    "WeightProbe",
    "WeightStore",
    "WordReader",
    "Words",
    "build_teacher",
    "build_text_encoder",
    "embed_names",
    "encoder_revision",
    "fetch_weights",
    "files_revision",
    "find_weight_entry",
    "how_to_get",
    "how_to_get_all",
    "import_transformers",
    "is_folder",
    "load_state_dict",
    "missing_parts",
    "no_known_word",
    "predict_batch",
    "read_part_names",
    "read_words",
    "require_published",
    "require_transformers",
    "taught_words",
    "teacher_revision",
]

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
